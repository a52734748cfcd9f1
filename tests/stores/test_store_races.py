"""Many gateways, one truth: processes that race for the last of a limit are given exactly what there is."""

import asyncio
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from proxy.accounts import Account, ApiKey, digest_of_key
from proxy.stores.keys import RedisKeys
from tests.stores.racer import HELD_NUSD, RACES

RACERS, TRIES, ROOM = 8, 2000, 500


@pytest.mark.timeout(300)
async def test_processes_that_race_are_given_exactly_what_there_is(store, store_url):
    """Whichever limit they race for, all limits at once, and with requests that come to hold more in between."""
    keys = RedisKeys(store)
    for name in RACES:
        await keys.create_account(Account(name, None, disabled=False, version=1, created_ms=1))
        await keys.create_key(ApiKey(f"key_{name}", name, "", "", created_ms=1), digest_of_key(name))

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
        await store.call("INCR", f"ready:{name}")
    results = [orjson.loads(racer.communicate()[0]) for racer in racers]

    assert {name: sum(result[name] for result in results) for name in RACES} == dict.fromkeys(RACES, ROOM)
    for name in RACES:
        shard = (await store.call("KEYS", f"*:acct:{name}"))[0].decode()
        held = await store.call("HMGET", shard, "held_tokens", "held_nusd")
        assert [int(value) for value in held] == [10 * ROOM, HELD_NUSD * ROOM], name
        leases = await store.call("ZRANGE", shard.replace(":acct:", ":lease:"), 0, -1)
        assert sum(int(lease.split()[2]) for lease in leases) == HELD_NUSD * ROOM
