"""The gate that a client's bytes pass before anything parses them: heads that were checked, bodies of a known length.

It knows where each request ends, so that no parser behind it has to guess, and it hands chunks on in a form of its own,
so that what a client wrote between them reaches nobody. Pure: bytes in, bytes or a `Refusal` out.
"""

import re
from collections import deque
from typing import Final

from proxy.errors import Refusal
from proxy.wire.head_rules import (
    MAX_HEAD,
    check_beginning,
    check_head,
    check_trailers,
    check_trailers_begun,
    invalid_chunks,
)

MAX_CHUNK_LINE: Final = 256
"""The size of a chunk and its extensions, which nobody here understands."""
MAX_TRAILERS: Final = 4 * 1024
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_SIZE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,8})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"(?:[\t !#-\[\]-~]|\\[\t\x20-\x7e])*"))?)*\r\n'
)
_SIZE_BEGUN: Final = re.compile(rb"[0-9A-Fa-f]{1,8}(?:;[\t\x20-\x7e]*)?\r?")
_HEAD_END: Final = b"\r\n\r\n"
_CRLF: Final = b"\r\n"


class RequestGate:
    """The state between two pieces of one connection."""

    __slots__ = ("_chunks", "_held", "_left", "heads")

    def __init__(self) -> None:
        """Begin before the first request."""
        self._held = b""
        """What was held back of a head that is not whole."""
        self._left = 0
        """How many bytes of a body are still to come."""
        self._chunks: ChunkGate | None = None
        self.heads: deque[bytes] = deque()
        """The heads that passed and that nobody has taken yet."""

    @property
    def between(self) -> bool:
        """Tell whether the next byte begins a request."""
        return not self._left and not self._held and self._chunks is None

    @property
    def in_head(self) -> bool:
        """Tell whether a part of a head has come."""
        return bool(self._held)

    def admit(self, data: bytes) -> tuple[bytes, Refusal | None]:
        """Return what may be parsed, and why nothing after it may; after a refusal nothing is asked any more."""
        if self._left and len(data) <= self._left:
            self._left -= len(data)
            return data, None
        parts: list[bytes] = []
        try:
            while data:
                if self._left:
                    parts.append(data[: self._left])
                    data, self._left = data[self._left :], self._left - len(parts[-1])
                elif self._chunks is not None:
                    part, data = self._chunks.admit(data)
                    parts.append(part)
                    if self._chunks.ended:
                        self._chunks = None
                else:
                    part, data = self._admit_head(data)
                    parts.append(part)
        except Refusal as refusal:
            return b"".join(parts), refusal
        return b"".join(parts), None

    def _admit_head(self, data: bytes) -> tuple[bytes, bytes]:
        """Return a whole head and what follows it; hold back one that is not whole."""
        known = len(self._held)
        data = self._held + data
        start = 2 if data.startswith(_CRLF) else 0  # some clients end a body with an empty line (RFC 9112, 2.2)
        end = data.find(_HEAD_END, max(start, known - 3))
        if end < 0:
            check_beginning(data, known)
            self._held = data
            return b"", b""
        end += len(_HEAD_END)
        head = data[start:end]
        if len(head) > MAX_HEAD:
            check_beginning(head)
        framing = check_head(head)
        self._held = b""
        self._left = framing.length
        self._chunks = ChunkGate() if framing.chunked else None
        self.heads.append(head)
        return head, data[end:]


class ChunkGate:
    """One chunked body: strictly framed as it comes, canonically framed as it goes."""

    __slots__ = ("_held", "_left", "_trailers", "ended")

    def __init__(self) -> None:
        """Begin before the first chunk."""
        self._held = b""
        self._left = -1
        """Bytes of a chunk and of its line end that are still to come; less than 0: a chunk's size is."""
        self._trailers = False
        self.ended = False

    def admit(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the body's bytes as one chunk, and what follows the body. Raises `Refusal` (400)."""
        if self._held:
            data, self._held = self._held + data, b""
        parts: list[bytes] = []
        at = 0
        while at < len(data) and not self.ended:
            if self._trailers:
                at = self._end(data, at)
            elif self._left < 0:
                at = self._begin(data, at)
            else:
                at = self._take(data, at, parts)
        body = b"".join(parts)
        out = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return (out + b"0\r\n\r\n" if self.ended else out), data[at:]

    def _begin(self, data: bytes, at: int) -> int:
        match = _SIZE.match(data, at)
        if match is None or match.end() - at > MAX_CHUNK_LINE:
            if len(data) - at > MAX_CHUNK_LINE or _SIZE_BEGUN.fullmatch(data, at) is None:
                raise invalid_chunks()
            self._held = data[at:]
            return len(data)
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailers = True
        return match.end()

    def _take(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """Take what there is of a chunk; its line end is waited for whole."""
        size = self._left - 2
        if size > 0:
            parts.append(data[at : at + size])
            taken = len(parts[-1])
            self._left -= taken
            at += taken
            if taken < size:
                return at
        ending = data[at : at + 2]
        if not _CRLF.startswith(ending):
            raise invalid_chunks()
        if len(ending) < len(_CRLF):
            self._held = ending
            return len(data)
        self._left = -1
        return at + 2

    def _end(self, data: bytes, at: int) -> int:
        """Take the fields behind the last chunk, and forget them."""
        end = at if data.startswith(_CRLF, at) else data.find(_HEAD_END, at) + 2
        if end < at + 2 and end != at:
            if len(data) - at > MAX_TRAILERS:
                raise invalid_chunks()
            check_trailers_begun(data[at:])
            self._held = data[at:]
            return len(data)
        trailers = data[at : end + 2]
        if len(trailers) > MAX_TRAILERS:
            raise invalid_chunks()
        check_trailers(trailers)
        self.ended = True
        return end + 2
