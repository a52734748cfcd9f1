"""What a native response's stream has said so far, from events that nobody parsed: how much, and in which items.

The size is billed if the provider tells no usage; the items are what a response that breaks off has to show. Pure.
"""

from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.wire import json
from proxy.wire.json import Malformed
from proxy.wire.native_answer import item_size, revealed
from proxy.wire.native_items import OpenItem
from proxy.wire.scan import FOLD_AT

MAX_KEPT: Final = 16 * 1024 * 1024
"""How much is kept of the items; of what comes behind it, only the size is known."""
_ENTRY: Final = 64
"""What a text takes beside its characters, roughly."""
_MOST_DIGITS: Final = 9
_DATA: Final = b"data: "
_NOTHING: Final = Raw(b"null")
_ADDED: Final = "response.output_item.added"
_ITEMS: Final = frozenset({_ADDED, "response.output_item.done"})


class _Part(Struct):
    type: str | None = None


class _Event(Struct):
    type: str = ""
    sequence_number: int = -1
    output_index: int = -1
    content_index: int = -1
    summary_index: int = -1
    delta: Raw = _NOTHING
    item: Raw = _NOTHING
    part: _Part | None = None


_events: Final = msgspec.json.Decoder(_Event)
_place: Final = attrgetter("type", "output_index", "content_index", "summary_index")


class NativeOutput:
    """Takes events as they are handed on, reads them in batches, or when it is asked."""

    __slots__ = ("_items", "_kept", "_kept_size", "_number", "_room", "_size")

    def __init__(self) -> None:
        """Start before the first event."""
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._size = 0
        self._number = 0
        self._items: dict[int, OpenItem | Raw] = {}
        """By output index; an item that is done as it came."""
        self._room = MAX_KEPT

    def add(self, events: bytes) -> None:
        """Take whole events, in LF form."""
        self._kept.append(events)
        self._kept_size += len(events)
        if self._kept_size > FOLD_AT:
            self._fold()

    def size(self) -> int:
        """Return the UTF-8 bytes of text, reasoning, the names and arguments of calls so far."""
        self._fold()
        return self._size

    def items(self) -> list[Raw]:
        """Return the items so far, those that are not done as they are now."""
        self._fold()
        items = [item for _, item in sorted(self._items.items())]
        return [item.write() if isinstance(item, OpenItem) else item for item in items]

    def next_number(self) -> int:
        """Return the number of the event that comes next: one more than the provider gave the last."""
        self._fold()
        return self._number

    def _fold(self) -> None:
        if not self._kept:
            return
        lines = [line[len(_DATA) :] for line in b"".join(self._kept).split(b"\n") if line.startswith(_DATA)]
        self._kept.clear()
        self._kept_size = 0
        try:
            events = _events.decode_lines(b"\n".join(lines))
        except (msgspec.DecodeError, RecursionError):
            events = [event for line in lines if (event := _forgiving(line)) is not None]
        for event in events:
            self._number = 1 + (event.sequence_number if event.sequence_number >= 0 else self._number)
        for (kind, output_index, *indexes), run in groupby(events, _place):
            if kind in _ITEMS:
                for event in run:
                    self._take(event)
            else:
                self._hear(kind, output_index, max(indexes), list(run))

    def _hear(self, kind: str, output_index: int, index: int, events: list[_Event]) -> None:
        """Take events of one kind about one text."""
        text = b"".join([said[1:-1] for event in events if (said := bytes(event.delta)).startswith(b'"')])
        size = json.text_size(b'"%b"' % text)
        self._size += size
        item = self._items.get(output_index)
        if isinstance(item, OpenItem):
            item.heard += size
            self._room -= len(text) + _ENTRY
            if self._room <= 0:
                return
            if (part := events[0].part) is not None:
                item.begin_part(part.type, index)
            else:
                item.hear(kind, index, text)

    def _take(self, event: _Event) -> None:
        """Take an item as it is added, or as it is when it is done, which may say what no delta said."""
        index = event.output_index
        try:
            item, disguise = json.split_disguised(bytes(event.item))
        except Malformed:
            return
        size = 0
        with suppress(Malformed):  # of parts that are none
            size = item_size(item)
        before = self._items.get(index)
        self._size += max(0, size - before.heard) if isinstance(before, OpenItem) else size
        self._room -= len(bytes(event.item))
        if self._room <= 0:
            self._items.pop(index, None)
        elif event.type == _ADDED:
            self._items[index] = OpenItem(revealed(item, disguise), size)
        else:
            self._items[index] = event.item.copy()


def _forgiving(line: bytes) -> _Event | None:
    """Read an event with half a pair in a text, or with fields of other types than they should be; None if it is no
    JSON.
    """
    try:
        fields, disguise = json.split_disguised(line)
    except Malformed:
        return None
    fields = revealed(fields, disguise)
    return _Event(
        type=json.text_of(fields.get("type")) or "",
        sequence_number=_number(fields.get("sequence_number")),
        output_index=_number(fields.get("output_index")),
        content_index=_number(fields.get("content_index")),
        summary_index=_number(fields.get("summary_index")),
        delta=fields.get("delta", _NOTHING),
        item=fields.get("item", _NOTHING),
        part=_part(fields.get("part", _NOTHING)),
    )


def _part(told: Raw) -> _Part | None:
    try:
        return _Part(json.text_of(json.split_disguised(bytes(told))[0].get("type")))
    except Malformed:
        return None


def _number(told: Raw | None) -> int:
    digits = b"" if told is None else bytes(told)
    return int(digits) if digits.isdigit() and len(digits) <= _MOST_DIGITS else -1
