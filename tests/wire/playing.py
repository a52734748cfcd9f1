"""What the gateway makes of a stream: how one is cut and played here, and how a strict client reads what comes out."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from proxy.providers import ReasoningStyle
from proxy.usage import Usage, UsageSource, tokens_of
from proxy.wire.chat_stream import ChatStream, StreamPlan
from proxy.wire.reasoning import UNTOUCHED, ReasoningMode, ReasoningPlan

CATALOG = "aion-labs/aion-2.0"
PROMPT = 7
"""The prompt's tokens in every estimate here."""
NOW = 1_795_000_000
NEW_ID = "n" * 24


@dataclass(frozen=True)
class Recorded:
    """One stream: the provider's bytes, and what they mean."""

    name: str
    sent: bytes
    text: dict[int, str]
    usage: tuple[int, int, int]
    """Prompt, completion and cached tokens that are billed."""
    source: UsageSource = UsageSource.UPSTREAM
    finish: dict[int, str] = field(default_factory=lambda: {0: "stop"})
    reasoning: dict[int, str] = field(default_factory=dict)
    arguments: dict[tuple[int, int], str] = field(default_factory=dict)
    """By choice and call: the tool calls' arguments."""
    error: str | None = None
    """The name of the failure that ends it, if one does."""
    choices: int = 1
    strip: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Played:
    """What came out of a stream, and where it stood at its end."""

    out: bytes
    ended: bool
    committed: bool
    error: tuple[str, int | None, str] | None
    usage: Usage
    source: UsageSource
    upstream_id: str | None
    stray: int = 0
    """Choices with a closing tag that belongs to no block."""


def plan(
    *,
    model: str = CATALOG,
    choices: int = 1,
    strip: tuple[str, ...] = (),
    reasoning: ReasoningPlan = UNTOUCHED,
    **asked: bool,
) -> StreamPlan:
    return StreamPlan(
        model=model,
        choices=choices,
        include_usage=asked.get("include_usage", False),
        continuous_usage=asked.get("continuous_usage", False),
        strip_fields=strip,
        every_event=asked.get("every_event", False),
        completion_from_total=asked.get("completion_from_total", False),
        now=NOW,
        new_id=lambda: NEW_ID,
        estimate=lambda output: Usage(PROMPT, tokens_of(output)),
        reasoning=reasoning,
    )


def split(style: str = "auto", mode: str = "split") -> ReasoningPlan:
    return ReasoningPlan(ReasoningMode(mode), ReasoningStyle(style), "<think>", "</think>")


def play(pieces: Iterable[bytes], planned: StreamPlan) -> Played:
    """Feed a stream piece by piece to its end."""
    stream = ChatStream(planned)
    out = b"".join([stream.feed(piece) for piece in pieces])
    out += stream.end()
    usage, source = stream.usage()
    error = None if stream.error is None else (stream.error.kind, stream.error.status, stream.error.body.message)
    return Played(
        out, stream.ended, stream.committed, error, usage, source, stream.upstream_id, stream.stray_close_tags
    )


def play_recorded(recorded: Recorded, pieces: Iterable[bytes] | None = None, **asked: Any) -> Played:
    planned = plan(choices=recorded.choices, strip=recorded.strip, **asked)
    return play([recorded.sent] if pieces is None else pieces, planned)


def in_pieces_of(size: int, sent: bytes) -> list[bytes]:
    return [sent[start : start + size] for start in range(0, len(sent), size)]


def cut_at(places: Iterable[int], sent: bytes) -> list[bytes]:
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    return [sent[start:end] for start, end in pairwise(edges)]


def event_by_event(sent: bytes) -> list[bytes]:
    return [piece for piece in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)|(?<=\r\r)", sent) if piece]


def chunks_in(out: bytes) -> list[dict]:
    """Read what a client is sent, as strictly as the strictest client does; without the closing [DONE]."""
    chunks = []
    for event in out.removesuffix(b"data: [DONE]\n\n").split(b"\n\n")[:-1]:
        assert event.startswith(b"data: {"), event
        assert b"\n" not in event, event
        assert b"\r" not in event, event
        chunks.append(json.loads(event[6:]))
    return chunks


def joined(chunks: list[dict], *names: str) -> dict[int, str]:
    """The text of each choice, as an accumulating client puts it together from the first of `names` in each delta."""
    texts: dict[int, str] = {}
    for choice in choices_in(chunks):
        text = next((choice["delta"][name] for name in names if choice["delta"].get(name)), "")
        texts[choice["index"]] = texts.get(choice["index"], "") + text
    return texts


def choices_in(chunks: list[dict]) -> Iterator[dict]:
    for chunk in chunks:
        yield from chunk["choices"]


def arguments_in(chunks: list[dict]) -> dict[tuple[int, int], str]:
    found: dict[tuple[int, int], str] = {}
    for choice in choices_in(chunks):
        for call in choice["delta"].get("tool_calls") or ():
            place = choice["index"], call["index"]
            found[place] = found.get(place, "") + (call["function"].get("arguments") or "")
    return found
