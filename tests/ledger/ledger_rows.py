"""Rows for tests of the ledger: right in themselves, and otherwise whatever the test says."""

from typing import Any

from msgspec.structs import replace

from proxy.pricing import Prices
from proxy.usage_record import UsageRecord

NOON = 1_769_860_800_000
"""2026-01-31T12:00:00Z."""
HOUR = 3_600_000
PRICES = ("0.0000008", "0.0000016", "0.0000002")


def record(request_id: str = "req_1", **changes: Any) -> UsageRecord:
    """A row whose cost is its tokens times its prices, unless the test says what it costs."""
    row = UsageRecord(
        request_id=request_id,
        upstream_id="chatcmpl-1",
        account="acme",
        key_id="key_1",
        endpoint="chat",
        model="demo/echo",
        provider="demo",
        upstream_model="echo",
        stream=True,
        status=200,
        ending="complete",
        usage_source="upstream",
        prompt_tokens=100,
        cached_tokens=40,
        completion_tokens=10,
        reasoning_tokens=3,
        cost_pusd=0,
        price_prompt=PRICES[0],
        price_completion=PRICES[1],
        price_input_cache_read=PRICES[2],
        attempts=1,
        started_at=NOON,
        ttft_ms=12,
        duration_ms=345,
        metadata=None,
    )
    row = replace(row, **changes)
    prices = Prices.parse(row.price_prompt, row.price_completion, row.price_input_cache_read)
    cost = prices.cost(row.prompt_tokens, row.cached_tokens, row.completion_tokens)
    return row if "cost_pusd" in changes else replace(row, cost_pusd=cost)
