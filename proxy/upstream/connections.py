"""Connections to one provider: opened, kept alive, handed out one exchange at a time, and never trusted while idle.

The framing of HTTP/1.1 answers is parsed by httptools (llhttp); what the bytes mean is the receiver's business.
Foreign exceptions end here: whatever goes wrong becomes an `UpstreamError`.
"""

import asyncio
import select
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

from proxy.outbox import Outbox
from proxy.upstream.dialing import Dialer
from proxy.wire.upstream_error import UpstreamError, bad_answer

IDLE_SECONDS: Final = 30.0
"""How long an idle connection is kept: below the 60–75 s after which common servers close theirs."""
FINISH_SECONDS: Final = 2.0
"""How long the end of an answer's framing is waited for after its content was complete."""
MAX_HEAD: Final = 64 * 1024
MAX_INFORMATIONAL: Final = 8
READ_AT_ONCE: Final = 64 * 1024
_INFORMATIONAL: Final = 100
_SWITCHING: Final = 101
_OK: Final = 200


class Receiver(Protocol):
    """Who takes an answer. After `complete` or `broken` nothing more comes."""

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Take the final status and the headers, names in lower case."""

    def body(self, piece: bytes) -> None:
        """Take decoded body bytes: of one read, and the very object if they came as one."""

    def complete(self) -> None:
        """The body is over as its framing says."""

    def broken(self, error: UpstreamError) -> None:
        """The answer cannot be read on."""

    def give_up(self, bug: Exception) -> None:
        """Taking the answer failed: raised into the transport, nobody would hear of it."""


class UpstreamConnection(asyncio.BufferedProtocol):
    """One connection. `send` starts an exchange; when its answer is complete the connection goes back to its pool."""

    __slots__ = (
        "_buffer", "_clock", "_complete", "_head_bytes", "_head_done", "_head_told", "_headers",
        "_informational", "_keeps_alive", "_messages", "_on_idle", "_outbox", "_parser", "_pieces", "_pieces_of_answer",
        "_poisoned", "_receiver", "_status", "_transport", "_unread", "_unreadable", "_until_close",
        "idle_since", "on_body", "used",
    )  # fmt: skip

    def __init__(
        self,
        buffer: memoryview,
        outbox: Outbox,
        on_idle: Callable[["UpstreamConnection"], None],
        clock: Callable[[], float],
    ) -> None:
        """Read into `buffer`, which it shares with others: what was read is taken out before anybody reads again. Send
        with `outbox`.

        Tell `on_idle` whenever the connection can serve another exchange.
        """
        self._buffer = buffer
        self._outbox = outbox
        self._on_idle = on_idle
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._unread = select.poll()
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)  # looks its callbacks up now, once
        self._receiver: Receiver | None = None
        self._head_told = False
        self._headers: dict[bytes, bytes]
        self._messages: int
        self._informational: int
        self._head_bytes: int
        self._head_done: bool
        self._complete: bool
        self._reset()
        self.used = False
        """An exchange was completed on it before."""
        self.idle_since = 0.0

    def __repr__(self) -> str:
        """Show the state, for logs and tests."""
        state = (
            "closed"
            if self.closed
            else "idle"
            if self._receiver is None
            else "reading"
            if self._head_done
            else "waiting"
        )
        return f"<UpstreamConnection {state}{' used' if self.used else ''}>"

    @property
    def closed(self) -> bool:
        """Tell whether nothing can be sent on it any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def answered(self) -> bool:
        """Tell whether any byte of the current answer has come."""
        return self._head_bytes > 0

    @property
    def silent(self) -> bool:
        """Tell whether nothing has come that was not read yet: bytes that nobody asked for, or the end."""
        return not self._unread.poll(0)

    def send(self, head: bytes, body: bytes, receiver: Receiver) -> None:
        """Send one request at the end of the loop's turn; the answer goes to `receiver`."""
        assert self._transport is not None  # noqa: S101 - a closed connection is never handed out
        self._receiver = receiver
        self._outbox.send(self._transport, head, body)

    def pause(self) -> None:
        """Read no more until `resume`: the client does not keep up."""
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def let_finish(self, loop: asyncio.AbstractEventLoop) -> None:
        """The content of the answer is complete: wait a moment for the end of its framing, so that the connection can
        be kept.
        """
        if self._receiver is None:
            return
        leftover = self._receiver = _Leftover(self)
        if not self._complete:
            loop.call_later(FINISH_SECONDS, self._give_up, leftover)

    def abort(self) -> None:
        """Close at once, in the middle of whatever it does; its receiver hears no more."""
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    def _give_up(self, leftover: Receiver) -> None:
        if self._receiver is leftover:
            self.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is None:
            return
        self._unread.register(sock.fileno(), select.POLLIN)
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Say where to read to: its size is the most that waits in the gateway for a client that stops reading."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what came and pass it on; bytes that nobody asked for poison the connection."""
        receiver = self._receiver
        if receiver is None:
            self.abort()
            return
        if not self._head_done:
            self._head_bytes += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._unreadable = True
        try:
            self._deliver()
        except Exception as bug:  # noqa: BLE001 - whoever waits for the answer reports it
            receiver.give_up(bug)

    def eof_received(self) -> None:
        """Close when the provider closes; `connection_lost` says what that means."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Finish an answer whose end is the end of the connection; any other was cut off."""
        self._transport = None
        del self._parser  # it knows this connection, and the two would wait for a collector
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        try:
            self._lose(receiver, exc)
        except Exception as bug:  # noqa: BLE001 - as above
            receiver.give_up(bug)

    def _lose(self, receiver: Receiver, exc: Exception | None) -> None:
        if self._head_done and self._until_close and exc is None:
            receiver.complete()
        elif self._head_bytes:
            receiver.broken(UpstreamError(kind="upstream_truncated", detail="the connection ended inside the answer"))
        else:
            receiver.broken(UpstreamError(kind="upstream_unavailable", detail="the connection ended before the answer"))

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Notice an answer to a question that was never asked."""
        self._messages += 1
        if self._messages > 1 + self._informational:
            self._poisoned = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the answer, not one of what follows it."""
        if not self._complete:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Keep the status; an informational answer is not the answer."""
        if self._complete or self._unreadable:
            return
        self._status = self._parser.get_status_code()
        if _INFORMATIONAL <= self._status < _OK and self._status != _SWITCHING:
            self._informational += 1
            self._headers.clear()
            self._unreadable = self._informational > MAX_INFORMATIONAL
        elif self._status < _INFORMATIONAL:
            self._unreadable = True
        else:
            self._head_done = True
            self._until_close = b"content-length" not in self._headers and b"transfer-encoding" not in self._headers

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self._head_done and not self._complete:
            self._complete = True
            self._pieces_of_answer = len(self._pieces)
            self._keeps_alive = self._parser.should_keep_alive()  # asked later, it answers for the next message

    def _deliver(self) -> None:
        """Pass on what one read brought: head, body, end, in this order; the receiver may abort in between."""
        if not self._head_told:
            if not self._head_done and self._head_bytes > MAX_HEAD:
                self._unreadable = True
            if self._head_done and self._receiver is not None:
                self._head_told = True
                self._receiver.head(self._status, self._headers)
        pieces = self._pieces
        if self._complete:
            del pieces[self._pieces_of_answer :]
        if pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._receiver is not None:
                self._receiver.body(piece)
        if self._unreadable and not self._complete:
            receiver = self._receiver
            self.abort()
            if receiver is not None:
                receiver.broken(bad_answer("it is not HTTP that can be read"))
        elif self._complete and self._receiver is not None:
            self._finish(self._receiver)

    def _finish(self, receiver: Receiver) -> None:
        transport, self._receiver = self._transport, None
        if (
            self._keeps_alive
            and not (self._poisoned or self._unreadable)
            and transport is not None
            and not transport.is_closing()
        ):
            self._reset()
            self.used = True
            self.idle_since = self._clock()
            self._on_idle(self)
        elif transport is not None:
            transport.close()
        receiver.complete()

    def _reset(self) -> None:
        self._headers = {}
        self._status = 0
        self._head_bytes = 0
        self._messages = 0
        self._informational = 0
        self._pieces_of_answer = 0
        self._head_done = self._head_told = self._complete = self._until_close = False
        self._poisoned = self._unreadable = self._keeps_alive = False


class _Leftover:
    """Takes what comes after the content of an answer was complete: the end of its framing, and nothing else."""

    def __init__(self, connection: UpstreamConnection) -> None:
        self._connection = connection

    def head(self, _status: int, _headers: dict[bytes, bytes]) -> None:
        """The head was before."""

    def body(self, _piece: bytes) -> None:
        """Close the connection if the provider goes on talking."""
        self._connection.abort()

    def complete(self) -> None:
        """The connection is in its pool again."""

    def broken(self, _error: UpstreamError) -> None:
        """The answer was complete; how the connection ended does not matter."""

    def give_up(self, _bug: Exception) -> None:
        """Nothing here can fail."""


class UpstreamPool:
    """The connections to one provider. They are never shared with another provider, whose credentials would differ."""

    def __init__(self, dialer: Dialer, outbox: Outbox) -> None:
        """Prepare the pool; nothing is opened before it is needed."""
        self._dialer = dialer
        self._outbox = outbox
        self._buffer = memoryview(bytearray(READ_AT_ONCE))
        self._idle: list[UpstreamConnection] = []
        self._closed = False

    def __repr__(self) -> str:
        """Show how many connections there are, for logs and tests."""
        return f"<UpstreamPool {self._dialer.origin.authority}: {len(self._idle)} idle>"

    def take_idle(self) -> UpstreamConnection | None:
        """Hand out the connection that was used last, if any is idle and still open."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.silent:
                return connection
            connection.abort()
        return None

    async def connect(self) -> UpstreamConnection:
        """Open a new connection. Raises `UpstreamError` (`upstream_timeout`, `upstream_unavailable`)."""
        return await self._dialer.dial(
            lambda: UpstreamConnection(self._buffer, self._outbox, self._keep, time.monotonic)
        )

    def sweep(self, now: float) -> None:
        """Close connections that have been idle for too long."""
        idle, self._idle = self._idle, []
        for connection in idle:
            if connection.closed:
                continue
            if now - connection.idle_since < IDLE_SECONDS:
                self._idle.append(connection)
            else:
                connection.abort()

    def close(self) -> None:
        """Close what is idle, and from now on every connection when its exchange is over."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _keep(self, connection: UpstreamConnection) -> None:
        if self._closed:
            connection.abort()
        else:
            self._idle.append(connection)
