"""A store that is away while the gateway goes on: who is served, by how much, and that all of it is charged afterwards.

The store is a redis-server of the test's own, so that it can be killed, stopped and started again under the gateway.
"""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from gateway_process import Gateway, eventually, is_alive
from held_stream import Held, begin
from provider_scripts import usage, whole
from raw_client import chat

from proxy.accounts import mint_key
from proxy.stores.embedded import EmbeddedStore
from tests.conftest import debian_redis

COST = 10 * 800 + 5 * 1600
"""nUSD that every answer of these tests costs."""
STRANGER = mint_key("stranger", bytes(range(32)))


class Outage:
    """A gateway and the store under it."""

    def __init__(self, gateway: Gateway, store: EmbeddedStore) -> None:
        self.gateway = gateway
        self.store = store
        gateway.store_url = store.url
        self._stopped: int | None = None

    def kill(self) -> None:
        """Take the store away: every connection to it is refused."""
        pid = self.store.pid
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not self.store.alive())
        assert eventually(lambda: self.gateway.metric("aion_store_up") == 0)

    def silence(self) -> None:
        """Have the store take every byte and answer none."""
        self._stopped = self.store.pid
        os.kill(self._stopped, signal.SIGSTOP)

    def back(self) -> None:
        """Have the store back with all that it knew; returns when the gateway has noticed."""
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            os.kill(stopped, signal.SIGCONT)
        self.store.restart()
        assert eventually(lambda: self.gateway.metric("aion_store_up") == 1)


@pytest.fixture(scope="module")
def outages(
    make_gateway: Callable[..., Gateway], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Outage]]:
    """Start a gateway of some policy and number of workers on a store of its own, once for each kind."""
    made: dict[tuple[str, int], Outage] = {}

    def outage(policy: str = "degrade", workers: int = 1) -> Outage:
        if (policy, workers) not in made:
            store = EmbeddedStore.start(tmp_path_factory.mktemp("redis"), binary=debian_redis())
            gateway = make_gateway(more=f"store: {store.url}\non_store_outage: {policy}\n")
            made[policy, workers] = Outage(gateway, store)
            gateway.start("--workers", str(workers))
        return made[policy, workers]

    yield outage
    for outage in made.values():
        code = outage.gateway.stop()
        outage.store.stop(0)
        log = outage.gateway.log.read_text()
        assert code == 0, log[-4000:]
        assert "Traceback" not in log
        assert not [line for line in outage.gateway.lines() if line["event"] == "bug"], log[-4000:]


@pytest.fixture
def outage(outages: Callable[..., Outage], provider) -> Iterator[Outage]:
    """One worker that goes on alone; its store is there again when the test is over."""
    provider.on("main", whole("Hello.", usage(10, 5)))
    yield outages()
    outages().back()


@pytest.fixture
def refusing(outages: Callable[..., Outage], provider) -> Iterator[Outage]:
    """One worker that refuses."""
    provider.on("main", whole("Hello.", usage(10, 5)))
    yield outages("refuse")
    outages("refuse").back()


def known(outage: Outage, **limits: int | str):
    """A key of an account of its own, which the store has called good."""
    key = outage.gateway.new_key(**limits)
    assert key.ask(max_tokens=5).status == 200
    key.settled()
    return key


def refused_for_now(answer) -> None:
    """The one answer to what only the store could decide: never a 401, after which clients throw keys away."""
    assert (answer.status, answer.error["type"], answer.error["code"]) == (503, "internal_error", "overloaded"), answer
    assert int(answer.header("Retry-After")) >= 1
    assert int(answer.header("retry-after-ms")) >= 1


