"""One chunk of a streamed chat completion: what it says, and the form in which clients get it. Pure, and without
memory.

What has to be remembered between chunks is `chat_stream.py`'s.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Raw

from proxy.usage import Usage, read_usage
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


def index_of(choice: RawObject) -> int:
    """Return the choice's index; 0 where it is missing."""
    raw = bytes(choice.get("index", Raw(b"0")))
    return int(raw) if raw.isdigit() and len(raw) < _MANY_DIGITS else 0


def take_usage(
    fields: RawObject, choices: list[RawObject], *, completion_from_total: bool
) -> tuple[Usage | None, bool]:
    """Cut usage out of a chunk wherever providers put it; returns the last valid one, and whether there was any to cut.

    The places: the chunk itself, its choices (Kimi), `x_groq` (Groq). A null stays: it is harmless.
    """
    places = [fields, *choices]
    vendor = fields.get("x_groq")
    if vendor is not None and bytes(vendor).startswith(b"{") and b'"usage"' in bytes(vendor):
        places.append(json.split_object(bytes(fields.pop("x_groq"))))
    found, had = None, False
    for place in places:
        if not json.is_null(place.get("usage")):
            had = True
            raw = json.decode(place.pop("usage"))
            found = read_usage(raw, completion_from_total=completion_from_total) or found
    return found, had


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
