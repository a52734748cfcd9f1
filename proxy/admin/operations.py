"""Everything that somebody may do with accounts and keys: may they, write it down, do it.

The commands, the admin API and the pages call these and nothing below them, so that none can do what another cannot. A
change that cannot be written into the audit log is not made.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from proxy.accounts import ApiKey
from proxy.admin.accounts import Accounts, AccountState, Changes
from proxy.admin.audit import Asked, AuditLog, audited
from proxy.admin.keys import Keys, MintedKey, Random, RotatedKey, no_such_key
from proxy.admin.overrides import PLAN
from proxy.admin.people import Person
from proxy.admin.refused import OperationRefused, Reason

_ResultT = TypeVar("_ResultT")


class Office(Protocol):
    """What these operations work with."""

    @property
    def accounts(self) -> Accounts:
        """The operations on accounts, by the plans in force."""

    @property
    def keys(self) -> Keys:
        """The operations on keys, by the catalog in force."""

    @property
    def log(self) -> AuditLog:
        """Where changes are written down."""

    @property
    def now_ms(self) -> int:
        """The time in Unix ms."""

    @property
    def random(self) -> Random:
        """Bytes fit for secrets."""


@dataclass(frozen=True, slots=True)
class Administration:
    """What one person may do; every method raises `OperationRefused` or `StoreUnavailable`."""

    desk: Office
    person: Person

    async def accounts(self) -> list[AccountState]:
        """Return the accounts that this person may see, as they are now."""
        if self.person.account is not None:
            return [await self.desk.accounts.show(self.person.account)]
        return await self.desk.accounts.all()

    async def account(self, name: str) -> AccountState:
        """Return one account as it is now."""
        self.person.must_own(name)
        return await self.desk.accounts.show(name)

    async def create_account(self, name: str, plan: str | None) -> AccountState:
        """Make an account."""
        self.person.must_be_operator("make accounts")
        desk = self.desk
        return await self._audited(
            "create account", name, name, {"plan": plan}, lambda: desk.accounts.create(name, plan, now_ms=desk.now_ms)
        )

    async def change_account(self, name: str, changes: Changes) -> AccountState:
        """Change an account's plan and its own limits."""
        self.person.must_be_operator("change an account")
        if changes == Changes():
            raise OperationRefused(Reason.MALFORMED, "nothing to change: name a plan or a limit")
        own = {field: PLAN if value is None else value for field, value in changes.overrides.items()}
        detail = {"plan": "the default" if changes.default_plan else changes.plan, **own}
        return await self._audited(
            "change account", name, name, detail, lambda: self.desk.accounts.change(name, changes)
        )

    async def switch_account(self, name: str, *, disabled: bool) -> AccountState:
        """Refuse every request of an account, or let it in again."""
        self.person.must_be_operator("disable and enable accounts")
        accounts = self.desk.accounts
        action, switch = ("disable account", accounts.disable) if disabled else ("enable account", accounts.enable)
        return await self._audited(action, name, name, {}, lambda: switch(name))

    async def keys(self, account: str) -> list[ApiKey]:
        """Return the keys of an account."""
        self.person.must_own(account)
        return await self.desk.keys.of(account)

    async def key(self, key_id: str) -> ApiKey:
        """Return one key's record."""
        found = await self.desk.keys.find(key_id)
        if self.person.account not in (None, found.account):
            raise no_such_key(key_id)
        return found

    async def create_key(
        self, account: str, *, name: str, lifetime_ms: int | None, models: Sequence[str] | None
    ) -> MintedKey:
        """Make a key."""
        self.person.must_own(account)
        desk, detail = self.desk, {"name": name, "lifetime_ms": lifetime_ms, "models": models}
        return await self._audited(
            "create key",
            account,
            account,
            detail,
            lambda: desk.keys.create(
                account, name=name, lifetime_ms=lifetime_ms, models=models, now_ms=desk.now_ms, random=desk.random
            ),
            lambda minted: minted.record.key_id,
        )

    async def revoke_key(self, key_id: str) -> ApiKey:
        """Refuse a key from the very next request on."""
        found = await self.key(key_id)
        return await self._audited(
            "revoke key",
            found.account,
            key_id,
            {"hint": found.hint},
            lambda: self.desk.keys.revoke(key_id, now_ms=self.desk.now_ms),
        )

    async def rotate_key(self, key_id: str, grace_ms: int) -> RotatedKey:
        """Make a key like this one, which ends after the grace."""
        found, desk = await self.key(key_id), self.desk
        return await self._audited(
            "rotate key",
            found.account,
            key_id,
            {"hint": found.hint, "grace_ms": grace_ms},
            lambda: desk.keys.rotate(key_id, grace_ms=grace_ms, now_ms=desk.now_ms, random=desk.random),
            lambda rotated: f"{key_id}, now {rotated.minted.record.key_id}",
        )

    async def borrow_key(self, key_id: str) -> str:
        """Return a key for one request that is this one's to the ledger and to every limit; it is over in a minute.

        Whoever may issue keys of an account may try one that is issued; nothing stored shows the key itself.
        """
        found, desk = await self.key(key_id), self.desk
        return await self._audited(
            "try key",
            found.account,
            key_id,
            {"hint": found.hint},
            lambda: desk.keys.lend(found, now_ms=desk.now_ms, random=desk.random),
        )

    async def _audited(
        self,
        action: str,
        account: str,
        subject: str,
        detail: Mapping[str, object],
        work: Callable[[], Awaitable[_ResultT]],
        made: Callable[[_ResultT], str] | None = None,
    ) -> _ResultT:
        return await audited(self.desk.log, Asked(self.person.name, action, account, subject, detail), work, made)
