"""The client's half of the wire: aiohttp's server in front, and what one request of one client offers to the story.

aiohttp parses requests and keeps connections; the answers are written here, straight to the transport, so that a
stream costs no task switch and no copy per piece. No route and no rule about requests lives here.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, cast

from aiohttp import web
from aiohttp.compression_utils import HAS_BROTLI, HAS_ZSTD
from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError
from aiohttp.web import BaseRequest, RequestPayloadError
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.errors import ErrorType, Fault, Refusal, invalid_request
from proxy.wire.headers import answer_head, stream_head

WRITE_HIGH_WATER: Final = 64 * 1024
"""How much of a stream waits for a slow client before its provider is read no further."""
READ_BUFFER: Final = 64 * 1024
KEEP_ALIVE_SECONDS: Final = 75.0
BODY_SECONDS: Final = 30.0
"""How long a client has for its body, and a second more for every `BODY_RATE` bytes that have come."""
BODY_RATE: Final = 4 * 1024
LINGER_SECONDS: Final = 1.0
_CODINGS: Final = frozenset(
    {"identity", "gzip", "deflate"} | ({"br"} if HAS_BROTLI else set()) | ({"zstd"} if HAS_ZSTD else set())
)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_VERSIONS: Final = frozenset({(1, 0), (1, 1)})


class Sent:
    """What aiohttp gets back from a handler: the answer is on the wire already, only the connection's fate is open."""

    __slots__ = ("keep_alive",)

    def __init__(self, *, keep_alive: bool) -> None:
        """Say whether the connection may serve another request."""
        self.keep_alive = keep_alive

    async def prepare(self, _request: BaseRequest) -> None:
        """Do nothing: the head has been sent."""

    async def write_eof(self) -> None:
        """Do nothing: the body has been sent."""


class ClientRequest:
    """One request of one client, and the way back to it. Writing to a client that has gone is silently nothing."""

    __slots__ = (
        "_chunked",
        "_common",
        "_protocol",
        "_request",
        "_stream_lines",
        "_transport",
        "answered",
        "keep_alive",
    )

    def __init__(self, request: BaseRequest, common_lines: bytes, *, closing: bool) -> None:
        """Wrap aiohttp's request; `common_lines` are header lines of every answer to it; `closing`: keep no
        connection.
        """
        message = request._message  # noqa: SLF001 - the properties build caches that this path does not need
        self._request = request
        self._protocol = cast("Connection", request.protocol)
        self._transport = request.transport
        self._common = common_lines
        self._stream_lines = b""
        self._chunked = message.version >= (1, 1)
        self.keep_alive = self._chunked and not message.should_close and not closing
        self.answered: int | None = None
        """The status that was sent, once one was."""

    @property
    def method(self) -> str:
        """The method as the client wrote it."""
        return self._request.method

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded, also where the client named the host before it."""
        path = self._request._message.path.partition("?")[0]  # noqa: SLF001 - as above
        return path if path.startswith("/") else "/" + path.partition("://")[2].partition("/")[2]

    def header(self, name: str) -> str | None:
        """Return a header's first value."""
        return self._request.headers.get(name)

    def authorizations(self) -> list[str]:
        """Return every Authorization header."""
        return self._request.headers.getall("Authorization", [])

    async def body(self, limit: int) -> bytes:
        """Read the decoded body. Raises `Refusal`: 413 over `limit` bytes, 415 for an unknown coding, 408, or 400 if
        broken.
        """
        coding = self._request.headers.get("Content-Encoding")
        if coding is not None and coding.strip().lower() not in _CODINGS:
            raise _refused(
                415, "unsupported_media_type", f"Send the body as it is or with one of: {', '.join(sorted(_CODINGS))}."
            )
        length = self._request.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > limit:
            self.keep_alive = False
            raise _too_large(limit)
        content = self._request.content
        if content.is_eof():
            data = content.read_nowait()
            if len(data) > limit:
                raise _too_large(limit)
            return data
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            self._write(_CONTINUE)
        return await self._read(limit)

    async def _read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        begun = asyncio.get_running_loop().time()
        try:
            while not self._request.content.at_eof():
                async with asyncio.timeout_at(begun + BODY_SECONDS + size / BODY_RATE):
                    part = await self._request.content.readany()
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
        if not self._request.content.is_eof():  # refused before it was read: where the next request begins is not known
            self.keep_alive = False
        self._protocol.flow = None  # a stream that failed before it began is not to be paused any more
        head = answer_head(status, len(body), self._lines(lines))
        self._write(head if self._request.method == "HEAD" else head + body)

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
        self.keep_alive = self.keep_alive and self._chunked
        self._write(stream_head(self._lines(self._stream_lines), chunked=self._chunked))

    def write(self, piece: bytes) -> None:
        """Send a piece as one chunk, the object itself and not a copy."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._chunked:
            transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
        else:
            transport.write(piece)

    def finish(self, last: bytes) -> None:
        """Send the last events and the end of the body."""
        if last:
            self.write(last)
        if self._chunked:
            self._write(_LAST_CHUNK)
        self._protocol.flow = None

    def on_flow(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Name who is told when this client does not keep up."""
        self._protocol.flow = (pause, resume)
        if self._protocol.writing_paused:
            pause()

    def drop(self) -> None:
        """Close the connection at once; what was not read yet is lost."""
        if self._transport is not None:
            self._transport.abort()

    def sent(self) -> Sent:
        """Return what aiohttp wants to know when the answer is complete."""
        return Sent(keep_alive=self.keep_alive)

    def _lines(self, lines: bytes) -> bytes:
        return self._common + lines + (b"" if self.keep_alive else b"Connection: close\r\n")

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


