"""Events out of an answer that should be a stream, and may be a whole body of JSON or something nobody asked for.

A provider's Content-Type is not to be trusted, so the first character decides. Knows nothing of what events mean. Pure.
"""

from typing import Final

from proxy.wire.sse import Event, EventReader
from proxy.wire.upstream_error import UpstreamError, bad_answer

MAX_JSON: Final = 16 * 1024 * 1024
"""How much of one whole JSON body is taken where a stream was asked for."""
_BOM: Final = b"\xef\xbb\xbf"


class StreamReader(EventReader):
    """An `EventReader` that first finds out whether there are events at all."""

    __slots__ = ("_kept", "_most", "error", "is_json")

    def __init__(self, most: int) -> None:
        """Keep at most so many bytes of a body of JSON."""
        super().__init__()
        self._most = most
        self._kept = bytearray()
        self.is_json: bool | None = None
        """None until the first character has come."""
        self.error: UpstreamError | None = None
        """Why nothing more can be read."""

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes; none of a body of JSON, which is kept."""
        if self.is_json is not False:
            begun = self._begin(piece)
            if begun is None:
                return []
            piece = begun
        events = super().feed(piece)
        if self.too_large:
            self.error = bad_answer("an event of its stream is too large")
        return events

    @property
    def waits(self) -> int:
        """How many bytes wait inside."""
        return len(self._tail) + len(self._kept)

    def body(self) -> bytes:
        """Return what was kept, without a byte order mark."""
        return bytes(self._kept).removeprefix(_BOM)

    def _begin(self, piece: bytes) -> bytes | None:
        """Keep a piece until its kind is known, and a body to its end; return the beginning of a stream."""
        self._kept += piece
        if len(self._kept) > self._most:
            self.error = bad_answer("it is too large")
        elif self.is_json is None and not piece.isspace() and not _BOM.startswith(self._kept):
            first = self.body().lstrip()[:1]
            if first == b"<":
                self.error = bad_answer("it is a page of HTML")
            elif first:
                self.is_json = first in {b"{", b"["}
        if self.is_json is not False:
            return None
        begun = bytes(self._kept)
        self._kept.clear()
        return begun
