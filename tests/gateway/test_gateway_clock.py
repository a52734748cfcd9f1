"""A gateway whose clock jumps by an hour while requests run: no timer rings early or never, and limits do not move."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from gateway_process import Gateway, eventually
from held_stream import Held, begin
from provider_scripts import usage, whole
from raw_client import chat

from tests.conftest import debian_redis, own_clock, put_clock
from tests.stores.redis_servers import single

HOUR = 3600
COST = 10 * 800 + 5 * 1600
HELD_COST = 7 * 800 + 3 * 1600


@dataclass(frozen=True)
class Clocked:
    """A gateway and the file that sets its clock."""

    gateway: Gateway
    clock: Path

    def jump(self, seconds: int) -> None:
        """Put its clock so far from the real time, and see that it has noticed."""
        put_clock(self.clock, seconds)
        assert eventually(lambda: abs(self._ahead() - seconds) < HOUR / 2)

    def _ahead(self) -> float:
        with self.gateway.client() as client:
            request_id = client.ask(chat("sk-aion-nonsense")).request_id
        return int(request_id.removeprefix("req_")[:12], 16) / 1000 - time.time()


@pytest.fixture(scope="module")
def shared(make_gateway: Callable[..., Gateway], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocked]:
    """A gateway with a clock of its own; its store keeps the real time."""
    folder = tmp_path_factory.mktemp("clocked")
    clock = folder / "clock"
    put_clock(clock, 0)
    with single(debian_redis(), folder / "store") as store:
        gateway = make_gateway(more=f'store: "redis://127.0.0.1:{store.port}"\n')
        gateway.store_url = f"redis://127.0.0.1:{store.port}"
        gateway.environ |= own_clock(clock)
        gateway.start()
        assert eventually(gateway.ready)
        yield Clocked(gateway, clock)
        assert gateway.stop() == 0
        assert "Traceback" not in gateway.log.read_text(), gateway.log.read_text()[-4000:]


@pytest.fixture
def clocked(shared: Clocked) -> Clocked:
    shared.jump(0)
    return shared


jumps = pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "back"])


@jumps
def test_what_runs_goes_on_and_what_comes_is_limited_by_the_time_of_the_store(clocked, provider, seconds):
    key, script = clocked.gateway.new_key(requests_per_minute=2), Held()
    provider.on("main", script, whole("Hello.", usage(10, 5)))
    with clocked.gateway.client() as client:
        begin(client, key)
        clocked.jump(seconds)
        assert key.use().in_flight == 1
        assert key.ask().status == 200
        refused = key.ask()
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert int(refused.header("Retry-After")) <= 60
        script.go.set()
        client.stream_rest()

    use = key.settled()
    assert (use.spent_nusd, use.held_nusd) == (COST + HELD_COST, 0)
    assert eventually(lambda: len(clocked.gateway.lines_of(key)) == 3)
    assert [line["duration_ms"] < HOUR * 500 for line in clocked.gateway.lines_of(key)] == [True] * 3


@jumps
def test_a_provider_that_falls_silent_is_still_given_up(clocked, provider, seconds):
    key = clocked.gateway.new_key()
    provider.on("quick", Held())
    with clocked.gateway.client() as client:
        client.send(chat(key.secret, "quick", stream=True))
        client.head()
        client.body_until(b"Once")
        put_clock(clocked.clock, seconds)
        client.body_until(b"upstream_timeout")
    clocked.jump(seconds)
    assert key.settled().held_nusd == 0


def test_a_clock_that_jumps_to_and_fro_loses_no_request_in_the_ledger(clocked, provider):
    key = clocked.gateway.new_key()
    provider.on("main", whole("Hello.", usage(10, 5)))
    for seconds in (0, HOUR, -HOUR, 0):
        clocked.jump(seconds)
        assert key.ask().status == 200
    assert key.settled().spent_nusd == 4 * COST

    def rows() -> int:
        return clocked.gateway.command("usage", "--account", key.account)["total"]["requests"]

    assert eventually(lambda: rows() == 4), rows()