Handler = Callable[[BaseRequest], Awaitable[Sent]]
OnMalformed = Callable[[BaseException | None], bytes]
"""Makes the whole answer for a request that could not be parsed, or that hit a bug of ours (`None`)."""


class Connection(RequestHandler):
    """aiohttp's protocol for one client connection, with our answers to its errors and our hold on its flow control."""

    __slots__ = ("_on_malformed", "flow")

    def __init__(self, manager: "GatewayServer", *, loop: asyncio.AbstractEventLoop, on_malformed: OnMalformed) -> None:
        """Serve one connection of `manager`."""
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # documented: None switches it off
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            read_bufsize=READ_BUFFER,
        )
        self._on_malformed = on_malformed
        self.flow: tuple[Callable[[], None], Callable[[], None]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what waits for a slow client."""
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=WRITE_HIGH_WATER)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; then do what aiohttp leaves undone about what it should not have been."""
        super().data_received(data)
        if not self._messages:
            return
        message, payload = self._messages[-1]
        if isinstance(message, _ErrInfo):
            # The handler of the request before waits for the rest of its body, and there is none that can be read.
            if self._current_request is not None and not self._current_request.content.is_eof():
                self._current_request.content.set_exception(RequestPayloadError("broken framing"))
        elif message.version not in _VERSIONS:
            error = BadStatusLine("another version of HTTP")
            self._messages[-1] = (_ErrInfo(status=error.code, exc=error, message=error.message), payload)

    def pause_writing(self) -> None:
        """Pass back-pressure on to the provider."""
        super().pause_writing()
        if self.flow is not None:
            self.flow[0]()

    def resume_writing(self) -> None:
        """Let the provider go on."""
        super().resume_writing()
        if self.flow is not None:
            self.flow[1]()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse, in our envelope and without a byte of what it was."""
        del request, message
        answer = self._on_malformed(exc if status < 500 else None)  # noqa: PLR2004
        if self.transport is not None:
            self.transport.write(answer)
        return cast("web.StreamResponse", Sent(keep_alive=False))

    def log_exception(self, *_args: object, **_kwargs: object) -> None:
        """Say nothing: aiohttp's lines quote the client's bytes; `on_malformed` counts and logs."""


class GatewayServer(web.Server):
    """The HTTP server of one worker."""

    def __init__(self, handler: Handler, on_malformed: OnMalformed) -> None:
        """Serve with `handler`; a client that leaves cancels it."""
        super().__init__(handler, handler_cancellation=True)  # type: ignore[arg-type] # `Sent` is all that it uses of an answer
        self._on_malformed = on_malformed

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return Connection(self, loop=self._loop, on_malformed=self._on_malformed)

    async def close_connections(self) -> None:
        """Close every connection, whatever it does."""
        with contextlib.suppress(asyncio.CancelledError):
            await self.shutdown(LINGER_SECONDS)


def _too_large(limit: int) -> Refusal:
    return _refused(413, "request_too_large", f"The request body is larger than {limit:,} bytes; send less.")


def _refused(status: int, code: str, message: str) -> Refusal:
    return Refusal(Fault(status, ErrorType.INVALID_REQUEST, code, message))
