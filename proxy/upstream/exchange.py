"""How an exchange with a provider goes when its answer is taken whole, and what every exchange has in common: one end.

What bytes mean is decided in `wire/`; streams are carried by the pump (`pump.py`).
"""

import asyncio
from collections.abc import Callable
from email.utils import mktime_tz, parsedate_tz
from typing import Final, Generic, TypeVar

from msgspec import Struct

from proxy.upstream.beside import Parted
from proxy.upstream.connections import UpstreamConnection
from proxy.wire.upstream_error import UpstreamError, bad_answer, read_error

MAX_WHOLE: Final = 16 * 1024 * 1024
"""The largest answer that is taken whole, because all of it is kept until its end and then read (the largest real ones
hold a few MiB of images).
"""
MAX_ERROR: Final = 64 * 1024
STOPPING: Final = "gateway_stopping"
"""The kind of the failure when it is this gateway that ended an exchange."""
SPENT: Final = "limit_reached"
"""The same, because its account may use no more."""
_MANY_DIGITS: Final = 7
_MANY_DIGITS_OF_MS: Final = 10
SUCCESS: Final = range(200, 300)
_T = TypeVar("_T")


class Bounds(Struct, frozen=True):
    """How long an exchange may last in all, until its first byte and between two, in seconds; how large it may be."""

    first_byte: float
    idle: float
    total: float
    size: int
    """Bytes of the body."""


