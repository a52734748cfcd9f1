"""The streams of both endpoints as judges read them: events out of bytes, chunks put together to messages.

Read as loosely as any client does, so that a fault of framing fails the check of framing and no other.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import Struct

from proxy.conformance.exchange import Reply, Violation, fitted, shortened
from proxy.conformance.shapes import ChunkChoice, Delta
from proxy.wire.sse import EventReader

DONE: Final = b"[DONE]"


class Event(Struct, frozen=True):
    """One event with data; `name` is what its `event:` line says."""

    name: str | None
    data: bytes


@dataclass(slots=True)
class Pieces:
    """What the chunks of one choice add up to."""

    roles: list[str] = field(default_factory=list)
    content: str = ""
    reasoning: str = ""
    calls: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """The deltas of each tool call."""
    finish_reasons: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    """What each delta held, one after the other."""


class Chunk(Struct, frozen=True):
    """As much of a chunk as is needed to put a stream together."""

    choices: list[ChunkChoice] = []
    usage: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A chat stream: its chunks, and its choices put together."""

    chunks: tuple[Chunk, ...]
    choices: dict[int, Pieces]


def events_of(reply: Reply) -> list[Event]:
    """Return the events of a stream that hold data, `[DONE]` included."""
    reader = EventReader()
    events = []
    for event in (*reader.feed(reply.body), *reader.end()):
        if event.data is not None:
            names = [line[6:].strip() for line in event.raw.split(b"\n") if line.startswith(b"event:")]
            events.append(Event(names[-1].decode(errors="replace") if names else None, event.data))
    return events


def documents_of(reply: Reply) -> list[dict[str, Any]]:
    """Return the JSON objects of a stream; raises `Violation` if an event holds anything else, or there is none."""
    found = [_document(event.data, reply.asked.what) for event in events_of(reply) if event.data != DONE]
    if not found:
        raise Violation(f"{reply.asked.what}: {reply.summary}: there are no events")
    return found


def assembled(reply: Reply) -> Stream:
    """Return a chat stream put together; raises `Violation` where a chunk has another form, and for an error."""
    documents = documents_of(reply)
    for document in documents:
        if document.get("error"):
            raise Violation(f"{reply.asked.what}: broke off: {shortened(str(document['error']))}")
    chunks = tuple(fitted(document, Chunk, f"{reply.asked.what}: a chunk") for document in documents)
    choices: dict[int, Pieces] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            _add(choices.setdefault(choice.index, Pieces()), choice.delta, choice.finish_reason)
    return Stream(chunks, choices)


def _add(pieces: Pieces, delta: dict[str, Any], finish: str | None) -> None:
    said = fitted(delta, Delta, "a delta")
    held = [name for name in ("reasoning", "content", "refusal", "tool_calls") if getattr(said, name)]
    pieces.order.append("+".join(held))
    pieces.roles += [said.role] if said.role is not None else []
    pieces.content += said.content or ""
    pieces.reasoning += said.reasoning or ""
    for call in said.tool_calls or ():
        pieces.calls.setdefault(call.get("index", 0), []).append(call)
    pieces.finish_reasons += [finish] if finish is not None else []


def _document(data: bytes, where: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Violation(
            f"{where}: an event holds {shortened(data.decode(errors='replace'))!r}, which is no JSON object"
        )
    return found
