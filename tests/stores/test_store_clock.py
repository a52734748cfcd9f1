"""A server whose clock jumps: nobody is locked out for longer than one window, and holds end with the others."""

import asyncio
import time
from pathlib import Path

import pytest

from proxy.limits import Limit, LimitReached, Limits, Reservation
from proxy.stores.embedded import find_server
from tests.conftest import own_clock, put_clock
from tests.stores.changes import PATIENCE, attached
from tests.stores.conftest import Desk, make_desk
from tests.stores.redis_servers import RedisServer, options_of

HOUR = 3600
A_MOMENT = 5
"""Seconds; much less than a window, and more than it takes to ask for the time."""
LIMITS = Limits(requests_per_minute=2, tokens_per_minute=100, concurrent_requests=10)


@pytest.fixture
def clock(tmp_path) -> Path:
    """A file by which the server's clock is set; it counts seconds from the real time."""
    file = tmp_path / "clock"
    put_clock(file, 0)
    return file


@pytest.fixture
async def desk(tmp_path, clock):
    """The desk over a bundled server with a clock of its own; Debian's does not start under libfaketime."""
    path = tmp_path / "store.sock"
    options = {**options_of(0), "unixsocket": str(path)}
    server = RedisServer(find_server(), tmp_path / "server", options, own_clock(clock))
    try:
        server.start()
        async with attached(f"unix://{path}") as store:
            yield await make_desk(store, Desk)
    finally:
        server.kill()


async def set_clock(desk, clock, seconds):
    """Put the server's clock so far from the real time; servers look at their clock now and then, not always."""
    put_clock(clock, seconds)
    async with asyncio.timeout(PATIENCE):
        while abs(await desk.now() - time.time() - seconds) > A_MOMENT:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "back"])
async def test_after_a_jump_a_used_up_rate_is_free_again_within_a_window(desk: Desk, clock, jump):
    for number in range(2):
        assert isinstance(await desk.admit(LIMITS, f"r{number}", tokens=50), Reservation)
    assert isinstance(await desk.admit(LIMITS, "r2", tokens=50), LimitReached)

    await set_clock(desk, clock, jump)
    verdict = await desk.admit(LIMITS, "r3", tokens=50)
    if isinstance(verdict, LimitReached):
        assert verdict.limit in (Limit.REQUESTS_PER_MINUTE, Limit.TOKENS_PER_MINUTE)
        assert verdict.retry_after_ms <= 60_000
        await set_clock(desk, clock, jump + 61)
        verdict = await desk.admit(LIMITS, "r3", tokens=50)
    assert isinstance(verdict, Reservation)


async def test_what_jumps_there_and_back_leaves_no_hold_that_outlives_a_lease(desk: Desk, clock):
    await set_clock(desk, clock, HOUR)
    assert isinstance(await desk.admit(LIMITS, "r0", tokens=50), Reservation)
    await set_clock(desk, clock, 0)
    await desk.admit(Limits(concurrent_requests=1), "r1")
    await set_clock(desk, clock, 70)

    assert (await desk.limits.use("acme", LIMITS)).in_flight == 0
    assert await desk.counter("held_tokens") == 0


async def test_a_jump_on_a_new_day_begins_that_day(desk: Desk, clock):
    limits = Limits(tokens_per_day=100)
    reservation = await desk.admit(limits, "r0", tokens=100)
    assert isinstance(reservation, Reservation)
    await desk.limits.settle("acme", reservation.hold, 100, 0, limits)
    assert isinstance(await desk.admit(limits, "r1", tokens=1), LimitReached)

    await set_clock(desk, clock, 24 * HOUR)
    assert isinstance(await desk.admit(limits, "r2", tokens=100), Reservation)
