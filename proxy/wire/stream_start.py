"""How an answer begins that should be a stream: as one, or as a whole body of JSON, or as something nobody asked for.

A provider's Content-Type is not to be trusted, so the first character decides. Knows no format of events. Pure.
"""

from typing import Final

from proxy.wire.upstream_error import UpstreamError, bad_answer

_BOM: Final = b"\xef\xbb\xbf"


class StreamStart:
    """Takes the first pieces of an answer. Once `is_json` is False, the rest of the answer is a stream's."""

    __slots__ = ("_kept", "_most", "error", "is_json")

    def __init__(self, most: int) -> None:
        """Keep at most so many bytes of a body of JSON."""
        self._most = most
        self._kept = bytearray()
        self.is_json: bool | None = None
        """None until the first character has come."""
        self.error: UpstreamError | None = None

    def take(self, piece: bytes) -> bytes | None:
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

    def body(self) -> bytes:
        """Return what was kept, without a byte order mark."""
        return bytes(self._kept).removeprefix(_BOM)
