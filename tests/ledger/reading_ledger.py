"""What is in a ledger, as tests compare it."""

from collections import defaultdict

from sqlalchemy import select

from proxy.ledger.database import Ledger
from proxy.ledger.schema import hour_of, usage, usage_hourly, whole_cost
from proxy.usage_record import UsageRecord

Sums = dict[tuple[str, int, str, str], tuple[int, ...]]


def rows_in(ledger: Ledger) -> list[UsageRecord]:
    """Every row, by its id."""
    with ledger.reading() as connection:
        found = connection.execute(select(usage).order_by(usage.c.request_id)).mappings()
        return [UsageRecord(**row) for row in found]


def sums_in(ledger: Ledger) -> Sums:
    """The hourly sums: requests, estimated ones, prompt, cached, completion and reasoning tokens, cost."""
    with ledger.reading() as connection:
        found = connection.execute(select(usage_hourly)).mappings().all()
    return {
        (row["account"], row["hour"], row["key_id"], row["model"]): (
            *(row["requests"], row["estimated_requests"], row["prompt_tokens"], row["cached_tokens"]),
            *(row["completion_tokens"], row["reasoning_tokens"], whole_cost(row["cost_high"], row["cost_low"])),
        )
        for row in found
    }


def sums_of(rows: list[UsageRecord]) -> Sums:
    """What these sums have to be for rows."""
    sums: dict[tuple[str, int, str, str], tuple[int, ...]] = defaultdict(lambda: (0,) * 7)
    for row in rows:
        key = (row.account, hour_of(row.started_at), row.key_id, row.model)
        added = (
            *(1, int(row.usage_source == "estimated"), row.prompt_tokens, row.cached_tokens),
            *(row.completion_tokens, row.reasoning_tokens, row.cost_pusd),
        )
        sums[key] = tuple(map(sum, zip(sums[key], added, strict=True)))
    return dict(sums)
