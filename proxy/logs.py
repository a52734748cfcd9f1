"""One line of JSON per event on standard error, or a readable line where a person watches.

Built once per process and handed to whoever logs; there is no global logger. No line ever holds a key, a prompt, an
answer or a provider's credential: callers pass facts, never bodies.
"""

import sys
import time
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol, cast

import msgspec
import orjson
import structlog
from msgspec.structs import asdict
from structlog.typing import FilteringBoundLogger

from proxy.call import RequestEnd

_MS: Final = 1_000
_INFO: Final = 20


class RequestLog(Protocol):
    """Where the one line that every request leaves goes."""

    def request(self, end: RequestEnd) -> None:
        """Write the line."""


def make_logger(*, readable: bool | None = None) -> FilteringBoundLogger:
    """Return a logger on standard error; `readable` for people, by default where that is a terminal."""
    filtering = structlog.make_filtering_bound_logger(_INFO)
    if is_readable(readable):
        processors: list[structlog.typing.Processor] = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(),
        ]
        return cast(
            "FilteringBoundLogger", structlog.wrap_logger(structlog.WriteLogger(sys.stderr), processors, filtering)
        )
    processors = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
    ]
    return cast(
        "FilteringBoundLogger", structlog.wrap_logger(structlog.BytesLogger(sys.stderr.buffer), processors, filtering)
    )


def is_readable(readable: bool | None) -> bool:  # noqa: FBT001 - three states: yes, no, see yourself
    """Tell whether lines are for people."""
    return sys.stderr.isatty() if readable is None else readable


class ReadableRequestLog:
    """The line as any other, for people."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        """Write through `logger`."""
        self._logger = logger

    def request(self, end: RequestEnd) -> None:
        """Write the line."""
        self._logger.info("request", **{name: value for name, value in asdict(end).items() if value is not None})


class FastRequestLog:
    """The line as JSON, written with the others of one turn of the loop in one system call.

    structlog's chain costs five times as much per line (measured), and this is the one line on every request's path.
    """

    def __init__(
        self, out: BinaryIO, soon: Callable[[Callable[[], None]], object], clock: Callable[[], float], worker: int
    ) -> None:
        """Write to `out`; `soon` runs a function at the end of the current turn of the event loop."""
        self._out = out
        self._clock = clock
        self._soon = soon
        self._head = b'{"event":"request","level":"info","worker":%d,"timestamp":"' % worker
        self._lines: list[bytes] = []
        self._second = 0
        self._prefix = b""

    def request(self, end: RequestEnd) -> None:
        """Queue the line."""
        if not self._lines:
            self._soon(self.flush)
        now = self._clock()
        if int(now) != self._second:
            self._second = int(now)
            self._prefix = self._head + time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)).encode()
        milliseconds = int(now * _MS) % _MS
        self._lines.append(b'%b.%03dZ",%b\n' % (self._prefix, milliseconds, msgspec.json.encode(end)[1:]))

    def flush(self) -> None:
        """Write what is queued."""
        lines = b"".join(self._lines)
        self._lines.clear()
        self._out.write(lines)
        self._out.flush()
