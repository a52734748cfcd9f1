"""The forms that the events of one stream repeat: from one to the next, nothing differs but a text, and perhaps a few
single values beside the choices.

An event that has the form of one that was looked at means what that one meant. Telling that takes a fraction of a
search for needles, and a tenth of parsing.
"""

import re
from collections.abc import Collection
from typing import Final

import msgspec
from msgspec import Raw

from proxy.wire import json
from proxy.wire.chat_text import decode_text
from proxy.wire.json import Malformed
from proxy.wire.scan import OutputCounter

CONTENT: Final = (b'"content":"', b'"content": "')
REASONING: Final = (b'"reasoning":"', b'"reasoning": "')
REASONING_CONTENT: Final = (b'"reasoning_content":"', b'"reasoning_content": "')
ARGUMENTS: Final = (b'"arguments":"', b'"arguments": "')
"""How the keys of texts stand in front of them, as servers write them."""
_ESCAPE: Final = rb"""\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}"""
_PAIR: Final = rb"[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_PLAIN: Final = rb'[^"\\\x00-\x1f]*+'
INSIDE: Final = b"%b(?:%b|%b))%b)*+" % (_PLAIN, _ESCAPE, _PAIR, _PLAIN)
"""The inside of a JSON string without half of a surrogate pair: of UTF-8, any such is valid."""
_INSIDE: Final = re.compile(INSIDE)
_texts: Final = msgspec.json.Decoder(str)
_TEXT: Final = b"(%b)" % INSIDE
_NUMBER: Final = rb"(0|[1-9][0-9]*+)"
_MEANING: Final = frozenset({"choices", "error", "object", "usage"})
"""Fields of which another value is another event."""
_MOST_BETWEEN: Final = 4096
"""Bytes between the first and the last place that may differ: what stands there becomes an expression."""
# As numbers: a number is found in bytes in a tenth of the time that bytes are found in.
_BACKSLASH: Final = ord("\\")
_QUOTE: Final = ord('"')
_LF: Final = ord("\n")
_CR: Final = ord("\r")

Values = re.Match[bytes]
"""What stands in an event in the places in which events of its form differ: groups, in the order of the places."""
_Place = tuple[int, int, bytes, str | None]
"""From where to where an event holds something that may differ, what may stand there, and the field whose value it is;
None for the text.
"""


