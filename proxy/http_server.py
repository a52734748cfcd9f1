"""The client's half of the wire: connections, the requests in their bytes, and what becomes of a connection after each.

aiohttp's parser finds the requests; here is who is served when, and for how long a connection is kept. What a request
offers to the story is in `client_request.py`; no route and no rule about what is asked lives here.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Final, cast

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError
from aiohttp.tcp_helpers import tcp_keepalive
from aiohttp.web import RequestPayloadError

from proxy.client_request import ClientRequest, Flow
from proxy.wire.request_head import Head, HeadForm, form_of, is_bare, path_of

WRITE_HIGH_WATER: Final = 64 * 1024
"""How much of a stream waits for a slow client before its provider is read no further."""
READ_BUFFER: Final = 64 * 1024
KEEP_ALIVE_SECONDS: Final = 75.0
"""How long a connection may wait for a whole head."""
SWEEP_SECONDS: Final = 1.0
LINGER_SECONDS: Final = 1.0
MOST_WAITING: Final = 32
"""Requests that a client may send in advance before no more of them is read."""
_VERSIONS: Final = frozenset({(1, 0), (1, 1)})
_UNKNOWN: Final = -1

Handler = Callable[[ClientRequest], Coroutine[None, None, None]]
OnMalformed = Callable[[BaseException | None], bytes]
"""Makes the whole answer for a request that could not be parsed, or that hit a bug of ours (`None`)."""


class Connection(BaseProtocol):
    """One client's connection: one request is served at a time, those that came in advance wait in their order.

    Parsed is what has to be: a head that repeats the one before it, and has its body with it, needs no parser.
    """

    __slots__ = (
        "_content",
        "_due",
        "_form",
        "_head",
        "_idle_since",
        "_over",
        "_server",
        "_waiting",
        "flow",
        "task",
    )

    def __init__(self, server: "GatewayServer", loop: asyncio.AbstractEventLoop) -> None:
        """Serve one connection of `server`."""
        super().__init__(loop)
        self._server = server
        self._waiting: deque[ClientRequest | HttpProcessingError] = deque()
        self._due = 0
        """How many bytes the parser needs to the end of a request; `_UNKNOWN` where only the parser knows."""
        self._form: HeadForm | None = None
        self._head: Head | None = None
        self._content: StreamReader | None = None
        self._over = False
        self._idle_since: float | None = None
        self.task: asyncio.Task[None] | None = None
        """The request that is being served."""
        self.flow: Flow | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what waits for a slow client."""
        super().connection_made(transport)
        tcp_keepalive(cast("asyncio.Transport", transport))
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._server.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the handler of a client that has gone, at once."""
        super().connection_lost(exc)
        self._over = True
        self._waiting.clear()
        self._server.lost(self)
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Find the requests in what came, and serve them; empty `data` means that what was held may be parsed now."""
        if self._over:
            return
        form, transport = self._form, self.transport
        if form is not None and self._due == 0 and data and transport is not None:
            measured = form.measure(data)
            if measured is not None and len(data) == measured[0] + measured[1]:
                assert self._head is not None  # noqa: S101 - it came with the form
                client = ClientRequest(self, transport, self._head, data[measured[0] :], None)
                if self.task is None:
                    self._begin(client)
                else:
                    self._wait(client)
                return
        self._parse(data)

    def eof_received(self) -> None:
        """Close when the client closes."""

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

    # the end of a connection

    def sweep(self, now: float) -> None:
        """Close a connection on which no request has come for too long."""
        if self.task is not None:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= KEEP_ALIVE_SECONDS:
            self.close()

    def close(self) -> None:
        """Read nothing more, and end the connection when what was written has gone out."""
        self._over = True
        if self.transport is not None:
            self.transport.close()

    # requests

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = HttpRequestParser(
                self, self._loop, READ_BUFFER, payload_exception=RequestPayloadError, max_msg_queue_size=MOST_WAITING
            )
        began = self._due == 0
        try:
            messages, switches, rest = self._parser.feed_data(data)
            while switches:  # the client offers another protocol, which nobody has to take (RFC 9110, 7.8)
                self._parser.set_upgraded(False)
                more, switches, rest = self._parser.feed_data(rest)
                messages = [*messages, *more]
        except HttpProcessingError as error:
            self._broken(error)
            return
        if data:
            self._count(data, messages[0][0] if began and len(messages) == 1 else None)
        for message, content in messages:
            if message.version not in _VERSIONS:
                self._broken(BadStatusLine("another version of HTTP"))
                return
            self._content = content
            assert self.transport is not None  # noqa: S101 - it is set as long as anything comes
            self._wait(ClientRequest(self, self.transport, _head_of(message), None, content))
        if self._waiting and self.task is None:
            self._next()

    def _count(self, data: bytes, message: RawRequestMessage | None) -> None:
        """Keep in mind how much the parser still needs, and the form of a head whose like can do without it."""
        if self._due > 0:
            self._due = self._due - len(data) if len(data) <= self._due else _UNKNOWN
            return
        form = None
        if message is not None and not (message.chunked or message.upgrade or message.compression):
            form = form_of(data)
        measured = None if form is None else form.measure(data)
        if message is not None and measured is not None and len(data) <= sum(measured):
            self._due = sum(measured) - len(data)
            head = _head_of(message)
            if "expect" not in head.headers:
                self._form, self._head = form, head
        elif message is None or not is_bare(data):
            self._due = _UNKNOWN

    def _broken(self, error: HttpProcessingError) -> None:
        """Nothing that can be read will come any more: say so after the answers that are owed."""
        self._over = True
        if self._content is not None and not self._content.is_eof():
            self._content.set_exception(RequestPayloadError("broken framing"))  # its handler may wait for the rest
        self._waiting.append(error)
        if self.task is None:
            self._next()

    def _wait(self, client: ClientRequest) -> None:
        self._waiting.append(client)
        if len(self._waiting) >= MOST_WAITING and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _begin(self, client: ClientRequest) -> None:
        self._server.requests_count += 1
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
            if client.content is not None and not client.read_up:
                await _linger(client.content)
                client.keep_alive = False
        except Exception:  # noqa: BLE001 - what it was must not be logged here: it may quote the client's bytes
            client.keep_alive = False
            if client.answered is None:
                self._answer_malformed(None)
        self.task = None
        if not client.keep_alive:
            self.close()
        elif self._waiting:
            self._next()

    def _answer_malformed(self, error: BaseException | None) -> None:
        answer = self._server.on_malformed(error)
        if self.transport is not None:
            self.transport.write(answer)
        self.close()


class GatewayServer:
    """The HTTP server of one worker: it makes the protocol of each connection; a client that leaves ends its
    handler.
    """

    def __init__(self, handler: Handler, on_malformed: OnMalformed) -> None:
        """Serve with `handler`, which answers whatever happens."""
        self.handler = handler
        self.on_malformed = on_malformed
        self.requests_count = 0
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self, self._loop)

    def opened(self, connection: Connection) -> None:
        """Keep the deadlines of a new connection, with one timer for all."""
        self._connections.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.discard(connection)

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


async def _linger(content: StreamReader) -> None:
    """Take a little of a body that nobody wants, so that its client reads the answer before the connection ends."""
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while not content.at_eof():
                await content.readany()
    except (TimeoutError, RequestPayloadError, HttpProcessingError):
        pass


def _head_of(message: RawRequestMessage) -> Head:
    headers: dict[str, str] = {}
    for name, value in message.headers.items():
        headers.setdefault(name.lower(), value)
    authorizations = tuple(message.headers.getall("Authorization", ()))
    chunks = message.version >= (1, 1)
    return Head(message.method, path_of(message.path), headers, authorizations, chunks, message.should_close)
