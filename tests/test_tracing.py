"""Which requests are recorded, whose trace they go on with, and what their spans say."""

import asyncio
from itertools import count

import pytest

from proxy.call import Ending, RequestEnd
from proxy.trace_spans import Kind, Span
from proxy.tracing import Tracer
from specimens import Clock

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
NOW = 1_800_000_000.25


class Bench:
    """A tracer whose ids are numbers, and what it has handed over."""

    def __init__(self, ratio: float = 1.0) -> None:
        self.clock = Clock(1000.0)
        numbers = count(1)
        self.spans: list[Span] = []
        self.tracer = Tracer(
            ratio, lambda _, spans: self.spans.extend(spans), self.clock, lambda size: f"{next(numbers):0{2 * size}x}"
        )

    def begin(self, **headers: str):
        return self.tracer.begin(headers, self.clock.now, NOW)

    def named(self, name: str) -> Span:
        (span,) = [span for span in self.spans if span.name == name]
        return span


def end(ending: Ending = Ending.COMPLETE, **more) -> RequestEnd:
    facts = {"model": "my/model", "stream": False, "status": 200, "duration_ms": 500.0, **more}
    return RequestEnd("req_1", "chat", ending=ending, **facts)


def test_a_request_goes_on_with_its_client_s_trace_as_a_span_of_its_own():
    trace = Bench().begin(traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="a=1")
    assert (trace.context.trace_id, trace.parent, trace.context.state) == (TRACE, SPAN, "a=1")
    assert trace.context.span_id != SPAN


@pytest.mark.parametrize(("flags", "ratio", "sampled"), [("01", 0.0, True), ("00", 1.0, False)])
def test_the_client_decides_whether_its_request_is_recorded(flags, ratio, sampled):
    bench = Bench(ratio)
    trace = bench.begin(traceparent=f"00-{TRACE}-{SPAN}-{flags}")
    assert trace.context.sampled is sampled
    bench.tracer.ended(trace, end())
    assert bool(bench.spans) is sampled


@pytest.mark.parametrize(("ratio", "recorded"), [(0.0, 0), (0.25, 250), (1.0, 1000)])
def test_of_other_requests_a_share_is_recorded(ratio, recorded):
    every = (f"{number * 2**64 // 1000:032x}" for number in range(1000))
    tracer = Tracer(ratio, lambda *_: None, Clock(), lambda size: next(every) if size == 16 else "1" * 16)
    assert sum(tracer.begin({}, 0.0, NOW).context.sampled for _ in range(1000)) == recorded


def test_moments_are_told_in_unix_time():
    bench = Bench()
    trace = bench.begin()
    bench.clock.now += 0.125
    trace.asks_admission()
    bench.clock.now += 0.125
    trace.admitted()
    bench.tracer.ended(trace, end())
    began = 1_800_000_000_250_000_000
    root, admit = bench.named("chat my/model"), bench.named("admit")
    assert (root.began_ns, root.ended_ns) == (began, began + 500_000_000)
    assert (admit.began_ns, admit.ended_ns) == (began + 125_000_000, began + 250_000_000)
    assert (admit.parent_id, admit.kind) == (root.span_id, Kind.INTERNAL)


def test_the_provider_is_told_of_the_attempt_that_it_serves():
    trace = Bench().begin(traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="a=1")
    trace.asks("one", "its-name", "host", 80)
    trace.answered("upstream_error", 500)
    trace.asks("two", "its-name", "host", 80)
    ids = [attempt.span_id for attempt in trace.attempts]
    assert len({*ids, trace.context.span_id, SPAN}) == 4
    assert trace.lines() == f"traceparent: 00-{TRACE}-{ids[1]}-01\r\ntracestate: a=1\r\n".encode()


@pytest.mark.parametrize(
    ("how", "error", "failed"),
    [
        (end(), None, False),
        (end(Ending.REFUSED, status=429, code="rate_limit_exceeded"), "rate_limit_exceeded", False),
        (end(Ending.REFUSED, status=503, code="overloaded"), "overloaded", True),
        (end(Ending.UPSTREAM_ERROR, status=502, code="provider_auth"), "provider_auth", True),
        (end(Ending.UPSTREAM_TRUNCATED), "upstream_truncated", True),
        (end(Ending.CANCELLED), "cancelled", True),
        (end(Ending.CLIENT_GONE, status=499), "client_gone", False),
        (end(Ending.CUT), "cut", False),
    ],
)
def test_each_ending_has_its_word_and_only_the_server_s_own_are_failures(how, error, failed):
    bench = Bench()
    bench.tracer.ended(bench.begin(), how)
    (root,) = bench.spans
    assert root.attributes.get("error.type") == error
    assert root.failed is failed


def test_a_finish_reason_that_only_a_provider_knows_is_not_repeated():
    bench = Bench()
    trace = bench.begin()
    trace.finish_reasons = ("stop", "any text \ud800")
    bench.tracer.ended(trace, end())
    assert bench.spans[0].attributes["gen_ai.response.finish_reasons"] == ["stop", "other"]


@pytest.mark.parametrize(("error", "failed"), [(None, False), ("client_gone", False), ("upstream_timeout", True)])
def test_an_attempt_fails_only_by_its_provider(error, failed):
    bench = Bench()
    trace = bench.begin()
    trace.asks("one", "its-name", "host", 80)
    trace.answered(error)
    bench.tracer.ended(trace, end())
    assert bench.named("upstream attempt").failed is failed


def test_an_attempt_whose_end_nobody_saw_ends_with_its_request():
    bench = Bench()
    trace = bench.begin()
    trace.asks("one", "its-name", "host", 80)
    bench.tracer.ended(trace, end())
    assert bench.named("upstream attempt").ended_ns == bench.named("chat my/model").ended_ns


@pytest.mark.parametrize("failure", [None, ValueError("with words that nobody may see"), asyncio.CancelledError()])
async def test_the_settlement_s_span_ends_when_the_store_has_answered(failure):
    bench = Bench()
    trace = bench.begin()
    reply = asyncio.get_running_loop().create_future()
    bench.tracer.settling(trace, reply)
    assert bench.spans == []
    bench.clock.now += 2
    if failure is None:
        reply.set_result(b"OK")
    elif isinstance(failure, asyncio.CancelledError):
        reply.cancel()
    else:
        reply.set_exception(failure)
    await asyncio.sleep(0)
    settle = bench.named("settle")
    assert settle.ended_ns - settle.began_ns == 2_000_000_000
    assert settle.parent_id == trace.context.span_id
    assert settle.attributes == ({} if failure is None else {"error.type": type(failure).__name__})
