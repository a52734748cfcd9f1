"""What clients send, on both endpoints, and what becomes of it:

- No body raises anything but a refusal: status 400, a readable sentence, and the place as a text or nothing.
- What a provider is sent is JSON in UTF-8 with the provider's name of the model, and without what it may not decide.
- Every other field of a chat request, and of a response request that is passed on, has the value that the client gave.
- A translated request is one that the chat endpoint would take, and every text of its input is in its messages.
- Blanks between the tokens of a request decide nothing.
- What is held and estimated for a request is never negative, and what an event repeats of it is JSON in one line.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from chat_stream_invariants import SERVED
from playing import CATALOG, NOW
from streams_read import option, strict_json

from proxy.errors import ErrorType, Refusal
from proxy.providers import Provider
from proxy.usage import Usage
from proxy.wire.chat_request import DROPPED, ChatRequest, Dialect, dialect_of, read_chat_request, upstream_body
from proxy.wire.response_object import ResponseShape, Status, event, response_object
from proxy.wire.response_request import ResponseRequest, as_chat, native_body, native_stand_in, read_response_request

URL = "http://127.0.0.1:1/v1"
PROFILES: tuple[dict[str, Any], ...] = (
    {},
    {"developer_role": "system", "max_tokens_param": "max_tokens", "stream_usage": "none"},
    {"max_tokens_param": "max_completion_tokens", "drop_params": ["seed"], "extra_body": {"top_k": 3}},
    {"reasoning_history": "placeholder", "reasoning_style": "tags"},
    {"reasoning_history": "drop"},
)
Request = TypeVar("Request")
ROLES = {"system", "user", "assistant", "tool", "developer", "function"}


def dialect(data: bytes) -> tuple[Dialect, bytes]:
    number, sent = option(data)
    return dialect_of(Provider(base_url=URL, **PROFILES[number % len(PROFILES)])), sent


def taken(read: Callable[[bytes], Request], sent: bytes) -> Request | None:
    """What a reader makes of a body; None if it refuses it as one may."""
    try:
        return read(sent)
    except Refusal as refusal:
        fault = refusal.fault
        assert (fault.status, fault.type) == (400, ErrorType.INVALID_REQUEST)
        assert 0 < len(fault.message) <= 2000
        assert fault.message.encode()
        assert isinstance(fault.param, str | None)
        assert fault.code
        return None


def exactly(body: bytes) -> Any:
    """Decode JSON whose numbers stay the characters that they are."""
    return json.loads(body.removeprefix(b"\xef\xbb\xbf").decode(), parse_int=str, parse_float=str)


def chat(sent: bytes) -> ChatRequest:
    return as_chat(read_response_request(sent))


def nothing_but_refusals(data: bytes) -> None:
    written_as, sent = dialect(data)
    for read in (read_chat_request, chat):
        request = taken(read, sent)
        if request is not None:
            is_sendable(request, written_as)
    response = taken(read_response_request, sent)
    if response is not None:
        assert exactly(native_body(response, SERVED, written_as))["model"] == SERVED
        is_measured(native_stand_in(response))


def is_sendable(request: ChatRequest, written_as: Dialect) -> None:
    body = upstream_body(request, SERVED, written_as)
    fields = exactly(body)
    assert body.decode()
    assert fields["model"] == SERVED
    assert not (DROPPED | {"metadata", "reasoning_split"}) & fields.keys()
    assert fields["messages"]
    assert all(message["role"] in ROLES for message in fields["messages"])
    is_measured(request)


def is_measured(request: ChatRequest) -> None:
    assert request.prompt_bytes > 0
    assert request.estimate_prompt() >= 0
    assert request.choices >= 1
    assert request.max_tokens is None or request.max_tokens >= 1
    assert all(isinstance(name, str) for name in request.ignored)


def other_fields_are_those_of_the_client(data: bytes) -> None:
    _, sent = option(data)
    plain = dialect_of(Provider(base_url=URL, reasoning_history="pass", stream_usage="none"))
    own = DROPPED | {"metadata", "reasoning_split", "stream_options", "model"}
    if (request := taken(read_chat_request, sent)) is not None:
        given, left = exactly(sent), exactly(upstream_body(request, SERVED, plain))
        assert {**without(left, own)} == {**without(given, own)}
    if (response := taken(read_response_request, sent)) is not None:
        given, left = exactly(sent), exactly(native_body(response, SERVED, plain))
        own = DROPPED - {"store"} | {"metadata", "reasoning_split", "model", "messages"}
        assert without(left, own) == without(given, own)


def without(fields: dict[str, Any], names: frozenset[str] | set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def a_translation_is_a_chat_request(data: bytes) -> None:
    written_as, sent = dialect(data)
    request = taken(chat, sent)
    if request is None:
        return
    body = upstream_body(request, SERVED, written_as)
    read_chat_request(body)
    fields = exactly(sent)
    if (said := fields.get("input")) is not None:
        messages = exactly(body)["messages"]
        heard = texts_in([message.get("content") for message in messages])
        assert not [text for text in said_in(said) if not any(text in one for one in heard)]


def said_in(value: Any) -> list[str]:
    """The texts that `input` says: of strings, and of the messages and parts that every model reads."""
    if isinstance(value, str):
        return [value]
    items = [item for item in value if item.get("type", "message") in {"message", None}]
    contents = [item["content"] for item in items if item.get("content")]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    spoken = [part["text"] for part in parts if part.get("type") in {"input_text", "output_text", "text"}]
    return spoken + [content for content in contents if isinstance(content, str)]


def texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inside for text in texts_in(one)]


def blanks_decide_nothing(data: bytes) -> None:
    written_as, sent = dialect(data)
    try:
        strict_json(sent)
        fields = exactly(sent)
    except (ValueError, RecursionError):
        return
    spaced = json.dumps(json.loads(sent), indent=1).encode()
    if exactly(spaced) != fields:  # a number that Python writes in another way
        return
    for read in (read_chat_request, chat):
        one, other = taken(read, sent), taken(read, spaced)
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert exactly(upstream_body(one, SERVED, written_as)) == exactly(upstream_body(other, SERVED, written_as))
            assert one.ignored == other.ignored


def what_an_event_repeats_is_json_in_one_line(data: bytes) -> None:
    _, sent = option(data)
    if taken(chat, sent) is None:
        return
    request: ResponseRequest = read_response_request(sent)
    shape = ResponseShape("resp_1", CATALOG, NOW, request.echo, True, lambda: NOW)
    written = event("response.completed", 0, response=response_object(shape, Status.COMPLETED, usage=Usage(1, 1)))
    head, data = written.removesuffix(b"\n\n").split(b"\n")
    assert head == b"event: response.completed"
    response = json.loads(data.removeprefix(b"data: "))["response"]
    given = json.loads(sent.removeprefix(b"\xef\xbb\xbf"))
    assert response["metadata"] == (given.get("metadata") or {})
    assert response["max_output_tokens"] == given.get("max_output_tokens")
    assert isinstance(response["tools"], list)


INVARIANTS = (
    nothing_but_refusals,
    other_fields_are_those_of_the_client,
    a_translation_is_a_chat_request,
    blanks_decide_nothing,
    what_an_event_repeats_is_json_in_one_line,
)
