"""What a response of `POST /v1/responses` is made of: the object, its items and their parts, statuses, errors.

Shapes alone: what goes into them is decided in `response_events.py`. Texts are passed about as the inside of a JSON
string, between its quotation marks, so that they leave as the bytes that came. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Raw, Struct

from proxy.errors import Fault
from proxy.usage import Usage
from proxy.wire import json
from proxy.wire.refusal import error_body
from proxy.wire.response_echo import ResponseEcho


class ResponseShape(Struct, frozen=True):
    """All of one response that does not depend on what the model answers."""

    response_id: str
    model: str
    """The catalog id."""
    created_at: int
    """Unix seconds."""
    echo: ResponseEcho
    separate_reasoning: bool
    """Reasoning is an output item of its own; else it is a part of the message, which only this API's own clients know.
    """
    clock: Callable[[], int]
    """The time in Unix seconds; asked once, when the response is complete."""


class Status(StrEnum):
    """How far a response or one of its items has come."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


class TextKind(Struct, frozen=True):
    """One kind of text part, and the words by which events and parts call it."""

    events: str
    """What its events begin with."""
    part: str
    key: str
    has_logprobs: bool = False


OUTPUT_TEXT: Final = TextKind("response.output_text", "output_text", "text", has_logprobs=True)
REFUSAL: Final = TextKind("response.refusal", "refusal", "refusal")
REASONING_IN_ITEM: Final = TextKind("response.reasoning_text", "reasoning_text", "text")
REASONING_IN_MESSAGE: Final = TextKind("response.reasoning_text", "reasoning", "text")

_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def incomplete_reason(finish: str) -> str | None:
    """Return why a response with this finish reason is incomplete; None if it is complete."""
    return _REASONS.get(finish)


def text_part(kind: TextKind, text: bytes, logprobs: Sequence[Raw] = ()) -> Raw:
    """Write a part with `text`, the inside of a JSON string.

    Output text has its lists always: clients fail without them.
    """
    part: dict[str, object] = {"type": kind.part, kind.key: Raw(b'"%b"' % text)}
    return Raw(json.encode({**part, "annotations": [], "logprobs": logprobs} if kind.has_logprobs else part))


def message_item(item_id: str, status: Status, parts: Sequence[Raw]) -> Raw:
    """Write a message of the model's."""
    message = {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": parts}
    return Raw(json.encode(message))


def reasoning_item(item_id: str, status: Status, parts: Sequence[Raw]) -> Raw:
    """Write reasoning as an item beside the message."""
    item = {"id": item_id, "type": "reasoning", "status": status, "summary": [], "content": parts}
    return Raw(json.encode(item))


def call_item(item_id: str, status: Status, call_id: bytes, name: bytes, arguments: bytes) -> Raw:
    """Write a function call; the texts are insides of JSON strings."""
    item = {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": Raw(b'"%b"' % call_id),
        "name": Raw(b'"%b"' % name),
        "arguments": Raw(b'"%b"' % arguments),
    }
    return Raw(json.encode(item))


def response_object(
    shape: ResponseShape,
    status: Status,
    output: Sequence[Raw] = (),
    *,
    usage: Usage | None = None,
    incomplete: str | None = None,
    error: Mapping[str, object] | None = None,
) -> Raw:
    """Write the response: the documented keys first, then what the official clients require besides."""
    echo = shape.echo
    response: dict[str, object] = {
        "id": shape.response_id,
        "object": "response",
        "created_at": shape.created_at,
        "model": shape.model,
        "status": status,
        "output": output,
        "usage": None if usage is None else usage.as_response(),
        "error": error,
        "incomplete_details": None if incomplete is None else {"reason": incomplete},
        "instructions": echo.instructions,
        "max_output_tokens": echo.max_output_tokens,
        "metadata": echo.metadata,
        "parallel_tool_calls": echo.parallel_tool_calls,
        "previous_response_id": None,
        "reasoning": {"effort": echo.reasoning_effort, "summary": None},
        "store": False,
        "temperature": echo.temperature,
        "text": {"format": echo.text_format},
        "tool_choice": echo.tool_choice,
        "tools": echo.tools,
        "top_p": echo.top_p,
        "truncation": "disabled",
    }
    if status is Status.COMPLETED:
        response["completed_at"] = shape.clock()
    return Raw(json.encode(response))


def event(kind: str, sequence: int, **fields: object) -> bytes:
    """Write one event of a response's stream; `sequence` is its number in it, from 0."""
    data = json.encode({"type": kind, "sequence_number": sequence, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.on_one_line(data))


def error_event(fault: Fault, request_id: str, sequence: int) -> bytes:
    """Write the event that says why a stream fails.

    It has the documented flat fields and the nested ones that real servers send: of the clients, some read these and
    some those.
    """
    told = _told(fault, request_id)
    nested = {"type": fault.type, **told}
    return event("error", sequence, **told, error=nested)


def response_error(fault: Fault, request_id: str) -> dict[str, object]:
    """Return the `error` of a failed response: its codes are a closed set of two."""
    code = "rate_limit_exceeded" if fault.code == "upstream_rate_limited" else "server_error"
    told = _told(fault, request_id)
    return {"code": code, "message": told["message"], "type": fault.type, "param": told["param"]}


def _told(fault: Fault, request_id: str) -> dict[str, object]:
    """Return what the fault says, with the one sentence that every endpoint says of it."""
    told = json.split_object(bytes(json.split_object(error_body(fault, request_id))["error"]))
    return {name: told[name] for name in ("code", "message", "param")}
