"""Two workers behind one address: every limit and every word of the operator is shared, and one may die."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from gateway_process import Gateway, eventually, is_alive
from provider_scripts import completion, usage, whole
from raw_client import chat, request_bytes

from proxy.health import OwnMetrics, metrics_page


@pytest.fixture(scope="module")
def two_workers(make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    gateway = make_gateway()
    gateway.start("--workers", "2")
    yield gateway
    assert gateway.stop() == 0, gateway.log.read_text()[-4000:]
    assert "Traceback" not in gateway.log.read_text()


@pytest.fixture
def pair(two_workers: Gateway, provider) -> Gateway:
    """The two workers, both there."""
    assert eventually(lambda: len(two_workers.workers()) == 2)
    assert eventually(two_workers.ready)
    return two_workers


def one_connection_each(gateway: Gateway, stack: ExitStack, key):
    """An open connection to each of the two workers; which one took a connection is told by its log."""
    found = {}
    for _ in range(200):
        client = stack.enter_context(gateway.client())
        answer = client.ask(chat(key.secret))
        found.setdefault(gateway.request_line(answer.request_id)["worker"], client)
        if len(found) == 2:
            return found[0], found[1]
    pytest.fail("one of the workers takes no connections")


def test_both_take_connections_and_share_the_limit_of_requests(pair, provider):
    provider.on("main", whole())
    key = pair.new_key(requests_per_minute=10)
    free = pair.new_key()
    with ExitStack() as stack:
        clients = one_connection_each(pair, stack, free)
        found = [clients[number % 2].ask(chat(key.secret)).status for number in range(14)]
    assert found == [200] * 10 + [429] * 4


def test_they_share_the_limit_of_concurrent_requests(pair, provider):
    provider.on("main", whole())
    key, free = pair.new_key(concurrent_requests=1), pair.new_key()
    go = threading.Event()

    def held(exchange):
        exchange.wait(go)
        exchange.answer(completion("Hi.", usage(3, 1)))

    with ExitStack() as stack:
        one, two = one_connection_each(pair, stack, free)
        asked = len(provider.asked())
        provider.on("main", held)
        one.send(chat(key.secret))
        provider.wait_asked(asked + 1)
        assert two.ask(chat(key.secret)).error["code"] == "concurrency_limit"
        go.set()
        assert one.answer().status == 200
        key.settled()
        assert two.ask(chat(key.secret)).status == 200


def test_a_budget_is_spent_once_by_both(pair, provider):
    """Many at once on both; what was let in is exactly what was paid for, and never more than there was."""
    key = pair.new_key(budget_nusd=200_000, budget_per="total")
    provider.on("main", whole("Hello.", usage(5, 5)))
    found = []
    threads = [threading.Thread(target=lambda: found.append(key.ask(max_tokens=5).status)) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(found) <= {200, 429}
    assert key.settled().spent_nusd == found.count(200) * 12_000 <= 200_000
    assert found.count(200) >= 1


def test_a_key_that_one_has_seen_good_is_refused_by_both_once_it_is_revoked(pair, provider):
    provider.on("main", whole())
    key = pair.new_key()
    with ExitStack() as stack:
        clients = one_connection_each(pair, stack, key)
        pair.command("keys", "revoke", key.key_id)
        assert [client.ask(chat(key.secret)).status for client in clients] == [401, 401]


def test_one_that_is_killed_is_replaced_and_the_other_goes_on(pair, provider):
    provider.on("main", whole())
    free = pair.new_key()
    restarts = pair.metric("aion_worker_restarts")
    before = pair.metric("aion_requests_total", endpoint="chat", status="200")
    with ExitStack() as stack:
        one_connection_each(pair, stack, free)
        served = sum(line["status"] == 200 for line in pair.lines_of(free))
        assert eventually(lambda: pair.metric("aion_requests_total", endpoint="chat", status="200") == before + served)
        victim, other = pair.workers()
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: not is_alive(victim))
        assert pair.ready()
        assert eventually(lambda: len(pair.workers()) == 2)
    assert other in pair.workers()
    pair.wait_logged("a worker died and is replaced")
    assert eventually(lambda: pair.metric("aion_worker_restarts") == restarts + 1)
    with ExitStack() as stack:
        one_connection_each(pair, stack, free)  # the new one serves
    assert pair.metric("aion_requests_total", endpoint="chat", status="200") >= before + served
    assert eventually(lambda: pair.metric("aion_in_flight_requests") == 0)


def test_what_a_killed_one_had_counted_stays_on_the_page(pair, provider):
    with pair.client() as client:
        client.ask(request_bytes("GET", "/v1/models"))
    assert eventually(lambda: pair.metric("aion_requests_total", endpoint="models") >= 1)
    counted = pair.metric("aion_requests_total", endpoint="models")
    for pid in pair.workers():
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda pid=pid: not is_alive(pid))

    def are_back() -> bool:
        assert pair.admin_page("/metrics")[0] == 200  # also while their files are being made
        return len(pair.workers()) == 2 and pair.ready()

    assert eventually(are_back)
    assert pair.metric("aion_requests_total", endpoint="models") == counted


def test_a_file_of_counters_that_was_just_made_does_not_cost_the_page(tmp_path):
    """A worker makes its file first and writes to it a moment later."""
    (tmp_path / "counter_0.db").touch()
    assert b"aion_build_info" in metrics_page(OwnMetrics("1.0"), tmp_path)
