"""Which node has a key: the cluster's own table and its corrections, as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import RedisError, ResponseError

from proxy.accounts import SHARDS
from proxy.store_url import Node
from proxy.stores.limits import shard_prefix
from proxy.stores.slots import Slots, slot_of, tag_of

A, B, C = Node("a", 1), Node("b", 2), Node("c", 3)
TABLE = [[0, 99, [b"a", 1, b"id"], [b"r", 9, b"replica"]], [100, 16383, [b"b", 2, b"id", []]]]


def test_the_first_of_each_range_is_its_primary():
    slots = Slots.read(TABLE, C)

    assert [slots.owner(slot) for slot in (0, 99, 100, 16383)] == [A, A, B, B]
    assert slots.nodes() == [A, B]


def test_a_slot_that_nobody_has_has_no_owner():
    assert Slots.read(TABLE[:1], C).owner(100) is None
    assert not Slots()


def test_one_corrected_slot_leaves_its_neighbours():
    slots = Slots.read(TABLE, C)
    slots.move(50, C)

    assert [slots.owner(slot) for slot in (49, 50, 51)] == [A, C, A]
    assert slots.nodes() == [A, B, C]


@pytest.mark.parametrize("host", [None, b"", b"?"])
def test_a_node_that_does_not_know_its_address_is_where_it_was_asked(host):
    assert Slots.read([[0, 16383, [host, 7, b"id"]]], C).owner(1) == Node("c", 7)


@pytest.mark.parametrize("reply", [[], None, b"?", ResponseError("This instance has cluster support disabled")])
def test_what_is_no_table_is_an_error(reply):
    with pytest.raises(RedisError):
        Slots.read(reply, C)


@given(st.text(alphabet="ab{}:", max_size=12))
def test_a_key_and_its_tag_have_the_same_slot(key):
    """The library takes the tag out of a key by the cluster's own rule."""
    assert slot_of(tag_of(key)) == slot_of(key)


def test_all_keys_of_a_shard_have_one_slot_and_shards_have_different_ones():
    slots = {shard: slot_of(tag_of(f"{shard_prefix(shard)}acct:x")) for shard in range(SHARDS)}

    assert all(slot_of(tag_of(f"{shard_prefix(shard)}key:{'0' * 64}")) == slot for shard, slot in slots.items())
    assert len(set(slots.values())) == SHARDS
