"""Faults of a real server and of the way to it: what callers get, how long they wait, and how it ends by itself."""

import asyncio
import random
import resource
import signal

import pytest

from proxy.accounts import Account, ApiKey, Identity, digest_of_key
from proxy.errors import StoreUnavailable
from proxy.limits import Hold, Limits, Reservation
from proxy.stores.breaker import TOO_MANY
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import store_at
from proxy.stores.scripts import Script
from proxy.stores.trouble import APART, Trouble
from tests.conftest import debian_redis
from tests.stores.changes import PATIENCE, Told, attached
from tests.stores.fault_proxy import fault_proxy
from tests.stores.redis_servers import RedisServer, free_ports, options_of, running, single

pytestmark = pytest.mark.timeout(120)

DIGEST = digest_of_key("the key of acme")
ACME = Account("acme", None, disabled=False, version=1, created_ms=1)
KEY = ApiKey("key_1", "acme", "", "", created_ms=1)
IDENTITY = Identity(ACME, KEY, DIGEST)
ROOMY = Limits(requests_per_minute=100_000, concurrent_requests=100_000, budget_nusd=10**12)
ECHO = "#!lua\nreturn {ARGV[1]}"


@pytest.fixture
def server(tmp_path):
    """A server of the test's own that writes before it answers."""
    with single(debian_redis(), tmp_path / "redis", appendonly="yes", appendfsync="always") as one:
        yield one


@pytest.fixture
async def proxy(server):
    async with fault_proxy(server.port) as one:
        yield one


async def with_acme(store):
    keys = RedisKeys(store)
    await keys.create_account(ACME)
    await keys.create_key(KEY, DIGEST)
    return RedisLimits(store)


async def failing(call):
    """Why a call fails."""
    with pytest.raises(StoreUnavailable) as refused:
        await call
    return refused.value


# a server that is gone


async def test_a_server_killed_under_load_fails_what_waits_and_later_calls_at_once(server):
    told = Told()
    async with attached(f"redis://127.0.0.1:{server.port}", told) as store:
        limits = await with_acme(store)
        calls = [asyncio.create_task(limits.admit(IDENTITY, ROOMY, Hold(f"r{n}", 5, 5))) for n in range(2000)]
        await asyncio.sleep(0)
        server.signal(signal.SIGKILL)
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in done} <= {Reservation, StoreUnavailable}
        assert StoreUnavailable in {type(one) for one in done}

        await told.until(lambda: not told.changes[-1])
        for _ in range(3):
            assert store.call("GET", "a", urgent=True).exception().detail == store.detail

        server.start()
        await told.until(lambda: told.changes == [True, False, True])
        admitted = sum(isinstance(one, Reservation) for one in done)
        assert (await limits.use("acme", ROOMY)).in_flight >= admitted
        assert isinstance(await limits.admit(IDENTITY, ROOMY, Hold("after", 5, 5)), Reservation)


async def test_a_port_that_refuses_is_noticed_and_used_again_when_it_opens(proxy):
    told = Told()
    async with attached(proxy.url, told) as store:
        await store.call("SET", "a", 1)
        await proxy.refuse()
        await failing(store.call("GET", "a"))
        await told.until(lambda: told.changes == [True, False])

        await proxy.listen()
        await told.until(lambda: told.changes == [True, False, True])
        assert await store.call("GET", "a") == b"1"


async def test_a_restarted_server_is_noticed_and_a_lost_connection_is_not_taken_for_one(server, proxy):
    told = Told()
    async with attached(proxy.url, told, idle_check=0.02) as store:
        await store.call("SET", "a", 1)
        seen = proxy.connections
        await proxy.cut()
        async with asyncio.timeout(PATIENCE):
            while proxy.connections == seen:  # noqa: ASYNC110 - of another connection there is nothing to be told
                await asyncio.sleep(0.01)
        assert await store.call("GET", "a") == b"1"
        assert len(told.run_ids) == 1

        server.kill()
        server.start()
        await told.until(lambda: len(told.run_ids) == 2)
        await told.until(lambda: store.up)
        assert len(set(told.run_ids)) == 2
        assert await store.call("GET", "a") == b"1"


# a server that is there and silent, or slow


async def test_in_a_black_hole_an_urgent_call_fails_after_its_patience_and_then_at_once(proxy):
    told = Told()
    async with attached(proxy.url, told, patience=0.1, call_timeout=60) as store:
        clock = asyncio.get_running_loop().time
        await store.call("SET", "a", 1)
        proxy.swallow()
        for _ in range(TOO_MANY):
            begun = clock()
            late = await failing(store.call("GET", "a", urgent=True))
            assert "takes longer than 0.1 s" in late.detail
            assert clock() - begun >= 0.1
        patient = store.call("GET", "a")

        assert store.call("GET", "a", urgent=True).exception().detail == store.detail
        assert told.changes == [True, False]

        # It answers again: what was asked patiently is done, and the same connection is used.
        proxy.release()
        await told.until(lambda: told.changes == [True, False, True])
        assert await patient == b"1"
        assert await store.call("GET", "a", urgent=True) == b"1"
        assert proxy.connections == 1


