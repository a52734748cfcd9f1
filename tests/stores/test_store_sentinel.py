"""A store behind Redis Sentinel: real sentinels, a real primary that is lost, and whoever takes its place."""

import asyncio
import signal

import pytest
from explained import explained

from proxy.accounts import Account
from proxy.errors import StoreUnavailable
from proxy.stores.keys import RedisKeys
from tests.conftest import debian_redis
from tests.stores.changes import PATIENCE, Told, attached
from tests.stores.redis_servers import free_ports, options_of, single, until, watched

PASSWORD = "right-secret"
USER = f"default:{PASSWORD}@"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A trio that tests only read from."""
    with watched(debian_redis(), tmp_path_factory.mktemp("shared"), PASSWORD) as servers:
        yield servers


@pytest.fixture
def own(tmp_path):
    """A trio whose primary a test may lose."""
    with watched(debian_redis(), tmp_path, PASSWORD) as servers:
        yield servers


async def test_the_primary_is_the_one_that_the_sentinels_name(shared):
    async with attached(shared.url(USER)) as store:
        assert store.address == f"127.0.0.1:{shared.servers[0].port}"
        assert await RedisKeys(store).create_account(Account("acme", None, disabled=False, version=1, created_ms=1))


async def test_a_database_may_be_named(shared):
    async with attached(shared.url(USER, "/3")) as store, attached(shared.url(USER)) as other:
        await store.call("SET", "a", "in three")
        assert await store.call("GET", "a") == b"in three"
        assert await other.call("GET", "a") is None


async def test_sentinels_that_are_gone_are_passed_over(shared):
    (nobody,) = free_ports(1)
    url = shared.url(USER).replace("127.0.0.1:", f"127.0.0.1:{nobody},127.0.0.1:", 1)

    async with attached(url) as store:
        assert store.up


async def test_a_service_that_no_sentinel_knows_is_explained(shared):
    detail = await explained(shared.url(USER).replace("/main", "/other"))

    assert "no service other is known" in detail
    assert PASSWORD not in detail


async def test_sentinels_that_nobody_runs_are_explained():
    one, two = free_ports(2)

    detail = await explained(f"redis+sentinel://{USER}127.0.0.1:{one},127.0.0.1:{two}/main")

    assert detail.startswith(f"the store main of the sentinels 127.0.0.1:{one}, 127.0.0.1:{two} cannot be found")


async def test_a_wrong_password_is_that_of_the_primary_and_not_repeated(shared):
    detail = await explained(shared.url("default:wrong-secret@"))

    port = shared.servers[0].port
    assert detail == f"the store at 127.0.0.1:{port} refused the user name or password: correct them in `store`"


async def test_a_sentinel_that_names_a_replica_is_not_believed(tmp_path):
    """As one is that was cut off when its primary was replaced."""
    with (
        single(debian_redis(), tmp_path / "replica") as replica,
        single(debian_redis(), tmp_path / "other") as primary,
    ):
        with replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        port = free_ports(1)[0]
        options = options_of(port) | {"sentinel monitor main 127.0.0.1": f"{replica.port} 1"}
        options.pop("save")
        with single(debian_redis(), tmp_path / "sentinel") as sentinel:
            sentinel.kill()
            sentinel.options, sentinel.sentinel, sentinel.folder = options, True, tmp_path / "stale"
            sentinel.start()

            assert "is no primary but a slave" in await explained(f"redis+sentinel://127.0.0.1:{port}/main")


@pytest.mark.parametrize("loss", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_a_lost_primary_is_followed_to_the_replica_that_took_its_place(own, loss):
    """Calls fail until there is a new primary, and then they are done, without help."""
    told = Told()
    old, new = own.servers
    async with attached(own.url(USER), told, call_timeout=0.3) as store:
        await store.call("SET", "before", "1")
        with new.client() as client:
            until(lambda: client.get("before") == b"1", "a replica in step")
        old.signal(loss)
        with pytest.raises(StoreUnavailable):
            await store.call("SET", "meanwhile", "1")
        await told.until(lambda: told.changes == [True, False, True])

        assert own.primary_port() == new.port
        assert store.address == f"127.0.0.1:{new.port}"
        assert await store.call("GET", "before") == b"1"
        await store.call("SET", "after", "1")
        assert len(set(told.run_ids)) == 2

        if loss == signal.SIGKILL:
            return
        # The old primary wakes up as what it was: it is not used, and the sentinels make a replica of it.
        old.signal(signal.SIGCONT)
        with old.client() as client:
            await asyncio.to_thread(until, lambda: client.get("after") == b"1", "an old primary that follows")
        assert await store.call("GET", "after") == b"1"
        assert told.changes == [True, False, True]


async def test_a_primary_that_becomes_a_replica_is_left_at_the_first_refusal(shared):
    """A failover by hand: the old primary still answers, and says READONLY. The last test of this trio."""
    told = Told()
    async with attached(shared.url(USER), told) as store:
        with shared.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", "main")
        async with asyncio.timeout(PATIENCE):
            while store.address != f"127.0.0.1:{shared.servers[1].port}" or not store.up:
                try:
                    await store.call("SET", "a", "1")
                except StoreUnavailable:
                    await asyncio.sleep(0.01)
        await store.call("SET", "a", "2")
        with shared.servers[1].client() as client:
            assert client.get("a") == b"2"
