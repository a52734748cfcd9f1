"""Whole bodies that providers send, and what is made of them for clients of both endpoints:

- No body raises anything but the failure of the provider, and a failure says nothing secret.
- An answer that is served is JSON with the documented keys, each of its type; nothing in it is the provider's secret.
- What is billed is never negative, and no part of it is larger than the whole.
- Where a stream was asked for and a whole answer came, the stream says what the answer says, on both endpoints.
"""

import json
import re
from typing import Any

from chat_stream_invariants import SPLIT, is_billable, played, reasoning, told
from msgspec.structs import replace
from playing import CATALOG, NEW_ID, NOW, PROMPT, plan
from reasoning_invariants import PLANS as REASONING_PLANS
from reasoning_invariants import whole
from response_reading import counted, read, shape
from streams_read import TEXTS, option

from proxy.providers import ReasoningStyle
from proxy.usage import Usage
from proxy.wire.chat_answer import ChatAnswer, read_answer, write_answer
from proxy.wire.native_answer import NativePlan, read_native_answer, write_native_answer
from proxy.wire.response_answer import write_response
from proxy.wire.response_stream import ResponseStream
from proxy.wire.upstream_error import UpstreamError, client_fault, error_in, read_error

SECRETS = ("s3cret-key", "host.example")
STRIPPED = ("provider", "service_tier")
PLANS = (reasoning(SPLIT, ReasoningStyle.NONE), *REASONING_PLANS)
STATUSES = (None, 400, 401, 403, 404, 422, 429, 500, 503, 529, 302)
FINISHED = {"completed", "incomplete"}


def answered(data: bytes) -> ChatAnswer | None:
    number, sent = option(data)
    try:
        return read_answer(
            sent,
            new_id=lambda: NEW_ID,
            strip_fields=STRIPPED,
            completion_from_total=bool(number & 1),
            reasoning=PLANS[number % len(PLANS)],
        )
    except UpstreamError as error:
        says_nothing_secret(error)
        return None


def says_nothing_secret(error: UpstreamError) -> None:
    fault = client_fault(error, SECRETS)
    assert fault.status in {400, 502}
    assert 0 < len(fault.message) <= 2000
    for told_text in (fault.message, fault.param or "", fault.code or ""):
        assert not any(secret in told_text for secret in SECRETS)
        assert not re.search(r"(?<![A-Za-z0-9])sk-[a-z]", told_text)


def failures_say_nothing_secret(data: bytes) -> None:
    _, sent = option(data)
    error_in(sent)
    for status in STATUSES:
        says_nothing_secret(UpstreamError(read_error(sent), status=status))


def an_answer_has_its_form(data: bytes) -> None:
    answer = answered(data)
    if answer is None:
        return
    try:
        assert answer.output_bytes() >= 0
    except UpstreamError:
        return
    usage = answer.usage or Usage(PROMPT, 1)
    is_billable(usage)
    body = json.loads(write_answer(answer, model=CATALOG, usage=usage, now=NOW, new_id=lambda: NEW_ID))
    assert (body["object"], body["model"]) == ("chat.completion", CATALOG)
    assert list(body)[:6] == ["id", "object", "created", "model", "choices", "usage"]
    assert type(body["created"]) is int
    assert not set(STRIPPED) & body.keys()
    assert body["usage"]["total_tokens"] >= 0
    assert body["choices"]
    for choice in body["choices"]:
        message = choice["message"]
        assert message["role"] == "assistant"
        assert "content" in message
        assert isinstance(choice["finish_reason"], str)
        assert not choice.get("usage")
        for call in message.get("tool_calls", ()):
            assert call["id"]
            assert isinstance(call["id"], str)
            assert call["type"]


def a_response_has_its_form(data: bytes) -> None:
    answer = answered(data)
    if answer is None:
        return
    usage = answer.usage or Usage(PROMPT, 1)
    for separate in (True, False):
        try:
            response = json.loads(write_response(answer, shape(separate=separate), usage, counted()))
        except UpstreamError:
            assert not says_text(answer, usage)
            return
        assert response["status"] in FINISHED
        assert response["usage"]["total_tokens"] == usage.prompt + usage.completion
        ids = [item["id"] for item in response["output"]]
        assert len(set(ids)) == len(ids)
        for item in response["output"]:
            assert item["status"] in FINISHED
            assert item["type"] in {"message", "reasoning", "function_call"}


