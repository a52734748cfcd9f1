"""Who is let past the first step, who is not, and what the store is asked for it."""

import pytest

from memory_stores import MemoryKeys
from proxy.accounts import Identity, digest_of_key, mint_key
from proxy.errors import ErrorType, Refusal, StoreUnavailable
from proxy.steps.authenticate import Memory, authenticate
from specimens import NOW, account, api_key

NOW_MS = NOW * 1000
KEY = mint_key("acme", bytes(range(32)))
OTHER = mint_key("acme", bytes(range(1, 33)))
INVALID = (401, ErrorType.AUTHENTICATION, "invalid_api_key", "authentication")


class Keys(MemoryKeys):
    """A store that counts what it is asked, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name["acme"] = account()
        self.by_digest[digest_of_key(KEY)] = api_key()
        self.asked = 0
        self.away = False

    async def identify(self, account: str, digest: str) -> Identity | None:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("connection refused")
        return await super().identify(account, digest)

    def change(self, **fields: object) -> None:
        self.by_digest[digest_of_key(KEY)] = api_key(**fields)


async def refusal_of(*authorizations: str, keys: Keys | None = None, memory: Memory | None = None):
    with pytest.raises(Refusal) as refused:
        await authenticate(authorizations, memory or Memory(), keys or Keys(), now_ms=NOW_MS)
    fault = refused.value.fault
    return fault.status, fault.type, fault.code, fault.reason


async def known(keys: Keys | None = None, memory: Memory | None = None, header: str = f"Bearer {KEY}") -> Identity:
    return await authenticate([header], memory or Memory(), keys or Keys(), now_ms=NOW_MS)


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {KEY}", f"bEaReR  {KEY} ", f"Api-Key {KEY}", f"api-key\t{KEY}", f" Bearer \t {KEY}\t",
    ],
)  # fmt: skip
async def test_a_good_key_says_who_it_is_under_either_scheme(header):
    identity = await known(header=header)
    assert (identity.account.name, identity.key.key_id, identity.digest) == ("acme", "key_1", digest_of_key(KEY))


async def test_without_a_header_a_key_is_asked_for():
    assert await refusal_of() == (401, ErrorType.AUTHENTICATION, "missing_api_key", "authentication")


@pytest.mark.parametrize(
    "header",
    [
        "", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer{KEY}", f"Bearer {KEY} x", f"Bearer {KEY},{KEY}",
        f"Bearer {KEY[:-1]}", f"Bearer {KEY[:-1]}!", "Bearer sk-other-0123", f"Bearer {KEY.upper()}",
        f"Bearer {'x' * 513}", "Bearer s\u00e9cret", f"Bearer {KEY}\x7f",
    ],
)  # fmt: skip
async def test_what_cannot_be_a_key_is_refused_without_asking_the_store(header):
    keys = Keys()
    assert await refusal_of(header, keys=keys) == INVALID
    assert keys.asked == 0


async def test_two_headers_are_one_too_many_even_if_both_are_good():
    assert await refusal_of(f"Bearer {KEY}", f"Bearer {KEY}") == INVALID


async def test_all_that_can_be_wrong_with_a_key_gets_one_answer():
    """A probe must not learn whether a key was ever good."""
    messages = set()
    for change in ({"revoked_ms": 1}, {"expires_ms": NOW_MS}, None):
        keys = Keys()
        if change is None:
            keys.by_digest.clear()
        else:
            keys.change(**change)
        with pytest.raises(Refusal) as refused:
            await known(keys)
        messages.add(refused.value.fault)
    with pytest.raises(Refusal) as refused:
        await known(header="Bearer nonsense")
    messages.add(refused.value.fault)
    assert len(messages) == 1


async def test_a_key_is_good_until_the_moment_it_expires():
    keys = Keys()
    keys.change(expires_ms=NOW_MS + 1)
    assert (await known(keys)).key.key_id == "key_1"
    memory = Memory()
    await known(keys, memory)
    with pytest.raises(Refusal):
        await authenticate([f"Bearer {KEY}"], memory, keys, now_ms=NOW_MS + 1)


async def test_a_disabled_account_is_told_so_and_looked_up_again_the_next_time():
    keys, memory = Keys(), Memory()
    keys.by_name["acme"] = account(disabled=True)
    expected = (403, ErrorType.PERMISSION, "account_disabled", "permission")
    assert await refusal_of(f"Bearer {KEY}", keys=keys, memory=memory) == expected
    keys.by_name["acme"] = account()
    assert (await known(keys, memory)).account.name == "acme"


async def test_an_unknown_key_that_cannot_be_looked_up_is_not_called_bad():
    keys = Keys()
    keys.away = True
    with pytest.raises(Refusal) as refused:
        await known(keys)
    fault = refused.value.fault
    assert (fault.status, fault.type, fault.code) == (503, ErrorType.INTERNAL, "overloaded")
    assert fault.reason == "store_unavailable"
    assert fault.retry_after_ms


async def test_a_key_that_was_seen_good_is_asked_for_once_and_works_while_the_store_is_away():
    keys, memory = Keys(), Memory()
    await known(keys, memory)
    keys.away = True
    assert (await known(keys, memory)).key.key_id == "key_1"
    assert keys.asked == 1


async def test_a_key_that_is_forgotten_is_looked_up_again():
    keys, memory = Keys(), Memory()
    identity = await known(keys, memory)
    memory.forget(identity.digest)
    await known(keys, memory)
    assert keys.asked == 2


async def test_no_refusal_repeats_what_was_sent():
    for header in (f"Bearer {OTHER}", "Basic c2VjcmV0", "Bearer secret"):
        with pytest.raises(Refusal) as refused:
            await known(header=header)
        assert header.split()[1] not in str(refused.value)


class TestMemory:
    def identity(self, digest: str, **fields: object) -> Identity:
        return Identity(account(**fields), api_key(), digest)

    def test_it_remembers_no_more_than_it_may_and_lets_the_longest_known_go(self):
        memory = Memory(most=2)
        for digest in ("a", "b", "c"):
            memory.put(self.identity(digest))
        assert [memory.get(digest) is not None for digest in "abc"] == [False, True, True]

    def test_a_newer_record_replaces_an_older_without_pushing_another_out(self):
        memory = Memory(most=2)
        for digest, version in (("a", 1), ("b", 1), ("b", 2)):
            memory.put(self.identity(digest, version=version))
        assert [memory.get(digest).account.version for digest in "ab"] == [1, 2]

    def test_forgetting_what_is_not_known_is_no_error(self):
        Memory().forget("a")
