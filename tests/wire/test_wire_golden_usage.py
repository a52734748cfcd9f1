"""What providers report, and what it costs to the pico-dollar: from the bytes of an answer or a stream to the price."""

import json

import pytest
from playing import NEW_ID, PROMPT, plan, play
from provider_events import DONE, ROLE, lines, vllm, vllm_usage

from proxy.pricing import Prices, format_usd
from proxy.usage import Usage, UsageSource, tokens_of
from proxy.wire.chat_answer import read_answer
from proxy.wire.chat_request import read_chat_request

PRICES = Prices.parse("0.0000008", "0.0000016", "0.0000002")
UNCACHED = Prices.parse("0.0000008", "0.0000016")
CACHED_400 = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 400}}
HIDDEN = {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}
GOLDEN = [
    pytest.param(CACHED_400, UNCACHED, {}, (1000, 10, 400), "0.000816", id="G41"),
    pytest.param(CACHED_400, PRICES, {}, (1000, 10, 400), "0.000576", id="G42"),
    pytest.param({"prompt_tokens": 10, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 50}}, PRICES,
                 {}, (10, 0, 10), "0.000002", id="G43"),
    pytest.param({"input_tokens": 7, "cache_read_input_tokens": 10_000, "cache_creation_input_tokens": 500,
                  "output_tokens": 20}, PRICES, {}, (10_507, 20, 10_000), "0.0024376", id="G44"),
    pytest.param({"prompt_cache_hit_tokens": 75, "prompt_cache_miss_tokens": 25, "completion_tokens": 10}, PRICES, {},
                 (100, 10, 75), "0.000051", id="G45"),
    pytest.param(HIDDEN, PRICES, {}, (20, 198, 0), "0.0003328", id="G46"),
    pytest.param(HIDDEN, PRICES, {"completion_from_total": True}, (20, 603, 0), "0.0009808", id="G47"),
    pytest.param({"prompt_tokens": 1_000_000_000, "completion_tokens": 0}, PRICES, {}, (1_000_000_000, 0, 0), "800",
                 id="G50"),
]  # fmt: skip


def answered(usage: object) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    return json.dumps({"id": "c", "choices": [choice], "usage": usage}).encode()


def streamed(*usages: object) -> bytes:
    said = [vllm(ROLE), vllm('{"content":"Hello"}'), vllm("{}", '"stop"')]
    return lines(*said, *(vllm_usage(json.dumps(usage)) for usage in usages), DONE)


def counts(usage: Usage | None) -> tuple[int, int, int]:
    assert usage is not None
    return usage.prompt, usage.completion, usage.cached


@pytest.mark.parametrize(("usage", "prices", "profile", "expected", "usd"), GOLDEN)
def test_usage_and_its_price(usage: dict, prices: Prices, profile: dict, expected: tuple[int, int, int], usd: str):
    whole = read_answer(answered(usage), new_id=lambda: NEW_ID, **profile).usage
    stream = play([streamed(usage)], plan(**profile))
    assert counts(whole) == counts(stream.usage) == expected
    assert stream.source is UsageSource.UPSTREAM
    assert format_usd(prices.cost(*(expected[0], expected[2], expected[1]))) == usd


def test_g46_a_total_beyond_its_parts_is_noted():
    assert play([streamed(HIDDEN)], plan()).usage.inconsistent


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, id="G48"),
        pytest.param({"prompt_tokens": "12", "completion_tokens": 8}, id="G49"),
    ],
)
def test_usage_that_cannot_be_true_is_estimated(usage: dict):
    request = read_chat_request(b'{"model":"m","messages":[{"role":"user","content":"Say hello."}]}')
    answer = read_answer(answered(usage), new_id=lambda: NEW_ID)
    assert answer.usage is None
    estimate = Usage(request.estimate_prompt(), tokens_of(answer.output_bytes()))
    stream = play([streamed(usage)], plan())
    assert (stream.usage, stream.source) == (Usage(PROMPT, 2), UsageSource.ESTIMATED)
    assert estimate == stream.usage
    assert format_usd(PRICES.cost(estimate.prompt, 0, estimate.completion)) == "0.0000088"


def test_g51_the_smallest_price_is_exact():
    assert format_usd(Prices.parse("0.000000000001", "0").cost(1, 0, 0)) == "0.000000000001"


def test_g51_a_finer_price_is_a_mistake_of_the_configuration():
    with pytest.raises(ValueError, match="decimal"):
        Prices.parse("0.0000000000001", "0")


def test_g52_null_does_not_clear_what_was_told():
    stream = play([streamed({"prompt_tokens": 10, "completion_tokens": 2}, None)], plan())
    assert (stream.usage, stream.source) == (Usage(10, 2), UsageSource.UPSTREAM)