def says_text(answer: ChatAnswer, usage: Usage) -> bool:
    """Tell whether a client of chat completions is shown a text, so that one of responses has to be."""
    body = json.loads(write_answer(answer, model=CATALOG, usage=usage, now=NOW, new_id=lambda: NEW_ID))
    choice = body["choices"][0]
    return isinstance(choice["message"]["content"], str) and "delta" not in choice


def a_native_answer_has_its_form(data: bytes) -> None:
    _, sent = option(data)
    native = NativePlan(CATALOG, metadata=b'{"k":"v"}', strip_fields=STRIPPED)
    try:
        answer = read_native_answer(sent, native)
        assert answer.output_bytes() >= 0
    except UpstreamError as error:
        says_nothing_secret(error)
        return
    if answer.usage is not None:
        is_billable(answer.usage)
    body = json.loads(write_native_answer(answer, native))
    assert body["model"] == CATALOG
    assert body["metadata"] == {"k": "v"}
    assert not set(STRIPPED) & body.keys()
    assert not body.get("error")
    if isinstance(body.get("usage"), dict):
        assert not [name for name in body["usage"] if name.startswith("cost") or name == "is_byok"]


def a_stream_says_what_the_answer_says(data: bytes) -> None:
    number, sent = option(data)
    answer = answered(data)
    if answer is None or not sent.lstrip().startswith(b"{"):
        return
    planned_as = replace(
        plan(strip=STRIPPED, completion_from_total=bool(number & 1)), reasoning=PLANS[number % len(PLANS)]
    )
    out, stream = played(planned_as, [sent])
    if stream.error is not None:
        return
    usage, _ = stream.usage()
    assert answer.usage in (None, usage)
    body = json.loads(write_answer(answer, model=CATALOG, usage=usage, now=NOW, new_id=lambda: NEW_ID))
    choices = body["choices"]
    if any(type(choice["index"]) is not int or not 0 <= choice["index"] < 100 for choice in choices):
        return
    if len({choice["index"] for choice in choices}) < len(choices) or any("delta" in choice for choice in choices):
        return
    if any(not isinstance(choice["message"].get(name), str | None) for choice in choices for name in TEXTS):
        return
    said = told(out)
    for choice in choices:
        for name in ("content", "reasoning", "refusal"):
            text = choice["message"].get(name) or ""
            assert whole(said.texts[name].get(choice["index"], "")) == whole(text)
        assert said.finish[choice["index"]] == choice["finish_reason"]
    calls = [call for choice in choices for call in choice["message"].get("tool_calls") or ()]
    names = [(call.get("function") or {}).get("name") for call in calls]
    if all(name and isinstance(name, str) for name in names):  # what has no name is told last of all
        the_response_says_it(sent, planned_as, answer)


def the_response_says_it(sent: bytes, planned_as: Any, answer: ChatAnswer) -> None:
    stream = ResponseStream(replace(planned_as, new_id=counted()), shape())
    streamed = stream.feed(sent) + stream.end()
    if stream.error is not None:
        return
    usage, _ = stream.usage()
    try:
        written = json.loads(write_response(answer, shape(), usage, counted()))
    except UpstreamError:
        return
    assert contents(read(streamed)) == contents(written)


def contents(response: dict[str, Any]) -> list[Any]:
    """What a response says, without the ids that are made for it and the log probabilities of its tokens."""
    kept = ("type", "name", "arguments", "status")
    items = [
        [item.get(name) for name in kept]
        + [[part["type"], part.get("text", part.get("refusal"))] for part in item.get("content", ())]
        for item in response["output"]
    ]
    return [response["status"], response["incomplete_details"], response["usage"], *items]


INVARIANTS = (
    failures_say_nothing_secret,
    an_answer_has_its_form,
    a_response_has_its_form,
    a_native_answer_has_its_form,
    a_stream_says_what_the_answer_says,
)
