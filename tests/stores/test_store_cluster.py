"""A store that is a real Redis Cluster: every account on its node, and a cluster that changes under load."""

import asyncio
import contextlib
import signal
import time
from dataclasses import replace

import pytest
from explained import explained
from redis.exceptions import MovedError, ResponseError

from proxy.accounts import SHARDS, Account, ApiKey, Identity, digest_of_key, shard_of
from proxy.errors import StoreUnavailable
from proxy.limits import AccountChanged, Hold, KeyRefused, LimitReached, Limits, Reservation
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits, shard_prefix
from proxy.stores.opening import store_at
from proxy.stores.slots import slot_of, tag_of
from tests.conftest import debian_redis
from tests.stores.changes import PATIENCE, Told, attached
from tests.stores.redis_servers import cluster, free_ports, single, until

pytestmark = pytest.mark.timeout(120)

ACME = Account("acme", None, disabled=False, version=1, created_ms=1)
DIGEST = digest_of_key("the key of acme")
KEY = ApiKey("key_1", "acme", "", "", created_ms=1)
IDENTITY = Identity(ACME, KEY, DIGEST)
SLOT = slot_of(tag_of(shard_prefix(shard_of("acme"))))
ROOMY = Limits(requests_per_minute=100_000, concurrent_requests=100_000, budget_nusd=10**12)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A cluster of three whose nodes stay what they are."""
    with cluster(debian_redis(), tmp_path_factory.mktemp("shared")) as servers:
        yield servers


@pytest.fixture
def nodes(shared):
    for node in shared.nodes:
        with node.client() as client:
            client.flushall()
    return shared


@pytest.fixture
async def store(nodes):
    async with attached(nodes.url()) as connection:
        yield connection


@pytest.fixture
async def acme(store):
    """Limits of an account that exists."""
    keys = RedisKeys(store)
    await keys.create_account(ACME)
    await keys.create_key(KEY, DIGEST)
    return RedisLimits(store)


def commands(node):
    """How often each error was answered by a node since its statistics were reset."""
    with node.client() as client:
        return {name.removeprefix("errorstat_"): stat["count"] for name, stat in client.info("errorstats").items()}


# the same as with one server


async def test_accounts_of_all_shards_are_made_listed_and_found_on_all_nodes(store, nodes):
    keys = RedisKeys(store)
    names = [f"account_{number:03d}" for number in range(200)]
    assert len({shard_of(name) for name in names}) == SHARDS
    for name in names:
        await keys.create_account(replace(ACME, name=name))
        await keys.create_key(replace(KEY, key_id=f"key_{name}", account=name), digest_of_key(name))

    assert [account.name for account in await keys.accounts()] == names
    for name in names[:20]:
        assert (await keys.key(f"key_{name}")).account == name
        assert (await keys.change_key(f"key_{name}", revoked_ms=5)).revoked_ms == 5
        assert (await keys.identify(name, digest_of_key(name))).account.name == name
    for node in nodes.nodes:
        with node.client() as client:
            assert client.dbsize() > 100


async def test_limits_hold_as_on_one_server(acme):
    limits = Limits(concurrent_requests=2, budget_nusd=100)

    assert isinstance(await acme.admit(IDENTITY, limits, Hold("r1", 5, 40)), Reservation)
    assert isinstance(await acme.admit(IDENTITY, limits, Hold("r2", 5, 40)), Reservation)
    refused = await acme.admit(IDENTITY, limits, Hold("r3", 5, 40))
    assert isinstance(refused, LimitReached)
    await acme.renew("acme", [Hold("r1", 5, 40), Hold("r2", 5, 40)])
    await acme.settle("acme", Hold("r1", 5, 40), 3, 30, limits)
    await acme.begin_settle("acme", Hold("r2", 5, 40), 3, 31, limits)
    use = await acme.use("acme", limits)
    assert (use.spent_nusd, use.held_nusd, use.in_flight) == (61, 0, 0)


async def test_a_changed_account_is_told_on_a_cluster_too(acme, store):
    await RedisKeys(store).change_account(replace(ACME, plan="pro"))

    assert isinstance(await acme.admit(IDENTITY, ROOMY, Hold("r1", 5, 5)), AccountChanged)
    unknown = replace(IDENTITY, digest="0" * 64)
    assert isinstance(await acme.admit(unknown, ROOMY, Hold("r1", 5, 5)), KeyRefused)


async def test_calls_of_one_turn_of_the_loop_reach_each_node_as_one_piece(store, nodes):
    before = [_reads(node) for node in nodes.nodes]
    await asyncio.gather(*[store.call("GET", f"{shard_prefix(shard)}x") for shard in range(SHARDS)] * 8)

    # One piece may be read in two parts, and a PING may come between; not 170 pieces.
    assert all(_reads(node) - was < 12 for node, was in zip(nodes.nodes, before, strict=True))


def _reads(node):
    with node.client() as client:
        return client.info("stats")["total_reads_processed"]


async def test_one_node_is_enough_to_find_the_others(nodes):
    (nobody,) = free_ports(1)
    async with attached(f"redis+cluster://127.0.0.1:{nobody},127.0.0.1:{nodes.nodes[2].port}") as store:
        assert store.up
        for shard in range(SHARDS):
            await store.call("SET", f"{shard_prefix(shard)}x", shard)


# what is refused


async def test_a_node_of_a_cluster_is_not_taken_for_a_single_server(nodes):
    assert "redis+cluster://" in await explained(f"redis://127.0.0.1:{nodes.nodes[0].port}")


async def test_a_single_server_is_not_taken_for_a_cluster(tmp_path):
    with single(debian_redis(), tmp_path) as server:
        assert "cluster support disabled" in await explained(f"redis+cluster://127.0.0.1:{server.port}")


async def test_a_wrong_password_is_explained_and_not_repeated(nodes):
    detail = await explained(nodes.url("someone:wrong-secret@"))

    assert "refused the user name or password" in detail
    assert "wrong-secret" not in detail


async def test_a_user_with_the_rights_of_the_documentation_is_enough(nodes):
    for node in nodes.nodes:
        with node.client() as client:
            client.execute_command("ACL", "SETUSER", "gateway", "on", ">its-secret", "~aion:*", "+@all")
    async with attached(nodes.url("gateway:its-secret@")) as store:
        assert await RedisKeys(store).create_account(ACME)


async def test_nobody_there_is_told_and_a_cluster_that_comes_later_is_used(nodes):
    ports = free_ports(2)
    told = Told()
    store = store_at(f"redis+cluster://127.0.0.1:{ports[0]}", **told.callbacks())
    with pytest.raises(StoreUnavailable):
        await store.connect()
    assert str(ports[0]) in told.troubles[0]

    # Somebody who knows the cluster begins to listen there.
    async def hand_on(reader, writer):
        inner = await asyncio.open_connection("127.0.0.1", nodes.nodes[0].port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_copy(reader, inner[1]), _copy(inner[0], writer))

    server = await asyncio.start_server(hand_on, "127.0.0.1", ports[0])
    await told.until(lambda: told.changes == [True])
    assert await store.call("SET", "aion:{s00}:x", 1) == b"OK"
    await store.close()
    server.close()
    await server.wait_closed()


async def _copy(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def test_after_closing_calls_fail(nodes):
    async with attached(nodes.url()) as store:
        pass

    with pytest.raises(StoreUnavailable, match="was closed"):
        await store.call("GET", "aion:{s00}:x")


# slots that move


def node_ids(nodes):
    found = {}
    for node in nodes.nodes:
        with node.client() as client:
            found[node.port] = client.execute_command("CLUSTER", "MYID").decode()
    return found


@contextlib.contextmanager
def slot_half_way(nodes):
    """Acme's slot begins to move to another node and stays where it is."""
    ids, source = node_ids(nodes), nodes.owner(SLOT)
    target = nodes.others(source)[0]
    with source.client() as giver, target.client() as taker:
        taker.execute_command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", ids[source.port])
        giver.execute_command("CLUSTER", "SETSLOT", SLOT, "MIGRATING", ids[target.port])
        try:
            yield
        finally:
            for client in (giver, taker):
                client.execute_command("CLUSTER", "SETSLOT", SLOT, "STABLE")


