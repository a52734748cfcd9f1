"""Many gateways, one truth: processes that race for the last of a limit are given exactly what there is."""

import asyncio
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from proxy.accounts import Account, ApiKey, digest_of_key, shard_of
from proxy.limits import Limit
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from tests.stores.racer import HELD_NUSD, RACES

RACERS, TRIES = 8, 2000
STEP = 60e6 / RACES["requests"].requests_per_minute
"""µs after which one more request is admitted."""
ROOM = 500


async def server_now(store):
    seconds, micros = await store.call("TIME")
    return int(seconds) * 1e6 + int(micros)


@pytest.mark.timeout(180)
async def test_processes_that_race_are_given_exactly_what_there_is(store, store_url):
    keys, limits = RedisKeys(store), RedisLimits(store)
    for name in RACES:
        await keys.create_account(Account(name, None, disabled=False, version=1, created_ms=1))
        await keys.create_key(ApiKey(f"key_{name}", name, "", "", created_ms=1), digest_of_key(name))
    requests = f"aion:{{s{shard_of('requests'):02d}}}:acct:requests"
    racers = [
        subprocess.Popen(  # noqa: ASYNC220 - forking takes a moment, and nothing else runs here
            [sys.executable, "-m", "tests.stores.racer", store_url, str(RACERS), str(TRIES)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        for _ in range(RACERS)
    ]
    for name in RACES:
        while int(await store.call("GET", f"ready:{name}") or 0) < RACERS:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.002)
        if name == "requests":
            # All but ROOM of this minute's requests are used already.
            begun = await server_now(store) + (RACES[name].requests_per_minute - ROOM) * STEP
            await store.call("HSET", requests, "requests_tat", f"{begun:.2f}")
        await store.call("INCR", f"ready:{name}")
    results = [orjson.loads(racer.communicate()[0]) for racer in racers]
    admitted = {name: sum(result[name] for result in results) for name in RACES}

    assert admitted["concurrency"] == ROOM
    assert (await limits.use("concurrency", RACES["concurrency"])).in_flight == ROOM
    assert admitted["budget"] == ROOM
    assert (await limits.use("budget", RACES["budget"])).held_nusd == ROOM * HELD_NUSD
    # A rate goes on while the race does: each admission moved the TAT by one step, none was lost or counted twice,
    # and it never went further than one window ahead.
    ended = float(await store.call("HGET", requests, "requests_tat"))
    assert admitted["requests"] == round((ended - begun) / STEP)
    assert admitted["requests"] >= ROOM
    assert ended <= await server_now(store) + 60e6 + 1000
    left = (await limits.use("requests", RACES["requests"])).limits[Limit.REQUESTS_PER_MINUTE].remaining
    assert left < RACES["requests"].requests_per_minute
