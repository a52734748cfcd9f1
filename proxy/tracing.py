"""Where traces begin, and where their spans are handed over in the end; made only while tracing is on.

It decides which requests are recorded. How spans travel is known to whoever takes them (`otlp.py`), what is in them to
`trace_spans.py`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from proxy.call import RequestEnd
from proxy.trace import SPAN_BYTES, Trace
from proxy.trace_spans import Span, settle_span, spans_of
from proxy.wire.trace_context import SAMPLED, TraceContext, read_trace_context

Export = Callable[[TraceContext, Sequence[Span]], None]
"""Takes spans of one trace. Never waits, and never raises."""
_TRACE_BYTES: Final = 16
_HEXADECIMAL: Final = 16
_LOW_HALVES: Final = 2**64
"""So many values can the half of a trace's id have by which it is chosen."""


class Tracer:
    """Traces the requests of one worker."""

    def __init__(self, ratio: float, export: Export, clock: Callable[[], float], new_hex: Callable[[int], str]) -> None:
        """Record this share of the requests whose client has not decided. `clock` gives monotonic seconds, `new_hex`
        so many random bytes.
        """
        self._ratio = ratio
        self._export = export
        self._clock = clock
        self._new_hex = new_hex

    def begin(self, headers: Mapping[str, str], arrived: float, now: float) -> Trace:
        """Begin the trace of a request that has come with these headers, at this moment (monotonic, and Unix). It is a
        part of the client's trace, and recorded as the client says, where the headers name one.
        """
        span_id = self._new_hex(SPAN_BYTES)
        client = read_trace_context(headers.get("traceparent"), headers.get("tracestate"))
        if client is not None:
            context, parent = replace(client, span_id=span_id), client.span_id
        else:
            trace_id = self._new_hex(_TRACE_BYTES)
            sampled = int(trace_id[_TRACE_BYTES:], _HEXADECIMAL) < self._ratio * _LOW_HALVES
            context, parent = TraceContext(trace_id, span_id, SAMPLED if sampled else 0), None
        return Trace(context, parent, arrived, now, self._clock, self._new_hex)

    def ended(self, trace: Trace, end: RequestEnd) -> None:
        """Hand over the spans of a request that is over, if it is recorded."""
        if trace.context.sampled:
            self._export(trace.context, spans_of(trace, end))

    def settling(self, trace: Trace, reply: "asyncio.Future[object]") -> None:
        """Hand over one more when the store has answered to its settlement, which was sent just now."""
        if trace.context.sampled:
            reply.add_done_callback(partial(self._settled, trace, self._clock()))

    def _settled(self, trace: Trace, began_at: float, reply: "asyncio.Future[object]") -> None:
        error = asyncio.CancelledError() if reply.cancelled() else reply.exception()
        word = None if error is None else type(error).__name__
        self._export(trace.context, [settle_span(trace, began_at, self._clock(), word)])
