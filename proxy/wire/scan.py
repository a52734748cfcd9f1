"""Tells from the bytes alone whether events of a stream can be handed on unread, and counts what they said if it must
be known.

A quotation mark inside a JSON string is always escaped, so `"usage"` with bare quotes can only be a key (or a whole
value), never a part of the model's text. Searching for such needles costs a fraction of parsing. Pure.
"""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.wire import json
from proxy.wire.chat_text import decode_text, says, text_in, text_of_details
from proxy.wire.json import Malformed
from proxy.wire.large_json import LARGE
from proxy.wire.sse import Event

FOLD_AT: Final = 16 * 1024
"""How many bytes of unread events are kept before they are counted and let go: the most that a stream holds for this.
"""
_AS_BLANKS: Final = bytes.maketrans(bytes(range(32)), b" " * 32)
"""Characters that a text must not hold, but which are counted if it does."""
_CR: Final = ord("\r")
"""As a number, which is found in bytes faster than bytes are."""


def is_plain(piece: bytes) -> bool:
    """Tell whether `piece` is one or more whole `data: {…}` events in LF form, none of which has to be looked at."""
    return (
        piece.startswith(b"data: {")
        and piece.endswith(b"}\n\n")
        and piece.count(b"\n") == 2 * piece.count(b"}\n\ndata: {") + 2
        and _CR not in piece
        and is_quiet(piece)
        and json.is_utf8(piece)
    )


def clean_event(piece: bytes) -> Event | None:
    """Return the event of a piece that is one whole `data: {…}` event in LF form; else None."""
    if (
        piece.startswith(b"data: {")
        and piece.endswith(b"}\n\n")
        and piece.find(b"\n") == len(piece) - 2
        and _CR not in piece
        and len(piece) <= LARGE
    ):
        return Event(piece, piece[6:-2], clean=True)
    return None


def is_quiet(events: bytes) -> bool:
    """Tell whether whole events of JSON hold no usage, no error, no finish reason and no role: nothing to act upon."""
    return (
        # `find`, because `in` takes twice as long where bytes are looked for in bytes.
        events.find(b'"role"') < 0
        and (events.find(b'"error"') < 0 or _all_null(events, b'"error"'))
        and (events.find(b'"usage"') < 0 or _all_null(events, b'"usage"'))
        and _all_null(events, b'"finish_reason"')
    )


def holds_no_reasoning(events: bytes) -> bool:
    """Tell whether plain events hold reasoning in no field and content as text alone, and begin no tool call."""
    return (
        _in_no_other_field(events)
        and _are_all(events, b'"reasoning"', _NO_REASONING)
        and _are_all(events, b'"content"', _TEXTS)
        and _begin_no_call(events)
    )


def holds_only_reasoning(events: bytes) -> bool:
    """Tell whether the field `reasoning` is all that plain events say, or a tool call that goes on."""
    return (
        _in_no_other_field(events)
        and _are_all(events, b'"reasoning"', _REASONINGS)
        and _are_all(events, b'"content"', _NO_TEXTS)
        and _begin_no_call(events)
    )


_NO_REASONING: Final = (b'"reasoning":null', b'"reasoning": null')
_REASONINGS: Final = (b'"reasoning":"', b'"reasoning": "', *_NO_REASONING)
_NO_TEXTS: Final = (b'"content":null', b'"content": null', b'"content":""', b'"content": ""')
_TEXTS: Final = (b'"content":"', b'"content": "', b'"content":null', b'"content": null')
_NO_CALLS: Final = (b'"tool_calls":null', b'"tool_calls": null', b'"tool_calls":[]', b'"tool_calls": []')


def _in_no_other_field(events: bytes) -> bool:
    return events.find(b'"reasoning_content"') < 0 and events.find(b'"reasoning_details"') < 0


def _are_all(events: bytes, key: bytes, forms: tuple[bytes, ...]) -> bool:
    """Tell whether everything that begins like `key` has one of the forms."""
    left = events.count(key)
    for form in forms:
        if not left:
            return True
        left -= events.count(form)
    return not left


def _begin_no_call(events: bytes) -> bool:
    """Tell whether there are no tool calls, or in a single event one that goes on in the form that clients get."""
    if _are_all(events, b'"tool_calls"', _NO_CALLS):
        return True
    return (
        events.count(b"\n\n") == 1
        and events.find(b'"name"') < 0
        and events.find(b'"type"') < 0
        and events.count(b'"tool_calls":[{"index":') == 1
        and events.count(b'"arguments":"') == 1
        and events.count(b'"function":{') == 1
        and events.count(b'"index":') == 2  # noqa: PLR2004 - the choice's and the call's
        and events.count(b'"id"') == 1
    )


def _all_null(events: bytes, key: bytes) -> bool:
    times = events.count(key)
    return times == events.count(key + b":null") or times == events.count(key + b":null") + events.count(
        key + b": null"
    )


_NOTHING: Final = Raw(b"null")


