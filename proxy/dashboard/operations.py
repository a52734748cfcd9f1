"""Everything that can be seen and changed, by somebody: may they, write it down, do it, write down what came of it.

The admin API and the pages call these and nothing below them, so that neither can do what the other cannot. A change
that cannot be written into the audit log is not made.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import orjson

from proxy.accounts import ApiKey
from proxy.admin.accounts import Accounts, AccountState, Changes
from proxy.admin.keys import Keys, MintedKey, RotatedKey, no_such_key
from proxy.admin.overrides import PLAN
from proxy.admin.people import Person, digest_of_token, looks_like_token, mint_token, person_of_token
from proxy.admin.refused import OperationRefused, Reason
from proxy.configuration import Configuration
from proxy.dashboard.ledger_threads import LedgerThreads
from proxy.errors import StoreUnavailable
from proxy.ledger import people
from proxy.ledger.people import AuditEntry, DashboardToken
from proxy.limits import KeyStore, LimitStore

_ID_BYTES: Final = 9
_TOKEN_BYTES: Final = 32
_BEGUN: Final = "begun"
_DONE: Final = "done"
_NAME_LONGEST: Final = 100
_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class Desk:
    """What every operation works with."""

    records: KeyStore
    limits: LimitStore
    ledger: LedgerThreads
    configuration: Callable[[], Configuration]
    """The one in force; a reload replaces it."""
    clock: Callable[[], float]
    """Unix seconds."""
    random: Callable[[int], bytes]

    @property
    def now_ms(self) -> int:
        """The time in Unix ms."""
        return int(self.clock() * 1_000)

    @property
    def accounts(self) -> Accounts:
        """The operations on accounts, by the plans in force."""
        settings = self.configuration().settings
        plans = settings.limits_by_plan()
        return Accounts(self.records, self.limits, plans, settings.default_plan)

    @property
    def keys(self) -> Keys:
        """The operations on keys, by the catalog in force."""
        return Keys(self.records, self.configuration().catalog)

    async def person_of(self, token: str) -> Person | None:
        """Return who has this dashboard token; None if it is not good (any more)."""
        if not looks_like_token(token):
            return None
        digest = digest_of_token(token)
        found = await self.ledger.read(lambda connection: people.token_with(connection, digest))
        return None if found is None or not found.good(self.now_ms) else person_of_token(found.account, found.token_id)

    async def still_good(self, person: Person) -> bool:
        """Tell whether somebody who signed in with a token may still be here."""
        token_id = person.token_id
        if token_id is None:
            return person.is_operator
        found = await self.ledger.read(lambda connection: people.token(connection, token_id))
        return found is not None and found.good(self.now_ms)


@dataclass(frozen=True, slots=True)
class Operations:
    """What one person may do; every method raises `OperationRefused` or `StoreUnavailable`."""

    desk: Desk
    person: Person

    # Accounts.

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

    # Keys.

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
        )

    # Dashboard tokens: what an account's people sign in with.

    async def tokens(self, account: str) -> list[DashboardToken]:
        """Return the dashboard tokens of an account."""
        self.person.must_be_operator("see dashboard tokens")
        await self.desk.accounts.show(account)
        return await self.desk.ledger.read(lambda connection: people.tokens_of(connection, account))

    async def create_token(self, account: str, *, name: str, lifetime_ms: int | None) -> tuple[DashboardToken, str]:
        """Make a dashboard token; the token itself is returned this once."""
        self.person.must_be_operator("make dashboard tokens")
        if not name.isprintable() or len(name) > _NAME_LONGEST:
            raise OperationRefused(
                Reason.MALFORMED, f"a token's name is at most {_NAME_LONGEST} printable characters on one line"
            )
        if lifetime_ms is not None and lifetime_ms <= 0:
            raise OperationRefused(Reason.MALFORMED, "a token lives for more than nothing: give a duration such as 90d")
        await self.desk.accounts.show(account)
        now_ms = self.desk.now_ms
        secret = mint_token(account, self.desk.random(_TOKEN_BYTES))
        expires = None if lifetime_ms is None else now_ms + lifetime_ms
        token = DashboardToken(
            f"dt_{self.desk.random(_ID_BYTES).hex()}", account, digest_of_token(secret), name, now_ms, expires
        )

        async def store() -> DashboardToken:
            await self.desk.ledger.write(lambda connection: people.add_token(connection, token))
            return token

        detail = {"name": name, "lifetime_ms": lifetime_ms}
        await self._audited("create dashboard token", account, token.token_id, detail, store)
        return token, secret

    async def revoke_token(self, token_id: str) -> DashboardToken:
        """Sign out whoever has this token, for good."""
        self.person.must_be_operator("revoke dashboard tokens")
        ledger, now_ms = self.desk.ledger, self.desk.now_ms
        found = None
        if token_id.isprintable():
            found = await ledger.read(lambda connection: people.token(connection, token_id))
        if found is None:
            raise OperationRefused(
                Reason.NOT_FOUND, "there is no dashboard token with that id: the account's page lists them"
            )

        async def revoke() -> DashboardToken:
            await ledger.write(lambda connection: people.revoke_token(connection, token_id, now_ms))
            return found if found.revoked_at is not None else replace(found, revoked_at=now_ms)

        return await self._audited("revoke dashboard token", found.account, token_id, {}, revoke)

    async def signed_in(self) -> None:
        """Write down that this person signed in."""

        async def nothing() -> None:
            return None

        await self._audited("sign in", self.person.account or "", self.person.name, {}, nothing)

    async def audit(self, account: str | None, count: int, before: int | None = None) -> list[AuditEntry]:
        """Return the latest entries of the audit log, of an account or of all that this person may see."""
        chosen = self.person.scope(account)
        return await self.desk.ledger.read(lambda connection: people.entries(connection, chosen, count, before))

    async def _audited(
        self,
        action: str,
        account: str,
        subject: str,
        detail: Mapping[str, object],
        work: Callable[[], Awaitable[_ResultT]],
        made: Callable[[_ResultT], str] | None = None,
    ) -> _ResultT:
        """Do it between two words in the audit log: that it was begun, and what came of it; `made` names the result."""
        ledger = self.desk.ledger
        told = orjson.dumps({name: value for name, value in detail.items() if value is not None}).decode()
        entry = AuditEntry(
            self.desk.random(_ID_BYTES).hex(),
            self.desk.now_ms,
            self.person.name,
            action,
            account,
            subject,
            told,
            _BEGUN,
        )
        await ledger.write(lambda connection: people.add_entry(connection, entry))
        outcome = "failed"
        try:
            result = await work()
            outcome = _DONE
            subject = subject if made is None else made(result)
        except OperationRefused as refused:
            outcome = f"refused: {refused.message}"
            raise
        except StoreUnavailable as away:
            outcome = f"failed: {away.detail}"
            raise
        finally:
            with contextlib.suppress(OperationRefused):  # it stays `begun`, which is what is known of it
                await ledger.write(lambda connection: people.set_outcome(connection, entry.entry_id, outcome, subject))
        return result


def _shown(name: str) -> str:
    """Write down a name that may be anything: a database takes it, and a page has room for it."""
    return name if name.isprintable() and len(name) <= _NAME_LONGEST else repr(name)[:_NAME_LONGEST]
