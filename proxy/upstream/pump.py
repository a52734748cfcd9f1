"""One exchange with a provider whose answer is a stream: pumped to the client piece by piece.

The pump sits between two transports and nothing else: no queue, no task and no future per piece. It owns
back-pressure, the deadlines of the answer, and how the exchange ended. What bytes mean is decided in `wire/`; which
target is asked, in `steps/forward.py`.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from proxy.call import Ending
from proxy.translation import AnswerStream
from proxy.upstream.beside import Beside, Parted, Start
from proxy.upstream.connections import UpstreamConnection
from proxy.upstream.exchange import (
    SPENT,
    STOPPING,
    SUCCESS,
    Bounds,
    Exchange,
    Failure,
    coded,
    compressed,
    endless,
    silent,
    spent,
    stopping,
    too_large,
)
from proxy.usage import Usage
from proxy.wire.upstream_error import UpstreamError

COMMIT_SECONDS: Final = 5.0
"""After this long without output the answer begins anyway, so that the client knows it was accepted."""
FINISHED_SECONDS: Final = 5.0
"""How long usage is waited for behind the last finish reason."""
KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = b": keep-alive\n\n"


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

    def drop(self) -> None:
        """Close the connection to a client that reads nothing."""


class Gauge(Protocol):
    """What watches how much a stream uses."""

    def look(self, told: Usage | None, output_bytes: int, /) -> int | None:
        """Take note of what was used so far; return after how many further bytes to look again. 0: take no more before
        the gauge says so; None: end the stream.
        """

    def on_news(self, look_again: Callable[[], None], /) -> None:
        """Say whom to tell when there is something new to see."""


class Pump(Exchange[Ending]):
    """Carries one stream. `done` gets the ending once the client has been served, or an `UpstreamError` before the
    first byte.
    """

    __slots__ = (
        "_beside", "_client", "_clock", "_commit_at", "_deadline", "_fail_events", "_failure", "_finish_by", "_gauge",
        "_idle", "_keep_alive_at", "_last_moment", "_paused", "_room", "_stalled_at", "_started", "_stream",
        "_unseen", "_waits", "first_byte_at", "on_start",
    )  # fmt: skip

    def __init__(
        self,
        connection: UpstreamConnection,
        stream: AnswerStream,
        client: ClientStream,
        *,
        bounds: Bounds,
        fail: Callable[[UpstreamError], bytes],
        beside: Start,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Begin to wait; `fail` writes the events that end a stream with an error, `beside` is for what is large."""
        super().__init__(connection, loop)
        self._stream = stream
        self._beside = Beside(beside)
        self._client: ClientStream | None = client
        self._fail_events = fail
        self._clock = clock
        now = clock()
        self._idle = bounds.idle
        self._deadline = now + bounds.first_byte
        self._last_moment = now + bounds.total
        self._room = bounds.size
        self._finish_by: float | None = None
        self._commit_at: float | None = None
        self._keep_alive_at = 0.0
        self._started = False
        self._paused = False
        self._stalled_at = 0.0
        self._failure: Failure | None = None
        self._gauge: Gauge | None = None
        self._unseen = 0
        """Bytes that may come before the gauge has to be looked at."""
        self._waits = False
        self.first_byte_at: float | None = None
        """When the first bytes went to the client."""
        self.on_start: Callable[[], None] | None = None
        """Called when they do."""
        client.on_flow(self._pause, self._resume)

    @property
    def stream(self) -> AnswerStream:
        """What is known of the stream so far."""
        return self._stream

    @property
    def started(self) -> bool:
        """Tell whether anything has been sent to the client."""
        return self._started

    @property
    def busy(self) -> bool:
        """Tell whether the stream is being read beside the loop, so that nothing can be asked of it."""
        return self._beside.busy

    def watch(self, gauge: Gauge) -> None:
        """Let the gauge see what the stream uses, and end it."""
        self._gauge = gauge
        gauge.on_news(partial(self._beside.after, self._look_again))

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Begin to read a stream; any other status is an error whose body is read whole."""
        now = self._clock()
        self._deadline = now + self._idle
        if status not in SUCCESS:
            self._failure = Failure(status, headers)
            self._last_moment = min(self._last_moment, self._deadline)
        elif coded(headers):
            self._end_early(compressed())
        else:
            self._commit_at = now + COMMIT_SECONDS

    def body(self, piece: bytes) -> None:
        """Hand a piece through: scanned, and otherwise as it came."""
        now = self._clock()
        self._deadline = now + self._idle
        if self._failure is not None:
            self._failure.add(piece)
            if self._failure.full:
                self._end_early(self._failure.error())
            return
        if self._stream.large:
            self._hold_back(waits=True, paused=self._paused)
            self._beside.run(partial(self._stream.feed, piece), partial(self._read, partial(self._fed, len(piece))))
        else:
            self._fed(len(piece), self._stream.feed(piece), now)

    def _fed(self, size: int, out: bytes, now: float) -> None:
        self._room -= size
        if out:
            self._send(out, now)
        if self._stream.error is not None:
            self._end_early(self._stream.error)
        elif self._stream.ended:
            self._connection.let_finish(self._loop)
            self._end(Ending.COMPLETE)
        elif self._stream.all_finished:
            self._finish_by = self._finish_by or now + FINISHED_SECONDS
            self._deadline = self._finish_by
        elif self._room < 0:
            self._end_early(too_large())
        elif self._gauge is not None:
            self._unseen -= size
            if self._unseen <= 0:
                self._look(self._gauge)

    def complete(self) -> None:
        """Close the stream, or report that it broke off."""
        self._over(None)

    def broken(self, error: UpstreamError) -> None:
        """End with an error, unless all that was left to come was the end of the framing."""
        self._over(error)

    def _over(self, error: UpstreamError | None) -> None:
        if self._result is None and (self._beside.busy or self._stream.large):
            self._hold_back(waits=False, paused=False)
            self._connection = Parted()
        self._beside.after(partial(self._finish, error))

    def _finish(self, error: UpstreamError | None) -> None:
        """Read what is left of the body, which is over."""
        if self._failure is not None:
            self._resolve(self._failure.error())
        elif self._result is None:
            if error is not None and not (self._stream.all_finished or error.kind == "upstream_truncated"):
                self._ended(error, b"", self._clock())
            elif self._stream.large:
                self._beside.run(self._stream.end, partial(self._read, partial(self._ended, error)))
            else:
                self._ended(error, self._stream.end(), self._clock())

    def _ended(self, error: UpstreamError | None, out: bytes, now: float) -> None:
        if out:
            self._send(out, now)
        why = self._stream.error or (None if self._stream.ended else error)
        if why is None:
            self._end(Ending.COMPLETE)
        else:
            self._end_early(why)

    def _read(self, then: Callable[[bytes, float], None], work: "asyncio.Future[bytes]") -> None:
        """Go on with what was read beside the loop."""
        if self._result is not None:
            return
        try:
            self._hold_back(waits=False, paused=self._paused)
            then(work.result(), self._clock())
        except Exception as bug:  # noqa: BLE001 - whoever waits for the answer reports it
            self.give_up(bug)

    def check(self, now: float) -> None:
        """Keep the deadlines: the whole, first byte, silence, the commit of a slow answer, the client's keep-alive and
        its own silence.
        """
        if self._result is not None or self._beside.busy:
            return
        late = self._late(now)
        if late is not None:
            self._end_early(late)
        elif self._paused or self._waits:
            pass  # for the client, whose connection has a deadline of its own, or for the store, which has one too
        elif now >= self._deadline:
            self._connection.abort()
            self.broken(silent())  # all that was missing is the usage
        elif not self._started:
            if self._commit_at is not None and now >= self._commit_at:
                self._send(self._stream.commit(), now)
        elif now >= self._keep_alive_at and self._client is not None:
            self._client.write(KEEP_ALIVE)
            self._keep_alive_at = now + KEEP_ALIVE_SECONDS

    @property
    def stalled_at(self) -> float | None:
        """When its client stopped to read, if it does not now and is still there."""
        return self._stalled_at if self._paused and self._client is not None else None

    def drop_client(self) -> None:
        """Give up a client that does not read."""
        if self._client is not None:
            self._client.drop()

    def _late(self, now: float) -> UpstreamError | None:
        """Return the failure of an answer whose time is over, unless only its usage is missing."""
        if self._finish_by is not None:
            return None
        if now >= self._last_moment:
            late = endless()
        elif now >= self._deadline and not (self._paused or self._waits):
            late = silent()
        else:
            return None
        return late if self._failure is None else self._failure.error()

    def leave(self) -> None:
        """The client has gone: read on without it (to know the usage) until `done`, or until `abort`."""
        self._client = None
        if self._paused:
            self._resume()
        super().leave()

    def abort(self) -> None:
        """Close the connection; nothing more is read."""
        super().abort()
        self._beside.after(partial(self._resolve, Ending.CLIENT_GONE))

    def cut(self) -> None:
        """End the stream now, with an error the client can see: the gateway is stopping."""
        self._beside.after(partial(self._end_early, stopping()))

    def _resolve(self, result: Ending | Exception) -> None:
        """End, and know nobody any more who knows this: then all of it goes at once, and waits for no collector."""
        super()._resolve(result)
        self._client = self._gauge = self.on_start = None
        self._fail_events = _nothing

    def _send(self, out: bytes, now: float) -> None:
        if self._client is None:
            return
        if not self._started:
            self._started = True
            self.first_byte_at = now
            self._client.start()
            if self.on_start is not None:
                self.on_start()
        self._keep_alive_at = now + KEEP_ALIVE_SECONDS
        if out:
            self._client.write(out)

    def _end(self, ending: Ending) -> None:
        if self._client is not None:
            self._client.finish(b"")
        if self._result is None:  # the connection serves others from now on
            self._hold_back(waits=False, paused=False)
        self._resolve(ending)

    def _end_early(self, error: UpstreamError) -> None:
        if self._result is not None:
            return
        self._connection.abort()
        if not self._started:
            self._resolve(error)
            return
        if self._client is not None:
            self._client.finish(self._fail_events(error))
        self._resolve(_ENDINGS.get(error.kind, Ending.UPSTREAM_ERROR))

    def _look(self, gauge: Gauge) -> None:
        if self._client is not None and not self._started:
            return  # nothing was said yet
        unseen = gauge.look(*self._stream.progress())
        if unseen is None:
            self._end_early(spent())
            return
        self._unseen = unseen
        if not unseen:
            self._hold_back(waits=True, paused=self._paused)

    def _look_again(self) -> None:
        if self._result is None and self._gauge is not None:
            if self._waits:
                self._hold_back(waits=False, paused=self._paused)
            self._look(self._gauge)

    def _pause(self) -> None:
        if self._result is None:
            self._stalled_at = self._clock()
            self._hold_back(waits=self._waits, paused=True)

    def _resume(self) -> None:
        if self._result is None:
            self._hold_back(waits=self._waits, paused=False)

    def _hold_back(self, *, waits: bool, paused: bool) -> None:
        """Take nothing from the provider while the gauge waits for its answer, or the client does not keep up."""
        before, self._waits, self._paused = self._waits or self._paused, waits, paused
        if before and not (waits or paused):
            self._deadline = self._clock() + self._idle
            self._connection.resume()
        elif not before and (waits or paused):
            self._connection.pause()


def _nothing(_error: UpstreamError) -> bytes:
    """What is written of a failure when all was said."""
    return b""


_ENDINGS: Final = {
    "upstream_truncated": Ending.UPSTREAM_TRUNCATED,
    STOPPING: Ending.CANCELLED,
    SPENT: Ending.CUT,
}
"""What a failure after the first byte is called; any other is an error of the provider."""
