"""One request as its trace will show it: where it belongs, and the moments that nothing else remembers.

It is made only while tracing is on, and written to by those who know a moment; what is told of it in the end is decided
in `trace_spans.py`. Nothing in it was said by a client or a provider but the ids of a trace.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from proxy.wire.trace_context import TraceContext, write_trace_context

SPAN_BYTES: Final = 8


class Attempt:
    """One call to a provider: where, from when to when (monotonic), and how it failed, if it did."""

    __slots__ = ("address", "began_at", "ended_at", "error", "model", "port", "provider", "span_id", "status")

    def __init__(self, span_id: str, provider: str, model: str, address: str, port: int, began_at: float) -> None:
        """Begin one, for a model by its name there."""
        self.span_id = span_id
        self.provider = provider
        self.model = model
        self.address = address
        self.port = port
        self.began_at = began_at
        self.ended_at: float | None = None
        self.error: str | None = None
        self.status: int | None = None
        """What the provider answered, where it was an error."""


class Trace:
    """One request on its way. All moments are on the monotonic clock, in seconds."""

    __slots__ = (
        "_clock",
        "_new_hex",
        "admit_began_at",
        "admitted_at",
        "arrived",
        "attempts",
        "context",
        "finish_reasons",
        "now",
        "parent",
    )

    def __init__(
        self,
        context: TraceContext,
        parent: str | None,
        arrived: float,
        now: float,
        clock: Callable[[], float],
        new_hex: Callable[[int], str],
    ) -> None:
        """Begin with what has `arrived`, which is `now` in Unix seconds; `new_hex` makes so many random bytes."""
        self.context = context
        """The request's own span."""
        self.parent = parent
        """The span of the client's that it is a part of."""
        self.arrived = arrived
        self.now = now
        self.admit_began_at: float | None = None
        self.admitted_at: float | None = None
        self.attempts: list[Attempt] = []
        self.finish_reasons: Sequence[str] = ()
        self._clock = clock
        self._new_hex = new_hex

    def new_span_id(self) -> str:
        """Make the id of a span."""
        return self._new_hex(SPAN_BYTES)

    def asks_admission(self) -> None:
        """Take note that the limits are asked."""
        self.admit_began_at = self._clock()

    def admitted(self) -> None:
        """Take note that they let it in."""
        self.admitted_at = self._clock()

    def asks(self, provider: str, model: str, address: str, port: int) -> None:
        """Take note that a provider is asked, at this address, for a model by its name there."""
        self.attempts.append(Attempt(self.new_span_id(), provider, model, address, port, self._clock()))

    def lines(self) -> bytes:
        """Write the header lines that make what the provider does a part of the last attempt."""
        return write_trace_context(replace(self.context, span_id=self.attempts[-1].span_id))

    def answered(self, error: str | None = None, status: int | None = None) -> None:
        """Take note of how the last attempt ended: with an `error`, in our words, or well."""
        last = self.attempts[-1]
        last.ended_at, last.error, last.status = self._clock(), error, status
