"""What was done although nobody heard of it: holds are taken, grown, given back and charged once all the same."""

import asyncio
import random
from itertools import count

import pytest

from proxy.call import Metered
from proxy.errors import StoreUnavailable
from proxy.limits import Hold, Limits, Reservation
from proxy.steps.settle import Settler
from proxy.stores.connection import StoreConnection
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import connect_store
from proxy.usage import Usage, UsageSource
from specimens import call
from tests.stores.lossy_relay import lossy_relay
from waiting import WAIT, until

LIMITS = Limits(tokens_per_minute=10**6, tokens_per_day=10**9, budget_nusd=10**12)
HAS, WANTS = Hold("req_1", 100, 1000), Hold("req_1", 150, 1800)


@pytest.fixture
async def relay(store_url, tmp_path):
    async with lossy_relay(store_url, tmp_path) as relay:
        yield relay


@pytest.fixture
async def far(relay):
    """The limits, asked over a line that loses replies."""
    async with connect_store(relay.url) as connection:
        yield RedisLimits(connection)


async def losing(relay, far, call):
    """Make a call whose reply is lost, and come back to a line that works. The server knows its script already."""
    relay.lose = lambda: True
    with pytest.raises(StoreUnavailable) as lost:
        await call
    assert lost.value.may_have_run
    relay.lose = lambda: False
    await until(lambda: far._connection.up)


async def settled_before(desk):
    """Let the server learn the scripts."""
    await desk.limits.admit(desk.identity, LIMITS, Hold("req_0", 0, 0))
    await desk.limits.settle("acme", Hold("req_0", 0, 0), 0, 0, LIMITS)


async def test_a_settlement_whose_reply_was_lost_is_sent_again_and_charged_once(desk, far, relay):
    await settled_before(desk)
    await desk.limits.admit(desk.identity, LIMITS, HAS)

    await losing(relay, far, far.settle("acme", HAS, 90, 900, LIMITS))
    once = await desk.picture()
    await far.settle("acme", HAS, 90, 900, LIMITS)

    assert await desk.picture() == once
    use = await desk.limits.use("acme", LIMITS)
    assert (use.spent_nusd, use.held_nusd, use.in_flight) == (900, 0, 0)


async def test_an_admission_whose_reply_was_lost_is_given_back_and_costs_nothing(desk, far, relay):
    await settled_before(desk)
    await losing(relay, far, far.admit(desk.identity, LIMITS, HAS))
    assert (await desk.limits.use("acme", LIMITS)).held_nusd == 1000

    await far.settle("acme", HAS, 0, 0, LIMITS)

    use = await desk.limits.use("acme", LIMITS)
    assert (use.spent_nusd, use.held_nusd, use.in_flight) == (0, 0, 0)


async def test_an_admission_whose_reply_was_lost_may_be_asked_again(desk, far, relay):
    await settled_before(desk)
    await losing(relay, far, far.admit(desk.identity, LIMITS, HAS))
    before = await desk.picture()

    assert isinstance(await far.admit(desk.identity, LIMITS, HAS), Reservation)

    assert await desk.picture() == before


async def test_a_settlement_that_comes_before_its_admission_leaves_a_hold_for_a_minute_and_no_charge(timed_desk):
    await timed_desk.limits.settle("acme", HAS, 0, 0, LIMITS)
    await timed_desk.limits.admit(timed_desk.identity, LIMITS, HAS)
    assert (await timed_desk.limits.use("acme", LIMITS)).held_nusd == 1000

    await timed_desk.pass_by(60_000)

    use = await timed_desk.limits.use("acme", LIMITS)
    assert (use.spent_nusd, use.held_nusd, use.in_flight) == (0, 0, 0)


async def test_a_thousand_holders_that_died_hold_nothing_after_their_lease(timed_desk):
    limits = Limits(concurrent_requests=1000, budget_nusd=10**9)
    holds = [Hold(f"req_{number}", 10, 1000) for number in range(1000)]
    await asyncio.gather(*[timed_desk.limits.admit(timed_desk.identity, limits, hold) for hold in holds])
    await timed_desk.pass_by(59_999)
    assert (await timed_desk.limits.use("acme", limits)).in_flight == 1000

    await timed_desk.pass_by(1)

    use = await timed_desk.limits.use("acme", limits)
    assert (use.held_nusd, use.in_flight) == (0, 0)


async def test_a_top_up_whose_reply_was_lost_is_asked_again_and_settled_once(desk, far, relay):
    await desk.limits.admit(desk.identity, LIMITS, HAS)

    await desk.limits.top_up("acme", Hold("req_0", 0, 0), Hold("req_0", 1, 1), LIMITS)
    await losing(relay, far, far.top_up("acme", HAS, WANTS, LIMITS))
    assert await far.top_up("acme", HAS, WANTS, LIMITS) is None
    assert (await desk.limits.use("acme", LIMITS)).held_nusd == 1800
    await losing(relay, far, far.settle("acme", HAS, 120, 1500, LIMITS, maybe=WANTS))
    await far.settle("acme", HAS, 120, 1500, LIMITS, maybe=WANTS)

    use = await desk.limits.use("acme", LIMITS)
    assert (use.spent_nusd, use.held_nusd, use.in_flight) == (1500, 0, 0)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_lost_each_request_is_charged_once_and_holds_nothing_in_the_end(desk, relay, seed):
    """Three hundred requests over a line that loses every seventh piece of replies; the sums are kept here, too."""
    dice = random.Random(seed)
    connection = StoreConnection(relay.url)
    await connection.connect()
    far = RedisLimits(connection)
    settler = Settler(far, lambda _: None)
    charged = 0

    async def request(number: int) -> None:
        nonlocal charged
        hold = Hold(f"req_{seed}_{number}", 100, 1000)
        await asyncio.sleep(0.001 * number)
        try:
            admission = await far.admit(desk.identity, LIMITS, hold)
        except StoreUnavailable as away:
            if away.may_have_run:
                settler.give_back("acme", hold, LIMITS)
            return
        assert isinstance(admission, Reservation)
        settler.opened(admission, LIMITS, 0.0)
        allowance = settler.allowance(call(stream=True), admission)
        for told in (50, 500, 1200):
            allowance.look(Usage(10, told), 0)
            await asyncio.sleep(0.002)
        cost = dice.randrange(1, 10**6)
        settler.settle(admission, Metered(Usage(10, 1200), UsageSource.UPSTREAM, 1000 * cost))
        charged += cost

    pieces = count(seed)
    relay.lose = lambda: next(pieces) % 7 == 6
    async with asyncio.timeout(WAIT):
        await asyncio.gather(*[request(number) for number in range(300)])
        relay.lose = lambda: False
        while settler.unsettled or settler._asking:
            await asyncio.sleep(0.01)
            settler.send_again()
    assert relay.lost
    use = await desk.limits.use("acme", LIMITS)
    assert (use.spent_nusd, use.held_nusd, use.in_flight) == (charged, 0, 0)
    assert await desk.counter("held_tokens") == 0
    await connection.close()
