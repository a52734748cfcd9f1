"""The form of an answer, clause by clause: the same in every mode, for a whole answer and for a stream of it."""

import json
from typing import Any

import pytest
from playing import CATALOG, NEW_ID, NOW, PROMPT, chunks_in, plan, play, split
from provider_events import DONE, lines

from proxy.usage import Usage, tokens_of
from proxy.wire.chat_answer import read_answer, write_answer
from proxy.wire.reasoning import ReasoningPlan

PLANS = [split("auto"), split("none", "inline"), split("field", "raw")]
MADE = f"chatcmpl_{NEW_ID}"
FUNCTION = {"name": "f", "arguments": "{}"}
CALL = {"id": "c", "type": "function", "function": FUNCTION}
USAGE = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
SHOWN = {**USAGE, "prompt_tokens_details": {"cached_tokens": 0}}


def whole(message: dict, planned: ReasoningPlan, finish: object = "stop", before: bytes = b"", **fields: Any) -> dict:
    """The document that a client gets of a whole answer; `fields` stand beside the usual ones or in their place."""
    choice = {"finish_reason": finish, "message": {"role": "assistant", **message}, "index": 0, "logprobs": None}
    body = {"choices": [choice], "usage": USAGE, "created": 5, "id": "x", "model": "vendor", "object": "y", **fields}
    answer = read_answer(
        before + json.dumps({name: value for name, value in body.items() if value != "absent"}).encode(),
        new_id=lambda: NEW_ID, reasoning=planned, strip_fields=("provider",),
    )  # fmt: skip
    usage = answer.usage or Usage(PROMPT, tokens_of(answer.output_bytes()))
    return json.loads(write_answer(answer, model=CATALOG, usage=usage, now=NOW, new_id=lambda: NEW_ID))


def streamed(message: dict, planned: ReasoningPlan, finish: object = "stop", **fields: Any) -> list[dict]:
    """The chunks that a client gets of a stream of the same answer, with its usage in the last."""
    chunk = {"created": 5, "id": "x", "model": "vendor", "object": "chat.completion.chunk", **fields}
    chunk = {name: value for name, value in chunk.items() if value != "absent"}
    calls = [{"index": at, **call} for at, call in enumerate(message.get("tool_calls") or [])]
    said = {**message, "tool_calls": calls} if calls else message
    sent = [
        {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", **said}, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        {**chunk, "choices": [], "usage": fields.get("usage", USAGE)},
    ]
    stripped = plan(reasoning=planned, strip=("provider",), include_usage=True, every_event=True)
    return chunks_in(play([lines(*(f"data: {json.dumps(one)}" for one in sent), DONE)], stripped).out)


def deltas(chunks: list[dict]) -> list[dict]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: f"{planned.mode} {planned.style}")
@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        pytest.param({"model": "vendor/name"}, {"model": CATALOG}, id="D5.2 the catalog's name"),
        pytest.param({"model": "absent"}, {"model": CATALOG}, id="D5.2 absent"),
        pytest.param({"id": "x" * 128}, {"id": "x" * 128}, id="D5.3 the longest"),
        *(pytest.param({"id": wrong}, {"id": MADE}, id=f"D5.3 {wrong!r:.9}")
          for wrong in ("x" * 129, "", "a b", "é", "a\n", 5, None, "absent", ["x"])),
        pytest.param({"created": 1}, {"created": 1}, id="D5.4 the first second"),
        *(pytest.param({"created": wrong}, {"created": NOW}, id=f"D5.4 {wrong!r}")
          for wrong in (0, -1, 1.5, 5.0, "5", True, None, "absent", 10**200)),
    ],
)  # fmt: skip
def test_the_head_of_an_answer(planned: ReasoningPlan, sent: dict, shown: dict):
    document = whole({"content": "x"}, planned, **sent)
    assert {name: document[name] for name in shown} == shown
    for chunk in streamed({"content": "x"}, planned, **sent):
        assert {name: chunk[name] for name in shown} == shown


