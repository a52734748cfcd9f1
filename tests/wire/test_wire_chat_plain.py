"""A completion that leaves as it came: whatever is taken for one says the same as the careful reader makes of it."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.providers import ReasoningStyle
from proxy.wire.chat_answer import read_answer, write_answer
from proxy.wire.chat_plain import finish_reasons, read_plain_answer, write_plain_answer
from proxy.wire.reasoning import UNTOUCHED, ReasoningMode, ReasoningPlan
from proxy.wire.upstream_error import UpstreamError

SPLIT = ReasoningPlan(ReasoningMode.SPLIT, ReasoningStyle.TAGS, "<think>", "</think>")
PLANS = [UNTOUCHED, SPLIT]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
MESSAGE = {"role": "assistant", "content": "Hi é."}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "theirs", "choices": [CHOICE],
    "usage": USAGE,
}  # fmt: skip


def encoded(answer: object) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode()


def plainly(body: bytes, plan: ReasoningPlan = UNTOUCHED, *, from_total: bool = False):
    """What the client gets, its usage and the facts, if the body is plain."""
    answer = read_plain_answer(body, plan, completion_from_total=from_total)
    if answer is None:
        return None
    return json.loads(write_plain_answer(answer, "ours")), answer.usage, answer.upstream_id, answer.reasoning_field


def carefully(body: bytes, plan: ReasoningPlan = UNTOUCHED, *, from_total: bool = False):
    answer = read_answer(body, new_id=lambda: "new", reasoning=plan, completion_from_total=from_total)
    assert answer.usage is not None
    written = write_answer(answer, model="ours", usage=answer.usage, now=1, new_id=lambda: "new")
    return json.loads(written), answer.usage, answer.upstream_id, answer.reasoning_field


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        ANSWER | {"system_fingerprint": "fp", "service_tier": None},
        ANSWER | {"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0}}},
        ANSWER | {"usage": USAGE | {"completion_tokens_details": {"reasoning_tokens": 1}, "cost": 5}},
        ANSWER | {"choices": [CHOICE | {"logprobs": None}, CHOICE | {"index": 1}]},
        ANSWER | {"choices": [CHOICE | {"message": MESSAGE | {"refusal": None, "annotations": []}}]},
        ANSWER | {"choices": [CHOICE | {"message": MESSAGE | {"reasoning_content": "Hm."}}]},
    ],
)
def test_the_usual_answers_are_plain_and_only_model_and_usage_are_ours(answer):
    told = plainly(encoded(answer))
    assert told == carefully(encoded(answer))
    assert told[0]["choices"] == answer["choices"]
    assert told[0]["model"] == "ours"
    assert list(told[0])[:6] == ["id", "object", "created", "model", "choices", "usage"]


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER | {"id": ""},
        ANSWER | {"id": "a b"},
        ANSWER | {"id": "x" * 129},
        ANSWER | {"id": None},
        ANSWER | {"id": "é"},
        ANSWER | {"object": "error"},
        ANSWER | {"created": 0},
        ANSWER | {"created": -1},
        ANSWER | {"created": 1.5},
        ANSWER | {"created": "1"},
        ANSWER | {"created": None},
        ANSWER | {"usage": None},
        ANSWER | {"usage": {}},
        ANSWER | {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
        ANSWER | {"choices": []},
        ANSWER | {"choices": None},
        ANSWER | {"choices": [CHOICE | {"usage": USAGE}]},
        ANSWER | {"choices": [CHOICE | {"finish_reason": "eos"}]},
        ANSWER | {"choices": [CHOICE | {"finish_reason": None}]},
        ANSWER | {"choices": [CHOICE | {"message": MESSAGE | {"tool_calls": []}}]},
        ANSWER | {"choices": [CHOICE | {"message": MESSAGE | {"content": None}}]},
        ANSWER | {"choices": [CHOICE | {"message": {"content": "x"}}]},
        ANSWER | {"error": {"message": "broken"}},
        ANSWER | {"message": "broken"},
        ANSWER | {"x_groq": {"usage": USAGE}},
        ANSWER | {"timings": {}},
        {name: value for name, value in ANSWER.items() if name != "created"},
        [ANSWER],
    ],
)
def test_what_needs_a_closer_look_is_not_plain(answer):
    assert read_plain_answer(encoded(answer), UNTOUCHED) is None


@pytest.mark.parametrize("body", [b"", b"{", b"null", encoded(ANSWER)[:-1], encoded(ANSWER).replace(b"\xc3", b"\xff")])
def test_what_is_no_json_in_utf_8_is_not_plain(body):
    assert read_plain_answer(body, UNTOUCHED) is None


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (encoded(ANSWER), ("stop",)),
        (encoded(ANSWER | {"choices": [CHOICE, CHOICE | {"index": 1, "finish_reason": "length"}]}), ("stop", "length")),
        *((body, ()) for body in (b"", b"{}", b'{"choices":[{"finish_reason":null}]}', b'{"output":[]}', b"\xff")),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"choices":[]}', ()),
    ],
)
def test_finish_reasons_are_those_of_a_completion_and_else_none(body, reasons):
    assert finish_reasons(body) == reasons


@pytest.mark.parametrize("content", ["<think>x</think>y", "x</think>y", r"<\/think>"])
def test_a_text_in_which_reasoning_may_hide_is_not_plain_where_it_is_split(content):
    body = encoded(ANSWER | {"choices": [CHOICE | {"message": MESSAGE | {"content": content}}]})
    assert read_plain_answer(body.replace(b"\\\\/", b"\\/"), SPLIT) is None
    assert read_plain_answer(body, UNTOUCHED) is not None


def test_texts_and_ids_leave_as_the_bytes_that_came():
    body = encoded(ANSWER).replace(b"Hi", rb"H\u0069").replace(b"1700000000", b"1700000001 ")
    written = write_plain_answer(read_plain_answer(body, UNTOUCHED), "ours")
    assert b'"content": "H\\u0069 \xc3\xa9."' in written


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**13) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=4,
)
counts = st.integers(0, 9) | values
usages = st.fixed_dictionaries(
    {"prompt_tokens": counts, "completion_tokens": counts},
    optional={
        "total_tokens": counts,
        "prompt_tokens_details": st.fixed_dictionaries({}, optional={"cached_tokens": counts, "audio_tokens": counts}),
        "completion_tokens_details": st.fixed_dictionaries({}, optional={"reasoning_tokens": counts}),
        "cost": values,
    },
)
texts = st.sampled_from(["", "Hi", "<think>a</think>b", "</think>", "é", "usage", '"usage"']) | st.text(max_size=8)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant") | values, "content": texts | values},
    optional={
        "reasoning": texts | values,
        "reasoning_content": texts | values,
        "tool_calls": values,
        "refusal": values,
        "annotations": values,
    },
)
choices = st.fixed_dictionaries(
    {
        "index": st.integers(0, 3),
        "message": messages,
        "finish_reason": st.sampled_from(["stop", "length", "eos", None]),
    },
    optional={"logprobs": values, "usage": usages},
)
answers = st.fixed_dictionaries(
    {
        "id": st.text(max_size=5) | st.just("chatcmpl-1") | values,
        "object": st.just("chat.completion"),
        "created": st.integers(-1, 10**10) | values,
        "model": values,
        "choices": st.lists(choices, max_size=2),
        "usage": usages,
    },
    optional={"system_fingerprint": values, "service_tier": values},
)


@given(answers, st.sampled_from(PLANS), st.booleans())
@example(ANSWER, UNTOUCHED, False)
@example(ANSWER, SPLIT, True)
def test_whatever_is_plain_says_what_the_careful_reader_would_make_of_it(answer, plan, from_total):
    body = encoded(answer)
    told = plainly(body, plan, from_total=from_total)
    if told is not None:
        try:
            assert told == carefully(body, plan, from_total=from_total)
        except UpstreamError as error:
            raise AssertionError("the careful reader refuses it") from error
