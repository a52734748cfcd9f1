"""Providers that cannot be reached, fail, or ask for a pause, and others that can be asked instead: who is asked, how
often, and when again.

Every test has providers and a model of its own, so that what is known of them is its own too.
"""

import json
import socket
import time
from collections.abc import Iterator

import pytest
from gateway_process import eventually
from provider_rows import OWN, Faulty, asked, faulty_gateway, http, on, sending
from provider_scripts import failing, usage, whole
from raw_client import request_bytes

OK = whole(told=usage(10, 5))
PAIRS = ("dead", "limited", "storm", "back", "flaky", "silent", "acting", "reloaded")
NATIVE = {"acting"}
RESPONSE = json.dumps(
    {
        "id": "resp_1", "object": "response", "status": "completed", "model": "x", "created_at": 1,
        "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "Hello.", "annotations": []}]}],
        "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
    }
).encode()  # fmt: skip


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with socket.socket() as closed, socket.socket() as full, socket.socket() as filling:
        closed.bind(("127.0.0.1", 0))
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filling.connect(full.getsockname())
        short = "connect_timeout: 300ms"
        providers = {
            "closed": f'base_url: "http://127.0.0.1:{closed.getsockname()[1]}/v1"',
            "full": f'base_url: "http://127.0.0.1:{full.getsockname()[1]}/v1", {short}',
            "nowhere": f'base_url: "http://no-such-host.invalid/v1", {short}',
            "inside": 'base_url: "{url}"',
            "spare": OWN,
        }
        models = {name: [f"provider: {name}, model: x"] for name in ("closed", "full", "nowhere", "inside")}
        models |= {
            f"{name}-then-spare": [f"provider: {name}, model: x", "provider: spare, model: x, weight: 0"]
            for name in ("closed", "full", "nowhere", "inside")
        }
        for name in PAIRS:
            own = f"{OWN}, native_responses: true" if name in NATIVE else OWN
            providers |= {f"{name}-1": own, f"{name}-2": own}
            models[name] = [f"provider: {name}-1, model: x", f"provider: {name}-2, model: x, weight: 0"]
        models["back"][1] = "provider: back-2, model: x"
        folder = tmp_path_factory.mktemp("failover")
        with faulty_gateway(folder, providers, models) as running:
            yield running