@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: f"{planned.mode} {planned.style}")
def test_d5_1_the_documented_keys_come_first_and_what_is_the_operators_never(planned: ReasoningPlan):
    private = {**USAGE, "cost": 0.1, "is_byok": False, "cost_details": {"upstream": 1}}
    message = {"content": "x", "annotations": []}
    document = whole(message, planned, provider="Together", system_fingerprint="fp", usage=private)
    assert list(document) == ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"]
    assert document["object"] == "chat.completion"
    assert document["usage"] == SHOWN
    chunks = streamed(message, planned, provider="Together", usage=private)
    assert {"cost", "provider", "is_byok"}.isdisjoint(json.dumps([document, chunks]).split('"'))
    # A tool call is one of the things for which choices are written anew.
    [choice] = whole({**message, "tool_calls": [CALL]}, planned)["choices"]
    assert list(choice) == ["index", "message", "finish_reason", "logprobs"]
    assert list(choice["message"]) == ["role", "content", "tool_calls", "annotations"]


@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: f"{planned.mode} {planned.style}")
@pytest.mark.parametrize(
    ("message", "content"),
    [
        pytest.param({"content": "x"}, "x", id="D5.5 a text"),
        pytest.param({"content": "x", "role": "model"}, "x", id="D5.5 another role"),
        pytest.param({"content": "", "role": None}, "", id="D5.5 an empty text"),
        pytest.param({"content": None}, "", id="D5.5 null"),
        pytest.param({}, "", id="D5.5 nothing"),
        *(pytest.param({"content": wrong}, "", id=f"D5.5 {wrong!r}") for wrong in (5, 0, True, False, {}, {"a": 1})),
        pytest.param({"content": None, "refusal": "no"}, None, id="D5.5 a refusal"),
        pytest.param({"content": 5, "refusal": "no"}, None, id="D5.5 a number beside a refusal"),
        pytest.param({"content": None, "tool_calls": [CALL]}, None, id="D5.5 a call"),
        pytest.param({"content": "x", "tool_calls": [CALL]}, "x", id="D5.5 a text and a call"),
        pytest.param({"content": None, "tool_calls": []}, "", id="D5.6 no calls"),
        pytest.param({"content": "x", "tool_calls": None}, "x", id="D5.6 null for calls"),
    ],
)
def test_the_message(planned: ReasoningPlan, message: dict, content: str | None):
    shown = whole(message, planned)["choices"][0]["message"]
    assert shown["role"] == "assistant"
    assert shown["content"] == content
    assert ("tool_calls" in shown) is bool(message.get("tool_calls"))
    said = deltas(streamed(message, planned))
    assert [delta["role"] for delta in said if "role" in delta] == ["assistant"]
    if planned.touches:  # what is passed on unread is what the provider said
        assert "".join(delta.get("content") or "" for delta in said) == (content or "")


@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: f"{planned.mode} {planned.style}")
@pytest.mark.parametrize(
    ("call", "shown"),
    [
        pytest.param(CALL, CALL, id="D5.6 as it should be"),
        *(pytest.param({**CALL, "type": kind}, CALL, id=f"D5.6 type {kind!r}") for kind in ("", None)),
        *(pytest.param({**CALL, "id": made}, {**CALL, "id": f"call_{NEW_ID}"}, id=f"D5.6 id {made!r}")
          for made in ("", None)),
        *(pytest.param({**CALL, "function": {"name": "f", "arguments": came}},
                       {**CALL, "function": {"name": "f", "arguments": became}}, id=f"D5.6 arguments {came!r}")
          for came, became in [({"a": [1, "é"]}, '{"a":[1,"\\u00e9"]}'), ([], "[]"), (None, ""), ('{"a" : 1.0}',) * 2,
                               ("no json",) * 2, ("\ud83d",) * 2, ({"a": "\ud83d"}, '{"a":"\\ud83d"}')]),
    ],
)  # fmt: skip
def test_a_tool_call(planned: ReasoningPlan, call: dict, shown: dict):
    [found] = whole({"content": None, "tool_calls": [call]}, planned, "tool_calls")["choices"][0]["message"][
        "tool_calls"
    ]
    assert found == shown
    first, *rest = [
        call for delta in deltas(streamed({"tool_calls": [call]}, planned)) for call in delta.get("tool_calls", ())
    ]
    assert first == {"index": 0, **shown, "function": {"name": "f", "arguments": ""}}
    assert "".join(one["function"]["arguments"] for one in rest) == shown["function"]["arguments"]


