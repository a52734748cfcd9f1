"""A running request comes to hold more: within every limit, once however often it is asked, and the sums stay exact."""

import pytest

from proxy.errors import StoreUnavailable
from proxy.limits import Hold, Limit, LimitReached, Limits, Period, Reservation

HAS, WANTS = Hold("req_1", 100, 1000), Hold("req_1", 150, 1800)


async def held(desk) -> tuple[float, float]:
    return await desk.counter("held_tokens"), await desk.counter("held_nusd")


async def admit(desk, limits: Limits, hold: Hold = HAS) -> None:
    assert isinstance(await desk.limits.admit(desk.identity, limits, hold), Reservation)


async def test_what_it_wants_takes_the_place_of_what_it_has(desk):
    limits = Limits(tokens_per_day=150, budget_nusd=1800)
    await admit(desk, limits)

    assert await desk.limits.top_up("acme", HAS, WANTS, limits) is None

    assert await desk.leases() == [b"req_1 150 1800"]
    assert await held(desk) == (150, 1800)


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(tokens_per_day=149), Limit.TOKENS_PER_DAY),
        *[(Limits(budget_nusd=1799, budget_per=period), Limit.BUDGET) for period in Period],
        (Limits(budget_nusd=9999, more_budgets=((Period.DAY, 1799),)), Limit.BUDGET),
    ],
)
async def test_where_there_is_no_room_nothing_changes(desk, limits, limit):
    await admit(desk, limits)
    before = await desk.picture()

    assert await desk.limits.top_up("acme", HAS, WANTS, limits) == limit

    assert await desk.picture() == before


async def test_what_was_used_counts_against_it(desk):
    limits = Limits(budget_nusd=3000)
    await admit(desk, limits, Hold("req_0", 0, 1500))
    await desk.limits.settle("acme", Hold("req_0", 0, 1500), 0, 1201, limits)
    await admit(desk, limits)

    assert await desk.limits.top_up("acme", HAS, WANTS, limits) is Limit.BUDGET
    assert await desk.limits.top_up("acme", HAS, Hold("req_1", 150, 1799), limits) is None


async def test_asked_twice_it_is_given_once(desk):
    limits = Limits(tokens_per_minute=1000, budget_nusd=1800)
    await admit(desk, limits)
    await desk.limits.top_up("acme", HAS, WANTS, limits)
    once = await desk.counter("tokens_tat")

    assert await desk.limits.top_up("acme", HAS, WANTS, limits) is None

    assert await held(desk) == (150, 1800)
    assert await desk.counter("tokens_tat") == once


async def test_tokens_per_minute_are_charged_and_refuse_nothing_that_runs(desk):
    limits = Limits(tokens_per_minute=100)
    await admit(desk, limits)

    assert await desk.limits.top_up("acme", HAS, WANTS, limits) is None

    refusal = await desk.admit(limits, "req_2", tokens=1)
    assert isinstance(refusal, LimitReached)
    assert 29_000 < refusal.retry_after_ms <= 31_000


async def test_a_rate_is_corrected_by_all_that_was_held_when_it_is_settled(timed_desk):
    limits = Limits(tokens_per_minute=600)
    await admit(timed_desk, limits)
    await timed_desk.limits.top_up("acme", HAS, WANTS, limits)

    await timed_desk.limits.settle("acme", WANTS, 120, 0, limits)

    assert (await timed_desk.limits.use("acme", limits)).limits[Limit.TOKENS_PER_MINUTE].used == 120


async def test_settled_with_what_it_holds_nothing_is_left(desk):
    limits = Limits(budget_nusd=5000)
    await admit(desk, limits)
    await desk.limits.top_up("acme", HAS, WANTS, limits)

    await desk.limits.settle("acme", WANTS, 140, 1700, limits)

    use = await desk.limits.use("acme", limits)
    assert (use.held_nusd, use.spent_nusd, use.in_flight) == (0, 1700, 0)
    assert await held(desk) == (0, 0)


