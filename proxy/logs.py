"""One line of JSON per event on standard error, or a readable line where a person watches.

Built once per process and handed to whoever logs; there is no global logger. No line ever holds a key, a prompt, an
answer or a provider's credential: callers pass facts, never bodies.
"""

import sys
import time
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

from proxy.call import RequestEnd
from proxy.pricing import format_usd

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
        self._logger.info("request", **{name: value for name, value in request_facts(end).items() if value is not None})


class FastRequestLog:
    """The line as JSON, written with the others of one turn of the loop in one system call.

    structlog's chain costs five times as much per line (measured), and this is the one line on the path of every
    request.
    """

    def __init__(
        self, out: BinaryIO, soon: Callable[[Callable[[], None]], object], clock: Callable[[], float], worker: int
    ) -> None:
        """Write to `out`; `soon` runs a function at the end of the current turn of the event loop."""
        self._out = out
        self._clock = clock
        self._soon = soon
        self._worker = worker
        self._lines: list[bytes] = []
        self._second = 0
        self._prefix = ""

    def request(self, end: RequestEnd) -> None:
        """Queue the line."""
        if not self._lines:
            self._soon(self.flush)
        now = self._clock()
        if int(now) != self._second:
            self._second = int(now)
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(now))
        facts = request_facts(end)
        facts["timestamp"] = f"{self._prefix}{int(now * _MS) % _MS:03d}Z"
        facts["worker"] = self._worker
        self._lines.append(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))

    def flush(self) -> None:
        """Write what is queued."""
        lines = b"".join(self._lines)
        self._lines.clear()
        self._out.write(lines)
        self._out.flush()


def request_facts(end: RequestEnd) -> dict[str, object]:
    """Return what the line of a request says; tokens and cost only where a provider was asked."""
    facts: dict[str, object] = {
        "event": "request",
        "level": "info",
        "request_id": end.request_id,
        "account": end.account,
        "key_id": end.key_id,
        "endpoint": end.endpoint,
        "model": end.model,
        "provider": end.provider,
        "stream": end.stream,
        "status": end.status,
        "ending": end.ending,
        "duration_ms": round(end.duration * _MS, 1),
    }
    if end.usage is not None:
        usage = end.usage
        facts["prompt_tokens"] = usage.prompt
        facts["cached_tokens"] = usage.cached
        facts["completion_tokens"] = usage.completion
        facts["reasoning_tokens"] = usage.reasoning
        facts["usage_source"] = end.source
        facts["cost_usd"] = format_usd(end.cost_pusd)
        facts["ttft_ms"] = None if end.ttft is None else round(end.ttft * _MS, 1)
        facts["overhead_ms"] = None if end.overhead is None else round(end.overhead * _MS, 2)
        facts["attempts"] = end.attempts
        facts["upstream_id"] = end.upstream_id
    if end.fault is not None:
        facts["code"] = end.fault.code
        facts["reason"] = end.fault.reason
        facts["param"] = end.fault.param
    if end.client_request_id is not None or end.retry_count is not None:
        facts["client_request_id"] = end.client_request_id
        facts["retry_count"] = end.retry_count
    return facts