def move_slot(nodes, slot, *, in_between=lambda: None):
    """Move a slot as `redis-cli --cluster reshard` does, key by key; `in_between` is called after each step."""
    ids = node_ids(nodes)
    source = nodes.owner(slot)
    target = nodes.others(source)[0]
    with source.client() as giver, target.client() as taker:
        taker.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
        giver.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
        in_between()
        while keys := giver.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            giver.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            in_between()
        for client in (taker, giver):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
    return source, target


class Load:
    """Eight that admit and settle one request after the other, and note what became of it."""

    def __init__(self, acme: RedisLimits) -> None:
        self.acme = acme
        self.admitted = 0
        self.errors: list[str] = []
        self._running = True
        self._tasks = [asyncio.create_task(self._work(worker)) for worker in range(8)]

    async def _work(self, worker: int) -> None:
        number = 0
        while self._running:
            number += 1
            hold = Hold(f"r_{worker}_{number}", 10, 10)
            try:
                assert isinstance(await self.acme.admit(IDENTITY, ROOMY, hold), Reservation)
                await self.acme.settle("acme", hold, 7, 7, ROOMY)
                self.admitted += 1
            except StoreUnavailable as away:
                self.errors.append(away.detail)
            await asyncio.sleep(0)

    async def goes_on(self) -> None:
        served = self.admitted
        async with asyncio.timeout(PATIENCE):
            while self.admitted < served + 20:  # noqa: ASYNC110 - there is no event in waiting for progress
                await asyncio.sleep(0.01)

    async def is_served_to_the_last(self) -> None:
        await self.goes_on()
        self._running = False
        await asyncio.gather(*self._tasks)
        assert self.errors == []
        use = await self.acme.use("acme", ROOMY)
        assert (use.spent_nusd, use.held_nusd, use.in_flight) == (7 * self.admitted, 0, 0)


