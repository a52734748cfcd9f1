"""Plain second readings of what the program reads: server-sent events, chunks, the texts in them.

Written for being obviously right and not for being fast; they share no code with the program. What they find is what
its own readers are measured by.
"""

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from playing import cut_at, event_by_event, in_pieces_of

BOM = "\ufeff".encode()
TEXTS = ("content", "reasoning", "reasoning_content", "refusal")
SMALL = 300


def option(data: bytes) -> tuple[int, bytes]:
    """What an input's first character chooses, from 0 for `a`; behind a line's end, what is sent."""
    return (data[0] - ord("a")) % 256 if data else 0, data[2:]


def ways_to_cut(sent: bytes) -> Iterator[list[bytes]]:
    """Some ways in which the same bytes can arrive, the same ones for the same bytes."""
    random = Random(zlib.crc32(sent))
    yield event_by_event(sent)
    yield cut_at([random.randint(0, len(sent)) for _ in range(2)], sent)
    yield cut_at([random.randint(0, len(sent)) for _ in range(8)], sent)
    if len(sent) <= SMALL:
        yield in_pieces_of(1, sent)


def events_of(sent: bytes) -> list[tuple[list[bytes], list[bytes]]]:
    """Every event as its lines and, of them, what is data; the last one need not be closed."""
    lines = re.split(rb"\r\n|\r|\n", sent.removeprefix(BOM))
    events, lines_of_one = [], []
    for line in [*lines, b""]:
        if line:
            lines_of_one.append(line)
        elif lines_of_one:
            events.append((lines_of_one, [_value(one) for one in lines_of_one if _name(one) == b"data"]))
            lines_of_one = []
    return events


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0]


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2].removeprefix(b" ")


def _one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key came twice")
    return dict(pairs)


def strict_json(text: bytes) -> Any:
    """Decode JSON in which no key comes twice and every number is one; ValueError for all else."""

    def no_number(word: str) -> float:
        raise ValueError(word)

    return json.loads(text.decode(), object_pairs_hook=_one_of_each, parse_constant=no_number)


@dataclass
class Told:
    """What a stream of chunks tells: by choice, the texts, the arguments by call, and how it ended."""

    texts: dict[str, dict[int, str]] = field(default_factory=lambda: {name: {} for name in TEXTS})
    finish: dict[int, str] = field(default_factory=dict)
    calls: dict[tuple[int, int], str] = field(default_factory=dict)

    def take(self, chunk: dict[str, Any]) -> None:
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            delta = choice.get("delta") or {}
            for name in TEXTS:
                if delta.get(name):
                    self.texts[name][index] = self.texts[name].get(index, "") + delta[name]
            for call in delta.get("tool_calls") or ():
                place = index, call.get("index", 0)
                self.calls[place] = self.calls.get(place, "") + ((call.get("function") or {}).get("arguments") or "")
            if choice.get("finish_reason"):
                self.finish.setdefault(index, choice["finish_reason"])


def well_formed(sent: bytes) -> list[dict[str, Any]] | None:
    """The chunks of a stream up to its [DONE], if every one is of the documented types; else None."""
    chunks = []
    for lines, data in events_of(sent):
        if any(_name(line) == b"error" for line in lines):
            return None
        joined = b"\n".join(data)
        if joined.startswith(b"[DONE]"):
            break
        if not joined:
            continue
        try:
            chunk = strict_json(joined)
        except (ValueError, RecursionError):
            return None
        if not _is_chunk(chunk):
            return None
        chunks.append(chunk)
    return chunks


def _is_chunk(chunk: Any) -> bool:
    return (
        isinstance(chunk, dict)
        and not chunk.get("error")
        and chunk.get("object") != "error"
        and isinstance(chunk.get("id"), str)
        and isinstance(chunk.get("choices"), list)
        and not isinstance(chunk.get("x_groq"), str)
        and all(_is_choice(choice) for choice in chunk["choices"])
    )


def _is_choice(choice: Any) -> bool:
    return (
        isinstance(choice, dict)
        and "message" not in choice
        and type(choice.get("index")) is int
        and 0 <= choice["index"] < 100
        and isinstance(choice.get("delta"), dict)
        and isinstance(choice.get("finish_reason"), str | None)
        and choice.get("finish_reason") not in {"error", "abort"}
        and all(isinstance(choice["delta"].get(name), str | None) for name in (*TEXTS, "role"))
        and "reasoning_details" not in choice["delta"]
        and isinstance(calls := choice["delta"].get("tool_calls", []), list | None)
        and all(_is_call(call) for call in calls or ())
    )


def _is_call(call: Any) -> bool:
    return (
        isinstance(call, dict)
        and type(call.get("index")) is int
        and isinstance(function := call.get("function"), dict | None)
        and (function is None or isinstance(function.get("arguments"), str | None))
    )
