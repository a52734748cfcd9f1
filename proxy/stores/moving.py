"""Everything that gateways keep in a store, copied into another store: records and counters byte by byte.

What the values mean is not known here, so that a field of a newer release moves too. Nothing is removed from where it
comes from; a mark in the target says whose copy it is, and whether it was finished. Who may run meanwhile is decided by
the caller.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from proxy.accounts import SHARDS, shard_of
from proxy.stores.gateways import COUNTED_MS
from proxy.stores.limits import shard_prefix
from proxy.stores.scripts import load_script
from proxy.stores.store import Store

_AT_ONCE: Final = 50
_ROLL: Final = f"{shard_prefix(0)}gateways"
_LEDGERS: Final = f"{shard_prefix(0)}ledgers"
_MARK: Final = f"{shard_prefix(0)}migration"
_BEGUN, _DONE = b"begun", b"done"


class Target(Enum):
    """What a store is to this copy."""

    EMPTY = "empty"
    BEGUN = "begun"
    DONE = "done"
    OTHERS = "others"
    """It has accounts or keys that this copy did not bring."""


class _Kind(Enum):
    """How a value is read, and the command that writes it."""

    HASH = ("HGETALL", "HSET")
    SET = ("SMEMBERS", "SADD")
    LIST = ("LRANGE", "RPUSH")
    SORTED = ("ZRANGE", "ZADD")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What there is to copy: accounts, and for each key of an account its digest by its id."""

    accounts: frozenset[str]
    keys: Mapping[str, tuple[str, str]]
    """Account and digest, by key id."""

    def values(self) -> Iterator[tuple[str, _Kind]]:
        """Yield every name in the store, what a name leads to before the index that has it."""
        yield _LEDGERS, _Kind.SET
        for account, digest in self.keys.values():
            yield f"{_prefix(account)}key:{digest}", _Kind.HASH
        for account in sorted(self.accounts):
            shard = _prefix(account)
            yield f"{shard}keys:{account}", _Kind.HASH
            yield f"{shard}lease:{account}", _Kind.SORTED
            yield f"{shard}late:{account}", _Kind.SORTED
            yield f"{shard}charged:{account}", _Kind.LIST
            yield f"{shard}acct:{account}", _Kind.HASH
        for shard in map(shard_prefix, range(SHARDS)):
            yield f"{shard}keyids", _Kind.HASH
            yield f"{shard}accounts", _Kind.SET


class StoreMove:
    """One copy, under a `name` that it has whenever it is begun again. Every call raises `StoreUnavailable`."""

    def __init__(self, source: Store, target: Store, name: str) -> None:
        """Copy from `source` to `target`; nothing happens before a method is called."""
        self._source = source
        self._target = target
        self._name = name.encode()
        self._replace = load_script("replace")

    async def state(self, having: Inventory) -> Target:
        """Say what the target is; `having` is what the source has."""
        mark, state = await self._target.call("HMGET", _MARK, "name", "state")
        there = await inventory(self._target)
        if mark is None:
            return Target.OTHERS if there.accounts or there.keys else Target.EMPTY
        if mark != self._name:
            return Target.OTHERS
        if state == _DONE:
            return Target.DONE
        foreign = there.accounts - having.accounts or there.keys.keys() - having.keys.keys()
        return Target.OTHERS if foreign else Target.BEGUN

    async def copy(self, having: Inventory, progress: Callable[[int, int], None]) -> None:
        """Have the target hold what the source holds; `progress` hears how many of how many values are there.

        A target that holds a part of it already gets the rest, and what has changed since.
        """
        await self._target.call("HSET", _MARK, "name", self._name, "state", _BEGUN)
        values = list(having.values())
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            await asyncio.gather(*[self._copy(name, kind) for name, kind in some])
            progress(start + len(some), len(values))

    async def differing(self, having: Inventory) -> list[str]:
        """Return the names of the values that are not the same in both."""
        values = list(having.values())
        found = []
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            same = await asyncio.gather(*[self._same(name, kind) for name, kind in some])
            found += [name for (name, _), is_same in zip(some, same, strict=True) if not is_same]
        return found

    async def finish(self) -> None:
        """Mark the copy as done: from now on the target goes its own way, and is never written to again."""
        await self._target.call("HSET", _MARK, "name", self._name, "state", _DONE)

    async def _copy(self, name: str, kind: _Kind) -> None:
        words, ttl = await asyncio.gather(_read(self._source, name, kind), self._source.call("PTTL", name))
        if kind is _Kind.SORTED:  # members come before their scores, and are written after them
            words = [word for member, score in zip(words[::2], words[1::2], strict=True) for word in (score, member)]
        args = (name, kind.value[1], ttl if words and ttl > 0 else "", *words)
        await self._target.script(self._replace, (name,), args, echo=name)

    async def _same(self, name: str, kind: _Kind) -> bool:
        ours, theirs = await asyncio.gather(_read(self._source, name, kind), _read(self._target, name, kind))
        return bool(_comparable(ours, kind) == _comparable(theirs, kind))


async def inventory(store: Store) -> Inventory:
    """Read which accounts and keys a store has."""
    shards = [shard_prefix(shard) for shard in range(SHARDS)]
    names = await asyncio.gather(*[store.call("SMEMBERS", f"{shard}accounts") for shard in shards])
    indexes = await asyncio.gather(*[store.call("HGETALL", f"{shard}keyids") for shard in shards])
    keys = {}
    for index in indexes:
        for key_id, entry in zip(index[::2], index[1::2], strict=True):
            account, _, digest = entry.decode().partition(" ")
            keys[key_id.decode()] = (account, digest)
    accounts = {name.decode() for shard in names for name in shard} | {account for account, _ in keys.values()}
    return Inventory(frozenset(accounts), keys)


async def gateways_of(store: Store, now_ms: int) -> int:
    """Return how many workers of gateways have said within the last minute that they use this store."""
    count: int = await store.call("ZCOUNT", _ROLL, now_ms - COUNTED_MS, "+inf")
    return count


async def _read(store: Store, name: str, kind: _Kind) -> list[bytes]:
    match kind:
        case _Kind.LIST:
            more: Sequence[str | int] = (0, -1)
        case _Kind.SORTED:
            more = (0, -1, "WITHSCORES")
        case _:
            more = ()
    words: list[bytes] = await store.call(kind.value[0], name, *more)
    return words


def _comparable(words: list[bytes], kind: _Kind) -> Any:  # noqa: ANN401 - whatever can be compared
    """Return a value so that servers which list it in another order say the same."""
    match kind:
        case _Kind.LIST:
            return words
        case _Kind.SET:
            return set(words)
        case _Kind.HASH:
            return dict(zip(words[::2], words[1::2], strict=True))
        case _Kind.SORTED:
            return dict(zip(words[::2], map(float, words[1::2]), strict=True))


def _prefix(account: str) -> str:
    return shard_prefix(shard_of(account))