class _Called(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    function: _Called | None = None


class _Delta(Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: Raw = _NOTHING
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Called | None = None
    """The older form of a call."""


class _Choice(Struct):
    delta: _Delta | None = None
    index: int = 0


class _Chunk(Struct):
    choices: list[_Choice] | None = None


_chunks: Final = msgspec.json.Decoder(_Chunk)


class OutputCounter:
    """Counts the bytes that a model produced, from events that nobody parsed; they are read in batches, or at the
    end.
    """

    __slots__ = (
        "_called", "_closed", "_closing", "_kept", "_kept_size", "_mark", "_marked", "_tails", "_texts", "known",
        "looks_out",
    )  # fmt: skip

    def __init__(self, closing: str = "") -> None:
        """Start at nothing; `closing` is a tag to look out for in the content."""
        self.known = 0
        """Output that is counted; what has a known size may be added here."""
        self._closing = closing
        self.looks_out = bool(closing)
        """The content of every event has to be seen, not just counted."""
        self._closed: set[int] = set()
        self._tails: dict[int, str] = {}
        self._called: set[int] = set()
        self._kept: list[bytes] = []
        self._kept_size = 0
        """Of events and of texts."""
        self._texts: list[bytes] = []
        self._mark = 0
        self._marked = 0
        """What was counted when the mark was set, and how many of the kept events came before it."""

    def add(self, events: bytes) -> None:
        """Take whole events in the `data: …` form with LF."""
        self._kept.append(events)
        self._kept_size += len(events)
        if self._kept_size > FOLD_AT:
            self._fold()

    def say(self, text: bytes) -> None:
        """Take output that is the inside of a JSON string, without half of a surrogate pair."""
        self._texts.append(text)
        self._kept_size += len(text)
        if self._kept_size > FOLD_AT:
            self._fold()

    def know(self, choice: int, delta: json.RawObject, size: int) -> None:
        """Take what one choice says in an event that has been taken apart, and how many bytes that are."""
        self._fold()
        self.known += size
        if says(delta.get("tool_calls")):
            self._called.add(choice)
        content = delta.get("content")
        if self.looks_out and content is not None:
            self._look(choice, decode_text(content))

    def look_no_more(self) -> None:
        """Forget the tag: it has its place in this stream."""
        self.looks_out = False

    def closed(self) -> set[int]:
        """Return the choices in whose content the tag has come."""
        self._fold()
        return self._closed

    def total(self) -> int:
        """Return the UTF-8 bytes of text, reasoning (one field), tool names and arguments so far."""
        self._fold()
        return self.known

    def mark(self) -> None:
        """Remember how much there is now, without reading the kept events yet."""
        self._fold_texts()
        self._mark, self._marked = self.known, len(self._kept)

    def since_mark(self) -> int:
        """Return what came after the mark."""
        self._fold()
        return self.known - self._mark

    def called(self) -> set[int]:
        """Return the choices that have called a tool."""
        self._fold()
        return self._called

    def _fold(self) -> None:
        self._kept_size = 0
        self._fold_texts()
        if not self._kept:
            return
        before, after = self._kept[: self._marked], self._kept[self._marked :]
        if before:
            unmarked = self.known
            self._read(before)
            self._mark += self.known - unmarked
        if after:
            self._read(after)
        self._kept.clear()
        self._marked = 0

    def _fold_texts(self) -> None:
        if self._texts:
            self.known += _size(str(json.decode(b'"%b"' % b"".join(self._texts))))
            self._texts.clear()

    def _read(self, kept: list[bytes]) -> None:
        lines = b"".join(kept).removeprefix(b"data: ").replace(b"\n\ndata: ", b"\n")
        try:
            chunks = _chunks.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            chunks = [chunk for line in lines.split(b"\n") if (chunk := _forgiving(line)) is not None]
        for chunk in chunks:
            for choice in chunk.choices or ():
                if choice.delta is not None:
                    self._count(choice.delta)
                    if choice.delta.tool_calls:
                        self._called.add(max(0, choice.index))
                    if self.looks_out and choice.delta.content:
                        self._look(choice.index, choice.delta.content)

    def _look(self, index: int, content: str) -> None:
        content = self._tails.get(index, "") + content
        if self._closing in content:
            self._closed.add(index)
        self._tails[index] = content[max(0, len(content) - len(self._closing) + 1) :]

    def _count(self, delta: _Delta) -> None:
        self.known += _size(delta.content) + _size(delta.reasoning or delta.reasoning_content) + _size(delta.refusal)
        if delta.reasoning_details is not _NOTHING and not (delta.reasoning or delta.reasoning_content):
            self.known += _size(_said_in_details(delta.reasoning_details))
        for call in delta.tool_calls or ():
            if call.function is not None:
                self.known += _size(call.function.name) + _size(call.function.arguments)
        if delta.function_call is not None:
            self.known += _size(delta.function_call.name) + _size(delta.function_call.arguments)


def _said_in_details(details: Raw) -> str:
    try:
        return text_of_details(json.decode(details))
    except Malformed:
        return ""


def _size(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())


def _forgiving(line: bytes) -> _Chunk | None:
    """Read one event whose fields may be of other types than they should; None if it is not JSON."""
    try:
        value = json.decode(line.translate(_AS_BLANKS))
    except Malformed:
        return None
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list):
        return None
    read = [(choice.get("delta"), choice.get("index")) for choice in choices if isinstance(choice, dict)]
    return _Chunk(
        [
            _Choice(_readable(delta), index if type(index) is int else 0)
            for delta, index in read
            if isinstance(delta, dict)
        ]
    )


def _readable(delta: dict[str, object]) -> _Delta:
    texts = {name: text_in(delta.get(name)) for name in ("content", "reasoning", "reasoning_content", "refusal")}
    calls = delta.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    called = [_Call(function) for raw in functions if (function := _called(raw)) is not None]
    return _Delta(
        **texts,
        reasoning_details=Raw(json.encode(delta.get("reasoning_details"))),
        tool_calls=called or None,
        function_call=_called(delta.get("function_call")),
    )


def _called(function: object) -> _Called | None:
    if not isinstance(function, dict):
        return None
    return _Called(**{name: text for name in ("name", "arguments") if isinstance(text := function.get(name), str)})
