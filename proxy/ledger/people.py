"""What the ledger's database keeps of people: the tokens that accounts sign in with, and who changed what and when.

Here and not in the store, because a store may be lost and is then filled again from the ledger: who did what must
outlive that, and stands beside the bill. Queries only; what a token is and who may do what is in `proxy/admin/`.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, and_, insert, or_, select, update

from proxy.ledger.schema import audit_log, dashboard_token


@dataclass(frozen=True, slots=True)
class DashboardToken:
    """A token's record; moments in Unix ms."""

    token_id: str
    account: str
    digest: str
    name: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def good(self, now_ms: int) -> bool:
        """Tell whether one may sign in with it."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now_ms)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change that somebody asked for: who, what, when, and what came of it."""

    entry_id: str
    at: int
    person: str
    action: str
    account: str
    """The account that it is about; empty where it is about none."""
    subject: str
    detail: str
    """JSON without secrets."""
    outcome: str


def add_token(connection: Connection, token: DashboardToken) -> None:
    """Store a new token."""
    connection.execute(insert(dashboard_token).values(**_fields(token)))


def token_with(connection: Connection, digest: str) -> DashboardToken | None:
    """Return the token that has this digest."""
    return _one_token(connection, digest=digest)


def token(connection: Connection, token_id: str) -> DashboardToken | None:
    """Return one token."""
    return _one_token(connection, token_id=token_id)


def tokens_of(connection: Connection, account: str) -> list[DashboardToken]:
    """Return every token of an account, oldest first, those that ended included."""
    query = select(dashboard_token).where(dashboard_token.c.account == account)
    query = query.order_by(dashboard_token.c.created_at, dashboard_token.c.token_id)
    return [DashboardToken(*row) for row in connection.execute(query)]


def revoke_token(connection: Connection, token_id: str, now_ms: int) -> None:
    """Let a token end; one that was revoked before keeps its moment."""
    unrevoked = (dashboard_token.c.token_id == token_id, dashboard_token.c.revoked_at.is_(None))
    connection.execute(update(dashboard_token).where(*unrevoked).values(revoked_at=now_ms))


def add_entry(connection: Connection, entry: AuditEntry) -> None:
    """Write an entry."""
    connection.execute(insert(audit_log).values(**_fields(entry)))


def set_outcome(connection: Connection, entry_id: str, outcome: str, subject: str) -> None:
    """Say what came of what an entry is about, and what it made."""
    changed = update(audit_log).where(audit_log.c.entry_id == entry_id)
    connection.execute(changed.values(outcome=outcome, subject=subject))


def entries(
    connection: Connection, account: str | None, count: int, before: tuple[int, str] | None = None
) -> list[AuditEntry]:
    """Return the latest entries first: those about an account, or all; only such as come after `before` in this order,
    the moment and the id of an entry, if it is given.
    """
    query = select(audit_log).order_by(audit_log.c.at.desc(), audit_log.c.entry_id.desc()).limit(count)
    if account is not None:
        query = query.where(audit_log.c.account == account)
    if before is not None:
        at, entry_id = before
        same = and_(audit_log.c.at == at, audit_log.c.entry_id < entry_id)
        query = query.where(audit_log.c.at <= at, or_(audit_log.c.at < at, same))
    return [AuditEntry(*row) for row in connection.execute(query)]


def _one_token(connection: Connection, **having: str) -> DashboardToken | None:
    row = connection.execute(select(dashboard_token).filter_by(**having)).one_or_none()
    return None if row is None else DashboardToken(*row)


def _fields(record: DashboardToken | AuditEntry) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__slots__}
