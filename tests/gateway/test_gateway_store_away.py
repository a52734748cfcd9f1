"""A store that is killed, or that answers no more, where the operator chose to refuse requests meanwhile: nothing is
admitted, nothing is lost, and it needs nobody's help.
"""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from gateway_process import Gateway, children, command_line, eventually, is_alive
from held_stream import Held, begin
from provider_scripts import usage, whole
from raw_client import request_bytes


@pytest.fixture(scope="module")
def bereft(make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    gateway = make_gateway(more="on_store_outage: refuse\n")
    gateway.start()
    yield gateway
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.log.read_text(), gateway.log.read_text()[-4000:]


@pytest.fixture
def own(bereft: Gateway, provider) -> Gateway:
    """A gateway whose store this test may hurt."""
    assert eventually(bereft.ready)
    return bereft


def store_pid(gateway: Gateway) -> int:
    (pid,) = [pid for pid in children(gateway.process.pid) if b"valkey" in command_line(pid)]
    return pid


def test_a_store_that_is_killed_comes_back_by_itself_with_all_it_knew(own, provider):
    key = own.new_key(requests_per_minute=5)
    provider.on("main", whole("Hello.", usage(10, 5)))
    assert key.ask().status == 200
    key.settled()
    before = store_pid(own)
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: not is_alive(before))
    seen = set()

    def is_served() -> bool:
        answer = key.ask()
        seen.add((answer.status, answer.error["code"] if answer.status != 200 else None))
        return answer.status == 200

    assert eventually(is_served)
    assert seen <= {(200, None), (503, "overloaded")}
    assert key.settled().spent_nusd == 2 * 16_000
    assert key.use(requests_per_minute=5).limits["requests_per_minute"].used == 2
    assert eventually(own.ready)


def test_while_the_store_does_not_answer_nothing_is_admitted_and_readiness_says_why(own, provider):
    key = own.new_key()
    provider.on("main", whole("Hello.", usage(10, 5)))
    assert key.ask().status == 200
    key.settled()
    pid = store_pid(own)
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            answer = key.ask()
            assert (answer.status, answer.error["code"], answer.error["type"]) == (503, "overloaded", "internal_error")
            assert int(answer.header("Retry-After")) >= 1
        assert eventually(lambda: not own.ready())
        assert b"store" in own.admin_page("/readyz")[1]
        assert own.admin_page("/healthz")[0] == 200
        assert own.metric("aion_store_up") == 0
        assert own.metric("aion_refused_total", reason="store_unavailable") >= 2
        with own.client() as client:
            assert client.ask(request_bytes("GET", "/v1/models")).status == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: key.ask().status == 200)
    assert eventually(own.ready)


def test_a_request_that_the_store_did_not_answer_in_time_leaves_nothing_held(own, provider):
    key = own.new_key(concurrent_requests=2)
    provider.on("main", whole("Hello.", usage(10, 5)))
    assert key.ask().status == 200
    key.settled()
    pid = store_pid(own)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert key.ask().status == 503
    finally:
        os.kill(pid, signal.SIGCONT)
    assert eventually(own.ready)
    key.settled()
    assert key.ask().status == 200


def test_what_ends_while_the_store_is_away_is_settled_once_when_it_is_back(own, provider):
    key, script = own.new_key(), Held()
    provider.on("main", script)
    with own.client() as client:
        begin(client, key)
        pid = store_pid(own)
        os.kill(pid, signal.SIGSTOP)
        try:
            script.go.set()
            client.stream_rest()
            own.wait_logged("a settlement waits for the store")
        finally:
            os.kill(pid, signal.SIGCONT)
    assert key.settled().spent_nusd == 7 * 800 + 3 * 1600
