"""The operations on accounts: make, show, list, change, switch off and on.

Rules and records only. Times come in as Unix milliseconds; what is stored goes through the `KeyStore`, what is used
comes from the `LimitStore`. How a result looks is for `proxy/admin/documents.py` and the command's tables.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.accounts import Account, valid_account_name
from proxy.admin.refused import OperationRefused, Reason, nearest
from proxy.limits import AccountUse, KeyStore, Limits, LimitStore, UnknownPlan, limits_of, plan_of

_AT_ONCE: Final = 256
"""Accounts whose use is asked in one go: one pipeline that answers well within the store's time limit."""

_TRIES: Final = 10
"""Attempts at a change that others get in the way of; operators are few, so the second succeeds."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account with its limits and what it has used of them at this moment."""

    account: Account
    plan: str
    """The plan in force: the account's own, else the default plan."""
    limits: Limits
    use: AccountUse
    problem: str | None = None
    """Why no request of this account can be admitted until the configuration or the account is mended, if there is a
    reason; `limits` is then empty because it is not known, not because nothing is limited."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What `change` is to alter; what is left out stays as it is."""

    plan: str | None = None
    default_plan: bool = False
    """Follow the configuration's default plan from now on, whatever it is."""
    overrides: Mapping[str, int | str | None] = field(default_factory=dict)
    """By the names of `limits.OVERRIDABLE`; None goes back to the plan's value."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """The operations on accounts, over two stores and the plans of the configuration.

    Every operation raises `OperationRefused` with the remedy, or `StoreUnavailable`.
    """

    records: KeyStore
    limits: LimitStore
    plans: Mapping[str, Limits]
    default_plan: str

    async def create(self, name: str, plan: str | None, *, now_ms: int) -> AccountState:
        """Make an account on `plan`, or on what the default plan is at the time; refuses a name that is taken."""
        if not valid_account_name(name):
            raise OperationRefused(
                Reason.MALFORMED,
                f"{name!r} cannot name an account: use 1 to 32 of a-z, 0-9 and _, beginning with a letter or digit",
            )
        if plan is not None:
            self._require_plan(plan)
        account = Account(name=name, plan=plan, disabled=False, version=1, created_ms=now_ms)
        if not await self.records.create_account(account):
            raise OperationRefused(
                Reason.CONFLICT,
                f"the account {name!r} exists already: `aion-proxy accounts show {name}` shows it",
            )
        return await self._state(account)

    async def show(self, name: str) -> AccountState:
        """Return one account as it is now."""
        return await self._state(await find_account(self.records, name))

    async def all(self) -> list[AccountState]:
        """Return every account as it is now, by name."""
        accounts = sorted(await self.records.accounts(), key=lambda account: account.name)
        states: list[AccountState] = []
        for start in range(0, len(accounts), _AT_ONCE):
            states += await asyncio.gather(*map(self._state, accounts[start : start + _AT_ONCE]))
        return states

    async def change(self, name: str, changes: Changes) -> AccountState:
        """Change the account's plan and its own limits; the next admission of every gateway goes by the new ones."""
        if changes.plan is not None:
            self._require_plan(changes.plan)

        def edit(account: Account) -> Account:
            own = {**account.overrides, **changes.overrides}
            kept = {name: value for name, value in own.items() if value is not None}
            plan = None if changes.default_plan else changes.plan or account.plan
            edited = replace(account, plan=plan, overrides=kept)
            try:
                limits_of(edited, Limits())
            except ValueError as wrong:
                raise OperationRefused(Reason.MALFORMED, str(wrong)) from wrong
            return edited

        return await self._edit(name, edit)

    async def disable(self, name: str) -> AccountState:
        """Refuse every request of the account from now on; its records and keys stay."""
        return await self._edit(name, lambda account: replace(account, disabled=True))

    async def enable(self, name: str) -> AccountState:
        """Let a disabled account in again."""
        return await self._edit(name, lambda account: replace(account, disabled=False))

    async def _edit(self, name: str, edit: Callable[[Account], Account]) -> AccountState:
        """Apply `edit`, which changes nothing more when applied twice, until the stored record is as it wants it.

        Somebody else may change the account between reading and writing; the store then answers with their version, and
        the edit is applied to that: of a change of plan and a disabling at the same moment, neither is lost.
        """
        account = await find_account(self.records, name)
        for _ in range(_TRIES):
            wanted = edit(account)
            if wanted == account:
                return await self._state(account)
            stored = await self.records.change_account(wanted)
            if stored is None:
                raise await _no_such_account(self.records, name)
            account = stored
        raise OperationRefused(
            Reason.CONFLICT,
            f"the account {name!r} is being changed by somebody else all the time: see what does it, then try again",
        )

    async def _state(self, account: Account) -> AccountState:
        problem = None
        try:
            limits = limits_of(account, plan_of(account, self.plans, self.default_plan))
        except UnknownPlan as unknown:
            limits, problem = Limits(), f"{unknown} ({nearest(unknown.plan, self.plans)})"
        except ValueError as unreadable:
            limits, problem = Limits(), str(unreadable)
        use = await self.limits.use(account.name, limits)
        return AccountState(account, account.plan or self.default_plan, limits, use, problem)

    def _require_plan(self, plan: str) -> None:
        if plan not in self.plans:
            raise OperationRefused(
                Reason.NOT_FOUND,
                f"the configuration has no plan {plan!r}; {nearest(plan, self.plans)}",
            )


async def find_account(records: KeyStore, name: str) -> Account:
    """Return the account's record; refuses a name that no account has, with the nearest that exist."""
    account = await records.account(name) if valid_account_name(name) else None
    if account is None:
        raise await _no_such_account(records, name)
    return account


async def _no_such_account(records: KeyStore, name: str) -> OperationRefused:
    known = [account.name for account in await records.accounts()]
    remedy = (
        f"make it with `aion-proxy accounts create {name}`"
        if valid_account_name(name)
        else "no account can have that name"
    )
    return OperationRefused(Reason.NOT_FOUND, f"there is no account {name!r} ({nearest(name, known)}); {remedy}")
