"""What the admin API and the pages add to the operations on accounts and keys: the people who sign in, and the audit
log, both kept in the ledger's database.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from proxy.admin.accounts import Accounts
from proxy.admin.audit import AuditLog
from proxy.admin.keys import Keys
from proxy.admin.operations import Administration
from proxy.admin.people import Person, digest_of_token, looks_like_token, mint_token, person_of_token
from proxy.admin.refused import OperationRefused, Reason
from proxy.configuration import Configuration
from proxy.dashboard.audit_log import LedgerAudit
from proxy.dashboard.ledger_threads import LedgerThreads
from proxy.ledger import people
from proxy.ledger.people import AuditEntry, DashboardToken
from proxy.limits import KeyStore, LimitStore

_ID_BYTES: Final = 9
_TOKEN_BYTES: Final = 32
_NAME_LONGEST: Final = 100


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
    def log(self) -> AuditLog:
        """The audit log."""
        return LedgerAudit(self.ledger, self.clock, self.random)

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
class Operations(Administration):
    """What one person may do; every method raises `OperationRefused` or `StoreUnavailable`."""

    desk: Desk

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

    async def audit(self, account: str | None, count: int, before: tuple[int, str] | None = None) -> list[AuditEntry]:
        """Return the latest entries of the audit log, of an account or of all that this person may see; `before` the
        moment and the id of the last entry of the page before.
        """
        chosen = self.person.scope(account)
        return await self.desk.ledger.read(lambda connection: people.entries(connection, chosen, count, before))