@pytest.mark.timeout(180)
async def test_a_slot_that_moves_under_load_costs_no_call_an_error(acme, store, nodes):
    """Admissions and settlements go on while the slot of their account moves to and fro, every key alone."""
    for node in nodes.nodes:
        with node.client() as client:
            client.config_resetstat()
    load = Load(acme)
    for _ in range(6):
        await asyncio.to_thread(move_slot, nodes, SLOT)
        await load.goes_on()
    await load.is_served_to_the_last()

    seen = {}
    for node in nodes.nodes:
        for name, times in commands(node).items():
            seen[name] = seen.get(name, 0) + times
    assert "CROSSSLOT" not in seen
    assert seen["MOVED"] >= 6  # else the move was never met


@pytest.mark.timeout(180)
async def test_a_slot_that_moves_again_and_again_costs_no_call_an_error(acme, store, nodes, monkeypatch):
    """Five moves take longer than a call waits for one of them, and between two there is but a moment."""
    monkeypatch.setattr("proxy.stores.cluster.FORWARD_FOR", 5.0)
    load = Load(acme)
    for _ in range(5):
        await asyncio.to_thread(move_slot, nodes, SLOT, in_between=lambda: time.sleep(0.3))
    await load.is_served_to_the_last()


async def test_a_call_whose_keys_are_all_on_their_way_is_asked_for_on_the_other_node(store, nodes):
    """ASK: the slot is still the old node's, the key is the new one's."""
    key = f"{shard_prefix(shard_of('acme'))}x"
    await store.call("SET", key, "moved")
    ids, source = node_ids(nodes), nodes.owner(SLOT)
    target = nodes.others(source)[0]
    with source.client() as giver, target.client() as taker:
        taker.execute_command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", ids[source.port])
        giver.execute_command("CLUSTER", "SETSLOT", SLOT, "MIGRATING", ids[target.port])
        giver.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", key)
        try:
            with pytest.raises(MovedError):
                taker.get(key)

            assert await asyncio.gather(*[store.call("GET", key) for _ in range(50)]) == [b"moved"] * 50
            assert await store.call("GET", f"{shard_prefix(shard_of('acme'))}none") is None
        finally:
            for client in (taker, giver):
                client.execute_command("CLUSTER", "SETSLOT", SLOT, "NODE", ids[target.port])


async def test_a_request_that_comes_to_hold_more_while_its_slot_is_moved_keeps_what_it_holds(acme, store, nodes):
    """Its lease is the only entry of a key; a key whose last entry is gone cannot be written again meanwhile."""
    has, wants = Hold("r1", 5, 5), Hold("r1", 50, 50)
    await acme.admit(IDENTITY, ROOMY, has)
    late = f"{shard_prefix(shard_of('acme'))}late:acme"
    await store.call("ZADD", late, 10**15, "another 1 1")  # a call that names a key that is not there would be refused
    with slot_half_way(nodes):
        assert await acme.top_up("acme", has, wants, ROOMY) is None

    use = await acme.use("acme", ROOMY)
    assert (use.held_nusd, use.in_flight) == (50, 1)


async def test_a_slot_that_stays_half_way_is_given_up_with_the_reason(acme, store, nodes, monkeypatch):
    monkeypatch.setattr("proxy.stores.cluster.FORWARD_FOR", 0.05)
    with slot_half_way(nodes), pytest.raises(StoreUnavailable, match="on its way"):
        await acme.admit(IDENTITY, ROOMY, Hold("r1", 5, 5))

    assert isinstance(await acme.admit(IDENTITY, ROOMY, Hold("r1", 5, 5)), Reservation)