UNREACHED = {"closed": "upstream_unavailable", "full": "upstream_timeout", "inside": "upstream_unavailable"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", [*UNREACHED, "nowhere"])
def test_a_provider_that_cannot_be_reached_is_a_502_and_costs_nothing_u01_u02(faulty, name, stream):
    """It was sent nothing, so the ledger has no row. `inside` is a name that leads to an address of this machine."""
    answer = faulty.ask(name, stream=stream)
    assert (answer.status, answer.error["type"]) == (502, "provider_error")
    assert answer.error["code"] in (UNREACHED.get(name), *(() if name in UNREACHED else UNREACHED.values()))
    traces = faulty.traces(answer.request_id, row=False)
    assert (traces.ending, traces.attempts, traces.row) == ("upstream_error", 1, None)
    assert asked(faulty, name) == 0


@pytest.mark.parametrize("name", [*UNREACHED, "nowhere"])
def test_the_next_is_asked_in_its_place_u01_u02(faulty, name):
    on(faulty, "spare", OK)
    answer = faulty.ask(f"{name}-then-spare")
    assert answer.status == 200
    traces = faulty.traces(answer.request_id)
    assert traces.ending == "complete"
    assert (traces.row["provider"], traces.row["completion_tokens"]) == ("spare", 5)


def test_an_address_that_is_not_public_is_told_to_the_operator(faulty):
    faulty.ask("inside")
    line = faulty.gateway.wait_logged("upstream attempt failed", provider="inside")
    assert "allow_private" in line["detail"]


def test_a_dead_route_is_passed_over_and_comes_back_by_itself(faulty):
    on(faulty, "dead-1", failing(500))
    on(faulty, "dead-2", OK)
    begin = time.monotonic()
    for _ in range(40):
        assert faulty.ask("dead").status == 200
    seconds = time.monotonic() - begin
    assert 5 <= asked(faulty, "dead-1") <= 5 + seconds + 1, "and then once a second"
    assert asked(faulty, "dead-2") == 40
    gateway = faulty.gateway
    gateway.wait_logged("passed over, because it failed too often", provider="dead-1", upstream_model="x")
    assert eventually(lambda: gateway.metric("aion_upstream_passed_over", provider="dead-1") == 1)
    on(faulty, "dead-1", OK)
    before = asked(faulty, "dead-1")
    assert eventually(lambda: faulty.ask("dead").status == 200 and asked(faulty, "dead-1") > before + 3)
    gateway.wait_logged("asked again, because it answers", provider="dead-1")
    assert eventually(lambda: gateway.metric("aion_upstream_passed_over", provider="dead-1") == 0)


@pytest.mark.parametrize("status", [429, 529])
def test_a_route_that_asks_for_a_pause_is_asked_again_when_it_is_over_u08(faulty, status):
    on(faulty, "limited-1", sending(http(b"{}", "Retry-After: 1", status=f"{status} X")), OK)
    on(faulty, "limited-2", OK)
    before = asked(faulty, "limited-1")
    begin = time.monotonic()
    assert faulty.ask("limited").status == 200
    while asked(faulty, "limited-1") == before + 1:
        assert faulty.ask("limited").status == 200
    assert time.monotonic() - begin >= 1
    answer = faulty.ask("limited")
    assert faulty.traces(answer.request_id).row["provider"] == "limited-1"


def test_while_everything_fails_providers_are_asked_hardly_more_often_than_clients_ask_u07(faulty):
    on(faulty, "storm-1", failing(500))
    on(faulty, "storm-2", failing(503))
    for number in range(60):
        answer = faulty.ask("storm", stream=number % 2 == 0)
        assert (answer.status, answer.error["type"]) == (502, "provider_error")
    assert 60 <= asked(faulty, "storm-1") + asked(faulty, "storm-2") <= 72
    assert faulty.traces(answer.request_id).ending == "upstream_error"


def test_when_everything_is_back_everything_is_served_at_once_u23(faulty):
    for name in ("back-1", "back-2"):
        on(faulty, name, failing(500))
    for _ in range(20):
        assert faulty.ask("back").status == 502
    for name in ("back-1", "back-2"):
        on(faulty, name, OK)
    before = [asked(faulty, name) for name in ("back-1", "back-2")]
    served = 0

    def both_serve() -> bool:
        nonlocal served
        served += faulty.ask("back").status == 200
        return all(asked(faulty, f"back-{number}") > before[number - 1] + 1 for number in (1, 2))

    assert eventually(both_serve)
    now = [asked(faulty, name) for name in ("back-1", "back-2")]
    assert sum(now) - sum(before) == served, "each client's request was one request, and each was served"


def test_a_stream_that_breaks_again_and_again_counts_as_failing(faulty):
    """The status alone makes no good route: what comes after it counts too."""

    def breaking(exchange):
        exchange.start_stream()
        exchange.chunk(b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Once"}}]}\n\n')
        exchange.close()

    on(faulty, "flaky-1", breaking)
    on(faulty, "flaky-2", OK)
    endings = []
    for _ in range(30):
        answer = faulty.ask("flaky", stream=True)
        assert answer.status == 200
        endings.append(b'"error"' in answer.body)
    assert endings.count(True) < 15
    assert asked(faulty, "flaky-2") > 15


def test_a_route_that_is_silent_is_given_up_for_the_next_u03(faulty):
    on(faulty, "silent-1", sending())
    on(faulty, "silent-2", OK)
    answer = faulty.ask("silent")
    assert answer.status == 200
    traces = faulty.traces(answer.request_id)
    assert (traces.attempts, traces.row["provider"], traces.row["attempts"]) == (2, "silent-2", 2)


@pytest.mark.parametrize(
    ("tools", "tried_again"), [([], True), ([{"type": "function", "name": "f"}], True), ([{"type": "mcp"}], False)]
)
def test_what_a_provider_may_have_done_is_not_done_twice(faulty, tools, tried_again):
    """A tool that the provider runs itself may have acted when its answer was lost; a function has not."""
    on(faulty, "acting-1", sending(then="close"))
    on(faulty, "acting-2", sending(http(RESPONSE)))
    before = asked(faulty, "acting-2")
    body = json.dumps({"model": "acting", "input": "Hi.", "tools": tools}).encode()
    key = faulty.gateway.new_key()
    with faulty.gateway.client() as client:
        answer = client.ask(request_bytes("POST", "/v1/responses", body, key=key.secret))
    assert answer.status == (200 if tried_again else 502)
    assert asked(faulty, "acting-2") - before == tried_again


def test_what_a_provider_answers_with_an_error_may_be_asked_elsewhere_whatever_it_can_do(faulty):
    on(faulty, "acting-1", failing(500))
    on(faulty, "acting-2", sending(http(RESPONSE)))
    body = json.dumps({"model": "acting", "input": "Hi.", "tools": [{"type": "mcp"}]}).encode()
    key = faulty.gateway.new_key()
    with faulty.gateway.client() as client:
        assert client.ask(request_bytes("POST", "/v1/responses", body, key=key.secret)).status == 200


def test_another_configuration_begins_anew(faulty):
    """Last, because all that was learned before is forgotten."""
    on(faulty, "reloaded-1", failing(500))
    on(faulty, "reloaded-2", OK)
    for _ in range(10):
        assert faulty.ask("reloaded").status == 200
    gateway = faulty.gateway
    assert eventually(lambda: gateway.metric("aion_upstream_passed_over", provider="reloaded-1") == 1)
    written = gateway.config.read_text("utf-8")
    gateway.config.write_text(written.replace("failover: {}", "failover: {health: false}"), "utf-8")
    gateway.wait_logged("configuration reloaded")
    assert eventually(lambda: gateway.metric("aion_upstream_passed_over", provider="reloaded-1") == 0)
    before = asked(faulty, "reloaded-1")
    for _ in range(10):
        assert faulty.ask("reloaded").status == 200
    assert asked(faulty, "reloaded-1") == before + 10
