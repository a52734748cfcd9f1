"""One account with one key in a real store, and a look at what the store has written down."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from proxy.accounts import Account, ApiKey, Identity, digest_of_key, shard_of
from proxy.limits import Admission, Hold, Limits
from proxy.stores import limits as store_limits
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.scripts import Script, load_script
from proxy.stores.store import Store

DIGEST = digest_of_key("the key of acme")


@dataclass(frozen=True)
class Desk:
    """What a test of limits works with: the account `acme`, asked about in the fewest words."""

    connection: Store
    limits: RedisLimits
    keys: RedisKeys
    identity: Identity

    async def admit(self, limits: Limits, request: str = "req_1", tokens: int = 0, nusd: int = 0) -> Admission:
        return await self.limits.admit(self.identity, limits, Hold(request, tokens, nusd))

    def name(self, kind: str) -> str:
        account = self.identity.account.name
        return f"aion:{{s{shard_of(account):02d}}}:{kind}:{account}"

    async def counter(self, field: str) -> float:
        """A counter of the account, as the store has it."""
        return float(await self.connection.call("HGET", self.name("acct"), field) or 0)

    async def put(self, **counters: object) -> None:
        """Write counters behind the scripts' back, as if time had passed or a clock had jumped."""
        words = [str(word) for pair in counters.items() for word in pair]
        await self.connection.call("HSET", self.name("acct"), *words)

    async def rewind(self, field: str, milliseconds: float) -> None:
        """Let time pass for one rate: move its TAT back."""
        await self.put(**{field: await self.counter(field) - milliseconds * 1000})

    async def run_out(self, hold: Hold) -> None:
        """Let a lease run out: write an expiry in the past."""
        member = f"{hold.request_id} {hold.tokens} {hold.nusd}"
        assert await self.connection.call("ZADD", self.name("lease"), "XX", "CH", 1000, member) == 1

    async def leases(self) -> list[bytes]:
        leases: list[bytes] = await self.connection.call("ZRANGE", self.name("lease"), 0, -1)
        return leases

    async def now(self) -> float:
        """The server's clock in seconds."""
        seconds, micros = await self.connection.call("TIME")
        return int(seconds) + int(micros) / 1e6

    async def picture(self) -> object:
        """Everything that is written down about the account."""
        call = self.connection.call
        record = await call("HGETALL", self.name("acct"))
        pairs = dict(zip(record[::2], record[1::2], strict=True))
        return pairs, await call("ZRANGE", self.name("lease"), 0, -1, "WITHSCORES")


class TimedDesk(Desk):
    """A desk whose scripts take the time from the test."""

    async def set_time(self, moment: datetime) -> None:
        seconds, micros = divmod((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1), 10**6)
        await self.connection.call("MSET", "clock:seconds", str(seconds), "clock:micros", str(micros))

    async def time(self) -> datetime:
        seconds, micros = await self.connection.call("MGET", "clock:seconds", "clock:micros")
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds), microseconds=int(micros))

    async def pass_by(self, milliseconds: float) -> None:
        await self.set_time(await self.time() + timedelta(milliseconds=milliseconds))


def load_timed_script(name: str) -> Script:
    """A script that reads the clock of the test where it would ask the server for the time."""
    text = load_script(name).text
    assert text.count("redis.call('TIME')") == 1
    text = text.replace("redis.call('TIME')", "redis.call('MGET', 'clock:seconds', 'clock:micros')")
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@pytest.fixture
async def timed_desk(store: Store, monkeypatch: pytest.MonkeyPatch) -> TimedDesk:
    monkeypatch.setattr(store_limits, "load_script", load_timed_script)
    desk = await make_desk(store, TimedDesk)
    await desk.set_time(datetime(2026, 11, 23, 10, 30, tzinfo=UTC))
    return desk


@pytest.fixture
async def desk(store: Store) -> Desk:
    return await make_desk(store, Desk)


_DeskT = TypeVar("_DeskT", bound=Desk)


async def make_desk(store: Store, kind: type[_DeskT]) -> _DeskT:
    """Make the account in an empty store."""
    keys = RedisKeys(store)
    assert await keys.create_account(Account("acme", plan=None, disabled=False, version=1, created_ms=1))
    key = ApiKey("key_1", "acme", name="first", hint="sk-aion-acme-…abcd", created_ms=1)
    await keys.create_key(key, DIGEST)
    identity = await keys.identify("acme", DIGEST)
    assert identity is not None
    return kind(store, RedisLimits(store), keys, identity)
