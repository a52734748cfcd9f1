"""Rows and records for tests: complete, different from one another where the caller says so."""

from hypothesis import strategies as st

from proxy.call import Ending
from proxy.journal_records import Marked, Started
from proxy.pricing import Prices
from proxy.usage import UsageSource
from proxy.usage_record import UsageRecord

HOUR = 1_795_424_400_000
"""The beginning of an hour, in Unix ms."""
PRICES = Prices.parse("0.0000008", "0.0000016", "0.0000002")


def row(number: int = 0, **changes: object) -> UsageRecord:
    """A row whose cost is what its tokens cost."""
    fields = {
        "request_id": f"req_{number:026x}",
        "upstream_id": f"chatcmpl-{number}",
        "account": "acme",
        "key_id": "key_1",
        "endpoint": "chat",
        "model": "test/model",
        "provider": "local",
        "upstream_model": "its-name",
        "stream": True,
        "status": 200,
        "ending": "complete",
        "usage_source": "upstream",
        "prompt_tokens": 1_200,
        "cached_tokens": 1_000,
        "completion_tokens": 300,
        "reasoning_tokens": 20,
        "cost_pusd": PRICES.cost(1_200, 1_000, 300),
        "price_prompt": "0.0000008",
        "price_completion": "0.0000016",
        "price_input_cache_read": "0.0000002",
        "attempts": 1,
        "started_at": HOUR + number,
        "ttft_ms": 12,
        "duration_ms": 345,
        "metadata": None,
    }
    return UsageRecord(**{**fields, **changes})  # type: ignore[arg-type]


def started(number: int = 0, **changes: object) -> Started:
    """The start of the request whose row is `row(number)`; its prompt is estimated at 9 tokens."""
    whole = row(number)
    fields = {name: getattr(whole, name) for name in Started.__struct_fields__}
    return Started(**{**fields, "prompt_tokens": 9, **changes})


def marked(number: int = 0, **changes: object) -> Marked:
    """A mark of that request, three seconds after its start."""
    fields = {
        "request_id": row(number).request_id,
        "provider": "second",
        "upstream_model": "its-name-there",
        "upstream_id": "chatcmpl-second",
        "attempts": 2,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 7,
        "reasoning_tokens": 1,
        "first_byte_at": HOUR + number + 20,
        "marked_at": HOUR + number + 3_000,
    }
    return Marked(**{**fields, **changes})  # type: ignore[arg-type]


COUNTS = st.integers(0, 10**12)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
ROWS = st.builds(
    UsageRecord,
    request_id=TEXTS,
    upstream_id=TEXTS | st.none(),
    account=TEXTS,
    key_id=TEXTS,
    endpoint=TEXTS,
    model=TEXTS,
    provider=TEXTS,
    upstream_model=TEXTS,
    stream=st.booleans(),
    status=st.integers(100, 599),
    ending=st.sampled_from([ending.value for ending in Ending]),
    usage_source=st.sampled_from([source.value for source in UsageSource]),
    prompt_tokens=COUNTS,
    cached_tokens=COUNTS,
    completion_tokens=COUNTS,
    reasoning_tokens=COUNTS,
    cost_pusd=st.integers(0, 2**63 - 1),
    price_prompt=TEXTS,
    price_completion=TEXTS,
    price_input_cache_read=TEXTS | st.none(),
    attempts=st.integers(0, 5),
    started_at=COUNTS,
    ttft_ms=COUNTS | st.none(),
    duration_ms=COUNTS,
    metadata=TEXTS | st.none(),
)
