"""What an operator can do with keys, what is refused, and that a key is shown once."""

import datetime as dt
from dataclasses import replace

import pytest

from proxy.accounts import Account, ApiKey, account_of_key, digest_of_key
from proxy.admin.keys import Keys, MintedKey, mint_key_id
from proxy.admin.refused import OperationRefused, Reason
from proxy.catalog import Catalog, Model
from proxy.pricing import Prices
from tests.memory_stores import MemoryKeys

NOW = 1_700_000_000_000
DAY = 86_400_000


def model(name: str, *aliases: str, disabled: bool = False) -> Model:
    return Model(
        id=name,
        name=name,
        description="",
        date=dt.date(2025, 12, 21),
        context_length=1,
        max_completion_tokens=1,
        is_moderated=False,
        modality="text->text",
        prices=Prices(0, 0),
        reasoning=False,
        routes=(),
        aliases=aliases,
        disabled=disabled,
    )


@pytest.fixture
def records() -> MemoryKeys:
    records = MemoryKeys()
    records.by_name["acme"] = Account("acme", None, disabled=False, version=1, created_ms=0)
    return records


@pytest.fixture
def keys(records) -> Keys:
    return Keys(records, Catalog((model("demo/echo", "echo"), model("demo/thinker"), model("demo/old", disabled=True))))