class TestRefusing:
    def test_keys_known_or_not_are_told_to_come_back(self, refusing):
        key = known(refusing)
        before = refusing.gateway.metric("aion_refused_total", reason="store_unavailable")
        refusing.kill()
        for secret in (key.secret, STRANGER):
            with refusing.gateway.client() as client:
                refused_for_now(client.ask(chat(secret)))
        refused = "aion_refused_total"
        assert eventually(lambda: refusing.gateway.metric(refused, reason="store_unavailable") == before + 2)
        assert refusing.gateway.metric("aion_local_admissions_total") == 0
        refusing.back()
        assert key.ask().status == 200
        assert key.settled().spent_nusd == 2 * COST

    def test_it_is_not_ready_and_says_why(self, refusing):
        refusing.kill()
        status, page = refusing.gateway.admin_page("/readyz")
        assert status == 503
        assert refusing.store.path.name.encode() in page
        line = [line for line in refusing.gateway.lines() if line["event"] == "store is away"][-1]
        assert line["degraded"] is False


class TestGoingOn:
    @pytest.mark.parametrize("away", [Outage.kill, Outage.silence])
    def test_a_known_key_is_served_and_charged_when_the_store_is_back(self, outage, away):
        key = known(outage)
        before = outage.gateway.metric("aion_local_admissions_total")
        away(outage)
        assert [key.ask().status for _ in range(5)] == [200] * 5
        assert outage.gateway.metric("aion_store_up") == 0
        assert eventually(lambda: outage.gateway.metric("aion_local_admissions_total") == before + 5)
        outage.back()
        assert key.ask().status == 200
        assert eventually(lambda: key.use().spent_nusd == 7 * COST)
        assert (key.settled().held_nusd, key.settled().spent_nusd) == (0, 7 * COST)

    def test_an_unknown_key_is_told_to_come_back_and_a_malformed_one_is_still_wrong(self, outage):
        fresh = outage.gateway.new_key()
        outage.kill()
        for secret in (STRANGER, fresh.secret):
            with outage.gateway.client() as client:
                refused_for_now(client.ask(chat(secret)))
        with outage.gateway.client() as client:
            assert client.ask(chat("sk-aion-nonsense")).status == 401
        outage.back()
        assert fresh.ask().status == 200
        with outage.gateway.client() as client:
            assert client.ask(chat(STRANGER)).status == 401

    def test_a_key_that_was_revoked_before_is_refused_once_the_store_can_say_so(self, outage):
        key = known(outage)
        outage.gateway.command("keys", "revoke", key.key_id)
        assert key.ask().status == 401
        outage.kill()
        refused_for_now(key.ask())

    def test_it_is_ready_and_says_what_is_wrong(self, outage):
        known(outage)
        outage.kill()
        status, page = outage.gateway.admin_page("/readyz")
        assert status == 200
        assert b'"ready": true' in page
        assert outage.store.path.name.encode() in page
        assert b"served within a share of their limits" in page
        line = [line for line in outage.gateway.lines() if line["event"] == "store is away"][-1]
        assert (line["degraded"], line["gateways"]) == (True, 1)
        outage.back()
        assert outage.gateway.admin_page("/readyz") == (200, b'{"ready": true, "reasons": []}')

    def test_the_requests_of_a_minute_are_no_more_than_the_limit_before_during_and_after(self, outage):
        key = outage.gateway.new_key(requests_per_minute=8)
        statuses = [key.ask().status for _ in range(3)]
        outage.kill()
        answers = [key.ask() for _ in range(8)]
        statuses += [answer.status for answer in answers]
        refusal = answers[-1]
        assert (refusal.status, refusal.error["code"]) == (429, "rate_limit_exceeded")
        assert "requests_per_minute is 8, 0 left" in refusal.error["message"]
        assert int(refusal.header("Retry-After")) <= 8
        assert [answers[0].header(f"x-ratelimit-{what}-requests") for what in ("limit", "remaining")] == ["8", "4"]
        outage.back()
        assert eventually(lambda: key.use().spent_nusd == 8 * COST)
        statuses.append(key.ask().status)
        assert statuses == [200] * 8 + [429] * 4

    def test_open_streams_count_among_concurrent_requests_and_are_held_in_the_store_when_it_is_back(
        self, outage, provider
    ):
        key, first, second = known(outage, concurrent_requests=2), Held(), Held()
        provider.on("main", first, second, whole("Hello.", usage(10, 5)))
        with outage.gateway.client() as one, outage.gateway.client() as two:
            begin(one, key)
            outage.kill()
            begin(two, key)
            answer = key.ask()
            assert (answer.status, answer.error["code"]) == (429, "concurrency_limit")
            outage.back()
            assert eventually(lambda: key.use().in_flight == 2)
            answer = key.ask()
            assert (answer.status, answer.error["code"]) == (429, "concurrency_limit")
            for script, client in ((first, one), (second, two)):
                script.go.set()
                client.stream_rest()
        assert key.settled().spent_nusd == COST + 2 * (7 * 800 + 3 * 1600)
        assert key.ask().status == 200

    def test_of_a_budget_a_hundredth_of_what_was_left_may_be_used(self, outage):
        """An answer is held with 5 tokens of output and 20 and some of the prompt, and costs COST."""
        key = known(outage, budget_nusd=100 * 10 * COST, budget_per="total")
        outage.kill()
        answers = [key.ask(max_tokens=5) for _ in range(16)]
        served = sum(answer.status == 200 for answer in answers)
        assert 7 <= served <= 10
        for answer in answers[served:]:
            refused_for_now(answer)
        outage.back()
        assert eventually(lambda: key.use().spent_nusd == (1 + served) * COST)
        assert key.ask(max_tokens=5).status == 200

    def test_an_account_that_had_used_up_its_budget_is_not_served(self, outage):
        key = known(outage, budget_nusd=2 * COST, budget_per="total")
        outage.kill()
        refused_for_now(key.ask(max_tokens=5))

    def test_tokens_of_the_day_have_their_grace_too(self, outage):
        key = known(outage, tokens_per_day=10_000)
        outage.kill()
        assert key.ask(max_tokens=5).status == 200
        refused_for_now(key.ask(max_tokens=900))

    def test_a_worker_that_is_replaced_meanwhile_knows_nobody_and_so_gives_no_grace_again(self, outage):
        key = known(outage, budget_nusd=10**9, budget_per="total")
        outage.kill()
        assert key.ask(max_tokens=5).status == 200
        (worker,) = outage.gateway.workers()
        os.kill(worker, signal.SIGKILL)
        assert eventually(lambda: outage.gateway.workers() not in ([], [worker]))
        assert eventually(lambda: b"is starting" not in outage.gateway.admin_page("/readyz")[1])
        refused_for_now(key.ask(max_tokens=5))
        assert outage.gateway.admin_page("/readyz")[0] == 503
        outage.back()
        assert eventually(lambda: key.ask(max_tokens=5).status == 200)

    def test_a_store_that_comes_and_goes_is_complained_of_once_a_second_at_most(self, outage):
        begun = len(outage.gateway.lines())
        for _ in range(4):
            outage.kill()
            outage.back()
        assert eventually(outage.gateway.ready)
        lines = [line for line in outage.gateway.lines()[begun:] if line["event"] in {"store is away", "store is up"}]
        away = [datetime.fromisoformat(line["timestamp"]) for line in lines if line["event"] == "store is away"]
        assert away
        assert all((later - former).total_seconds() >= 0.99 for former, later in itertools.pairwise(away))
        assert len(lines) <= 2 * len(away)

    def test_a_store_without_memory_is_not_away(self, outage, provider):
        """It refuses what is new and takes what has ended: nothing has to be guessed."""
        key, script = known(outage), Held()
        provider.on("main", script)
        with outage.gateway.client() as client:
            begin(client, key)
            outage.gateway.in_store(lambda store: store.call("CONFIG", "SET", "maxmemory", 1))
            try:
                refused_for_now(key.ask())
                script.go.set()
                client.stream_rest()
                assert key.settled().spent_nusd == COST + 7 * 800 + 3 * 1600
            finally:
                outage.gateway.in_store(lambda store: store.call("CONFIG", "SET", "maxmemory", 0))

    def test_the_policy_can_be_changed_while_it_runs(self, outage):
        key = known(outage)
        config = outage.gateway.config.read_text("utf-8")
        try:
            outage.gateway.config.write_text(config.replace("on_store_outage: degrade", "on_store_outage: refuse"))
            outage.gateway.wait_logged("configuration reloaded")
            outage.kill()
            assert eventually(lambda: key.ask().status == 503)
        finally:
            outage.gateway.config.write_text(config)
        assert eventually(lambda: key.ask().status == 200)


