"""Traces: what a collector gets of requests that end in all their ways, what providers are told, and that no request
waits for any of it.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_process import Gateway, eventually
from provider_scripts import completion, failing, role, talking, usage, whole, word
from raw_client import chat_body, request_bytes
from trace_collector import Span, TraceCollector

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{'1' * 32}-{SPAN}-00"
SECRET = "a-prompt-that-nobody-may-see"


@pytest.fixture(scope="module")
def collector() -> Iterator[TraceCollector]:
    collector = TraceCollector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def shared_gateway(make_gateway, collector) -> Iterator[Gateway]:
    gateway = tracing(make_gateway, collector.url)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, gateway.log.read_text()[-4000:]
    assert "Traceback" not in gateway.log.read_text(), gateway.log.read_text()[-8000:]


def tracing(make_gateway, endpoint: str | None, more: str = "") -> Gateway:
    at = "" if endpoint is None else f', endpoint: "{endpoint}"'
    gateway = make_gateway(more=f"tracing: {{enabled: true{at}{more}}}\nmetrics: {{genai: true}}\n")
    gateway.environ = {name: value for name, value in gateway.environ.items() if not name.startswith("OTEL_")}
    gateway.environ["OTEL_BSP_SCHEDULE_DELAY"] = "50"
    return gateway


def ask(gateway, key, model: str = "same", parent: str | None = None, state: str | None = None, **more):
    body = chat_body(model, SECRET, **more)
    with gateway.client() as client:
        return client.ask(
            request_bytes("POST", "/v1/chat/completions", body, key=key.secret, traceparent=parent, tracestate=state)
        )


def spans_of(collector: TraceCollector, request_id: str, names: list[str]) -> dict[str, Span]:
    """The spans of a request by their names, once there are as many."""
    assert eventually(lambda: len(collector.of_request(request_id)) >= len(names)), [
        span.name for span in collector.of_request(request_id)
    ]
    spans = collector.of_request(request_id)
    assert sorted(span.name for span in spans) == sorted(names)
    return {span.name: span for span in spans}


def told(provider, name: str = "traceparent") -> list[str | None]:
    """What providers were told in a header, request by request."""
    return [dict(exchange.headers).get(name) for exchange in provider.asked()]


WHOLE = ["admit", "chat same", "settle", "upstream attempt"]
STREAM = [*WHOLE, "stream"]


def test_a_request_is_one_span_with_its_admission_its_attempt_and_its_settlement_below(
    gateway, provider, key, collector
):
    provider.on("main", whole("Hello.", usage(10, 5, 4)))
    answer = ask(gateway, key)
    spans = spans_of(collector, answer.request_id, WHOLE)
    root = spans.pop("chat same")
    assert (root.kind, root.parent_id, root.failed) == ("server", "", False)
    assert {span.parent_id for span in spans.values()} == {root.span_id}
    assert root.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "main",
        "gen_ai.request.model": "same",
        "gen_ai.request.stream": False,
        "gen_ai.response.model": "same",
        "gen_ai.response.id": "chatcmpl-upstream-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "aion.request_id": answer.request_id,
        "aion.account": key.account,
        "aion.key_id": key.key_id,
        "aion.ending": "complete",
        "aion.usage_source": "upstream",
        "aion.cost_usd": gateway.request_line(answer.request_id)["cost_usd"],
    }
    attempt = spans["upstream attempt"]
    assert (attempt.kind, attempt.failed) == ("client", False)
    assert attempt.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "main",
        "gen_ai.request.model": "same",
        "server.address": "127.0.0.1",
        "server.port": provider.port,
        "http.request.method": "POST",
    }
    assert root.resource["service.name"] == "aion-proxy"
    assert collector.paths == {"/v1/traces"}


def test_each_part_lies_where_it_happened(gateway, provider, key, collector):
    provider.on("main", talking(["Once", " more."], usage(10, 5)))
    answer = ask(gateway, key, stream=True)
    spans = spans_of(collector, answer.request_id, STREAM)
    root, admit, attempt = spans["chat same"], spans["admit"], spans["upstream attempt"]
    stream, settle = spans["stream"], spans["settle"]
    assert root.began <= admit.began <= admit.ended <= attempt.began <= stream.began <= stream.ended == root.ended
    assert attempt.began <= attempt.ended <= root.ended <= settle.ended
    line = gateway.request_line(answer.request_id)
    assert abs((root.ended - root.began) / 1e6 - line["duration_ms"]) < 0.01
    assert abs((stream.began - root.began) / 1e6 - line["ttft_ms"]) < 0.01
    assert root.attributes["gen_ai.request.stream"] is True
    assert root.attributes["gen_ai.response.finish_reasons"] == ["stop"]


def test_a_client_s_trace_is_gone_on_with_and_the_provider_s_work_hangs_below_the_attempt(
    gateway, provider, key, collector
):
    provider.on("main", whole())
    answer = ask(gateway, key, parent=PARENT, state="vendor=1, other=x")
    spans = spans_of(collector, answer.request_id, WHOLE)
    root, attempt = spans["chat same"], spans["upstream attempt"]
    assert (root.trace_id, root.parent_id, root.state) == (TRACE, SPAN, "vendor=1,other=x")
    assert told(provider) == [f"00-{TRACE}-{attempt.span_id}-01"]
    assert told(provider, "tracestate") == ["vendor=1,other=x"]


@pytest.mark.parametrize("bad", [f"00-{TRACE}-{SPAN}", f"00-{'0' * 32}-{SPAN}-01", PARENT.upper(), "", "nonsense"])
def test_a_client_s_bad_header_begins_a_new_trace(gateway, provider, key, collector, bad):
    provider.on("main", whole())
    answer = ask(gateway, key, parent=bad, state="vendor=1")
    spans = spans_of(collector, answer.request_id, WHOLE)
    root, attempt = spans["chat same"], spans["upstream attempt"]
    assert root.trace_id != TRACE
    assert root.parent_id == ""
    assert told(provider) == [f"00-{root.trace_id}-{attempt.span_id}-01"]
    assert told(provider, "tracestate") == [None]


def test_two_parents_are_none(gateway, provider, key, collector):
    provider.on("main", whole())
    body = chat_body("same")
    head = request_bytes("POST", "/v1/chat/completions", body, key=key.secret, traceparent=PARENT)
    twice = head.replace(b"traceparent:", f"traceparent: 00-{TRACE}-{'1' * 16}-01\r\ntraceparent:".encode(), 1)
    with gateway.client() as client:
        answer = client.ask(twice)
    assert spans_of(collector, answer.request_id, WHOLE)["chat same"].trace_id != TRACE


def test_a_client_that_does_not_record_is_obeyed_and_its_trace_still_passed_on(gateway, provider, key, collector):
    provider.on("main", whole())
    silent = ask(gateway, key, parent=UNSAMPLED)
    later = ask(gateway, key)
    spans_of(collector, later.request_id, WHOLE)
    assert collector.of_request(silent.request_id) == []
    trace_id, span_id, flags = (told(provider)[0] or "").split("-")[1:]
    assert (trace_id, flags) == ("1" * 32, "00")
    assert span_id != SPAN


def test_each_attempt_has_a_span_and_tells_its_provider_of_it(gateway, provider, key, collector):
    provider.on("main", failing(500))
    provider.on("second", whole())
    answer = ask(gateway, key, "main-then-second")
    assert eventually(lambda: len(collector.of_request(answer.request_id)) >= 5)
    spans = collector.of_request(answer.request_id)
    first, second = sorted((span for span in spans if span.name == "upstream attempt"), key=lambda span: span.began)
    assert (first.failed, second.failed) == (True, False)
    assert first.attributes["error.type"] == "upstream_error"
    assert first.attributes["http.response.status_code"] == 500
    assert (first.attributes["gen_ai.provider.name"], first.attributes["gen_ai.request.model"]) == ("main", "m1")
    assert (second.attributes["gen_ai.provider.name"], second.attributes["gen_ai.request.model"]) == ("second", "m2")
    assert second.attributes["http.request.resend_count"] == 1
    assert [(parent or "").split("-")[2] for parent in told(provider)] == [first.span_id, second.span_id]
    (root,) = [span for span in spans if span.kind == "server"]
    assert not root.failed
    assert root.attributes["gen_ai.response.model"] == "m2"


def test_one_that_every_provider_fails_is_a_failure(gateway, provider, key, collector):
    provider.on("main", failing(500))
    answer = ask(gateway, key)
    assert answer.status == 502
    root = spans_of(collector, answer.request_id, WHOLE)["chat same"]
    assert root.failed
    assert root.attributes["error.type"] == "upstream_error"
    assert root.attributes["http.response.status_code"] == 502
    assert "gen_ai.response.model" not in root.attributes


def test_one_that_its_limits_refuse_has_its_admission_and_no_attempt(gateway, provider, collector):
    key = gateway.new_key(requests_per_minute=1)
    provider.on("main", whole())
    ask(gateway, key)
    answer = ask(gateway, key)
    assert answer.status == 429
    spans = spans_of(collector, answer.request_id, ["chat same", "admit"])
    assert spans["chat same"].attributes["error.type"] == "rate_limit_exceeded"
    assert spans["chat same"].attributes["http.response.status_code"] == 429
    assert not spans["chat same"].failed  # the server did what it should
    assert spans["admit"].attributes == {"error.type": "rate_limit_exceeded"}


def test_one_that_is_refused_before_is_one_span(gateway, key, collector):
    answer = ask(gateway, key, "no-such-model")
    assert answer.status == 400
    assert spans_of(collector, answer.request_id, ["chat"])["chat"].attributes["error.type"] == "model_not_found"


def test_one_without_a_good_key_leaves_no_trace(gateway, provider, key, collector):
    body = chat_body("same")
    with gateway.client() as client:
        stranger = client.ask(request_bytes("POST", "/v1/chat/completions", body, key="sk-x", traceparent=PARENT))
    assert stranger.status == 401
    provider.on("main", whole())
    spans_of(collector, ask(gateway, key).request_id, WHOLE)
    assert collector.of_request(stranger.request_id) == []


def test_a_client_that_leaves_in_the_middle_is_told_of(gateway, provider, key, collector):
    def script(exchange):
        exchange.start_stream()
        exchange.chunk(role() + word("Once"))
        exchange.wait_gone()

    provider.on("main", script)
    with gateway.client() as client:
        body = chat_body("same", stream=True)
        client.send(request_bytes("POST", "/v1/chat/completions", body, key=key.secret))
        client.head()
        client.body_until(b"Once")
    request_id = gateway.only_line_of(key)["request_id"]
    spans = spans_of(collector, request_id, STREAM)
    assert spans["chat same"].attributes["aion.ending"] == "client_gone"
    assert {spans[name].attributes["error.type"] for name in ("chat same", "stream", "upstream attempt")} == {
        "client_gone"
    }
    assert not any(span.failed for span in spans.values())


def test_a_stream_that_breaks_off_is_a_failure_of_its_attempt(gateway, provider, key, collector):
    def script(exchange):
        exchange.start_stream()
        exchange.chunk(role() + word("Once"))
        exchange.close()

    provider.on("main", script)
    spans = spans_of(collector, ask(gateway, key, stream=True).request_id, STREAM)
    assert spans["chat same"].failed
    assert spans["upstream attempt"].failed
    assert spans["upstream attempt"].attributes["error.type"] == "upstream_truncated"
    assert spans["stream"].attributes["error.type"] == "upstream_truncated"


def test_responses_are_traced_as_chats_are(gateway, provider, key, collector):
    provider.on("main", whole())
    with gateway.client() as client:
        body = b'{"model":"same","input":"Hi."}'
        answer = client.ask(request_bytes("POST", "/v1/responses", body, key=key.secret))
    assert answer.status == 200
    assert spans_of(collector, answer.request_id, WHOLE)["chat same"].attributes["http.route"] == "/v1/responses"


def test_no_trace_holds_a_prompt_an_answer_or_a_key(gateway, provider, key, collector):
    provider.on("main", lambda exchange: exchange.answer(completion("an-answer-nobody-may-see", usage(3, 3))))
    spans_of(collector, ask(gateway, key).request_id, WHOLE)
    provider.on("main", failing(400, "the words of a provider"))
    spans_of(collector, ask(gateway, key).request_id, WHOLE)
    seen = b"".join(collector.bodies)
    secrets = (SECRET, "an-answer-nobody-may-see", "the words of a provider", key.secret, "prov-key")
    assert not [secret for secret in secrets if secret.encode() in seen]


def test_what_was_sent_is_counted(gateway, provider, key, collector):
    provider.on("main", whole())
    before = gateway.metric("aion_trace_spans_total", outcome="exported")
    spans_of(collector, ask(gateway, key).request_id, WHOLE)
    assert eventually(lambda: gateway.metric("aion_trace_spans_total", outcome="exported") >= before + 4)


def test_a_gateway_that_stops_sends_what_it_has(make_gateway, provider, collector):
    gateway = tracing(make_gateway, None)
    gateway.environ |= {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                        "OTEL_SERVICE_NAME": "another-name"}  # fmt: skip
    gateway.start()
    provider.on("main", whole())
    answer = ask(gateway, gateway.new_key())
    assert gateway.stop() == 0
    assert spans_of(collector, answer.request_id, WHOLE)["chat same"].resource["service.name"] == "another-name"


@pytest.mark.parametrize("away", ["refuses", "is silent", "says 503"])
def test_a_collector_that_is_away_costs_spans_and_no_request(make_gateway, provider, away):
    deaf = TraceCollector()
    deaf.status = 503
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if away == "is silent":
            silent.listen()  # connections are made, and nobody ever takes one
        url = deaf.url if away == "says 503" else f"http://127.0.0.1:{silent.getsockname()[1]}"
        gateway = tracing(make_gateway, url)
        gateway.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "1"
        gateway.start()
        key = gateway.new_key()
        provider.on("main", talking(["Hello."], usage(10, 5)))
        assert [ask(gateway, key, stream=stream).status for stream in (False, True)] == [200, 200]
        assert eventually(lambda: gateway.metric("aion_trace_spans_total", outcome="failed") >= 1)
        warning = gateway.wait_logged("the collector takes no traces, so they are lost; requests go on")
        assert "/v1/traces" not in warning["detail"]
        assert ask(gateway, key).status == 200
        assert gateway.stop() == 0
        deaf.close()
    text = gateway.log.read_text()
    assert "Traceback" not in text
    assert [line for line in text.splitlines() if not line.startswith("{")] == []


def test_a_share_of_none_records_none_but_those_that_clients_record(make_gateway, provider, collector):
    gateway = tracing(make_gateway, collector.url, ", sample_ratio: 0")
    gateway.start()
    key = gateway.new_key()
    provider.on("main", whole())
    unseen, seen = ask(gateway, key), ask(gateway, key, parent=f"00-{'2' * 32}-{SPAN}-01")
    assert gateway.stop() == 0
    assert collector.of_request(seen.request_id)
    assert not collector.of_request(unseen.request_id)
    assert [(parent or "").rpartition("-")[2] for parent in told(provider)] == ["00", "01"]


def test_the_genai_families_tell_the_same_as_ours(gateway, provider, key):
    provider.on("second", talking(["Once", " more."], usage(10, 5)))
    labels = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "second", "gen_ai_request_model": "second"}
    ask(gateway, key, "second", stream=True)
    assert eventually(lambda: gateway.metric("gen_ai_server_request_duration_seconds_count", **labels) == 1)
    tokens = {kind: gateway.metric("gen_ai_client_token_usage_sum", gen_ai_token_type=kind, **labels)
              for kind in ("input", "output")}  # fmt: skip
    assert tokens == {"input": 10, "output": 5}
    for name in ("client_operation_duration", "server_time_to_first_token", "server_time_per_output_token"):
        assert gateway.metric(f"gen_ai_{name}_seconds_count", **labels) == 1


def has_loaded_the_library(gateway) -> bool:
    """Whether the worker has loaded what OTLP is written with, the one part of it that the system knows of."""
    (worker,) = gateway.workers()
    return "google/_upb" in Path(f"/proc/{worker}/maps").read_text("utf-8")


def test_a_gateway_that_traces_has_loaded_the_library(gateway):
    assert has_loaded_the_library(gateway)


def test_a_gateway_that_does_not_trace_passes_nothing_on_and_loads_nothing(make_gateway, provider):
    gateway = make_gateway()
    gateway.start()
    provider.on("main", whole())
    ask(gateway, gateway.new_key(), parent=PARENT, state="vendor=1")
    (exchange,) = provider.asked()
    assert not {name for name, _ in exchange.headers} & {"traceparent", "tracestate"}
    assert not has_loaded_the_library(gateway)
    assert b"gen_ai_" not in gateway.admin_page("/metrics")[1]
    assert gateway.stop() == 0
