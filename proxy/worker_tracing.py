"""How a worker's tracing begins and ends. The library is loaded here, and only where tracing is on."""

from collections.abc import Callable
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy import __version__
from proxy.mistakes import ConfigurationError, Mistake
from proxy.settings import Tracing
from proxy.tracing import Tracer

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from proxy.otlp import Collector

CLOSE_SECONDS: Final = 1.5
"""How long the last spans may take when a worker stops; a supervisor waits for it a little longer."""


class WorkerTracing:
    """The tracing of one worker."""

    def __init__(self, tracer: Tracer, collector: "Collector", logger: "FilteringBoundLogger") -> None:
        """Keep the parts."""
        self.tracer = tracer
        self._collector = collector
        self._logger = logger

    async def close(self) -> None:
        """Send what is left."""
        waiting = await self._collector.close(CLOSE_SECONDS)
        if waiting:
            self._logger.warning("stopped with spans of traces that no collector has taken", spans=waiting)


def start_tracing(
    settings: Tracing, count: Callable[[str, int], None], logger: "FilteringBoundLogger"
) -> WorkerTracing | None:
    """Begin to trace if the settings say so; `count` counts spans, from any thread. Raises `ConfigurationError`."""
    if not settings.enabled:
        return None

    def tell(trouble: str | None) -> None:
        if trouble is None:
            logger.info("the collector takes traces again")
        else:
            logger.warning("the collector takes no traces, so they are lost; requests go on", detail=trouble)

    collector = _collector(settings, count, tell)
    return WorkerTracing(Tracer(settings.sample_ratio, collector.export, monotonic, token_hex), collector, logger)


async def check_tracing(settings: Tracing) -> None:
    """Begin and end with nothing to send, where tracing is on. Raises `ConfigurationError` as `start_tracing`."""
    await _collector(settings, lambda *_: None, lambda _: None).close(CLOSE_SECONDS)


def _collector(settings: Tracing, count: Callable[[str, int], None], tell: Callable[[str | None], None]) -> "Collector":
    try:
        from proxy.otlp import Collector  # noqa: PLC0415 - as the file says; the library reads variables even now

        return Collector(settings.endpoint, __version__, count, tell)
    except (ValueError, OSError) as error:
        allowed = "must be as OpenTelemetry's specification of its environment variables says"
        raise ConfigurationError((Mistake("environment", "OTEL_…", f"cannot be used: {error}", allowed),)) from None
