"""What is in a ledger, as tests compare it."""

from collections import defaultdict

from sqlalchemy import select

from proxy.ledger.database import Ledger
from proxy.ledger.schema import DAY_MS, HOUR_MS, beginning, usage, usage_daily, usage_hourly, whole_cost
from proxy.usage_record import UsageRecord

Sums = dict[tuple[str, str, int, str, str], tuple[int, ...]]
"""By period, account, beginning, key and model."""
_PERIODS = {"hour": (usage_hourly, HOUR_MS), "day": (usage_daily, DAY_MS)}


def rows_in(ledger: Ledger) -> list[UsageRecord]:
    """Every row, by its id."""
    with ledger.reading() as connection:
        found = connection.execute(select(usage).order_by(usage.c.request_id)).mappings()
        return [UsageRecord(**row) for row in found]


def sums_in(ledger: Ledger) -> Sums:
    """The sums by hour and by day: requests, estimated ones, prompt, cached, completion and reasoning tokens, cost."""
    with ledger.reading() as connection:
        found = {period: connection.execute(select(table)).mappings().all() for period, (table, _) in _PERIODS.items()}
    return {
        (period, row["account"], row[period], row["key_id"], row["model"]): (
            *(row["requests"], row["estimated_requests"], row["prompt_tokens"], row["cached_tokens"]),
            *(row["completion_tokens"], row["reasoning_tokens"], whole_cost(row["cost_high"], row["cost_low"])),
        )
        for period, lines in found.items()
        for row in lines
    }


def sums_of(rows: list[UsageRecord]) -> Sums:
    """What these sums have to be for rows."""
    sums: Sums = defaultdict(lambda: (0,) * 7)
    for row in rows:
        added = (
            *(1, int(row.usage_source == "estimated"), row.prompt_tokens, row.cached_tokens),
            *(row.completion_tokens, row.reasoning_tokens, row.cost_pusd),
        )
        for period, (_, length) in _PERIODS.items():
            key = (period, row.account, beginning(row.started_at, length), row.key_id, row.model)
            sums[key] = tuple(map(sum, zip(sums[key], added, strict=True)))
    return dict(sums)
