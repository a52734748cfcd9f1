"""One chunk of a streamed chat completion: what it says, and the form in which clients get it. Pure, and without
memory.

What has to be remembered between chunks is `chat_stream.py`'s.
"""

from typing import Final

from msgspec import Raw

from proxy.wire import json
from proxy.wire.chat_answer import ChatAnswer, message_bytes
from proxy.wire.chat_text import says
from proxy.wire.json import Disguise, RawObject
from proxy.wire.large_json import check_answer

OUTPUT: Final = frozenset(
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
"""The keys of a delta that hold what a model produced."""
HEAD: Final = frozenset({"id", "object", "created", "model"})
"""The keys of a chunk that are the gateway's to write."""
_MANY_DIGITS: Final = 10
_FIRST: Final = Raw(b"0")


def event_of(chunk: object) -> bytes:
    """Write one event: a single `data: ` line and the blank line."""
    return b"data: %b\n\n" % json.encode(chunk)


def as_it_came(event: bytes, written: bytes) -> bytes:
    """Return a clean event itself if what would be written for it differs in nothing but blanks; else that."""
    if len(written) >= len(event):
        return written
    return event if b"data: %b\n\n" % json.compact(event[6:-2]) == written else written


def split_chunk(data: bytes) -> tuple[RawObject, Disguise | None]:
    """Return the fields of a chunk, and the disguise that they wear if it holds half a surrogate pair; raises
    `Malformed`.
    """
    check_answer(data)
    return json.split_disguised(data)


def chunk_head(shown_id: str, created: int, model: str) -> RawObject:
    """Return the fields that are the same in all chunks of a stream."""
    head = {"id": shown_id, "object": "chat.completion.chunk", "created": created, "model": model}
    return {name: Raw(json.encode(value)) for name, value in head.items()}


def is_bare(choice: RawObject) -> bool:
    """Tell whether a choice of a chunk holds nothing at all but its index and perhaps a role."""
    if json.text_of(choice.get("finish_reason")):
        return False
    delta = choice.get("delta")
    fields = {} if delta is None or json.is_null(delta) else json.split_object(bytes(delta))
    return not any(says(value) for name, value in fields.items() if name != "role")


def deltas_in(fields: RawObject) -> list[tuple[int, RawObject, int]]:
    """Return the deltas of a large chunk, each with its choice and the bytes that it says; none is decoded in one go.
    Raises `Malformed`.
    """
    listed = fields.get("choices")
    choices = [] if listed is None or json.is_null(listed) else json.split_list(listed)
    saying = [(index_of(one), json.split_object(one["delta"])) for one in choices if says(one.get("delta"))]
    return [(index, delta, message_bytes(delta)) for index, delta in saying]


def index_of(choice: RawObject) -> int:
    """Return the choice's index; 0 where it is missing."""
    raw = choice.get("index")
    if raw is None or raw == _FIRST:
        return 0
    digits = bytes(raw)
    return int(digits) if digits.isdigit() and len(digits) < _MANY_DIGITS else 0


def choices_of_answer(answer: ChatAnswer) -> list[RawObject]:
    """Return the choices of a whole completion as one chunk of a stream would hold them, tool calls numbered."""
    out = []
    for choice in json.split_list(answer.choices):
        message = json.split_object(bytes(choice["message"]))
        if "tool_calls" in message:
            calls = json.split_list(message["tool_calls"])
            numbered = [{**call, "index": number} for number, call in enumerate(calls)]
            message["tool_calls"] = Raw(json.encode(numbered))
        logprobs = {"logprobs": choice["logprobs"]} if "logprobs" in choice else {}
        delta = Raw(json.encode(message))
        out.append({"index": choice["index"], "delta": delta, **logprobs, "finish_reason": choice["finish_reason"]})
    return out