class Exchange(Generic[_T]):
    """How an exchange ends: once, whoever waits for it, and even if that one was cancelled in the very moment."""

    __slots__ = ("_connection", "_loop", "_result", "done")

    def __init__(self, connection: UpstreamConnection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection: UpstreamConnection | Parted = connection
        self._loop = loop
        self._result: _T | Exception | None = None
        self.done: asyncio.Future[_T] = loop.create_future()

    @property
    def over(self) -> bool:
        """Tell whether it has ended; its connection may serve another exchange by now."""
        return self._result is not None

    @property
    def busy(self) -> bool:
        """Tell whether what came is being read beside the loop, so that nothing can be asked of it."""
        return False

    def leave(self) -> None:
        """The client has gone: read on without it (to know the usage) until `done`, or until `abort`."""
        if self.done.cancelled():  # by the handler that waited for it
            self.done = self._loop.create_future()
            if self._result is not None:
                self._tell(self._result)

    def abort(self) -> None:
        """Close the connection: nobody waits for the answer any more."""
        if self._result is None:
            self._connection.abort()

    def give_up(self, bug: Exception) -> None:
        """End with a bug of ours, for whoever waits to report."""
        self._connection.abort()
        self._resolve(bug)

    def _resolve(self, result: _T | Exception) -> None:
        if self._result is None:
            self._result = result
            if not self.done.done():
                self._tell(result)

    def _tell(self, result: _T | Exception) -> None:
        if isinstance(result, Exception):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class Failure:
    """Collects what a provider says with a status that is no success; too much of it is left out."""

    def __init__(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._status = status
        self._retry_after_ms = retry_after_ms(headers)
        self._room = 0 if coded(headers) else MAX_ERROR
        self._taken = 0
        self._parts: list[bytes] = []

    @property
    def full(self) -> bool:
        """Tell whether so much has come that what follows is not worth reading."""
        return self._taken >= MAX_ERROR

    def add(self, piece: bytes) -> None:
        """Keep a part."""
        self._taken += len(piece)
        if self._room:
            self._parts.append(piece[: self._room])
            self._room -= len(self._parts[-1])

    def error(self) -> UpstreamError:
        """Return the failure, whether or not its body came to an end."""
        return status_error(self._status, b"".join(self._parts), self._retry_after_ms)


class Answer(Exchange[bytes]):
    """Collects a whole answer, or the body of a failed one. `done` gets the body, or an `UpstreamError`."""

    __slots__ = ("_clock", "_deadline", "_failure", "_idle", "_last_moment", "_parts", "_room")

    def __init__(
        self,
        connection: UpstreamConnection,
        *,
        bounds: Bounds,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Begin to wait."""
        super().__init__(connection, loop)
        self._clock = clock
        now = clock()
        self._deadline = now + bounds.first_byte
        self._last_moment = now + bounds.total
        self._idle = bounds.idle
        self._failure: Failure | None = None
        self._parts: list[bytes] = []
        self._room = min(bounds.size, MAX_WHOLE)

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Keep what is no success; a coding that was not asked for makes a success unreadable."""
        now = self._clock()
        self._deadline = now + self._idle
        if status not in SUCCESS:
            self._failure = Failure(status, headers)
            self._last_moment = min(self._last_moment, now + self._idle)
        elif coded(headers):
            self._fail(compressed())

    def body(self, piece: bytes) -> None:
        """Keep a part."""
        self._deadline = self._clock() + self._idle
        if self._failure is not None:
            self._failure.add(piece)
            if self._failure.full:
                self._fail(self._failure.error())
            return
        self._room -= len(piece)
        self._parts.append(piece)
        if self._room < 0:
            self._fail(too_large())

    def complete(self) -> None:
        """Resolve `done`."""
        if self._failure is not None:
            self._resolve(self._failure.error())
        else:
            self._resolve(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))

    def broken(self, error: UpstreamError) -> None:
        """Fail `done`; a refusal counts even if its body broke off."""
        self._resolve(error if self._failure is None else self._failure.error())

    def check(self, now: float) -> None:
        """Give up if the provider has been silent for too long, or does not come to an end."""
        if self._result is None and (now >= self._deadline or now >= self._last_moment):
            late = silent() if now >= self._deadline else endless()
            self._fail(late if self._failure is None else self._failure.error())

    def cut(self) -> None:
        """End now: the gateway is stopping."""
        if self._result is None:
            self._fail(stopping())

    def _fail(self, error: UpstreamError) -> None:
        if self._result is None:
            self._connection.abort()
            self._resolve(error)


def status_error(status: int, body: bytes, wait_ms: int | None) -> UpstreamError:
    """Build the failure for an answer that is no success."""
    detail = f"the provider answered {status}"
    return UpstreamError(read_error(body), status=status, kind="upstream_error", retry_after_ms=wait_ms, detail=detail)


def retry_after_ms(headers: dict[bytes, bytes]) -> int | None:
    """Read a Retry-After header: seconds, or a date, which counts from the answer's own Date (RFC 9110, 10.2.3); the
    exact `retry-after-ms` of some providers goes before it.
    """
    exact = headers.get(b"retry-after-ms", b"").strip()
    if exact.isdigit() and len(exact) < _MANY_DIGITS_OF_MS:
        return int(exact)
    value = headers.get(b"retry-after", b"").strip()
    if value.isdigit():
        return int(value) * 1000 if len(value) < _MANY_DIGITS else None
    then, now = (parsedate_tz(text.decode("latin-1")) for text in (value, headers.get(b"date", b"")))
    return None if then is None or now is None else max(0, mktime_tz(then) - mktime_tz(now)) * 1000


def coded(headers: dict[bytes, bytes]) -> bool:
    """Tell whether a body is compressed, which no provider was asked for."""
    return headers.get(b"content-encoding", b"identity").lower() != b"identity"


def compressed() -> UpstreamError:
    """Build the failure for a success that cannot be read because of its coding."""
    return bad_answer("it is compressed although that was not asked for")


def silent() -> UpstreamError:
    """Build the failure for a provider that says nothing (any more)."""
    return UpstreamError(kind="upstream_timeout", detail="the provider was silent for too long")


def endless() -> UpstreamError:
    """Build the failure for an answer that has not ended within `total_timeout`."""
    return UpstreamError(kind="upstream_timeout", detail="the answer did not end within total_timeout")


def too_large() -> UpstreamError:
    """Build the failure for an answer with more bytes than are taken of one."""
    return bad_answer("it is larger than max_answer")


def stopping() -> UpstreamError:
    """Build the failure for an exchange that this gateway ends because it stops."""
    return UpstreamError(kind=STOPPING, detail="the gateway is stopping")


def spent() -> UpstreamError:
    """Build the failure for an exchange that this gateway ends because its account may use no more."""
    return UpstreamError(kind=SPENT, detail="the account has used up a limit")
