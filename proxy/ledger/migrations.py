"""How the ledger's tables came to be, step by step: each step is SQL that both databases understand, and never changes.

A step is added at the end; its place in the list is the version of the ledger that it makes. A numbered list and one
table suffice for that: a library for branching histories and generated scripts would bring more than it does.
"""

import uuid
from typing import Final

from sqlalchemy import Connection, inspect, text

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE usage (
            request_id TEXT NOT NULL PRIMARY KEY,
            upstream_id TEXT,
            account TEXT NOT NULL,
            key_id TEXT NOT NULL,
            endpoint TEXT NOT NULL,
            model TEXT NOT NULL,
            provider TEXT NOT NULL,
            upstream_model TEXT NOT NULL,
            stream BOOLEAN NOT NULL,
            status INTEGER NOT NULL,
            ending TEXT NOT NULL,
            usage_source TEXT NOT NULL,
            prompt_tokens BIGINT NOT NULL,
            cached_tokens BIGINT NOT NULL,
            completion_tokens BIGINT NOT NULL,
            reasoning_tokens BIGINT NOT NULL,
            cost_pusd BIGINT NOT NULL,
            price_prompt TEXT NOT NULL,
            price_completion TEXT NOT NULL,
            price_input_cache_read TEXT,
            attempts INTEGER NOT NULL,
            started_at BIGINT NOT NULL,
            ttft_ms BIGINT,
            duration_ms BIGINT NOT NULL,
            metadata TEXT
        )
        """,
        "CREATE INDEX usage_started_at ON usage (started_at)",
        """
        CREATE TABLE usage_hourly (
            account TEXT NOT NULL,
            hour BIGINT NOT NULL,
            key_id TEXT NOT NULL,
            model TEXT NOT NULL,
            requests BIGINT NOT NULL,
            estimated_requests BIGINT NOT NULL,
            prompt_tokens BIGINT NOT NULL,
            cached_tokens BIGINT NOT NULL,
            completion_tokens BIGINT NOT NULL,
            reasoning_tokens BIGINT NOT NULL,
            cost_high BIGINT NOT NULL,
            cost_low BIGINT NOT NULL,
            charged_nusd BIGINT NOT NULL,
            PRIMARY KEY (account, hour, key_id, model)
        )
        """,
        "CREATE INDEX usage_hourly_hour ON usage_hourly (hour)",
        """
        CREATE TABLE usage_account (
            account TEXT NOT NULL PRIMARY KEY,
            requests BIGINT NOT NULL,
            tokens BIGINT NOT NULL,
            cost_high BIGINT NOT NULL,
            cost_low BIGINT NOT NULL,
            charged_nusd BIGINT NOT NULL
        )
        """,
        "CREATE TABLE ledger_identity (id TEXT NOT NULL PRIMARY KEY)",
    ),
    (
        """
        CREATE TABLE usage_daily (
            account TEXT NOT NULL,
            day BIGINT NOT NULL,
            key_id TEXT NOT NULL,
            model TEXT NOT NULL,
            requests BIGINT NOT NULL,
            estimated_requests BIGINT NOT NULL,
            prompt_tokens BIGINT NOT NULL,
            cached_tokens BIGINT NOT NULL,
            completion_tokens BIGINT NOT NULL,
            reasoning_tokens BIGINT NOT NULL,
            cost_high BIGINT NOT NULL,
            cost_low BIGINT NOT NULL,
            charged_nusd BIGINT NOT NULL,
            PRIMARY KEY (account, day, key_id, model)
        )
        """,
        "CREATE INDEX usage_daily_day ON usage_daily (day)",
        """
        INSERT INTO usage_daily
        SELECT account, hour - hour % 86400000, key_id, model, sum(requests), sum(estimated_requests),
            sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(reasoning_tokens), sum(cost_high),
            sum(cost_low), sum(charged_nusd)
        FROM usage_hourly GROUP BY account, hour - hour % 86400000, key_id, model
        """,
    ),
    (
        "CREATE INDEX usage_by_account ON usage (account, started_at)",
        """
        CREATE TABLE dashboard_token (
            token_id TEXT NOT NULL PRIMARY KEY,
            account TEXT NOT NULL,
            digest TEXT NOT NULL,
            name TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT,
            revoked_at BIGINT
        )
        """,
        "CREATE UNIQUE INDEX dashboard_token_digest ON dashboard_token (digest)",
        "CREATE INDEX dashboard_token_account ON dashboard_token (account, created_at)",
        """
        CREATE TABLE audit_log (
            entry_id TEXT NOT NULL PRIMARY KEY,
            at BIGINT NOT NULL,
            person TEXT NOT NULL,
            action TEXT NOT NULL,
            account TEXT NOT NULL,
            subject TEXT NOT NULL,
            detail TEXT NOT NULL,
            outcome TEXT NOT NULL
        )
        """,
        "CREATE INDEX audit_log_at ON audit_log (at)",
        "CREATE INDEX audit_log_account ON audit_log (account, at)",
    ),
    ("CREATE INDEX usage_cut_short ON usage (ending, started_at) WHERE ending <> 'complete'",),
)
_VERSIONS: Final = "ledger_version"
# Two gateways that start at the same moment must not both make the tables; the number is arbitrary and must not change.
_POSTGRESQL_LOCK: Final = 4_241_873_201


class NewerLedger(Exception):  # noqa: N818 - the state of the ledger
    """The ledger was written by a newer version of the gateway, which may have given its columns another meaning."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"the ledger has version {version}, and this aion-proxy knows none after {len(MIGRATIONS)}: "
            "use the newer aion-proxy again, or restore the ledger from before the upgrade"
        )
        self.version = version


def is_current(connection: Connection) -> bool:
    """Tell whether the ledger has this version; changes nothing. Raises `NewerLedger`."""
    return _version(connection) == len(MIGRATIONS)


def migrate(connection: Connection) -> None:
    """Bring the ledger to this version, inside of the transaction that `connection` is in, and give a new one its id.

    Raises `NewerLedger`.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _POSTGRESQL_LOCK})
    version = _version(connection)
    if version is None:
        connection.execute(text(f"CREATE TABLE {_VERSIONS} (version INTEGER NOT NULL PRIMARY KEY)"))
        version = 0
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        for statement in statements:
            connection.execute(text(statement))
        connection.execute(text(f"INSERT INTO {_VERSIONS} (version) VALUES (:version)"), {"version": number})  # noqa: S608
    if connection.scalar(text("SELECT count(*) FROM ledger_identity")) == 0:
        connection.execute(text("INSERT INTO ledger_identity (id) VALUES (:id)"), {"id": uuid.uuid4().hex})


def _version(connection: Connection) -> int | None:
    """Return the ledger's version; None if it has no tables yet."""
    if not inspect(connection).has_table(_VERSIONS):
        return None
    version: int = connection.scalar(text(f"SELECT coalesce(max(version), 0) FROM {_VERSIONS}"))  # noqa: S608 - a constant
    if version > len(MIGRATIONS):
        raise NewerLedger(version)
    return version
