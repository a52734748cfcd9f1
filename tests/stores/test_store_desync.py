"""A reply that belongs to another call, after a fault on the way, is never taken for an answer."""

import contextlib

import pytest

from proxy.accounts import Account, ApiKey, Identity
from proxy.errors import StoreUnavailable
from proxy.limits import Hold, Limits
from proxy.stores.counters import RedisCounters
from proxy.stores.gateways import RedisGateways
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import connect_store
from tests.stores.fake_server import fake_server

IDENTITY = Identity(
    Account("acme", None, disabled=False, version=1, created_ms=1), ApiKey("k", "acme", "", "", 1), "d" * 64
)
HOLD = Hold("req_1", 5, 5)


def array(*values):
    """A list as the server writes it."""
    words = [f":{value}\r\n" if isinstance(value, int) else f"${len(value)}\r\n{value}\r\n" for value in values]
    return "".join([f"*{len(values)}\r\n", *words]).encode()


def text(value):
    return f"${len(value)}\r\n{value}\r\n".encode()


@contextlib.asynccontextmanager
async def answering(tmp_path, reply):
    """A connection to a server that answers whatever it is asked with `reply`; the block must find that out."""
    async with fake_server(tmp_path, lambda command: reply) as fake, connect_store(fake.url) as connection:
        with pytest.raises(StoreUnavailable, match="belonged to another"):
            yield connection


async def test_an_admission_of_another_request(tmp_path):
    async with answering(tmp_path, text("req_2 5 5" + 48 * "\0")) as connection:
        await RedisLimits(connection).admit(IDENTITY, Limits(), HOLD)


async def test_a_refusal_of_another_request(tmp_path):
    async with answering(tmp_path, array("req_2 5 5", 2, "revoked")) as connection:
        await RedisLimits(connection).admit(IDENTITY, Limits(), HOLD)


async def test_what_is_neither_a_text_nor_a_list(tmp_path):
    async with answering(tmp_path, b":1\r\n") as connection:
        await RedisLimits(connection).settle("acme", HOLD, 1, 1, Limits())


async def test_a_list_of_nothing(tmp_path):
    async with answering(tmp_path, array()) as connection:
        await RedisLimits(connection).settle("acme", HOLD, 1, 1, Limits())


async def test_a_changed_record_of_another_account(tmp_path):
    async with answering(tmp_path, array("req_1 5 5", 3, "other", "", "0", "2", "1", "{}")) as connection:
        await RedisLimits(connection).admit(IDENTITY, Limits(), HOLD)


async def test_a_settlement_of_another_request(tmp_path):
    async with answering(tmp_path, text("req_2 1 1")) as connection:
        await RedisLimits(connection).settle("acme", HOLD, 1, 1, Limits())


async def test_a_renewal_of_another_account(tmp_path):
    async with answering(tmp_path, array("other", 1)) as connection:
        await RedisLimits(connection).renew("acme", [HOLD])


async def test_the_use_of_another_account(tmp_path):
    async with answering(tmp_path, array("other", 1, 0, 0, 0, 0, 0, 0, 0, 1, "0", "0", "0", 1)) as connection:
        await RedisLimits(connection).use("acme", Limits())


async def test_the_answer_to_a_top_up_of_another_request(tmp_path):
    async with answering(tmp_path, array("req_2", 1)) as connection:
        await RedisLimits(connection).top_up("acme", HOLD, Hold("req_1", 9, 9), Limits())


async def test_the_count_of_another_worker(tmp_path):
    async with answering(tmp_path, array("1-abc", 7)) as connection:
        await RedisGateways(connection, "0-abc").attend()


async def test_the_counters_of_another_account(tmp_path):
    async with answering(tmp_path, array("other", 0)) as connection:
        await RedisCounters(connection).read("acme")


async def test_the_record_of_another_account(tmp_path):
    async with answering(tmp_path, array("other", "", "0", "1", "1", "{}")) as connection:
        await RedisKeys(connection).account("acme")


def replies(command):
    """To the question for a key the record of another key; to that for its account the right one."""
    if b":key:" in command[1]:
        return array("e" * 64, "key_2", "acme", "", "", "1", "", "", "", "")
    return array("acme", "", "0", "1", "1", "{}")


async def test_the_record_of_another_key(tmp_path):
    async with fake_server(tmp_path, replies) as fake, connect_store(fake.url) as connection:
        with pytest.raises(StoreUnavailable, match="belonged to another"):
            await RedisKeys(connection).identify("acme", "d" * 64)


async def test_a_list_with_the_record_of_another_key(tmp_path):
    def listing(command):
        return array("d" * 64) if command[0] == b"HVALS" else replies(command)

    async with fake_server(tmp_path, listing) as fake, connect_store(fake.url) as connection:
        with pytest.raises(StoreUnavailable, match="belonged to another"):
            await RedisKeys(connection).keys("acme")


async def test_the_record_of_a_key_with_another_id(tmp_path):
    def found_elsewhere(command):
        if command[0] == b"HGET":
            return b"$%d\r\nacme %s\r\n" % (69, b"e" * 64)
        return replies(command)

    async with fake_server(tmp_path, found_elsewhere) as fake, connect_store(fake.url) as connection:
        with pytest.raises(StoreUnavailable, match="belonged to another"):
            await RedisKeys(connection).key("key_1")