async def test_what_a_node_has_forgotten_is_sent_there_again(acme, nodes):
    await acme.admit(IDENTITY, ROOMY, Hold("r1", 5, 5))
    for node in nodes.nodes:
        with node.client() as client:
            client.script_flush()

    await acme.begin_settle("acme", Hold("r1", 5, 5), 1, 1, ROOMY)
    assert isinstance(await acme.admit(IDENTITY, ROOMY, Hold("r2", 5, 5)), Reservation)


async def test_keys_in_two_slots_are_an_error_of_the_caller_and_no_outage(store):
    with pytest.raises(StoreUnavailable) as refused:
        await store.call("MGET", "aion:{s00}:x", "aion:{s01}:x")

    assert isinstance(refused.value.__cause__, ResponseError)
    assert store.up


async def test_a_mix_up_on_one_connection_drops_them_all_and_they_come_back(nodes):
    told = Told()
    async with attached(nodes.url(), told) as store:
        assert store.distrust("mixed up").detail == "mixed up"
        await told.until(lambda: told.changes == [True, False, True])
        assert await store.call("SET", "aion:{s00}:x", 1) == b"OK"


# nodes that are lost


async def test_the_accounts_of_a_lost_node_fail_and_the_others_are_served(tmp_path):
    told = Told()
    with cluster(debian_redis(), tmp_path) as nodes:
        async with attached(nodes.url(), told, call_timeout=0.3) as store:
            lost = nodes.owner(SLOT)
            others = [f"{shard_prefix(shard)}x" for shard in range(SHARDS)
                      if nodes.owner(slot_of(tag_of(shard_prefix(shard)))) is not lost]  # fmt: skip
            lost.signal(signal.SIGKILL)
            await told.until(lambda: told.changes == [True, False])

            with pytest.raises(StoreUnavailable):
                await store.call("GET", f"{shard_prefix(shard_of('acme'))}x")
            assert len(others) > SHARDS / 3
            assert set(await asyncio.gather(*[store.call("SET", key, 1) for key in others])) == {b"OK"}
            assert str(lost.port) in store.detail

            # Connections that are made while it is away are of use, whatever node has the key that they are tried with.
            store.distrust("all anew")
            for key in others:
                while await _why(store.call("SET", key, 1)):  # noqa: ASYNC110 - each failure is all there is to be told
                    await asyncio.sleep(0.01)

            lost.start()
            await told.until(lambda: told.changes == [True, False, True])
            assert await store.call("SET", f"{shard_prefix(shard_of('acme'))}x", 1) == b"OK"
            assert len(set(told.run_ids)) == 4


async def test_a_cluster_that_is_down_as_a_whole_is_away_with_its_own_words_until_it_is_whole(tmp_path):
    told = Told()
    with cluster(debian_redis(), tmp_path) as nodes:
        lost = nodes.owner(SLOT)
        for node in nodes.nodes:
            with node.client() as client:
                client.config_set("cluster-require-full-coverage", "yes")
        async with attached(nodes.url(), told, call_timeout=0.3) as store:
            key = next(f"{shard_prefix(shard)}x" for shard in range(SHARDS)
                       if nodes.owner(slot_of(tag_of(shard_prefix(shard)))) is not lost)  # fmt: skip
            lost.kill()
            async with asyncio.timeout(PATIENCE):
                while "The cluster is down" not in await _why(store.call("SET", key, 1)):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
            lost.start()
            await told.until(lambda: told.changes[-1])
            assert await store.call("SET", key, 1) == b"OK"


async def _why(call):
    try:
        await call
    except StoreUnavailable as away:
        return away.detail
    return ""


async def test_a_replica_that_took_the_place_of_its_primary_is_used(tmp_path):
    told = Told()
    with cluster(debian_redis(), tmp_path, replicas=True) as nodes:
        async with attached(nodes.url(), told, call_timeout=0.3) as store:
            key = f"{shard_prefix(shard_of('acme'))}x"
            assert await store.call("SET", key, "kept") == b"OK"
            lost = nodes.owner(SLOT)
            replica = nodes.nodes[nodes.nodes.index(lost) + 3]
            with replica.client() as client:
                until(lambda: client.info("replication")["slave_repl_offset"] > 0 and client.dbsize(), "a copy")
            lost.signal(signal.SIGKILL)
            await told.until(lambda: told.changes == [True, False, True])

            assert await store.call("GET", key) == b"kept"
            assert await store.call("SET", key, "new") == b"OK"
            assert await RedisKeys(store).accounts() == []