def test_workers_share_what_may_be_let_in(outages, provider):
    provider.on("main", whole("Hello.", usage(10, 5)))
    pair = outages(workers=2)
    assert eventually(lambda: pair.gateway.metric("aion_gateways") == 2)
    key, served, served_by = pair.gateway.new_key(requests_per_minute=60), 0, set()
    begun = time.monotonic()
    while served_by != {0, 1}:
        served += 1
        served_by.add(pair.gateway.request_line(key.ask().request_id)["worker"])
    pair.kill()
    try:
        answers = [key.ask().status for _ in range(90)]
    finally:
        pair.back()
    assert set(answers) == {200, 429}
    served += answers.count(200)
    assert 30 < served <= 60 + (time.monotonic() - begun)  # one comes back each second
    assert eventually(lambda: key.use().spent_nusd == served * COST)


@pytest.mark.parametrize("policy", ["degrade", "refuse"])
def test_under_load_a_store_that_is_killed_again_and_again_costs_no_client_its_key_and_nobody_a_nano_dollar(
    outages, provider, policy
):
    provider.on("main", whole("Hello.", usage(10, 5)))
    outage = outages(policy)
    outage.back()
    assert eventually(outage.gateway.ready)
    worker = outage.gateway.workers()
    keys = [known(outage), known(outage, budget_nusd=10**12, budget_per="month"), known(outage, tokens_per_day=10**9)]
    served, others, done = [1] * len(keys), [], threading.Event()

    def load(number: int) -> None:
        while not done.is_set():
            answer = keys[number].ask()
            if answer.status == 200:
                served[number] += 1
            else:
                refused_for_now(answer)
                others.append(answer.status)

    failures: list[BaseException] = []

    def watched(number: int) -> None:
        try:
            load(number)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=watched, args=(number % len(keys),)) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        for take_away in (outage.kill, outage.silence, outage.kill):
            before = sum(served) + len(others)
            assert eventually(lambda before=before: sum(served) + len(others) > before + 20 or failures)
            take_away()
            before = sum(served) + len(others)
            assert eventually(lambda before=before: sum(served) + len(others) > before + 20 or failures)
            outage.back()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures
    for key, count in zip(keys, served, strict=True):
        assert eventually(lambda key=key, count=count: key.use().spent_nusd == count * COST)
        assert key.settled().held_nusd == 0
        assert key.ask().status == 200
    assert outage.gateway.workers() == worker


def test_a_gateway_that_finds_no_store_at_its_start_waits_for_it(make_gateway, provider, tmp_path):
    provider.on("main", whole("Hello.", usage(10, 5)))
    store = EmbeddedStore.start(tmp_path, binary=debian_redis())
    gateway = make_gateway(more=f"store: {store.url}\n")
    outage = Outage(gateway, store)
    key = gateway.new_key()
    os.kill(store.pid, signal.SIGKILL)
    assert eventually(lambda: not store.alive())
    gateway.start()
    (worker,) = gateway.workers()
    assert gateway.admin_page("/healthz")[0] == 200
    assert gateway.admin_page("/readyz")[0] == 503
    assert gateway.wait_logged("store is away")["detail"]
    refused_for_now(key.ask())
    outage.back()
    assert eventually(gateway.ready)
    assert key.ask().status == 200
    assert is_alive(worker)
    assert gateway.stop() == 0
    store.stop(0)
