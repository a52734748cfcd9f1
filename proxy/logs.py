"""One line of JSON per event on standard error, or a readable line where a person watches.

Built once per process and handed to whoever logs; there is no global logger. No line ever holds a key, a prompt, an answer or a
provider's credential: callers pass facts, never bodies.
"""

import sys
from typing import BinaryIO, Final, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

from proxy.call import RequestEnd
from proxy.pricing import format_usd

_MS: Final = 1_000


def make_logger(stream: BinaryIO | None = None, *, readable: bool | None = None) -> FilteringBoundLogger:
    """Return a logger that writes to `stream` (standard error); `readable` for people, by default where it is a terminal."""
    out = stream or sys.stderr.buffer
    if sys.stderr.isatty() if readable is None else readable:
        text = structlog.WriteLogger(sys.stderr)
        processors = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(),
        ]
        return cast("FilteringBoundLogger", structlog.wrap_logger(text, processors, structlog.make_filtering_bound_logger(20)))
    line = structlog.BytesLogger(out)
    processors = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.add_log_level,
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
    ]
    return cast("FilteringBoundLogger", structlog.wrap_logger(line, processors, structlog.make_filtering_bound_logger(20)))


def log_request(logger: FilteringBoundLogger, end: RequestEnd) -> None:
    """Write the one line that every request leaves; what is not known is left out."""
    facts: dict[str, object] = {
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
        facts |= {
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "completion_tokens": usage.completion,
            "reasoning_tokens": usage.reasoning,
            "usage_source": end.source,
            "cost_usd": format_usd(end.cost_pusd),
            "ttft_ms": None if end.ttft is None else round(end.ttft * _MS, 1),
            "overhead_ms": None if end.overhead is None else round(end.overhead * _MS, 2),
            "attempts": end.attempts,
            "upstream_id": end.upstream_id,
        }
    if end.fault is not None:
        facts |= {"code": end.fault.code, "reason": end.fault.reason, "param": end.fault.param}
    if end.client_request_id is not None or end.retry_count is not None:
        facts |= {"client_request_id": end.client_request_id, "retry_count": end.retry_count}
    logger.info("request", **{name: value for name, value in facts.items() if value is not None})
