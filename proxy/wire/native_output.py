"""Counts what a model produced in a native response's stream, for the case that its provider tells no usage. Pure."""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.wire import json
from proxy.wire.json import Disguise
from proxy.wire.scan import FOLD_AT

_DATA: Final = b"data: "
_DELTA: Final = b'"delta":"'


class _Said(Struct):
    type: str = ""
    delta: Raw = Raw(b"null")
    item: Raw = Raw(b"null")


class _Item(Struct):
    name: str | None = None


_said: Final = msgspec.json.Decoder(_Said)
_item: Final = msgspec.json.Decoder(_Item)


class NativeOutput:
    """Counts the bytes that a model produced, from events that nobody parsed; they are read in batches, or at the
    end.
    """

    __slots__ = ("_bytes", "_kept", "_kept_size")

    def __init__(self) -> None:
        """Start at nothing."""
        self._bytes = 0
        self._kept: list[bytes] = []
        self._kept_size = 0

    def add(self, events: bytes) -> None:
        """Take whole events, in LF form."""
        self._kept.append(events)
        self._kept_size += len(events)
        if self._kept_size > FOLD_AT:
            self.total()

    def total(self) -> int:
        """Return the UTF-8 bytes of text, reasoning, the names and arguments of calls so far."""
        for line in b"".join(self._kept).split(b"\n"):
            if line.startswith(_DATA):
                self._bytes += _size(line[len(_DATA) :])
        self._kept.clear()
        self._kept_size = 0
        return self._bytes


def _size(data: bytes) -> int:
    start = data.find(_DELTA) + len(_DELTA)
    end = data.find(b'"', start)
    if len(_DELTA) <= start <= end and b"\\" not in data[start:end]:
        return end - start
    try:
        said = _read(data)
        if said.type == "response.output_item.added":
            text = _item.decode(said.item).name
        else:
            text = json.text_of(said.delta) if said.type.endswith(".delta") else None
    except msgspec.DecodeError:
        return 0
    return 0 if text is None else len(text.encode())


def _read(data: bytes) -> _Said:
    try:
        return _said.decode(data)
    except msgspec.DecodeError:
        return _said.decode(Disguise(data).put_on(data))
