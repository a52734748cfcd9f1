"""Tells from the bytes alone whether events of a stream can be handed on unread, and counts what they said if it must
be known.

A quotation mark inside a JSON string is always escaped, so `"usage"` with bare quotes can only be a key (or a whole
value), never a part of the model's text. Searching for such needles costs a fraction of parsing. Pure.
"""

from typing import Final

import msgspec
from msgspec import Struct

from proxy.wire import json
from proxy.wire.json import Malformed

FOLD_AT: Final = 16 * 1024
"""How many bytes of unread events are kept before they are counted and let go: the most that a stream holds for this.
"""


def is_plain(piece: bytes) -> bool:
    """Tell whether `piece` is one or more whole `data: {…}` events in LF form, none of which has to be looked at."""
    return (
        piece.startswith(b"data: {")
        and piece.endswith(b"}\n\n")
        and piece.count(b"\n") == 2 * piece.count(b"}\n\ndata: {") + 2
        and b"\r" not in piece
        and is_quiet(piece)
        and json.is_utf8(piece)
    )


def is_quiet(events: bytes) -> bool:
    """Tell whether whole events of JSON hold no usage, no error, no finish reason and no role: nothing to act upon."""
    return (
        b'"role"' not in events
        and (b'"error"' not in events or _all_null(events, b'"error"'))
        and (b'"usage"' not in events or _all_null(events, b'"usage"'))
        and _all_null(events, b'"finish_reason"')
    )


def _all_null(events: bytes, key: bytes) -> bool:
    times = events.count(key)
    return times == events.count(key + b":null") or times == events.count(key + b":null") + events.count(
        key + b": null"
    )


_TEXT: Final = b'"content":"'


class TextEvent:
    """The form of one stream's text events: from one to the next nothing differs but the text.

    An event that begins and ends like one that was looked at, with no quotation mark and no line end between, can hold
    nothing to act upon: telling that takes a fifth of the search for needles.
    """

    __slots__ = ("_before", "_behind", "_least")

    def __init__(self, before: bytes, behind: bytes) -> None:
        """Know the form by what stands before and behind the text."""
        self._before = before
        self._behind = behind
        self._least = len(before) + len(behind)

    @classmethod
    def like(cls, event: bytes) -> "TextEvent | None":
        """Learn the form from a plain event; None if its text cannot be told apart."""
        start = event.find(_TEXT)
        if start < 0 or event.count(_TEXT) > 1 or event.count(b"\n") != 2:  # noqa: PLR2004 - one event
            return None
        start += len(_TEXT)
        end = event.find(b'"', start)
        return None if end < 0 or b"\\" in event[start:end] else cls(event[:start], event[end:])

    def fits(self, piece: bytes) -> bool:
        """Tell whether a piece is one event of this form."""
        if len(piece) < self._least or not (piece.startswith(self._before) and piece.endswith(self._behind)):
            return False
        text = piece[len(self._before) : len(piece) - len(self._behind)]
        return b'"' not in text and b"\n" not in text and b"\r" not in text and json.is_utf8(text)


def text_in(value: object) -> str | None:
    """Return a text, or what the parts of a list say (Mistral's models reason in such parts); None for all else."""
    if isinstance(value, str):
        return value
    parts = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
    return "".join(text_in(part.get("text")) or text_in(part.get("thinking")) or "" for part in parts) or None


class _Called(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    function: _Called | None = None


class _Delta(Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    delta: _Delta | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None


_chunks: Final = msgspec.json.Decoder(_Chunk)


class OutputCounter:
    """Counts the bytes that a model produced, from events that nobody parsed; they are read in batches, or at the
    end.
    """

    __slots__ = ("_bytes", "_kept", "_kept_size", "_tool_calls")

    def __init__(self) -> None:
        """Start at nothing."""
        self._bytes = 0
        self._tool_calls = False
        self._kept: list[bytes] = []
        self._kept_size = 0

    def add(self, events: bytes) -> None:
        """Take whole events in the `data: …` form with LF."""
        self._kept.append(events)
        self._kept_size += len(events)
        if self._kept_size > FOLD_AT:
            self._fold()

    def total(self) -> int:
        """Return the UTF-8 bytes of text, reasoning (one field), tool names and arguments so far."""
        self._fold()
        return self._bytes

    def has_tool_calls(self) -> bool:
        """Tell whether any event so far called a tool."""
        self._fold()
        return self._tool_calls

    def _fold(self) -> None:
        if not self._kept:
            return
        lines = b"".join(self._kept).removeprefix(b"data: ").replace(b"\n\ndata: ", b"\n")
        self._kept.clear()
        self._kept_size = 0
        try:
            chunks = _chunks.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            chunks = [chunk for line in lines.split(b"\n") if (chunk := _forgiving(line)) is not None]
        for chunk in chunks:
            for choice in chunk.choices or ():
                if choice.delta is not None:
                    self._count(choice.delta)

    def _count(self, delta: _Delta) -> None:
        self._bytes += _size(delta.content) + _size(delta.reasoning or delta.reasoning_content) + _size(delta.refusal)
        for call in delta.tool_calls or ():
            self._tool_calls = True
            if call.function is not None:
                self._bytes += _size(call.function.name) + _size(call.function.arguments)


def _size(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _forgiving(line: bytes) -> _Chunk | None:
    """Read one event whose fields may be of other types than they should; None if it is not JSON."""
    try:
        value = json.decode(line)
    except Malformed:
        return None
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list):
        return None
    deltas = [choice.get("delta") for choice in choices if isinstance(choice, dict)]
    return _Chunk([_Choice(_readable(delta)) for delta in deltas if isinstance(delta, dict)])


def _readable(delta: dict[str, object]) -> _Delta:
    texts = {name: text_in(delta.get(name)) for name in ("content", "reasoning", "reasoning_content", "refusal")}
    calls = delta.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    called = [
        _Call(_Called(**{name: text for name in ("name", "arguments") if isinstance(text := function.get(name), str)}))
        for function in functions
        if isinstance(function, dict)
    ]
    return _Delta(**texts, tool_calls=called or None)
