"""A store whose replica takes over after the two were parted: what it never heard of is counted by the ledger."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Self

import pytest
from gateway_process import Gateway, Key, eventually
from held_stream import Held, begin
from provider_scripts import usage, whole
from scripted_provider import PATIENCE

from tests.conftest import debian_redis
from tests.stores.fault_proxy import FaultProxy, fault_proxy
from tests.stores.redis_servers import RedisServer, free_ports, options_of, running, until

COST = 10 * 800 + 5 * 1600
HELD_COST = 7 * 800 + 3 * 1600
UNHEARD = 30
A_FEW_ROUNDS = 60.0
"""Seconds, much longer than the ledger's keeper pauses between two comparisons."""


class Parted:
    """A primary, its replica at the end of a line that can be cut, and the address at which gateways find the store."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(2)
        self.primary, self.replica = (
            RedisServer(debian_redis(), folder / name, options_of(port, appendonly="yes", repl_diskless_sync_delay="0"))
            for name, port in zip(("primary", "replica"), ports, strict=True)
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._proxies = AsyncExitStack()
        self._line: FaultProxy
        self._front: FaultProxy

    def __enter__(self) -> Self:
        self._thread.start()
        self._line, self._front = (
            self._do(self._proxies.enter_async_context(fault_proxy(self.primary.port))) for _ in range(2)
        )
        with self.replica.client() as client:
            client.replicaof("127.0.0.1", self._line.port)
            until(lambda: client.info("replication")["master_link_status"] == "up", "a replica in step")
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._proxies.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return self._front.url

    def in_step(self) -> bool:
        with self.primary.client() as one, self.replica.client() as other:
            return one.info("replication")["master_repl_offset"] == other.info("replication")["slave_repl_offset"]

    def part(self) -> None:
        """From now on the replica hears nothing, and the primary does not know."""
        self._loop.call_soon_threadsafe(self._line.swallow)

    def lose_primary(self) -> None:
        """Let the replica be a primary; gateways do not find it yet."""
        self.primary.kill()
        with self.replica.client() as client:
            client.replicaof("no", "one")

    def take_over(self) -> None:
        """Let gateways find the replica where the primary was."""
        self._front.to_port = self.replica.port
        self._do(self._front.cut())

    def _do(self, work: Coroutine[object, object, FaultProxy | None]) -> FaultProxy | None:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Parted]:
    parted = Parted(tmp_path)
    with running(parted.primary, parted.replica), parted:
        yield parted


def charged(gateway: Gateway, key: Key) -> tuple[int, int]:
    """How many rows the ledger has of an account, and what they cost in nUSD."""
    with closing(sqlite3.connect(f"file:{gateway.data_dir / 'ledger.sqlite'}?mode=ro", uri=True)) as connection:
        query = "SELECT count(*), coalesce(sum(cost_pusd), 0) / 1000 FROM usage WHERE account = ?"
        number, nusd = connection.execute(query, (key.account,)).fetchone()
        return number, nusd


@pytest.mark.timeout(180)
def test_what_the_replica_never_heard_of_is_charged_all_the_same(
    make_gateway: Callable[..., Gateway], provider, store: Parted
):
    gateway = make_gateway(more=f'store: "{store.url}"\n')
    gateway.store_url = store.url
    gateway.start()
    assert eventually(gateway.ready)
    key, before, across = gateway.new_key(), Held(), Held()
    provider.on("main", whole("Hello.", usage(10, 5)), before, across, *[whole("Hello.", usage(10, 5))] * (UNHEARD + 1))
    with gateway.client() as one, gateway.client() as other:
        assert key.ask().status == 200
        assert key.settled().spent_nusd == COST
        begin(one, key)
        assert eventually(store.in_step)
        store.part()
        begin(other, key)
        before.go.set()
        one.stream_rest()
        assert [key.ask().status for _ in range(UNHEARD)] == [200] * UNHEARD
        on_the_primary = COST + HELD_COST + UNHEARD * COST
        assert eventually(lambda: key.use().spent_nusd == on_the_primary)

        store.lose_primary()
        gateway.store_url = f"redis://127.0.0.1:{store.replica.port}"
        assert (key.use().spent_nusd, key.use().in_flight) == (COST, 1), "else nothing was lost"
        store.take_over()
        gateway.wait_logged("the store was restarted or replaced")
        across.go.set()
        other.stream_rest()
    assert key.ask().status == 200

    rows, nusd = UNHEARD + 4, on_the_primary + HELD_COST + COST
    assert eventually(lambda: charged(gateway, key) == (rows, nusd)), charged(gateway, key)
    gateway.wait_logged("counters were moved to what the ledger says", account=key.account)
    assert eventually(lambda: key.use().spent_nusd == nusd, A_FEW_ROUNDS), key.use()
    assert (key.settled().held_nusd, key.use().spent_nusd) == (0, nusd)
    gateway.command("ledger", "verify")
    assert gateway.stop() == 0