class TextEvent:
    """What stands in an event before the first and behind the last thing that may differ, and what stands between."""

    __slots__ = (
        "_before", "_behind", "_beside", "_between", "_end", "_least", "_literal", "_middle", "_sample", "_start",
        "places", "text",
    )  # fmt: skip

    def __init__(self, event: bytes, places: list[_Place], beside: int) -> None:
        """Know the form of `event` by the places in it, in order; `beside` is the output in bytes that every event of
        it has besides its text.
        """
        names = [name for _, _, _, name in places]
        first, last = places[0], places[-1]
        ends = [start for start, _, _, _ in places[1:]] + [last[1]]
        parts = [pattern + re.escape(event[end:to]) for (_, end, pattern, _), to in zip(places, ends, strict=True)]
        self.places = tuple(names)
        """The fields whose values may differ, and None for the text."""
        self.text = names.index(None) + 1
        """The group that holds the text."""
        self._literal = event[first[1] : last[0]] if [one[2] for one in places] == [_TEXT, _TEXT] else b""
        """What stands between the two texts, where these are what may differ."""
        self._before = event[: first[0]]
        self._middle = re.compile(b"".join(parts)).fullmatch
        self._behind = event[last[1] :]
        self._start = len(self._before)
        self._end = -len(self._behind)
        self._least = len(self._before) + len(self._behind)
        self._between = self._behind + self._before
        self._beside = beside
        self._sample = event

    @classmethod
    def like(cls, event: bytes, keys: Collection[bytes] = CONTENT, varying: Collection[str] = ()) -> "TextEvent | None":
        """Learn the form of an event whose text stands behind one of `keys`, and in which the fields in `varying` may
        have other values of their kind. None if it cannot be told apart.
        """
        text = _text(event, keys)
        if text is None or not json.is_utf8(event):
            return None
        start, end, _, _ = text
        beside = _counted(event[:start] + event[end:])
        try:
            size = len(decode_text(Raw(b'"%b"' % event[start:end])).encode())
            places = sorted([text, *(_place(event, name) for name in varying)])
        except Malformed:
            return None
        if places[-1][0] - places[0][1] > _MOST_BETWEEN:
            return None
        # A text that does not count must not be counted: the key may stand elsewhere than in the delta.
        return cls(event, places, beside) if _counted(event) == beside + size else None

    def widened(
        self, event: bytes, keys: Collection[bytes], fixed: Collection[str] = frozenset()
    ) -> "TextEvent | None":
        """Return the form that both this one's events and `event` have, if beside their texts nothing differs but
        single values of fields that are not `fixed`; None if there is none, or `event` is of this form already.
        """
        try:
            differing = _differing(_without_text(self._sample, keys), _without_text(event, keys))
        except Malformed:
            return None
        if differing <= {*self.places} or not differing.isdisjoint({*_MEANING, *fixed}):
            return None
        form = TextEvent.like(event, keys, differing.union(filter(None, self.places)))
        return None if form is None or form.read(self._sample) is None else form

    def read(self, events: bytes) -> list[Values] | None:
        """Return what differs in a piece that is one or more events of this form; else None."""
        if len(events) < self._least or events[: self._start] != self._before or events[self._end :] != self._behind:
            return None
        if not (events.isascii() or json.is_utf8(events)):
            return None
        return self._found(events[self._start : self._end])

    def event(self, found: Values) -> bytes:
        """Return the event in which this was found."""
        return b"%b%b%b" % (self._before, found.string, self._behind)

    def size(self, found: list[Values]) -> int:
        """Return the size in bytes of the events in which this was found."""
        return self._least * len(found) + sum(len(one.string) for one in found)

    def count(self, events: bytes, found: list[Values], output: OutputCounter) -> None:
        """Count events of this form in which this was found."""
        if output.looks_out:
            output.add(events)
            return
        place = self.text
        text = found[0][place] if len(found) == 1 else b"".join([one[place] for one in found])
        output.known += self._beside * len(found)
        if _BACKSLASH in text:
            output.say(text)
        else:
            output.known += len(text)

    def takes(self, events: bytes, output: OutputCounter) -> bool:
        """Count a piece that is one or more events of this form, as `read` and `count` do at twice the cost; False if
        it is something else.
        """
        if len(events) < self._least or events[: self._start] != self._before or events[self._end :] != self._behind:
            return False
        if not (events.isascii() or json.is_utf8(events)):
            return False
        inside = events[self._start : self._end]
        if _BACKSLASH not in inside and _LF not in inside and _CR not in inside and not output.looks_out:
            first, found, second = inside.partition(self._literal) if self._literal else (inside, True, b"")
            if found and _QUOTE not in first and _QUOTE not in second:
                output.known += self._beside + len(first if self.text == 1 else second)
                return True
        if len(self.places) > 1 or output.looks_out:
            if (seen := self._found(inside)) is not None:
                self.count(events, seen, output)
            return seen is not None
        return self._says(inside, output)

    def _says(self, inside: bytes, output: OutputCounter) -> bool:
        """Count what stands between the ends of a piece if nothing is to differ but texts; False if more does."""
        number = 1
        try:
            if len(inside) < self._least:
                said = _texts.decode(b'"%b"' % inside)
            else:
                parts = inside.split(self._between)
                texts = _texts.decode_lines(b'"%b"' % b'"\n"'.join(parts))
                number, said = len(parts), "".join(texts)
                if len(texts) != number:  # one of them ended early
                    return False
        except msgspec.DecodeError:
            return False
        output.known += self._beside * number + len(said.encode())
        return True

    def _found(self, inside: bytes) -> list[Values] | None:
        if (match := self._middle(inside)) is not None:
            return [match]
        parts = inside.split(self._between)
        found = [match for one in parts if (match := self._middle(one)) is not None]
        return found if len(found) == len(parts) else None


def _text(event: bytes, keys: Collection[bytes]) -> _Place | None:
    """Return where the text of an event stands, behind the first of the keys that has one."""
    key = next((key for key in keys if key in event and key + b'"' not in event), None)
    if key is None or event.count(key) > 1 or event.count(b"\n") != 2:  # noqa: PLR2004 - one event
        return None
    start = event.find(key) + len(key)
    inside = _INSIDE.match(event, start)
    if inside is None or event[inside.end() : inside.end() + 1] != b'"':
        return None
    return start, inside.end(), _TEXT, None


def _without_text(event: bytes, keys: Collection[bytes]) -> bytes:
    text = _text(event, keys)
    return event if text is None else event[: text[0]] + event[text[1] :]


def _differing(one: bytes, other: bytes) -> frozenset[str]:
    """Name the fields in which two events differ that have the same ones in the same order; raises `Malformed`."""
    before, after = _fields(one), _fields(other)
    if [*before] != [*after]:
        raise Malformed("they have other fields")
    return frozenset(name for name in before if before[name] != after[name])


def _place(event: bytes, name: str) -> _Place:
    """Return where the value of a field stands; raises `Malformed` if that cannot be told, or it is no single value."""
    value = bytes(_fields(event)[name])
    quoted = value.startswith(b'"')
    found = re.search(rb'"%b"\s*:\s*' % re.escape(name.encode()), event)
    if found is not None and event.startswith(value, found.end()):
        start, end = found.end() + quoted, found.end() + len(value) - quoted
        pattern = _TEXT if quoted else _NUMBER
        if re.fullmatch(pattern, event[start:end]) is not None:
            return start, end, pattern, name
    raise Malformed("its place cannot be told")


def _fields(event: bytes) -> json.RawObject:
    return json.split_object(event[len(b"data: ") :])


def _counted(event: bytes) -> int:
    counter = OutputCounter()
    counter.add(event)
    return counter.total()