async def test_calls_behind_a_call_that_hangs_wait_no_longer_than_it(proxy):
    async with attached(proxy.url, patience=0.1, call_timeout=60) as store:
        proxy.swallow()
        on_its_way = store.call("GET", "a", urgent=True)
        await asyncio.sleep(0.01)
        queued = store.call("SET", "b", 1, urgent=True)

        assert (await failing(on_its_way)).may_have_run
        assert not (await failing(queued)).may_have_run
        proxy.release()
        assert await store.call("GET", "b") is None


async def test_a_black_hole_is_left_after_the_deadline_and_a_new_connection_has_to_prove_itself(proxy):
    told = Told()
    async with attached(proxy.url, told, patience=0.05, call_timeout=0.2, connect_timeout=0.2) as store:
        proxy.swallow()
        assert "did not answer in time" in (await failing(store.call("GET", "a"))).detail
        await told.until(lambda: told.changes == [True, False])
        async with asyncio.timeout(PATIENCE):
            while proxy.connections < 3:
                assert not store.up
                await asyncio.sleep(0.01)

        proxy.release()
        await told.until(lambda: told.changes == [True, False, True])
        assert await store.call("SET", "a", 1) == b"OK"


async def test_a_slow_server_admits_nobody_and_is_still_told_what_was_used(proxy):
    told = Told()
    async with attached(proxy.url, told, patience=0.1, call_timeout=60, connect_timeout=60) as store:
        limits = await with_acme(store)
        held = [Hold(f"r{number}", 5, 5) for number in range(3)]
        for hold in held:
            await limits.admit(IDENTITY, ROOMY, hold)
        proxy.delay = 0.3

        asked = [limits.admit(IDENTITY, ROOMY, Hold(f"late{number}", 5, 5)) for number in range(TOO_MANY)]
        refused = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, StoreUnavailable) and one.may_have_run for one in refused)
        assert not store.up
        at_once = await failing(limits.admit(IDENTITY, ROOMY, Hold("more", 5, 5)))
        assert not at_once.may_have_run

        await asyncio.gather(*[limits.begin_settle("acme", hold, 1, 7, ROOMY) for hold in held])
        proxy.delay = 0
        await told.until(lambda: told.changes == [True, False, True])
        assert (await limits.use("acme", ROOMY)).spent_nusd == 21


# a server that answers, and cannot do what it is asked


async def test_scripts_flushed_under_load_cost_no_call_an_error(server):
    async with attached(f"redis://127.0.0.1:{server.port}") as store:
        limits = await with_acme(store)
        flushes = 0

        async def work(worker):
            for number in range(100):
                hold = Hold(f"r{worker}_{number}", 5, 5)
                assert isinstance(await limits.admit(IDENTITY, ROOMY, hold), Reservation)
                await limits.begin_settle("acme", hold, 1, 3, ROOMY)

        work_on = [asyncio.create_task(work(worker)) for worker in range(10)]
        while not all(task.done() for task in work_on):
            await store.call("SCRIPT", "FLUSH")
            flushes += 1
        await asyncio.gather(*work_on)

        assert flushes > 10
        use = await limits.use("acme", ROOMY)
        assert (use.spent_nusd, use.held_nusd, use.in_flight) == (3000, 0, 0)


async def test_a_server_that_runs_a_long_script_is_away_until_it_ends(tmp_path):
    told = Told()
    with single(debian_redis(), tmp_path, busy_reply_threshold="10") as server:
        async with attached(f"redis://127.0.0.1:{server.port}", told) as store:
            limits = await with_acme(store)
            with server.client() as other:
                blocked = asyncio.create_task(asyncio.to_thread(_run_for_ever, other))
                async with asyncio.timeout(PATIENCE):
                    while told.changes[-1]:
                        await asyncio.gather(
                            limits.admit(IDENTITY, ROOMY, Hold("r1", 5, 5)), return_exceptions=True
                        )  # fmt: skip
                await told.until(lambda: any("BUSY" in trouble for trouble in told.troubles))
                with server.client() as third:
                    third.execute_command("SCRIPT", "KILL")
                await blocked
            await told.until(lambda: told.changes[-1])
            assert isinstance(await limits.admit(IDENTITY, ROOMY, Hold("r2", 5, 5)), Reservation)


def _run_for_ever(client):
    with pytest.raises(Exception, match="killed"):
        client.eval("#!lua\nwhile true do end", 0)


