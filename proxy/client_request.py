"""One request of one client, and the way back to it: what the story of a request may ask of HTTP.

Answers are written here and go out at the end of the loop's turn: a stream costs no task switch and no copy per piece.
How requests are found in the bytes of a connection is the business of `http_server.py`.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from aiohttp import StreamReader
from aiohttp.compression_utils import HAS_BROTLI, HAS_ZSTD
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from proxy.errors import ErrorType, Fault, Refusal, invalid_request
from proxy.outbox import Outbox
from proxy.wire.headers import answer_head, stream_head
from proxy.wire.request_head import Head

BODY_RATE: Final = 4 * 1024
"""A client has a second more for every so many bytes of its body that have come."""
_CODINGS: Final = frozenset(
    {"identity", "gzip", "deflate"} | ({"br"} if HAS_BROTLI else set()) | ({"zstd"} if HAS_ZSTD else set())
)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"

Flow = tuple[Callable[[], None], Callable[[], None]]
"""Who is told when a client does not keep up, and when it does again."""


class Line(Protocol):
    """The connection that a request came on."""

    flow: Flow | None
    outbox: Outbox

    @property
    def writing_paused(self) -> bool:
        """Tell whether the client does not keep up."""

    @property
    def body_seconds(self) -> float:
        """How long a client has for its body."""


class ClientRequest:
    """One request of one client, and the way back to it. Writing to a client that has gone is silently nothing."""

    __slots__ = (
        "_body",
        "_chunks",
        "_common",
        "_line",
        "_open",
        "_stream_lines",
        "_transport",
        "answered",
        "content",
        "head",
        "keep_alive",
    )

    def __init__(
        self, line: Line, transport: asyncio.Transport, head: Head, body: bytes | None, content: StreamReader | None
    ) -> None:
        """Offer what came on `line`: the whole `body`, or the `content` that it is still to be read from."""
        self._line = line
        self._transport = transport
        self._body = body
        self._common = b""
        self._stream_lines = b""
        self._chunks = head.chunks
        self._open = False
        """A stream has begun and not ended."""
        self.head = head
        self.content = content
        self.keep_alive = head.chunks and not head.last
        """Whether the connection may serve another request."""
        self.answered: int | None = None
        """The status that was sent, once one was."""

    @property
    def method(self) -> str:
        """The method as the client wrote it."""
        return self.head.method

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.head.path

    @property
    def read_up(self) -> bool:
        """Tell whether nothing of this request is still to come."""
        return self.content is None or self.content.is_eof()

    def header(self, name: str) -> str | None:
        """Return a header's first value; `name` in lower case."""
        return self.head.headers.get(name)

    def whole_body(self, limit: int) -> bytes | None:
        """Return the body if it has come already, and needs no decoding; None if `body` has to be waited for.

        Raises `Refusal` (413) over `limit` bytes.
        """
        body = self._body
        if body is not None and len(body) > limit:
            self.keep_alive = False
            raise _too_large(limit)
        return body

    async def body(self, limit: int) -> bytes:
        """Read the decoded body. Raises `Refusal`: 413 over `limit` bytes, 415 for an unknown coding, 408, or 400 if
        broken.
        """
        content = self.content
        if content is None:
            return self.whole_body(limit) or b""
        coding = self.header("content-encoding")
        if coding is not None and coding.strip().lower() not in _CODINGS:
            raise _refused(
                415, "unsupported_media_type", f"Send the body as it is or with one of: {', '.join(sorted(_CODINGS))}."
            )
        length = self.header("content-length") or ""
        if length.isdigit() and int(length) > limit:
            self.keep_alive = False
            raise _too_large(limit)
        if content.is_eof():
            data = content.read_nowait()
            if len(data) > limit:
                raise _too_large(limit)
            return data
        if self._chunks and self.header("expect") is not None:  # nothing else than 100-continue passed
            self._write(_CONTINUE)
        return await self._read(content, limit)

    async def _read(self, content: StreamReader, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        deadline = asyncio.get_running_loop().time() + self._line.body_seconds
        try:
            while not content.at_eof():
                async with asyncio.timeout_at(deadline + size / BODY_RATE):
                    part = await content.readany()
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
        except TimeoutError:
            self.keep_alive = False
            raise _refused(408, "request_timeout", "The request body did not arrive in time; send it again.") from None
        except (RequestPayloadError, HttpProcessingError, ValueError):
            self.keep_alive = False
            raise invalid_request(
                "The request body cannot be decoded; check its framing and coding.", code="invalid_body"
            ) from None
        except Refusal:
            self.keep_alive = False
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def answer(self, status: int, body: bytes, lines: bytes = b"") -> None:
        """Send a whole answer; a HEAD request gets its head alone."""
        self.answered = status
        if not self.read_up:  # refused before it was read: where the next request begins is not known
            self.keep_alive = False
        self._line.flow = None  # a stream that failed before it began is not to be paused any more
        head = answer_head(status, len(body), self._lines(lines))
        self._write(head if self.head.method == "HEAD" else head + body)

    def add_line(self, line: bytes) -> None:
        """Add a header line to whatever is answered."""
        self._common += line

    def stream_with(self, lines: bytes) -> None:
        """Keep further header lines for the moment when the stream starts."""
        self._stream_lines = lines

    # the client's side of a pump (`proxy.upstream.pump.ClientStream`)

    def start(self) -> None:
        """Send the head of a stream."""
        self.answered = 200
        self._open = True
        self._write(stream_head(self._lines(self._stream_lines), chunked=self._chunks))

    def write(self, piece: bytes) -> None:
        """Send a piece as one chunk, the object itself and not a copy."""
        transport = self._transport
        if transport.is_closing():
            return
        if self._chunks:
            self._line.outbox.send(transport, b"%x\r\n" % len(piece), piece, b"\r\n")
        else:
            self._line.outbox.send(transport, piece)

    def finish(self, last: bytes) -> None:
        """Send the last events and the end of the body."""
        if last:
            self.write(last)
        if self._chunks:
            self._write(_LAST_CHUNK)
        self._open = False
        self._line.flow = None

    def on_flow(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Name who is told when this client does not keep up."""
        self._line.flow = (pause, resume)
        if self._line.writing_paused:
            pause()

    def probe(self) -> bool:
        """Write what changes nothing, so that the system of a client that has gone says so; False if nothing can be
        written, and it would cost something to serve one that has gone.
        """
        if self._open:
            self.write(_KEEP_ALIVE)
        elif self.answered is None and self._chunks:
            self._write(_CONTINUE)
        else:
            return self.answered is not None or self.head.method != "POST"
        return True

    def drop(self) -> None:
        """Close the connection at once; what was not read yet is lost."""
        self._transport.abort()

    def _lines(self, lines: bytes) -> bytes:
        return self._common + lines if self.keep_alive else self._common + lines + b"Connection: close\r\n"

    def _write(self, data: bytes) -> None:
        self._line.outbox.send(self._transport, data)


def _too_large(limit: int) -> Refusal:
    return _refused(413, "request_too_large", f"The request body is larger than {limit:,} bytes; send less.")


def _refused(status: int, code: str, message: str) -> Refusal:
    return Refusal(Fault(status, ErrorType.INVALID_REQUEST, code, message))
