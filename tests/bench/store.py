"""What an admission and its settlement cost: the store's processor, by its own statistics, and the gateway's.

In this process, over the bundled server, with every limit of a plan on and as many requests at once as a busy worker
has. The server's share is told per script; what the gateway spends is told for both together, as requests need both.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from proxy.accounts import Account, ApiKey, Identity, digest_of_key
from proxy.limits import Hold, Limits, Period, Reservation
from proxy.stores.embedded import EmbeddedStore
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import connect_store
from proxy.stores.store import Store

AT_ONCE = 32
ACCOUNTS = 20
LIMITS = Limits(
    requests_per_minute=10**7,
    tokens_per_minute=10**10,
    concurrent_requests=10**5,
    tokens_per_day=10**12,
    budget_nusd=10**12,
    budget_per=Period.MONTH,
)


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds per call, and for the gateway per request."""

    admit: float
    settle: float
    gateway: float


def measure(requests: int) -> Costs:
    """Take the figures once, over a server of its own."""
    with tempfile.TemporaryDirectory(prefix="aion-bench-store-") as folder:
        server = EmbeddedStore.start(Path(folder))
        try:
            return uvloop.run(_measure(server.url, requests))
        finally:
            server.stop()


async def _measure(url: str, requests: int) -> Costs:
    async with connect_store(url, call_timeout=10) as store:
        limits = RedisLimits(store)
        identities = [await _identity(store, f"account_{number}") for number in range(ACCOUNTS)]
        await _both(limits, identities, requests // 10, "warm")
        began = time.process_time()
        await _both(limits, identities, requests, "both")
        spent = (time.process_time() - began) / requests * 1e6
        holds = [Hold(f"req_{os.getpid()}_{number}", 1200, 50_000) for number in range(requests // 10)]
        admit = await _script_us(store, holds, lambda n, hold: limits.admit(identities[n % ACCOUNTS], LIMITS, hold))
        settle = await _script_us(
            store, holds, lambda n, hold: limits.settle(f"account_{n % ACCOUNTS}", hold, 800, 30_000, LIMITS)
        )
        return Costs(admit, settle, spent)


async def _identity(store: Store, name: str) -> Identity:
    keys = RedisKeys(store)
    await keys.create_account(Account(name, None, disabled=False, version=1, created_ms=1))
    digest = digest_of_key(name)
    await keys.create_key(ApiKey(f"key_{name}", name, "", "", created_ms=1), digest)
    identity = await keys.identify(name, digest)
    if identity is None:
        raise AssertionError(name)
    return identity


async def _both(limits: RedisLimits, identities: list[Identity], requests: int, label: str) -> None:
    """Admit and settle as a gateway does: nobody waits for a settlement."""
    numbers = iter(range(requests))
    sent: set[asyncio.Future[object]] = set()

    async def serve() -> None:
        for number in numbers:
            identity = identities[number % ACCOUNTS]
            hold = Hold(f"req_{label}_{number:024x}", 1200, 50_000)
            admission = await limits.admit(identity, LIMITS, hold)
            if not isinstance(admission, Reservation):
                raise TypeError(admission)
            settled = limits.begin_settle(identity.account.name, hold, 800, 30_000, LIMITS)
            sent.add(settled)
            settled.add_done_callback(sent.discard)

    await asyncio.gather(*[serve() for _ in range(AT_ONCE)])
    if sent:
        await asyncio.wait(sent)


async def _script_us(store: Store, holds: list[Hold], call: Callable[[int, Hold], Awaitable[object]]) -> float:
    """The server's own figure for one script: the median over groups of as many calls as there are at once.

    It goes by the clock on the wall, also while another process has the server's core: a mean would tell of those.
    """
    found = []
    for first in range(0, len(holds), AT_ONCE):
        calls, us = await _scripts_so_far(store)
        await asyncio.gather(*[call(number, hold) for number, hold in enumerate(holds[first : first + AT_ONCE], first)])
        calls_after, us_after = await _scripts_so_far(store)
        found.append((us_after - us) / (calls_after - calls))
    return median(found)


async def _scripts_so_far(store: Store) -> tuple[int, int]:
    """How many scripts the server has run by their digest, and the microseconds they took."""
    for line in (await store.call("INFO", "commandstats")).decode().splitlines():
        name, _, figures = line.partition(":")
        if name == "cmdstat_evalsha":
            of = dict(pair.split("=") for pair in figures.split(","))
            return int(of["calls"]), int(of["usec"])
    raise AssertionError("no script was run")
