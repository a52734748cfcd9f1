"""The ledger's tables as queries see them: one row per request, and sums by hour and by day of what those rows hold.

What the tables look like now; how a database gets there is in `migrations.py`, and a test compares the two. One schema
for SQLite and PostgreSQL: whole numbers of 64 bits, text, and nothing that the two understand differently.
"""

from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text, func, text
from sqlalchemy.sql.elements import ColumnElement

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
COST_UNIT: Final = 10**9
"""Sums of costs are kept in two whole numbers, since a sum of pico-dollars passes 64 bits at nine million dollars:
cost in pUSD = high × COST_UNIT + low, where `low` may be larger than the unit."""

metadata: Final = MetaData()

CUT_SHORT: Final = "ending <> 'complete'"
"""The few requests that an index finds by their ending, for queries that say this in these words."""
usage: Final = Table(
    "usage",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("upstream_id", Text),
    Column("account", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("upstream_model", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("status", Integer, nullable=False),
    Column("ending", Text, nullable=False),
    Column("usage_source", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_pusd", BigInteger, nullable=False),
    Column("price_prompt", Text, nullable=False),
    Column("price_completion", Text, nullable=False),
    Column("price_input_cache_read", Text),
    Column("attempts", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ttft_ms", BigInteger),
    Column("duration_ms", BigInteger, nullable=False),
    Column("metadata", Text),
    Index("usage_started_at", "started_at"),
    Index("usage_by_account", "account", "started_at"),
    Index("usage_cut_short", "ending", "started_at", sqlite_where=text(CUT_SHORT), postgresql_where=text(CUT_SHORT)),
)
"""Every request that reached a provider; the columns are the fields of `UsageRecord`. `started_at` is in Unix ms."""


def _sums_by(period: str, name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("account", Text, primary_key=True),
        Column(period, BigInteger, primary_key=True),
        Column("key_id", Text, primary_key=True),
        Column("model", Text, primary_key=True),
        Column("requests", BigInteger, nullable=False),
        Column("estimated_requests", BigInteger, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("cached_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
        Column("reasoning_tokens", BigInteger, nullable=False),
        Column("cost_high", BigInteger, nullable=False),
        Column("cost_low", BigInteger, nullable=False),
        Column("charged_nusd", BigInteger, nullable=False),
        Index(f"{name}_{period}", period),
    )


usage_hourly: Final = _sums_by("hour", "usage_hourly")
usage_daily: Final = _sums_by("day", "usage_daily")
"""The sums of `usage` by account, key, model and UTC hour or day (`hour`, `day`: its beginning, in Unix ms), changed in
the same transaction as the rows."""

SUMMED: Final = (
    *("requests", "estimated_requests", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"),
    *("cost_high", "cost_low", "charged_nusd"),
)
"""The columns of `usage_hourly` and `usage_daily` that add up."""

usage_account: Final = Table(
    "usage_account",
    metadata,
    Column("account", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_high", BigInteger, nullable=False),
    Column("cost_low", BigInteger, nullable=False),
    Column("charged_nusd", BigInteger, nullable=False),
)
"""The sums of `usage` by account, changed in the same transaction as the rows: what the counters of limits are compared
with. `charged_nusd` adds up each request's cost rounded up to nano-dollars, which is what budgets are charged."""

dashboard_token: Final = Table(
    "dashboard_token",
    metadata,
    Column("token_id", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Index("dashboard_token_digest", "digest", unique=True),
    Index("dashboard_token_account", "account", "created_at"),
)
"""What an account's own people sign in with, as SHA-256; moments in Unix ms, as everywhere."""

audit_log: Final = Table(
    "audit_log",
    metadata,
    Column("entry_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("person", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Index("audit_log_at", "at"),
    Index("audit_log_account", "account", "at"),
)
"""Every change that somebody asked for, in the dashboard, by the admin API or a command; `detail` is JSON without
secrets."""

ledger_identity: Final = Table("ledger_identity", metadata, Column("id", Text, primary_key=True))
"""One row: a name that tells this ledger from every other one."""


def beginning(moment: int, length: int) -> int:
    """Return the beginning of the hour or day of this length that a moment is in, all in (Unix) ms."""
    return moment - moment % length


def split_cost(pusd: int) -> tuple[int, int]:
    """Take a cost apart into its high and low number; `whole_cost` puts them together."""
    return divmod(pusd, COST_UNIT)


def whole_cost(high: int, low: int) -> int:
    """Return the cost in pUSD of two (sums of) numbers; takes what a database makes of a sum, such as a Decimal."""
    return int(high) * COST_UNIT + int(low)


def summed_cost() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return what to select from `usage` for an exact sum of costs, of any size: the high and the low number."""
    cost = usage.c.cost_pusd
    return func.sum(cost // COST_UNIT), func.sum(cost % COST_UNIT)
