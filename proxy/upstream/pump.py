"""One exchange with a provider: an answer collected whole, or pumped to the client piece by piece.

The pump sits between two transports and nothing else: no queue, no task and no future per piece. It owns
back-pressure, the deadlines of the answer, and how the exchange ended. What bytes mean is decided in `wire/`; which
target is asked, in `steps/forward.py`.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from proxy.call import Ending
from proxy.upstream.connections import UpstreamConnection
from proxy.wire.chat_stream import ChatStream
from proxy.wire.upstream_error import UpstreamError, bad_answer, read_error

COMMIT_SECONDS: Final = 5.0
"""After this long without output the answer begins anyway, so that the client knows it was accepted."""
KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = b": keep-alive\n\n"
MAX_ANSWER: Final = 64 * 1024 * 1024
"""The largest whole answer that is taken; larger ones are refused (the largest real ones hold a few MiB of images)."""
MAX_ERROR: Final = 64 * 1024
_OK: Final = range(200, 300)


class ClientStream(Protocol):
    """The client's side of a stream."""

    def start(self) -> None:
        """Send the status line and the headers: from here on the answer is a stream."""

    def write(self, piece: bytes) -> None:
        """Send whole events."""

    def finish(self, last: bytes) -> None:
        """Send the last events and end the body."""

    def on_flow(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Say whom to tell when the client does not keep up, and when it does again."""


class Answer:
    """Collects a whole answer, or the body of a failed one. `done` gets the body, or an `UpstreamError`."""

    def __init__(
        self, connection: UpstreamConnection, *, first_byte: float, idle: float, clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        """Begin to wait; `first_byte` and `idle` in seconds."""
        self._connection = connection
        self._clock = clock
        self._loop = loop
        self._deadline = clock() + first_byte
        self._idle = idle
        self._status = 0
        self._retry_after_ms: int | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._limit = MAX_ANSWER
        self.done: asyncio.Future[bytes] = loop.create_future()
        self.first_byte_at: float | None = None

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Keep the status; a coding that was not asked for makes the answer unreadable."""
        self.first_byte_at = self._clock()
        self._deadline = self.first_byte_at + self._idle
        self._status = status
        self._retry_after_ms = retry_after_ms(headers.get(b"retry-after"))
        if status not in _OK:
            self._limit = MAX_ERROR
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            self._fail(bad_answer("it is compressed although that was not asked for"))

    def body(self, piece: bytes) -> None:
        """Keep a part."""
        self._deadline = self._clock() + self._idle
        self._size += len(piece)
        if self._size <= self._limit:
            self._parts.append(piece)
        elif self._status in _OK:
            self._fail(bad_answer("it is too large"))

    def complete(self) -> None:
        """Resolve `done`."""
        if self.done.done():
            return
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self._status in _OK:
            self.done.set_result(body)
        else:
            self.done.set_exception(status_error(self._status, body, self._retry_after_ms))

    def broken(self, error: UpstreamError) -> None:
        """Fail `done`."""
        if not self.done.done():
            self.done.set_exception(error)

    def check(self, now: float) -> None:
        """Give up if the provider has been silent for too long."""
        if now >= self._deadline and not self.done.done():
            self._fail(UpstreamError(kind="upstream_timeout", detail="the provider was silent for too long"))

    def leave(self) -> None:
        """The client has gone: read on without it until `done`, or until `abort`."""
        if self.done.cancelled():  # by the handler that waited for it
            self.done = self._loop.create_future()

    def abort(self) -> None:
        """Close the connection: nobody waits for the answer any more."""
        self._connection.abort()

    def cut(self) -> None:
        """End now: the gateway is stopping."""
        if not self.done.done():
            self._fail(_stopping())

    def _fail(self, error: UpstreamError) -> None:
        self._connection.abort()
        self.broken(error)


class Pump:
    """Carries one stream. `done` gets the ending once the client has been served, or an `UpstreamError` before the
    first byte.
    """

    def __init__(
        self,
        connection: UpstreamConnection,
        stream: ChatStream,
        client: ClientStream,
        *,
        first_byte: float,
        idle: float,
        fail: Callable[[UpstreamError], bytes],
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Begin to wait; `fail` writes the events that end a stream with an error."""
        self._connection = connection
        self._stream = stream
        self._client: ClientStream | None = client
        self._fail_events = fail
        self._clock = clock
        self._idle = idle
        self._deadline = clock() + first_byte
        self._commit_at: float | None = None
        self._keep_alive_at = 0.0
        self._started = False
        self._paused = False
        self._error_answer: Answer | None = None
        self._loop = loop
        self.done: asyncio.Future[Ending] = loop.create_future()
        self.first_byte_at: float | None = None
        """When the first bytes went to the client."""
        client.on_flow(self._pause, self._resume)

    @property
    def stream(self) -> ChatStream:
        """What is known of the stream so far."""
        return self._stream

    @property
    def started(self) -> bool:
        """Tell whether anything has been sent to the client."""
        return self._started

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Begin to read a stream; any other status is an error whose body is read whole."""
        now = self._clock()
        self._deadline = now + self._idle
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            self._end_early(bad_answer("it is compressed although that was not asked for"))
        elif status in _OK:
            self._commit_at = now + COMMIT_SECONDS
        else:
            self._error_answer = Answer(
                self._connection, first_byte=self._idle, idle=self._idle, clock=self._clock, loop=self._loop
            )
            self._error_answer.head(status, headers)
            self._error_answer.done.add_done_callback(self._take_error_answer)

    def body(self, piece: bytes) -> None:
        """Hand a piece through: scanned, and otherwise as it came."""
        now = self._clock()
        self._deadline = now + self._idle
        if self._error_answer is not None:
            self._error_answer.body(piece)
            return
        out = self._stream.feed(piece)
        if out:
            self._send(out, now)
        if self._stream.error is not None:
            self._end_early(self._stream.error)
        elif self._stream.ended:
            self._connection.let_finish(self._loop)
            self._end(Ending.COMPLETE)

    def complete(self) -> None:
        """Close the stream, or report that it broke off."""
        if self._error_answer is not None:
            self._error_answer.complete()
        elif not self.done.done():
            out = self._stream.end()
            if out:
                self._send(out, self._clock())
            if self._stream.error is not None:
                self._end_early(self._stream.error)
            else:
                self._end(Ending.COMPLETE)

    def broken(self, error: UpstreamError) -> None:
        """End with an error, unless all that was left to come was the end of the framing."""
        if self._error_answer is not None:
            self._error_answer.broken(error)
        elif not self.done.done():
            out = self._stream.end() if error.kind == "upstream_truncated" else b""
            if out:
                self._send(out, self._clock())
            if self._stream.ended:
                self._end(Ending.COMPLETE)
            else:
                self._end_early(self._stream.error or error)

    def check(self, now: float) -> None:
        """Keep the deadlines: first byte, silence, the commit of a slow answer, the client's keep-alive."""
        if self.done.done() or self._paused:
            return
        if now >= self._deadline:
            self._end_early(UpstreamError(kind="upstream_timeout", detail="the provider was silent for too long"))
        elif not self._started:
            if self._commit_at is not None and now >= self._commit_at:
                self._send(self._stream.commit(), now)
        elif now >= self._keep_alive_at and self._client is not None:
            self._client.write(KEEP_ALIVE)
            self._keep_alive_at = now + KEEP_ALIVE_SECONDS

    def leave(self) -> None:
        """The client has gone: read on without it (to know the usage) until `done`, or until `abort`."""
        self._client = None
        if self.done.cancelled():  # by the handler that waited for it
            self.done = self._loop.create_future()
        if self._paused:
            self._resume()

    def abort(self) -> None:
        """Close the connection; nothing more is read."""
        self._connection.abort()
        if not self.done.done():
            self.done.set_result(Ending.CLIENT_GONE)

    def cut(self) -> None:
        """End the stream now, with an error the client can see: the gateway is stopping."""
        if self.done.done():
            return
        self._connection.abort()
        if self._started:
            if self._client is not None:
                self._client.finish(self._fail_events(_stopping()))
            self.done.set_result(Ending.CANCELLED)
        else:
            self.done.set_exception(_stopping())

    def _send(self, out: bytes, now: float) -> None:
        if self._client is None:
            return
        if not self._started:
            self._started = True
            self.first_byte_at = now
            self._client.start()
        self._keep_alive_at = now + KEEP_ALIVE_SECONDS
        if out:
            self._client.write(out)

    def _end(self, ending: Ending) -> None:
        if self._client is not None:
            self._client.finish(b"")
        self.done.set_result(ending)

    def _end_early(self, error: UpstreamError) -> None:
        self._connection.abort()
        if self.done.done():
            return
        if not self._started:
            self.done.set_exception(error)
            return
        if self._client is not None:
            self._client.finish(self._fail_events(error))
        truncated = error.kind == "upstream_truncated"
        self.done.set_result(Ending.UPSTREAM_TRUNCATED if truncated else Ending.UPSTREAM_ERROR)

    def _take_error_answer(self, answer: asyncio.Future[bytes]) -> None:
        error = answer.exception()
        if not self.done.done():
            self.done.set_exception(error or bad_answer("it is not a stream"))

    def _pause(self) -> None:
        self._paused = True
        self._connection.pause()

    def _resume(self) -> None:
        self._paused = False
        self._deadline = self._clock() + self._idle
        self._connection.resume()


def status_error(status: int, body: bytes, wait_ms: int | None) -> UpstreamError:
    """Build the failure for an answer that is no success."""
    detail = f"the provider answered {status}"
    return UpstreamError(read_error(body), status=status, kind="upstream_error", retry_after_ms=wait_ms, detail=detail)


def retry_after_ms(value: bytes | None) -> int | None:
    """Read whole seconds of a Retry-After header; dates are left out (RFC 9110, 10.2.3 allows both)."""
    return int(value) * 1000 if value is not None and value.isdigit() and len(value) < 7 else None  # noqa: PLR2004


def _stopping() -> UpstreamError:
    return UpstreamError(kind="upstream_unavailable", detail="the gateway is stopping")