ENDINGS = {
    "stop": ["stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", None, ""],
    "length": ["length", "max_tokens", "model_length"],
    "tool_calls": ["tool_calls", "tool_use"],
    "content_filter": ["content_filter", "safety", "recitation", "sensitive", "guardrail_intervened"],
    "function_call": ["function_call"],
    "of its own": ["of its own"],
}


@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: f"{planned.mode} {planned.style}")
@pytest.mark.parametrize(
    ("word", "shown"),
    [pytest.param(word, shown, id=f"D5.7 {word!r}") for shown, words in ENDINGS.items() for word in words],
)
def test_the_ending(planned: ReasoningPlan, word: str | None, shown: str):
    assert whole({"content": "x"}, planned, word)["choices"][0]["finish_reason"] == shown
    ends = [
        choice["finish_reason"] for chunk in streamed({"content": "x"}, planned, word) for choice in chunk["choices"]
    ]
    assert [end for end in ends if end] == [shown]
    if not word:
        document = whole({"content": None, "tool_calls": [CALL]}, planned, word)
        assert document["choices"][0]["finish_reason"] == "tool_calls"
        last = streamed({"tool_calls": [CALL]}, planned, word)[-2]
        assert last["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: f"{planned.mode} {planned.style}")
@pytest.mark.parametrize("before", [b"\n\n\n", b"\r\n \r\n\t"])
def test_d5_9_blank_lines_before_the_body_are_skipped(planned: ReasoningPlan, before: bytes):
    assert whole({"content": "x"}, planned, before=before) == whole({"content": "x"}, planned)


COUNTS = {"audio_tokens": 1, "image_tokens": 2, "text_tokens": 3}
OF_PROMPT = {"cached_tokens": 4, **COUNTS, "cache_write_tokens": 5}
OF_COMPLETION = {"reasoning_tokens": 4, **COUNTS, "accepted_prediction_tokens": 5, "rejected_prediction_tokens": 6}
NO_COUNTS = {"audio_tokens": "1", "image_tokens": None, "cached_tokens": True, "reasoning_tokens": -1}
ESTIMATE = {**SHOWN, "prompt_tokens": PROMPT, "completion_tokens": 1, "total_tokens": PROMPT + 1}
USAGES = [
    pytest.param(USAGE, SHOWN, id="D6.1 what everybody tells"),
    pytest.param({**USAGE, "total_tokens": 99}, SHOWN, id="D6.1 a total that is no sum"),
    pytest.param(
        {**USAGE, "prompt_tokens_details": {**OF_PROMPT, "other": 6}},
        {**USAGE, "prompt_tokens_details": OF_PROMPT},
        id="D6.1 details of the prompt",
    ),
    pytest.param(
        {**USAGE, "completion_tokens_details": {**OF_COMPLETION, "other": 7}},
        {**SHOWN, "completion_tokens_details": OF_COMPLETION},
        id="D6.1 details of the completion",
    ),
    pytest.param(
        {**USAGE, "prompt_tokens_details": NO_COUNTS, "completion_tokens_details": NO_COUNTS},
        SHOWN,
        id="D6.1 details that are no counts",
    ),
    pytest.param({**USAGE, "cost": 0.1, "is_byok": True}, SHOWN, id="D6.1 what the operator pays"),
    *(
        pytest.param(none, ESTIMATE, id=f"D6.2 {none!r}")
        for none in (None, {}, {"prompt_tokens": 5}, dict.fromkeys(USAGE, 0))
    ),
]


@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: f"{planned.mode} {planned.style}")
@pytest.mark.parametrize(("told", "shown"), USAGES)
def test_usage(planned: ReasoningPlan, told: object, shown: dict):
    assert whole({"content": "x"}, planned, usage=told)["usage"] == shown
    assert streamed({"content": "x"}, planned, usage=told)[-1]["usage"] == shown
