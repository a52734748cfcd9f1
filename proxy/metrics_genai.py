"""The GenAI metrics of OpenTelemetry's semantic conventions, on the page beside ours: the same facts, under the names
and with the buckets that dashboards of others expect.

Dots of a name are underscores here and the unit of time is at its end, as OpenTelemetry's own rule for Prometheus says.
Nothing here is counted unless it is switched on.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Histogram

from proxy.call import Ending, RequestEnd
from proxy.trace_spans import CHAT

_TOKENS: Final = tuple(4**power for power in range(14))
_DURATIONS: Final = tuple(0.01 * 2**power for power in range(14))
_FIRST_TOKENS: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_LABELS: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_ENDPOINTS: Final = frozenset({"chat", "responses"})
_MS: Final = 1_000


class Observed(Protocol):
    """Values for one child of a histogram."""

    def observe(self, value: float) -> None:
        """Count a value."""


class GenAiMetrics:
    """The families of one worker."""

    def __init__(self, registry: CollectorRegistry, observed: Callable[..., Observed]) -> None:
        """Create them; `observed` returns where to put the values of a family's child."""
        self._observed = observed

        def histogram(name: str, text: str, more: Sequence[str], buckets: Sequence[float]) -> Histogram:
            return Histogram(name, text, (*_LABELS, *more), registry=registry, buckets=buckets)

        self._tokens = histogram(
            "gen_ai_client_token_usage", "Input and output tokens of requests.", ("gen_ai_token_type",), _TOKENS
        )
        self._asked = histogram(
            "gen_ai_client_operation_duration_seconds", "A provider asked to the end.", ("error_type",), _DURATIONS
        )
        self._served = histogram(
            "gen_ai_server_request_duration_seconds", "Arrival to end.", ("error_type",), _DURATIONS
        )
        self._first = histogram(
            "gen_ai_server_time_to_first_token_seconds", "Arrival to first byte of streams.", (), _FIRST_TOKENS
        )
        self._per_token = histogram(
            "gen_ai_server_time_per_output_token_seconds", "Each token of streams after the first.", (), _PER_TOKEN
        )

    def request_ended(self, end: RequestEnd) -> None:
        """Count a request to a model that is over."""
        if end.endpoint not in _ENDPOINTS:
            return
        labels = (CHAT, end.provider or "", end.model)
        seconds, complete = end.duration_ms / _MS, end.ending is Ending.COMPLETE
        error = "" if complete else end.code or end.ending.value
        self._observed(self._served, *labels, error).observe(seconds)
        if end.provider is None:
            return
        if end.overhead_ms is not None:
            self._observed(self._asked, *labels, error).observe(seconds - end.overhead_ms / _MS)
        for kind, tokens in (("input", end.prompt_tokens), ("output", end.completion_tokens)):
            if tokens:
                self._observed(self._tokens, *labels, kind).observe(tokens)
        if complete and end.ttft_ms is not None:
            first = end.ttft_ms / _MS
            self._observed(self._first, *labels).observe(first)
            if end.completion_tokens is not None and end.completion_tokens > 1:
                self._observed(self._per_token, *labels).observe((seconds - first) / (end.completion_tokens - 1))
