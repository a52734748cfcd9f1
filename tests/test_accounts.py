"""Keys can be told from anything else on sight, lead to their account, and are never kept whole."""

import hashlib
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts import (
    ALPHABET,
    SHARDS,
    account_of_key,
    digest_of_key,
    hint_of_key,
    mint_key,
    shard_of,
    valid_account_name,
)

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_]{0,31}", fullmatch=True)
RANDOM = st.binary(min_size=24, max_size=40)


@pytest.mark.parametrize("name", ["a", "0", "acme", "acme_1", "9_", "a" * 32])
def test_names_that_an_account_may_have(name: str):
    assert valid_account_name(name)


@pytest.mark.parametrize(
    "name", ["", "_a", "A", "acme-1", "a" * 33, "a b", "a\n", "é", "a.b", "a:b", "a{b}", "²", "\uff41"]
)
def test_names_that_no_account_may_have(name: str):
    assert not valid_account_name(name)


@given(NAMES, RANDOM)
def test_a_key_names_its_account_and_is_made_of_safe_characters(account: str, random: bytes):
    key = mint_key(account, random)
    assert re.fullmatch(rf"sk-aion-{account}-[0-9A-Za-z]{{38}}", key)
    assert account_of_key(key) == account


@given(NAMES, RANDOM, RANDOM)
def test_different_chance_makes_different_keys(account: str, one: bytes, other: bytes):
    same = int.from_bytes(one, "big") % 62**32 == int.from_bytes(other, "big") % 62**32
    assert (mint_key(account, one) == mint_key(account, other)) is same


def test_all_of_190_bits_of_chance_are_in_a_key():
    keys = {mint_key("a", (1 << bit).to_bytes(24, "big")) for bit in range(190)}
    assert len(keys) == 190


KEY = mint_key("acme", bytes(range(24)))


@given(st.integers(0, len(KEY) - 1), st.sampled_from(string.ascii_letters + string.digits + "-_ \n"))
def test_a_key_with_one_wrong_character_is_known_to_be_wrong_without_asking_anybody(place: int, character: str):
    changed = KEY[:place] + character + KEY[place + 1 :]
    assert account_of_key(changed) == ("acme" if changed == KEY else None)


@given(st.integers(0, len(KEY) - 2))
def test_two_characters_that_changed_places_are_noticed(place: int):
    changed = KEY[:place] + KEY[place + 1] + KEY[place] + KEY[place + 2 :]
    assert account_of_key(changed) == ("acme" if changed == KEY else None)


@given(st.text(max_size=80) | st.text().map(lambda text: f"sk-aion-{text}"))
def test_no_text_is_taken_for_a_key(text: str):
    assert account_of_key(text) is None


@pytest.mark.parametrize(
    "key", ["", KEY + "\n", " " + KEY, KEY[:-1], KEY + "0", KEY.upper(), KEY.replace("sk-aion", "sk-proj"),
            KEY.replace("acme", "acme-x"), KEY.replace("acme", "")],
)  # fmt: skip
def test_what_only_looks_like_a_key_is_none(key: str):
    assert account_of_key(key) is None


def test_a_key_is_known_by_its_sha256_alone():
    assert digest_of_key(KEY) == hashlib.sha256(KEY.encode()).hexdigest()


def test_the_hint_shows_the_account_and_four_characters_and_no_more():
    hint = hint_of_key(KEY, "acme")
    assert hint == f"sk-aion-acme-…{KEY[-4:]}"
    assert KEY[len("sk-aion-acme-") : -4] not in hint


@given(NAMES)
def test_an_account_has_one_of_the_shards(account: str):
    assert 0 <= shard_of(account) < SHARDS


def test_the_shard_of_an_account_never_changes():
    """Its records are found under it, by every version of the gateway."""
    assert {name: shard_of(name) for name in ("acme", "a", "zeta_9")} == {"acme": 62, "a": 3, "zeta_9": 54}


def test_accounts_spread_over_all_shards():
    assert {shard_of(f"account_{number}") for number in range(2000)} == set(range(SHARDS))


def test_digits_come_before_letters():
    """Keys sort as their bytes do."""
    assert list(ALPHABET) == sorted(ALPHABET)
    assert len(ALPHABET) == 62


def test_a_key_made_by_any_version_stays_a_key():
    """The form and the checksum are fixed: customers keep their keys for years."""
    assert mint_key("acme", b"\x01" * 24) == "sk-aion-acme-0fdQWfEmi1CsDnkmh2kgfFBdcOWBGwvR0sEmhF"
