"""One of several processes that race for the same room (URL RACERS TRIES); prints how much it was given.

The scripts' clock stands still, so that no rate comes back while the race goes on.
"""

import asyncio
import hashlib
import os
import sys

import orjson

from proxy.accounts import digest_of_key
from proxy.limits import Hold, LimitReached, Limits, Reservation
from proxy.stores import limits as store_limits
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import connect_store
from proxy.stores.scripts import Script, load_script
from proxy.stores.store import Store

AT_ONCE = 50
HELD_NUSD = 1000
FULL = Limits(requests_per_minute=500, tokens_per_minute=10**6, concurrent_requests=600, budget_nusd=10**9)
RACES = {
    "requests": Limits(requests_per_minute=500),
    "tokens": Limits(tokens_per_minute=5000),
    "concurrency": Limits(concurrent_requests=500),
    "tokens_of_day": Limits(tokens_per_day=5000),
    "budget": Limits(budget_nusd=500_000),
    "everything": FULL,
    "growing": Limits(budget_nusd=500_000),
}
"""What an account of this name races for: room for 500, whichever limit it is; ten tokens are held each time."""
GROWING = "growing"
"""Here half of the tries ask for more for what was admitted before."""


def load_still_script(name: str) -> Script:
    """A script for which it is always the same moment."""
    text = load_script(name).text.replace("redis.call('TIME')", "{1795000000, 0}")
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


async def race(connection: Store, account: str, limits: Limits, tries: int) -> int:
    """Ask `tries` times, many at once; how often it was admitted, or was given more."""
    store = RedisLimits(connection)
    identity = await RedisKeys(connection).identify(account, digest_of_key(account))
    numbers = iter(range(tries))

    async def runner() -> int:
        given, has = 0, None
        for number in numbers:
            if account == GROWING and has is not None and number % 2:
                wants = Hold(has.request_id, has.tokens + 10, has.nusd + HELD_NUSD)
                if await store.top_up(account, has, wants, limits) is None:
                    given, has = given + 1, wants
                continue
            hold = Hold(f"req_{os.getpid()}_{number}", 10, HELD_NUSD)
            admission = await store.admit(identity, limits, hold)
            assert isinstance(admission, Reservation | LimitReached), admission
            if isinstance(admission, Reservation):
                given, has = given + 1, hold
        return given

    return sum(await asyncio.gather(*[runner() for _ in range(AT_ONCE)]))


async def main(url: str, racers: int, tries: int) -> None:
    async with connect_store(url, call_timeout=30) as connection:
        given = {}
        for account, limits in RACES.items():
            await connection.call("INCR", f"ready:{account}")
            # The last to be ready is whoever started the race.
            while int(await connection.call("GET", f"ready:{account}")) <= racers:  # noqa: ASYNC110
                await asyncio.sleep(0.002)  # the others are other processes: there is no event to wait for
            given[account] = await race(connection, account, limits, tries)
    sys.stdout.buffer.write(orjson.dumps(given))


if __name__ == "__main__":
    store_limits.load_script = load_still_script
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
