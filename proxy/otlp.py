"""Spans on their way to a collector: queued, and sent by OTLP over HTTP in a thread of their own.

This is the one file that knows the library, which is installed and loaded only where tracing is on. Nobody waits for
it: what the queue has no room for, and what no collector takes, is counted and gone.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from proxy.trace_spans import Kind, Span
from proxy.wire.trace_context import TraceContext

MOST_WAITING: Final = 8_192
"""Spans that wait to be sent, those being sent included; a request has about five."""
EXPORTED: Final = "exported"
FAILED: Final = "failed"
DROPPED: Final = "dropped"
_LOGGER: Final = "opentelemetry"
_UNNAMED: Final = "unknown_service"
_NAME: Final = "aion-proxy"
_HEXADECIMAL: Final = 16
_KINDS: Final = {Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT, Kind.INTERNAL: SpanKind.INTERNAL}
_PATH: Final = re.compile(r"url: \S+")
"""Some collectors want a credential in their URL."""
_HEADER: Final = re.compile(r"(header[^:]*:).*", re.IGNORECASE | re.DOTALL)
"""Others want it in a header, and the library repeats one that it cannot read or send."""

Count = Callable[[str, int], None]
"""Counts spans by what became of them. Called from both threads."""
Tell = Callable[[str | None], None]
"""Hears what is wrong when a collector takes nothing any more, and None when it does again."""


class Collector:
    """Where the spans of one worker go."""

    def __init__(self, endpoint: str | None, version: str, count: Count, tell: Tell) -> None:
        """Begin to send to the URL, or to where the standard's own variables say. Raises ValueError for those it cannot
        read.
        """
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._resource = _resource(version)
        self._scope = InstrumentationScope(_NAME, version)
        self._handed_over = 0
        said = _LastWord()
        self._sender = _Sender(OTLPSpanExporter(endpoint), said, count, self._tell_in_loop(tell))
        self._batches = BatchSpanProcessor(self._sender, max_queue_size=MOST_WAITING)
        if said.thread == threading.get_ident():  # of a variable whose default it would take instead
            raise ValueError(said.last)

    @property
    def waiting(self) -> int:
        """How many spans are neither sent nor given up."""
        return self._handed_over - self._sender.done

    def export(self, context: TraceContext, spans: Sequence[Span]) -> None:
        """Queue spans of one trace; all or none of them."""
        if self.waiting + len(spans) > MOST_WAITING:
            self._count(DROPPED, len(spans))
            return
        self._handed_over += len(spans)
        trace_id, flags = int(context.trace_id, _HEXADECIMAL), TraceFlags(context.flags)
        state = TraceState.from_header([context.state]) if context.state else None
        own = int(context.span_id, _HEXADECIMAL)
        for span in spans:
            span_id = int(span.span_id, _HEXADECIMAL)
            parent = None if span.parent_id is None else int(span.parent_id, _HEXADECIMAL)
            self._batches.on_end(
                ReadableSpan(
                    span.name,
                    SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags, trace_state=state),
                    None if parent is None else SpanContext(trace_id, parent, is_remote=span_id == own),
                    self._resource,
                    span.attributes,
                    kind=_KINDS[span.kind],
                    status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
                    start_time=span.began_ns,
                    end_time=span.ended_ns,
                    instrumentation_scope=self._scope,
                )
            )

    async def close(self, seconds: float) -> int:
        """Send what waits, for at most so long; returns how many still do, which are then given up."""
        over: asyncio.Future[None] = self._loop.create_future()

        def send_the_rest() -> None:
            self._batches.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # nobody waited so long, and the loop is closed
                self._loop.call_soon_threadsafe(over.set_result, None)

        # A thread that does not keep the process from ending, should a collector let it hang.
        threading.Thread(target=send_the_rest, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.shield(over)
        waiting = self.waiting
        if waiting:
            self._sender.shutdown()  # or the library's thread would go on trying
        return waiting

    def _tell_in_loop(self, tell: Tell) -> Tell:
        def soon(trouble: str | None) -> None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(tell, trouble)

        return soon


class _Sender(SpanExporter):
    """Sends batches in the library's thread, and keeps count."""

    def __init__(self, exporter: SpanExporter, said: "_LastWord", count: Count, tell: Tell) -> None:
        self._exporter = exporter
        self._count = count
        self._tell = tell
        self._troubled = False
        self._said = said
        self.done = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, or give it up after the library's own tries."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self.done += len(spans)
            taken = result is SpanExportResult.SUCCESS
            self._count(EXPORTED if taken else FAILED, len(spans))
            if taken is self._troubled:
                self._troubled = not taken
                self._tell(None if taken else self._said.last)
        return result

    def shutdown(self) -> None:
        """Send no more."""
        self._exporter.shutdown()


class _LastWord(logging.Handler):
    """Keeps the library's words out of the gateway's log, and the last of them to be told once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self.thread = 0
        """In which it was said."""
        logger = logging.getLogger(_LOGGER)
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep its message."""
        self.thread = threading.get_ident()
        self.last = _HEADER.sub(r"\1 …", _PATH.sub("url: …", record.getMessage()))


def _resource(version: str) -> Resource:
    """Describe this process; what the standard's variables say of it holds."""
    told = Resource.create({SERVICE_VERSION: version})
    named = not str(told.attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED)
    return told if named else told.merge(Resource({SERVICE_NAME: _NAME}))
