"""Server-sent events, taken out of a byte stream that may be cut anywhere.

Follows the WHATWG rules (CR, LF or CRLF, a BOM at the start, several data lines, comments, unknown fields) and says
of each event whether a client could have been handed its bytes as they came. Knows nothing of what the data means.
"""

from typing import Final

from msgspec import Struct

from proxy.wire.large_json import LARGE

MAX_EVENT: Final = 16 * 1024 * 1024
"""An event that grows beyond this is refused (WHATWG sets no bound; providers' largest are images of a few MiB)."""
MAX_LINES: Final = 100_000
"""So is one of more lines, each of which would be kept for itself."""
_BOM: Final = b"\xef\xbb\xbf"
# As numbers, which are found in bytes faster than bytes are.
_LF: Final = ord("\n")
_CR: Final = ord("\r")


class Event(Struct, frozen=True, gc=False):
    """One event. `data` is what its data lines hold, None if it has none (comments, `id:`, `retry:`)."""

    raw: bytes
    """Its bytes with the closing blank line; every line end is LF by now."""
    data: bytes | None
    clean: bool
    """It is one `data: ` line: the form that clients get, so `raw` can be sent as it is. A large one is not looked at
    closely enough to tell.
    """
    error: bytes | None = None
    """The value of the non-standard field `error:`, which some servers use instead of data."""
    named_error: bool = False
    """Its `event:` line says `error`."""


class EventReader:
    """Feed it pieces, take out events; what is not complete yet stays inside. The events do not depend on where cuts
    fall.
    """

    __slots__ = ("_after_cr", "_at_start", "_tail", "too_large")

    def __init__(self) -> None:
        """Start at the beginning of a stream."""
        self._tail = bytearray()
        self._after_cr = False
        self._at_start = True
        self.too_large = False
        """An event is larger than `MAX_EVENT`: it and what follows it cannot be read."""

    @property
    def idle(self) -> bool:
        """True when no part of an event waits inside, so that the next piece may be looked at on its own."""
        return not self._tail and not self._after_cr and not self._at_start

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes, up to one that is too large."""
        if self.too_large:
            return []
        scan_from = max(0, len(self._tail) - 1)
        self._tail += self._with_lf(piece)
        if self._at_start and not self._past_bom():
            return []
        events = []
        start = 0
        while (end := self._tail.find(b"\n\n", scan_from)) >= 0 and end + 2 - start <= MAX_EVENT:
            if self._has_too_many_lines(start, end):
                self.too_large = True
                break
            if (event := _event(bytes(memoryview(self._tail)[start : end + 2]))) is not None:
                events.append(event)
            start = scan_from = end + 2
        del self._tail[:start]
        if self.too_large or len(self._tail) > MAX_EVENT:
            self.too_large = True
            self._tail.clear()
        return events

    def end(self) -> list[Event]:
        """Return the last event if the stream ended without its blank line."""
        rest = b"" if self._has_too_many_lines(0, len(self._tail)) else bytes(self._tail).rstrip(b"\n")
        self._tail.clear()
        event = _event(rest + b"\n\n")
        return [] if event is None else [event]

    def _has_too_many_lines(self, start: int, end: int) -> bool:
        if end - start <= LARGE or self._tail.find(_LF, start, end) < 0:  # the usual one, found fast
            return False
        return self._tail.count(_LF, start, end) > MAX_LINES

    def _with_lf(self, piece: bytes) -> bytes:
        if not piece:
            return piece
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r") if piece else False
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if _CR in piece else piece

    def _past_bom(self) -> bool:
        """Drop a byte order mark at the start; False while the stream is too short to tell."""
        if len(self._tail) < len(_BOM) and _BOM.startswith(self._tail):
            return False
        self._at_start = False
        if self._tail.startswith(_BOM):
            del self._tail[: len(_BOM)]
        return True


def _event(block: bytes) -> Event | None:
    block = block.lstrip(b"\n")
    if not block:
        return None
    if block.find(_LF) != len(block) - 2 or not block.startswith(b"data:"):
        return _careful(block)
    spaced = block.startswith(b" ", 5)
    data = block[6:-2] if spaced else block[5:-2]
    return Event(block, data or None, clean=spaced and bool(data) and len(block) <= LARGE)


def _careful(block: bytes) -> Event:
    data: list[bytes] = []
    error: bytes | None = None
    named_error = False
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"error" and value:
            error = value
        elif name == b"event":
            named_error = value == b"error"
    joined = b"\n".join(data)
    return Event(block, joined or None, clean=False, error=error, named_error=named_error)
