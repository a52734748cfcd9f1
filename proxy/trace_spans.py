"""A request that is over → the spans of its trace, under the names of OpenTelemetry's semantic conventions.

Values only: how they reach a collector is the business of `otlp.py`. No attribute ever holds a prompt, an answer or a
credential: all of them are names of the configuration, ids, numbers, and words of ours. A trace is for the operator
alone, so it may say what clients are never told: which provider was asked, and at which address.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.call import Ending, Endpoint, RequestEnd
from proxy.trace import Attempt, Trace

Value = str | int | float | bool | Sequence[str]

CHAT: Final = "chat"
"""What the conventions call the operation of both endpoints."""
_ROUTES: Final = {Endpoint.CHAT.value: "/v1/chat/completions", Endpoint.RESPONSES.value: "/v1/responses"}
_UNKNOWN: Final = "unknown"
_FINISH_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_SERVER_ERROR: Final = 500
_MICRO: Final = 1_000_000
_NANO_PER_MICRO: Final = 1_000
_MS: Final = 1_000
_FAILED: Final = frozenset({Ending.UPSTREAM_ERROR, Ending.UPSTREAM_TRUNCATED, Ending.CANCELLED})
_NOT_THE_PROVIDERS: Final = frozenset({Ending.CLIENT_GONE.value, Ending.CANCELLED.value, Ending.CUT.value})


class Kind(Enum):
    """Which side of a call a span shows."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Span:
    """One span; its moments are Unix nanoseconds."""

    name: str
    kind: Kind
    span_id: str
    parent_id: str | None
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Value]
    failed: bool = False


def spans_of(trace: Trace, end: RequestEnd) -> list[Span]:
    """Return the spans of a request that is over: its own, and those of its admission, its attempts and its stream."""
    over_at = trace.arrived + end.duration_ms / _MS
    spans = [_request(trace, end, over_at)]
    if trace.admit_began_at is not None:
        error = None if trace.admitted_at is not None else (end.code or end.ending.value)
        spans.append(_child(trace, "admit", trace.admit_began_at, trace.admitted_at or over_at, error))
    spans += [_attempt(trace, attempt, number, over_at) for number, attempt in enumerate(trace.attempts)]
    if end.ttft_ms is not None:
        error = None if end.ending is Ending.COMPLETE else end.ending.value
        spans.append(_child(trace, "stream", trace.arrived + end.ttft_ms / _MS, over_at, error))
    return spans


def settle_span(trace: Trace, began_at: float, ended_at: float, error: str | None) -> Span:
    """Return the span of a settlement, from when the store was told to when it answered."""
    return _child(trace, "settle", began_at, ended_at, error)


def _request(trace: Trace, end: RequestEnd, over_at: float) -> Span:
    named = end.model != _UNKNOWN
    answered = bool(trace.attempts) and trace.attempts[-1].error is None
    said: dict[str, Value | None] = {
        "gen_ai.operation.name": CHAT,
        "gen_ai.provider.name": end.provider,
        "gen_ai.request.model": end.model if named else None,
        "gen_ai.request.stream": end.stream,
        "gen_ai.response.model": trace.attempts[-1].model if answered else None,
        "gen_ai.response.id": end.upstream_id,
        "gen_ai.response.finish_reasons": [_known_reason(reason) for reason in trace.finish_reasons] or None,
        "gen_ai.usage.input_tokens": end.prompt_tokens,
        "gen_ai.usage.output_tokens": end.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": end.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": end.reasoning_tokens,
        "gen_ai.response.time_to_first_chunk": None if end.ttft_ms is None else end.ttft_ms / _MS,
        "http.request.method": "POST",
        "http.route": _ROUTES.get(end.endpoint),
        "http.response.status_code": end.status,
        "error.type": None if end.ending is Ending.COMPLETE else end.code or end.ending.value,
        "aion.request_id": end.request_id,
        "aion.account": end.account,
        "aion.key_id": end.key_id,
        "aion.ending": end.ending.value,
        "aion.usage_source": end.usage_source,
        "aion.cost_usd": end.cost_usd,
    }
    return Span(
        f"{CHAT} {end.model}" if named else CHAT,
        Kind.SERVER,
        trace.context.span_id,
        trace.parent,
        _unix_ns(trace, trace.arrived),
        _unix_ns(trace, over_at),
        _known(said),
        failed=end.status >= _SERVER_ERROR or end.ending in _FAILED,
    )


def _attempt(trace: Trace, attempt: Attempt, number: int, over_at: float) -> Span:
    ended_at = over_at if attempt.ended_at is None else attempt.ended_at
    said: dict[str, Value | None] = {
        "gen_ai.operation.name": CHAT,
        "gen_ai.provider.name": attempt.provider,
        "gen_ai.request.model": attempt.model,
        "server.address": attempt.address,
        "server.port": attempt.port,
        "http.request.method": "POST",
        "http.response.status_code": attempt.status,
        "http.request.resend_count": number or None,
        "error.type": attempt.error,
    }
    return Span(
        "upstream attempt",
        Kind.CLIENT,
        attempt.span_id,
        trace.context.span_id,
        _unix_ns(trace, attempt.began_at),
        _unix_ns(trace, ended_at),
        _known(said),
        failed=attempt.error is not None and attempt.error not in _NOT_THE_PROVIDERS,
    )


def _child(trace: Trace, name: str, began_at: float, ended_at: float, error: str | None) -> Span:
    span_id = trace.new_span_id()
    began_ns, ended_ns = _unix_ns(trace, began_at), _unix_ns(trace, ended_at)
    said = _known({"error.type": error})
    return Span(name, Kind.INTERNAL, span_id, trace.context.span_id, began_ns, ended_ns, said)


def _known_reason(word: str) -> str:
    """Return a finish reason of OpenAI's; a provider's own could be any text."""
    return word if word in _FINISH_REASONS else "other"


def _known(said: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in said.items() if value is not None}


def _unix_ns(trace: Trace, moment: float) -> int:
    # To the microsecond, which is as finely as a Unix time tells it.
    return round((trace.now + (moment - trace.arrived)) * _MICRO) * _NANO_PER_MICRO
