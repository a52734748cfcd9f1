"""The records of accounts and keys, over both kinds of server."""

import time
from dataclasses import replace

import pytest

from proxy.accounts import SHARDS, Account, ApiKey, Identity, digest_of_key, shard_of
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import shard_prefix

ACCOUNT = Account("acme", "pro", disabled=False, version=1, created_ms=7, overrides={"requests_per_minute": 9})
KEY = ApiKey(
    "key_1", "acme", "laptop", "sk-aion-acme-…wxyz", created_ms=8, expires_ms=9, models=frozenset({"a/b", "c"})
)
DIGEST = digest_of_key("a key")


@pytest.fixture
def keys(store) -> RedisKeys:
    return RedisKeys(store)


async def test_an_account_is_read_as_it_was_stored(keys):
    assert await keys.create_account(ACCOUNT) is True

    assert await keys.account("acme") == ACCOUNT


async def test_a_name_is_given_once_and_the_first_account_stays(keys):
    await keys.create_account(ACCOUNT)

    assert await keys.create_account(replace(ACCOUNT, plan="other")) is False
    assert (await keys.account("acme")).plan == "pro"


async def test_what_does_not_exist_is_none(keys):
    assert await keys.account("acme") is None
    assert await keys.key("key_1") is None
    assert await keys.keys("acme") == []
    assert await keys.accounts() == []
    assert await keys.identify("acme", DIGEST) is None
    assert await keys.change_account(ACCOUNT) is None
    assert await keys.change_key("key_1", revoked_ms=1) is None


async def test_accounts_of_all_shards_are_listed_by_name(keys):
    names = [f"account_{number:03d}" for number in range(200)]
    assert len({shard_of(name) for name in names}) == SHARDS
    for name in reversed(names):
        await keys.create_account(replace(ACCOUNT, name=name))

    assert [account.name for account in await keys.accounts()] == names


async def test_a_change_has_a_new_version_and_leaves_the_rest(keys):
    await keys.create_account(ACCOUNT)

    changed = await keys.change_account(Account("acme", None, disabled=True, version=1, created_ms=99))

    assert changed == Account("acme", None, disabled=True, version=2, created_ms=7, overrides={})
    assert await keys.account("acme") == changed


async def test_a_change_of_an_old_version_changes_nothing(keys):
    await keys.create_account(ACCOUNT)
    first = await keys.change_account(replace(ACCOUNT, disabled=True))

    assert await keys.change_account(replace(ACCOUNT, plan=None)) == first
    assert await keys.account("acme") == first


async def test_a_key_is_read_as_it_was_stored(keys):
    await keys.create_account(ACCOUNT)
    await keys.create_key(KEY, DIGEST)

    assert await keys.key("key_1") == KEY
    assert await keys.identify("acme", DIGEST) == Identity(ACCOUNT, KEY, DIGEST)


async def test_a_key_for_all_models_is_not_a_key_for_none(keys):
    await keys.create_account(ACCOUNT)
    await keys.create_key(replace(KEY, models=None), DIGEST)
    await keys.create_key(replace(KEY, key_id="key_2", models=frozenset()), digest_of_key("other"))

    assert (await keys.key("key_1")).models is None
    assert (await keys.key("key_2")).models == frozenset()


async def test_a_key_counts_for_its_own_account_only(keys):
    await keys.create_account(ACCOUNT)
    await keys.create_account(replace(ACCOUNT, name="other"))
    await keys.create_key(KEY, DIGEST)

    assert await keys.identify("other", DIGEST) is None


async def test_keys_are_listed_oldest_first(keys):
    await keys.create_account(ACCOUNT)
    for created in (30, 10, 20):
        await keys.create_key(replace(KEY, key_id=f"key_{created}", created_ms=created), digest_of_key(str(created)))

    assert [key.key_id for key in await keys.keys("acme")] == ["key_10", "key_20", "key_30"]


async def test_revoking_a_key_keeps_the_moment_of_the_first_time(keys):
    await keys.create_account(ACCOUNT)
    await keys.create_key(KEY, DIGEST)

    assert (await keys.change_key("key_1", revoked_ms=100)).revoked_ms == 100
    assert (await keys.change_key("key_1", revoked_ms=200)).revoked_ms == 100


async def test_setting_an_expiry_leaves_the_rest(keys):
    await keys.create_account(ACCOUNT)
    await keys.create_key(KEY, DIGEST)

    assert await keys.change_key("key_1", expires_ms=77) == replace(KEY, expires_ms=77)


async def test_no_key_is_stored_only_its_digest(keys, store):
    await keys.create_account(ACCOUNT)
    await keys.create_key(KEY, DIGEST)

    prefix = shard_prefix(shard_of("acme"))
    records = [f"{prefix}{rest}" for rest in ("acct:acme", "accounts", f"key:{DIGEST}", "keyids", "keys:acme")]
    assert sorted(name.decode() for name in await store.call("KEYS", f"{prefix}*")) == sorted(records)


async def test_a_lent_key_stands_for_the_key_until_its_end_and_is_in_no_list(keys, store):
    await keys.create_account(ACCOUNT)
    await keys.create_key(KEY, DIGEST)
    lent, end_ms = digest_of_key("another key"), time.time_ns() // 1_000_000 + 60_000

    await keys.lend_key(replace(KEY, expires_ms=end_ms), lent)

    assert (await keys.identify("acme", lent)).key == replace(KEY, expires_ms=end_ms)
    assert await keys.keys("acme") == [KEY]
    assert await keys.key("key_1") == KEY
    name = f"{shard_prefix(shard_of('acme'))}key:{lent}"
    assert await store.call("PEXPIRETIME", name) == end_ms


async def test_a_lent_key_is_gone_at_its_end(keys):
    await keys.create_account(ACCOUNT)

    await keys.lend_key(replace(KEY, expires_ms=time.time_ns() // 1_000_000 - 1), DIGEST)

    assert await keys.identify("acme", DIGEST) is None