async def test_a_full_disk_makes_the_server_away_with_its_own_reason_until_there_is_room(tmp_path):
    told = Told()
    with single(debian_redis(), tmp_path, appendonly="yes", appendfsync="everysec") as server:
        async with attached(f"redis://127.0.0.1:{server.port}", told, idle_check=0.05) as store:
            limits = await with_acme(store)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            await told.until(lambda: any("MISCONF" in trouble for trouble in told.troubles))
            assert not store.up
            await failing(limits.admit(IDENTITY, ROOMY, Hold("r1", 5, 5)))

            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            await told.until(lambda: told.changes[-1])
            assert isinstance(await limits.admit(IDENTITY, ROOMY, Hold("r2", 5, 5)), Reservation)


async def test_a_server_that_evicts_is_refused_and_says_how_to_go_on(tmp_path):
    with single(debian_redis(), tmp_path, maxmemory_policy="allkeys-lru") as server:
        url = f"redis://127.0.0.1:{server.port}"
        strict = store_at(url, allow_eviction=False)
        detail = (await failing(strict.connect())).detail
        await strict.close()
        assert "maxmemory-policy allkeys-lru" in detail
        assert "set maxmemory-policy noeviction there" in detail
        assert "store_eviction: warn" in detail

        told = []
        store = store_at(url, allow_eviction=True, on_new_server=told.append)
        await store.connect()
        await store.close()
        assert [greeting.evicts for greeting in told] == [True]

        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
        async with attached(url, allow_eviction=False) as kept:
            assert kept.up


async def test_a_database_that_the_server_does_not_have_is_explained(server):
    store = store_at(f"redis://127.0.0.1:{server.port}/99")
    assert "DB index is out of range" in (await failing(store.connect())).detail
    await store.close()


async def test_a_server_that_goes_on_refusing_is_complained_of_once(tmp_path):
    told = Told()
    with single(debian_redis(), tmp_path, requirepass="right-secret") as server:
        store = store_at(f"redis://:wrong-secret@127.0.0.1:{server.port}", **told.callbacks())
        await failing(store.connect())
        with server.client() as client:
            async with asyncio.timeout(PATIENCE):
                while client.info("stats")["total_connections_received"] < 5:  # noqa: ASYNC110 - the server's own count
                    await asyncio.sleep(0.01)
            assert len(told.troubles) == 1
            assert "secret" not in told.troubles[0]

            # What was wrong is put right where it was wrong, and nobody has to be told.
            client.config_set("requirepass", "wrong-secret")
        await told.until(lambda: told.changes == [True])
        await store.close()


def test_reasons_are_told_when_they_change_and_never_twice_within_a_second():
    told = []
    trouble = Trouble(told.append)
    for now, reason in ((0.0, "a"), (0.5, "b"), (APART, "b"), (5.0, "b"), (9.0, "a")):
        trouble.is_because(reason, now)
    assert told == ["a", "b", "a"]

    trouble.is_over()
    trouble.is_because("a", 9.5)
    assert told == ["a", "b", "a"]
    trouble.is_because("a", 10.0)
    assert told == ["a", "b", "a", "a"]


# replies that are not one's own


async def test_of_replies_that_were_doubled_none_is_taken_for_an_answer(proxy):
    """Whatever a cancelled caller or a doubled reply leaves behind: an answer is one's own, or there is none."""
    chance = random.Random(7)
    wrong, failed, answered = [], 0, 0
    told = Told()
    async with attached(proxy.url, told) as store:
        echo = Script("echo", ECHO, (await store.call("SCRIPT", "LOAD", ECHO)).decode())

        async def ask(number):
            nonlocal failed, answered
            try:
                reply = await store.script(echo, ("k",), (f"id_{number}",), echo=f"id_{number}")
            except StoreUnavailable:
                failed += 1
            else:
                answered += 1
                if reply != [f"id_{number}".encode()]:
                    wrong.append((number, reply))

        for round_ in range(60):
            if chance.random() < 0.5:
                proxy.duplicated = 1
            tasks = [asyncio.create_task(ask(f"{round_}_{number}")) for number in range(chance.randrange(1, 20))]
            await asyncio.sleep(0)
            for task in tasks:
                if chance.random() < 0.3:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await told.until(lambda: store.up)
    assert wrong == []
    assert failed > 0
    assert answered > 100
    assert proxy.connections > 5


# a server that comes late


async def test_a_server_that_comes_later_is_used_although_nobody_asks(tmp_path):
    (port,) = free_ports(1)
    told = Told()
    store = store_at(f"redis://127.0.0.1:{port}", **told.callbacks())
    await failing(store.connect())
    with running(RedisServer(debian_redis(), tmp_path, options_of(port))):
        await told.until(lambda: told.changes == [True])
        assert await store.call("SET", "a", 1) == b"OK"
        await store.close()