@pytest.mark.parametrize("has_grown", [False, True])
@pytest.mark.parametrize("ran_out", [False, True])
async def test_whether_or_not_it_was_given_unheard_it_is_settled_once(desk, has_grown, ran_out):
    """The answer was lost: the gateway names both holds, and the one that is there is given back."""
    limits = Limits(tokens_per_minute=600, budget_nusd=5000)
    await admit(desk, limits)
    if has_grown:
        await desk.limits.top_up("acme", HAS, WANTS, limits)
    if ran_out:
        await desk.run_out(WANTS if has_grown else HAS)
        await desk.limits.use("acme", limits)

    for _ in range(2):
        await desk.limits.settle("acme", HAS, 140, 1700, limits, maybe=WANTS)

    use = await desk.limits.use("acme", limits)
    assert (use.held_nusd, use.spent_nusd, use.in_flight) == (0, 1700, 0)
    assert await held(desk) == (0, 0)


async def test_one_that_is_settled_stays_settled(desk):
    limits = Limits(budget_nusd=5000)
    await admit(desk, limits)
    await desk.limits.settle("acme", HAS, 140, 900, limits)
    before = await desk.picture()

    assert await desk.limits.top_up("acme", HAS, WANTS, limits) is None

    assert await desk.picture() == before


async def test_one_whose_lease_ran_out_holds_again_and_more(desk):
    limits = Limits(budget_nusd=5000)
    await admit(desk, limits)
    await desk.run_out(HAS)

    await desk.limits.top_up("acme", HAS, WANTS, limits)

    assert await held(desk) == (150, 1800)
    assert await desk.leases() == [b"req_1 150 1800"]
    assert float(await desk.connection.call("ZSCORE", desk.name("lease"), "req_1 150 1800")) > await desk.now() * 1000


async def test_one_that_has_grown_and_ran_out_is_told_so_and_holds_again(desk):
    limits = Limits(budget_nusd=1800)
    await admit(desk, limits)
    await desk.limits.top_up("acme", HAS, WANTS, limits)
    await desk.run_out(WANTS)

    assert await desk.limits.top_up("acme", HAS, WANTS, limits) is None

    assert await held(desk) == (150, 1800)


async def test_holds_of_gateways_that_died_are_no_hindrance(desk):
    limits = Limits(budget_nusd=1800)
    await admit(desk, Limits(), Hold("req_0", 0, 1800))
    await admit(desk, Limits())
    await desk.run_out(Hold("req_0", 0, 1800))

    assert await desk.limits.top_up("acme", HAS, WANTS, limits) is None


@pytest.mark.parametrize("has_grown", [False, True])
async def test_renewing_both_holds_it_may_have_renews_the_one_that_is_there(desk, has_grown):
    await admit(desk, Limits())
    if has_grown:
        await desk.limits.top_up("acme", HAS, WANTS, Limits())
    before = await desk.leases()
    await desk.connection.call("ZADD", desk.name("lease"), int(await desk.now() * 1000) + 5000, *before)

    await desk.limits.renew("acme", [HAS, WANTS])

    assert await desk.leases() == before
    assert float(await desk.connection.call("ZSCORE", desk.name("lease"), *before)) > await desk.now() * 1000 + 30_000


async def test_money_beyond_what_a_double_counts_is_exact(desk):
    has, wants = Hold("req_1", 1, 2**53 + 1), Hold("req_1", 2, 2**54 + 3)
    await admit(desk, Limits(), has)

    await desk.limits.top_up("acme", has, wants, Limits())

    assert int(await desk.connection.call("HGET", desk.name("acct"), "held_nusd")) == 2**54 + 3


async def test_a_full_memory_does_not_keep_a_running_request_from_its_hold(desk):
    await admit(desk, Limits())
    await desk.connection.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await desk.admit(Limits(), "req_2")
        assert await desk.limits.top_up("acme", HAS, WANTS, Limits()) is None
    finally:
        await desk.connection.call("CONFIG", "SET", "maxmemory", "0")
