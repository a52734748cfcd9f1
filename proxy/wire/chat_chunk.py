"""One chunk of a streamed chat completion: what it says, and the form in which clients get it. Pure, and without
memory.

What has to be remembered between chunks is `chat_stream.py`'s.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Raw

from proxy.wire import json
from proxy.wire.chat_answer import ChatAnswer
from proxy.wire.json import RawObject

_OUTPUT: Final = frozenset(
    {
        "content",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "refusal",
        "tool_calls",
        "function_call",
        "audio",
    }
)
_MANY_DIGITS: Final = 10
_NOTHING: Final = frozenset({b"null", b'""', b"[]", b"{}"})
_ROLE: Final = Raw(b'"assistant"')


def event_of(chunk: object) -> bytes:
    """Write one event: a single `data: ` line and the blank line."""
    return b"data: " + json.encode(chunk) + b"\n\n"


def says_something(choice: RawObject) -> bool:
    """Tell whether a choice of a chunk holds output: text, reasoning, refusal, a tool call, or a finish reason."""
    if json.text_of(choice.get("finish_reason")):
        return True
    delta = choice.get("delta")
    if delta is None or bytes(delta) in _NOTHING:
        return False
    fields = json.split_object(bytes(delta))
    return any(name in _OUTPUT and bytes(value) not in _NOTHING for name, value in fields.items())


def is_bare(choice: RawObject) -> bool:
    """Tell whether a choice of a chunk holds nothing at all but its index and perhaps a role."""
    delta = choice.get("delta")
    if json.text_of(choice.get("finish_reason")):
        return False
    fields = {} if delta is None or json.is_null(delta) else json.split_object(bytes(delta))
    return all(name == "role" or bytes(value) in _NOTHING for name, value in fields.items())


def index_of(choice: RawObject) -> int:
    """Return the choice's index; 0 where it is missing."""
    raw = bytes(choice.get("index", Raw(b"0")))
    return int(raw) if raw.isdigit() and len(raw) < _MANY_DIGITS else 0


def set_role(choice: RawObject, *, first: bool) -> bool:
    """Give the first chunk of a choice its role and take it from the later ones; returns whether the choice changed.

    Accumulating clients join strings: a role that comes twice becomes `assistantassistant`.
    """
    raw = choice.get("delta")
    delta = {} if raw is None or json.is_null(raw) else json.split_object(bytes(raw))
    role = delta.pop("role", None)
    if role == (_ROLE if first else None):
        return False
    if first:
        delta = {"role": _ROLE, **delta}
    choice["delta"] = Raw(json.encode(delta))
    return True


def chunks_of_answer(answer: ChatAnswer, head: Callable[[list[dict[str, object]]], bytes]) -> list[bytes]:
    """Turn a whole completion into the events of a stream, two a choice; `head` writes a chunk around choices."""
    out = []
    for choice in json.split_list(answer.choices):
        message = json.split_object(bytes(choice["message"]))
        if "tool_calls" in message:
            calls = json.split_list(message["tool_calls"])
            numbered = [{"index": number, **call} for number, call in enumerate(calls)]
            message["tool_calls"] = Raw(json.encode(numbered))
        if json.is_null(message.get("content")):
            message.pop("content", None)
        logprobs = {"logprobs": choice["logprobs"]} if "logprobs" in choice else {}
        out.append(head([{"index": choice["index"], "delta": message, **logprobs, "finish_reason": None}]))
        out.append(head([{"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]))
    return out
