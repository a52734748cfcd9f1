"""The keeper of counters as it runs beside a gateway: round after round, over one server and over a cluster."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ledger_rows import record
from structlog import get_logger

from proxy import counter_keeper
from proxy.accounts import Account, shard_of
from proxy.configuration import load
from proxy.counter_keeper import CounterKeeper
from proxy.health import OwnMetrics
from proxy.ledger.database import Ledger
from proxy.limits import Limits
from proxy.pricing import nano_usd_ceil
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits, shard_prefix
from proxy.stores.slots import slot_of, tag_of
from proxy.stores.store import Store
from specimens import CATALOG_FILE, GATEWAY_FILE
from tests.conftest import debian_redis
from tests.stores.changes import PATIENCE, attached
from tests.stores.redis_servers import cluster

BUDGET = Limits(budget_nusd=10**12)
CHARGED = nano_usd_ceil(record("a").cost_pusd)

pytestmark = pytest.mark.timeout(120)


@contextmanager
def keeping(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *accounts: str) -> Iterator[None]:
    """A ledger with one row of each account, and a keeper that compares without a pause."""
    ledger = Ledger.open("embedded", folder)
    ledger.insert([record(account, account=account) for account in accounts])
    ledger.close()
    monkeypatch.setattr(counter_keeper, "ROUND_SECONDS", 0.01)
    (folder / "gateway.yaml").write_text(GATEWAY_FILE)
    (folder / "catalog.yaml").write_text(CATALOG_FILE)
    settings = load(folder / "gateway.yaml", {"AION_PROXY_DATA_DIR": str(folder)}).settings
    keeper = CounterKeeper(lambda: settings, url, OwnMetrics("1.2.3"), get_logger())
    keeper.start()
    try:
        yield
    finally:
        keeper.stop()


async def until_spent(store: Store, account: str, nusd: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await RedisLimits(store).use(account, BUDGET)).spent_nusd != nusd:  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.01)


def account(name: str) -> Account:
    return Account(name, None, disabled=False, version=1, created_ms=1)


async def test_a_counter_that_was_changed_by_hand_is_right_again_by_itself(
    store: Store, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await RedisKeys(store).create_account(account("acme"))
    with keeping(store_url, tmp_path, monkeypatch, "acme"):
        await until_spent(store, "acme", CHARGED)
        await store.call("HINCRBY", f"{shard_prefix(shard_of('acme'))}acct:acme", "total_nusd", 10**9)
        await until_spent(store, "acme", CHARGED)


async def test_the_ledger_is_opened_once_and_no_connection_to_it_is_kept(
    store: Store, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: list[Ledger] = []
    open_ledger = Ledger.open

    def note(url: str, data_dir: Path) -> Ledger:
        opened.append(open_ledger(url, data_dir))
        return opened[-1]

    monkeypatch.setattr(Ledger, "open", note)
    await RedisKeys(store).create_account(account("acme"))
    with keeping(store_url, tmp_path, monkeypatch, "acme"):
        for _ in range(5):
            await until_spent(store, "acme", CHARGED)
            await store.call("HINCRBY", f"{shard_prefix(shard_of('acme'))}acct:acme", "total_nusd", 10**9)
        (rounds,) = (thread for thread in threading.enumerate() if thread.name == "counters")
    await asyncio.to_thread(rounds.join, PATIENCE)
    _, ledger = opened  # the first is the test's
    assert ledger.engine.pool.checkedin() == 0


async def test_a_lost_node_of_a_cluster_keeps_no_other_account_from_its_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with cluster(debian_redis(), tmp_path / "nodes") as nodes:
        async with attached(nodes.url(), call_timeout=1) as store:
            home = nodes.owner(slot_of(tag_of(shard_prefix(0))))  # where the ledgers are written down
            lost = next(node for node in nodes.nodes if node is not home)
            names = [f"account_{number}" for number in range(64)]
            owners = {name: nodes.owner(slot_of(tag_of(shard_prefix(shard_of(name))))) for name in names}
            first = next(name for name in names if owners[name] is lost)
            other = next(name for name in names if owners[name] is home and name > first)
            for name in (first, other):
                await RedisKeys(store).create_account(account(name))
            lost.kill()
            with keeping(nodes.url(), tmp_path, monkeypatch, first, other):
                await until_spent(store, other, CHARGED)
