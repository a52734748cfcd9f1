"""The client's half of the wire: connections, the requests in their bytes, and what becomes of a connection after each.

What is HTTP is decided by `wire/request_gate.py`, and aiohttp's parser reads the bodies. Here is who is served when,
and for how long a connection is kept. What a request offers to the story is in `client_request.py`; no route and no
rule about what is asked lives here.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, cast

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tcp_helpers import tcp_keepalive
from aiohttp.web import RequestPayloadError

from proxy.client_request import ClientRequest, Flow
from proxy.outbox import Outbox
from proxy.settings import Server
from proxy.wire.head_rules import MAX_FIELDS, MAX_HEAD, late_head, too_many_connections
from proxy.wire.request_gate import RequestGate
from proxy.wire.request_head import Head, HeadForm, form_of, read_head

WRITE_HIGH_WATER: Final = 32 * 1024
"""How much of a stream waits for a slow client before its provider is read no further."""
UNSENT: Final = 128 * 1024
"""How much of an answer the system may keep beyond what is on its way."""
READ_BUFFER: Final = 64 * 1024
SWEEP_SECONDS: Final = 1.0
LINGER_SECONDS: Final = 1.0
"""How long a client that still sends has to read its answer before the connection ends."""
PROBE_SECONDS: Final = 0.002
"""How soon it is looked whether a client that sends nothing more has gone altogether; then ever more rarely."""
MOST_PROBE_SECONDS: Final = 1.0
ASK_AGAIN_SECONDS: Final = (2.0, 10.0, 45.0, 180.0)
"""When a client that waits for an answer, and sends nothing more, is written to again, to see whether it still waits.
Some clients take no more than five informational answers (Go's)."""
MOST_REFUSED: Final = 256
"""Connections beyond the most that are told so at a time; any more are closed without a word."""
MOST_WAITING: Final = 32
"""Requests that a client may send in advance before no more of them is read."""

Handler = Callable[[ClientRequest], Coroutine[None, None, None]]
OnMalformed = Callable[[BaseException | None], bytes]
"""Makes the whole answer for a request that could not be parsed, or that hit a bug of ours (`None`)."""


class Connection(BaseProtocol):
    """One client's connection: one request is served at a time, those that came in advance wait in their order.

    Parsed is what has to be: a head that repeats the one before it, and has its body with it, needs no parser.
    """

    __slots__ = (
        "_client",
        "_content",
        "_form",
        "_gate",
        "_half_closed",
        "_head",
        "_over",
        "_phase",
        "_server",
        "_since",
        "_unsent",
        "_unsent_since",
        "_waiting",
        "flow",
        "outbox",
        "served",
        "task",
    )

    def __init__(self, server: "GatewayServer", loop: asyncio.AbstractEventLoop) -> None:
        """Serve one connection of `server`."""
        super().__init__(loop)
        self._server = server
        self._waiting: deque[ClientRequest | Exception] = deque()
        self._gate = RequestGate()
        self._client: ClientRequest | None = None
        self._form: HeadForm | None = None
        self._head: Head | None = None
        self._content: StreamReader | None = None
        self._over = False
        self._half_closed = False
        self._phase: tuple[int, bool] | None = None
        """What was waited for when it was last looked: how many requests had come, and whether a head had begun."""
        self._since = 0.0
        self._unsent = 0
        self._unsent_since = 0.0
        self.served = 0
        self.task: asyncio.Task[None] | None = None
        """The request that is being served."""
        self.flow: Flow | None = None
        self.outbox = server.outbox

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what waits for a slow client."""
        super().connection_made(transport)
        tcp_keepalive(cast("asyncio.Transport", transport))
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=WRITE_HIGH_WATER)
        excess = self._server.opened(self)
        if excess > MOST_REFUSED:
            cast("asyncio.Transport", transport).abort()
        elif excess > 0:
            self._broken(too_many_connections())

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the handler of a client that has gone, and let go of all that leads back here: no collector needs to."""
        super().connection_lost(exc)
        self._over = True
        self._waiting.clear()
        self._server.lost(self)
        task, self.task = self.task, None
        self._parser = self._content = self._client = self.flow = None
        if task is not None:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Find the requests in what came, and serve them; empty `data` means that what was held may be parsed now."""
        if self._over:
            if data:
                self._pause_transport_reading()  # the answer has been written, and nothing more is wanted
            return
        form, transport = self._form, self.transport
        if form is not None and data and transport is not None and self._gate.between and not self._buffer_paused:
            measured = form.measure(data)
            if measured is not None and len(data) == measured[0] + measured[1]:
                assert self._head is not None  # noqa: S101 - it came with the form
                client = ClientRequest(self, transport, self._head, data[measured[0] :], None)
                if self.task is None and not self._paused:
                    self._begin(client)
                else:
                    self._wait(client)
                return
        self._parse(data)

    def eof_received(self) -> bool:
        """Serve a client that sends no more if what it sent is whole; close if it asks for nothing."""
        self.outbox.flush()
        client = self._client
        if self._over or client is None or not (self._gate.between and client.probe()):
            return False
        self._half_closed = True
        self._loop.call_later(PROBE_SECONDS, self._look_for_client, PROBE_SECONDS, PROBE_SECONDS)
        return True

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
        if self._waiting and self._is_free():
            self._next()

    # the end of a connection

    def sweep(self, now: float) -> None:
        """Close a connection on which nothing has happened for too long."""
        transport, settings = self.transport, self._server.settings
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since >= settings.stall_timeout:
            transport.abort()
            return
        phase = None if self.task is not None else (self.served, self._gate.in_head)
        if phase != self._phase:
            self._phase, self._since = phase, now
        elif phase is not None and not self._over:
            if phase[1] and now - self._since >= settings.header_timeout:
                self._broken(late_head())
            elif now - self._since >= settings.idle_timeout:
                self.close()

    def close(self) -> None:
        """Read nothing more, and end the connection when what was written has gone out."""
        self._stop()
        if self.transport is not None:
            self.transport.close()

    def _part(self) -> None:
        """End the connection of a client that may be sending: it has a moment to read the answer."""
        self._stop()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()
            self._loop.call_later(LINGER_SECONDS, self.close)

    def _stop(self) -> None:
        """Read and serve nothing more; what was answered goes out."""
        self._over = True
        self._waiting.clear()
        self.outbox.flush()

    def _look_for_client(self, waited: float, since: float) -> None:
        """Give up a client whose system said that nobody is there any more, as it does to whatever is written to it: a
        stream is, one that waits for its answer has to be asked.
        """
        if self.transport is None or self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        wait = min(2 * waited, MOST_PROBE_SECONDS)
        due = any(since < again <= since + wait for again in ASK_AGAIN_SECONDS)
        if due and self._client is not None and self._client.answered is None:
            self._client.probe()
        self._loop.call_later(wait, self._look_for_client, wait, since + wait)

    @property
    def body_seconds(self) -> float:
        """How long a client has for its body."""
        return self._server.settings.body_timeout

    # requests

    def _parse(self, data: bytes) -> None:
        refused: Exception | None = None
        if data:
            data, refused = self._gate.admit(data)
            if not data and refused is None:
                return
        if self._parser is None:
            self._parser = HttpRequestParser(
                self,
                self._loop,
                READ_BUFFER,
                max_line_size=MAX_HEAD,
                max_field_size=MAX_HEAD,
                max_headers=MAX_FIELDS + 1,
                payload_exception=RequestPayloadError,
                max_msg_queue_size=MOST_WAITING,
            )
        messages: Sequence[tuple[RawRequestMessage, StreamReader]] = ()
        try:
            messages, switches, rest = self._parser.feed_data(data)
            while switches:  # the client offers another protocol, which nobody has to take (RFC 9110, 7.8)
                self._parser.set_upgraded(False)
                more, switches, rest = self._parser.feed_data(rest)
                messages = [*messages, *more]
        except HttpProcessingError as error:
            refused = error
        for message, content in messages:
            self._content = content
            assert self.transport is not None  # noqa: S101 - it is set as long as anything comes
            head = self._read_head(message)
            self._wait(ClientRequest(self, self.transport, head, None, content))
        if refused is not None:
            self._broken(refused)
        elif self._waiting and self._is_free():
            self._next()

    def _read_head(self, message: RawRequestMessage) -> Head:
        """Read the head of a message, and keep its form if its like can do without the parser."""
        lines = self._gate.heads.popleft()
        head = read_head(lines)
        if not (message.chunked or message.upgrade or message.compression or "expect" in head.headers):
            form = form_of(lines)
            if form is not None:
                self._form, self._head = form, head
        return head

    def _broken(self, error: Exception) -> None:
        """Nothing that can be read will come any more: say so after the answers that are owed."""
        self._over = True
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, ClientRequest) and not last.read_up:
            self._waiting.pop()  # it will never be whole
        elif self._content is not None and not self._content.is_eof():
            self._content.set_exception(RequestPayloadError("broken framing"))  # its handler may wait for the rest
        self._waiting.append(error)
        if self._is_free():
            self._next()

    def _is_free(self) -> bool:
        """Tell whether a request may be served: no other is, and the client takes its answers."""
        return self.task is None and not self._paused

    def _wait(self, client: ClientRequest) -> None:
        self._waiting.append(client)
        if len(self._waiting) >= MOST_WAITING and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _begin(self, client: ClientRequest) -> None:
        self._server.requests_count += 1
        self.served += 1
        self._client = client
        self.task = self._loop.create_task(self._serve(client))
        if client.content is not None and self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._waiting) <= MOST_WAITING // 2:
            self._parse(b"")  # what the parser held back
            if len(self._waiting) < MOST_WAITING:
                self._resume_reading_for_buffer()

    def _next(self) -> None:
        following = self._waiting.popleft()
        if isinstance(following, ClientRequest):
            self._begin(following)
        else:
            self._answer_malformed(following)

    async def _serve(self, client: ClientRequest) -> None:
        try:
            await self._server.handler(client)
        except Exception:  # noqa: BLE001 - what it was must not be logged here: it may quote the client's bytes
            client.keep_alive = False
            if client.answered is None:
                self._answer_malformed(None)
        self.task = self._client = None
        if not client.read_up:
            self._part()
        elif not client.keep_alive:
            self.close()
        elif self._waiting:
            if self._is_free():
                self._next()
        elif self._half_closed:
            self.close()

    def _answer_malformed(self, error: BaseException | None) -> None:
        answer = self._server.on_malformed(error)
        if self.transport is not None:
            self.outbox.send(self.transport, answer)
        self._part()


class GatewayServer:
    """The HTTP server of one worker: it makes the protocol of each connection; a client that leaves ends its
    handler.
    """

    def __init__(self, handler: Handler, on_malformed: OnMalformed, settings: Server) -> None:
        """Serve with `handler`, which answers whatever happens, within the deadlines of `settings`."""
        self.settings = settings
        self.handler = handler
        self.on_malformed = on_malformed
        self.requests_count = 0
        self._loop = asyncio.get_running_loop()
        self.outbox = Outbox(self._loop)
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self, self._loop)

    def opened(self, connection: Connection) -> int:
        """Keep the deadlines of a new connection, with one timer for all; returns how many are too many."""
        self._connections.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        return len(self._connections) - self.settings.max_connections

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.discard(connection)

    @staticmethod
    def prepare(listener: socket.socket) -> None:
        """Let the system keep no more for a slow client than the network needs; its connections inherit that."""
        if listener.family in {socket.AF_INET, socket.AF_INET6} and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)

    async def close_connections(self) -> None:
        """Close every connection; what is still served then has a moment to end by itself."""
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        for connection in list(self._connections):
            if connection.task is None:
                connection.close()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LINGER_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=LINGER_SECONDS)
        for connection in list(self._connections):
            connection.close()
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in list(self._connections):
            connection.sweep(now)
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep) if self._connections else None