class CountingRandom:
    """Bytes that differ from call to call and are the same in every run."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, count: int) -> bytes:
        self.calls += 1
        return bytes([self.calls]) * count


@pytest.fixture
def create(keys):
    random = CountingRandom()

    async def create(**options) -> MintedKey:
        given = {"account": "acme", "name": "", "lifetime_ms": None, "models": None, "now_ms": NOW, "random": random}
        return await keys.create(**(given | options))

    return create


async def refusal(operation) -> OperationRefused:
    with pytest.raises(OperationRefused) as refused:
        await operation
    assert "\n" not in refused.value.message
    return refused.value


async def test_a_new_key_is_well_formed_and_stored_as_its_digest_only(create, records):
    minted = await create(name="ci")
    assert account_of_key(minted.key) == "acme"
    assert records.by_digest == {digest_of_key(minted.key): minted.record}
    assert minted.record == ApiKey(
        key_id=mint_key_id(bytes([2]) * 16),
        account="acme",
        name="ci",
        hint=f"sk-aion-acme-…{minted.key[-4:]}",
        created_ms=NOW,
    )


async def test_the_key_itself_is_in_no_repr(create):
    minted = await create()
    assert minted.key not in repr(minted)


async def test_two_keys_have_nothing_in_common(create):
    one, other = await create(), await create()
    assert one.key != other.key
    assert one.record.key_id != other.record.key_id


async def test_a_key_can_expire(create):
    assert (await create(lifetime_ms=90 * DAY)).record.expires_ms == NOW + 90 * DAY


@pytest.mark.parametrize("lifetime_ms", [0, -1, 10**15])
async def test_a_life_of_nothing_or_of_ages_is_refused(create, records, lifetime_ms):
    refused = await refusal(create(lifetime_ms=lifetime_ms))
    assert refused.reason is Reason.MALFORMED
    assert "such as 90d" in refused.message
    assert not records.by_digest


async def test_models_are_stored_by_their_ids(create):
    assert (await create(models=["echo", "demo/thinker"])).record.models == {"demo/echo", "demo/thinker"}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("demo/ecko", "did you mean 'demo/echo'?"), ("zzz", "known: demo/echo, demo/thinker, echo")],
)
async def test_a_model_that_the_catalog_does_not_have_is_refused(create, records, name, remedy):
    refused = await refusal(create(models=["echo", name]))
    assert (refused.reason, refused.message) == (Reason.NOT_FOUND, f"the catalog has no model {name!r}; {remedy}")
    assert not records.by_digest


async def test_a_disabled_model_is_as_good_as_none(create):
    assert (await refusal(create(models=["demo/old"]))).reason is Reason.NOT_FOUND


async def test_a_key_for_an_account_that_does_not_exist_is_refused_with_the_remedy(create, records):
    refused = await refusal(create(account="nobody"))
    assert refused.reason is Reason.NOT_FOUND
    assert refused.message.endswith("make it with `aion-proxy accounts create nobody`")
    assert not records.by_digest


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31m", "n" * 101])
async def test_a_name_that_would_spoil_a_table_is_refused(create, name):
    assert (await refusal(create(name=name))).reason is Reason.MALFORMED


async def test_the_keys_of_an_account_are_its_own(create, keys, records):
    records.by_name["other"] = replace(records.by_name["acme"], name="other")
    mine = await create()
    await create(account="other")
    assert await keys.of("acme") == [mine.record]


async def test_the_keys_of_an_account_that_does_not_exist_are_refused(keys):
    assert (await refusal(keys.of("nobody"))).reason is Reason.NOT_FOUND


async def test_a_revoked_key_keeps_the_time_at_which_it_was_revoked(create, keys):
    key_id = (await create()).record.key_id
    assert (await keys.revoke(key_id, now_ms=NOW + 1)).revoked_ms == NOW + 1
    assert (await keys.revoke(key_id, now_ms=NOW + 2)).revoked_ms == NOW + 1


async def test_a_key_id_that_does_not_exist_is_refused_with_where_to_look(keys):
    for operation in (
        keys.revoke("key_0000000000000000", now_ms=NOW),
        keys.rotate("key_0000000000000000", grace_ms=0, now_ms=NOW, random=bytes),
    ):
        refused = await refusal(operation)
        assert refused.reason is Reason.NOT_FOUND
        assert "aion-proxy keys list ACCOUNT" in refused.message


async def test_a_key_given_for_its_id_is_refused_without_repeating_it(create, keys, records):
    minted = await create()
    refused = await refusal(keys.revoke(minted.key, now_ms=NOW))
    assert refused.reason is Reason.MALFORMED
    assert minted.key not in refused.message
    assert f"`aion-proxy keys list acme` shows the id beside {minted.record.hint}" in refused.message
    assert records.by_digest[digest_of_key(minted.key)].revoked_ms is None


async def test_what_only_looks_like_a_key_is_not_repeated_either(create, keys):
    cut = (await create()).key[:-1]
    assert cut not in (await refusal(keys.revoke(cut, now_ms=NOW))).message


async def test_a_rotated_key_has_the_same_account_name_and_models(create, keys):
    old = (await create(name="ci", models=["echo"])).record
    rotated = await keys.rotate(old.key_id, grace_ms=DAY, now_ms=NOW + 5, random=lambda count: b"\x09" * count)
    new = rotated.minted.record
    assert (new.account, new.name, new.models, new.created_ms) == ("acme", "ci", old.models, NOW + 5)
    assert new.expires_ms is None
    assert new.key_id != old.key_id
    assert rotated.replaced == replace(old, expires_ms=NOW + 5 + DAY)


async def test_a_rotated_key_lives_as_long_as_the_old_one_was_meant_to(create, keys):
    old = (await create(lifetime_ms=90 * DAY)).record
    rotated = await keys.rotate(old.key_id, grace_ms=DAY, now_ms=NOW + 80 * DAY, random=lambda count: b"\x09" * count)
    assert rotated.minted.record.expires_ms == NOW + 170 * DAY


async def test_a_grace_never_prolongs_the_old_key(create, keys):
    old = (await create(lifetime_ms=10)).record
    rotated = await keys.rotate(old.key_id, grace_ms=DAY, now_ms=NOW + 1, random=lambda count: b"\x09" * count)
    assert rotated.replaced.expires_ms == NOW + 10


async def test_without_grace_the_old_key_is_revoked(create, keys):
    old = (await create()).record
    rotated = await keys.rotate(old.key_id, grace_ms=0, now_ms=NOW + 1, random=lambda count: b"\x09" * count)
    assert rotated.replaced == replace(old, revoked_ms=NOW + 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"revoked_ms": NOW}, "has been revoked"), ({"expires_ms": NOW}, "has expired")],
)
async def test_a_key_that_has_ended_cannot_be_rotated(create, keys, records, change, told):
    old = (await create()).record
    await records.change_key(old.key_id, **change)
    refused = await refusal(keys.rotate(old.key_id, grace_ms=DAY, now_ms=NOW, random=lambda count: b"\x09" * count))
    assert refused.reason is Reason.CONFLICT
    assert told in refused.message
    assert "aion-proxy keys create acme" in refused.message
    assert len(records.by_digest) == 1


async def test_a_store_that_goes_away_half_way_leaves_the_old_key_and_says_what_to_do(create, keys, records):
    old = (await create()).record
    records.fail_on = {"change_key"}
    refused = await refusal(keys.rotate(old.key_id, grace_ms=DAY, now_ms=NOW, random=lambda count: b"\x09" * count))
    [kept, made] = records.by_digest.values()
    assert kept == old
    assert f"aion-proxy keys revoke {made.key_id}" in refused.message


@pytest.mark.parametrize("random", [bytes(16), b"\xff" * 16, bytes(range(16))])
def test_a_key_id_is_sixteen_base62_digits(random):
    prefix, _, digits = mint_key_id(random).partition("_")
    assert prefix == "key"
    assert len(digits) == 16
    assert digits.isascii()
    assert digits.isalnum()
