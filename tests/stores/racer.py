"""One of several processes that race for the same room (URL RACERS TRIES); prints how often it was admitted."""

import asyncio
import os
import sys

import orjson

from proxy.accounts import digest_of_key
from proxy.limits import Hold, LimitReached, Limits, Reservation
from proxy.stores.connection import StoreConnection
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import connect_store

AT_ONCE = 50
RACES = {
    "requests": Limits(requests_per_minute=600),
    "concurrency": Limits(concurrent_requests=500),
    "budget": Limits(budget_nusd=500_000),
}
HELD_NUSD = 1000


async def race(connection: StoreConnection, account: str, limits: Limits, tries: int) -> int:
    """Ask `tries` times, many at once; how often it was admitted."""
    store = RedisLimits(connection)
    identity = await RedisKeys(connection).identify(account, digest_of_key(account))
    numbers = iter(range(tries))

    async def runner() -> int:
        admitted = 0
        for number in numbers:
            admission = await store.admit(identity, limits, Hold(f"req_{os.getpid()}_{number}", 0, HELD_NUSD))
            assert isinstance(admission, Reservation | LimitReached), admission
            admitted += isinstance(admission, Reservation)
        return admitted

    return sum(await asyncio.gather(*[runner() for _ in range(AT_ONCE)]))


async def main(url: str, racers: int, tries: int) -> None:
    async with connect_store(url, call_timeout=30) as connection:
        admitted = {}
        for account, limits in RACES.items():
            await connection.call("INCR", f"ready:{account}")
            # The last to be ready is whoever started the race.
            while int(await connection.call("GET", f"ready:{account}")) <= racers:  # noqa: ASYNC110
                await asyncio.sleep(0.002)  # the others are other processes: there is no event to wait for
            admitted[account] = await race(connection, account, limits, tries)
    sys.stdout.buffer.write(orjson.dumps(admitted))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
