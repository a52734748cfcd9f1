"""After admission: settling, leases that run out, renewing, and what an account has used."""

import asyncio

import pytest

from proxy.errors import StoreUnavailable
from proxy.limits import Hold, Limit, LimitReached, Limits, LimitUse, Period, Reservation

ALL = Limits(100, 10_000, 10, 100_000, 1_000_000, Period.DAY)
HOLD = Hold("req_1", 1000, 500)


async def settled(desk, hold=HOLD, tokens=300, nusd=200, limits=ALL):
    await desk.limits.settle("acme", hold, tokens, nusd, limits)


async def test_settling_gives_the_hold_back_and_charges_what_was_used(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    held = await desk.limits.use("acme", ALL)
    await settled(desk)
    after = await desk.limits.use("acme", ALL)

    assert (held.held_nusd, held.spent_nusd, held.in_flight) == (500, 0, 1)
    assert (after.held_nusd, after.spent_nusd, after.in_flight) == (0, 200, 0)
    assert after.limits[Limit.TOKENS_PER_DAY].used == 300
    assert 9700 <= after.limits[Limit.TOKENS_PER_MINUTE].remaining < 10_000
    assert after.limits[Limit.REQUESTS_PER_MINUTE].remaining == 99


async def test_settling_twice_charges_once(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await settled(desk)
    once = await desk.picture()
    await settled(desk)

    assert await desk.picture() == once


async def test_settling_what_was_never_admitted_changes_nothing(desk):
    before = await desk.picture()
    await settled(desk)

    assert await desk.picture() == before


async def test_using_more_than_was_held_lowers_what_is_left(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await settled(desk, tokens=4000, nusd=900)

    use = await desk.limits.use("acme", ALL)

    assert 6000 <= use.limits[Limit.TOKENS_PER_MINUTE].remaining < 9000
    assert use.spent_nusd == 900


async def test_using_far_more_than_the_rate_locks_nobody_out_for_longer_than_a_window(desk):
    await desk.admit(ALL, tokens=1000)
    await settled(desk, Hold("req_1", 1000, 0), tokens=90_000)

    refusal = await desk.admit(ALL, "req_2", tokens=1000)

    assert isinstance(refusal, LimitReached)
    assert 50_000 < refusal.retry_after_ms <= 60_000


async def test_a_hold_that_came_back_by_itself_makes_no_credit_for_others(desk):
    limits = Limits(tokens_per_minute=600)
    await desk.admit(limits, "req_1", tokens=600)
    await desk.rewind("tokens_tat", 60_000)
    await desk.admit(limits, "req_2", tokens=0)

    await settled(desk, Hold("req_1", 600, 0), tokens=0, limits=limits)
    await settled(desk, Hold("req_2", 0, 0), tokens=300, limits=limits)

    left = (await desk.limits.use("acme", limits)).limits[Limit.TOKENS_PER_MINUTE].remaining
    assert 300 <= left < 400


async def test_a_request_that_held_nothing_is_settled(desk):
    await desk.admit(ALL)
    await settled(desk, Hold("req_1", 0, 0), tokens=0, nusd=0)

    assert await desk.leases() == []


async def test_a_lease_that_ran_out_gives_its_hold_back(desk):
    limits = Limits(concurrent_requests=1, tokens_per_day=1000, budget_nusd=500)
    await desk.admit(limits, tokens=1000, nusd=500)
    await desk.run_out(HOLD)

    assert isinstance(await desk.admit(limits, "req_2", tokens=1000, nusd=500), Reservation)
    assert await desk.leases() == [b"req_2 1000 500"]
    assert await desk.counter("held_nusd") == 500


async def test_a_request_settled_after_its_lease_ran_out_is_charged_once(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await desk.run_out(HOLD)
    assert (await desk.limits.use("acme", ALL)).held_nusd == 0

    await settled(desk)
    once = await desk.picture()
    await settled(desk)

    use = await desk.limits.use("acme", ALL)
    assert (use.spent_nusd, use.held_nusd, use.in_flight) == (200, 0, 0)
    assert use.limits[Limit.TOKENS_PER_DAY].used == 300
    assert await desk.picture() == once


async def test_a_request_settled_when_its_lease_has_run_out_unnoticed_is_charged_once(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await desk.run_out(HOLD)

    await settled(desk)
    await settled(desk)

    use = await desk.limits.use("acme", ALL)
    assert (use.spent_nusd, use.held_nusd, use.in_flight) == (200, 0, 0)


@pytest.mark.parametrize("number", [99, 100, 101, 250])
async def test_however_many_leases_ran_out_all_are_freed_at_once(desk, number):
    """A script frees a hundred, so that it stays short; whoever asks goes on asking."""
    await many_that_ran_out(desk, number)

    assert (await desk.limits.use("acme", Limits())).in_flight == 0
    assert (await desk.counter("held_tokens"), await desk.counter("held_nusd")) == (0, 0)


async def test_an_account_full_of_leases_that_ran_out_admits_at_once(desk):
    await many_that_ran_out(desk, 350)
    full = Limits(concurrent_requests=1, tokens_per_day=1, budget_nusd=1)

    assert isinstance(await desk.admit(full, "req_new", tokens=1, nusd=1), Reservation)
    assert await desk.leases() == [b"req_new 1 1"]


async def many_that_ran_out(desk, number):
    holds = [Hold(f"req_{number}", 1, 1) for number in range(number)]
    await asyncio.gather(*[desk.limits.admit(desk.identity, Limits(), hold) for hold in holds])
    await asyncio.gather(*[desk.run_out(hold) for hold in holds])


async def test_what_remembers_late_requests_is_forgotten_after_a_day(desk):
    await desk.connection.call("ZADD", desk.name("late"), 1000, "req_0 1 1")
    await desk.admit(ALL, tokens=1000, nusd=500)
    await desk.run_out(HOLD)
    await desk.limits.use("acme", ALL)

    assert await desk.connection.call("ZRANGE", desk.name("late"), 0, -1) == [b"req_1 1000 500"]
    assert 86_000_000 < await desk.connection.call("PTTL", desk.name("late")) <= 86_400_000


async def test_a_lease_that_ran_out_and_is_in_nobodys_way_is_freed_when_a_key_is_used_anew(desk):
    await desk.admit(Limits(), tokens=1000, nusd=500)
    await desk.run_out(HOLD)
    record = f"{desk.name('key').rpartition(':')[0]}:{desk.identity.digest}"
    await desk.connection.call("HSET", record, "last_used", int(await desk.now() * 1000) - 60_000)
    await desk.admit(Limits(), "req_2", tokens=1, nusd=1)

    assert await desk.leases() == [b"req_2 1 1"]
    assert (await desk.counter("held_tokens"), await desk.counter("held_nusd")) == (1, 1)


async def test_a_request_whose_lease_ran_out_that_is_admitted_again_is_held_and_charged_once(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await desk.run_out(HOLD)
    assert isinstance(await desk.admit(ALL, tokens=1000, nusd=500), Reservation)
    assert await desk.counter("held_nusd") == 500

    await settled(desk)
    await settled(desk)

    assert (await desk.limits.use("acme", ALL)).spent_nusd == 200
    assert (await desk.counter("held_tokens"), await desk.counter("held_nusd")) == (0, 0)


@pytest.mark.parametrize("edge", [10**15, 2**52, 2**53, 2**60])
async def test_money_is_added_to_the_last_digit_on_both_sides_of_every_bound_of_a_number(desk, edge):
    amounts = [edge - 2, 1, 1, 1, edge - 1, edge + 1, 3, 0, 1]
    holds = [Hold(f"req_{number}", 0, nusd) for number, nusd in enumerate(amounts)]
    for number, hold in enumerate(holds):
        assert isinstance(await desk.limits.admit(desk.identity, Limits(), hold), Reservation)
        assert int(await desk.connection.call("HGET", desk.name("acct"), "held_nusd")) == sum(amounts[: number + 1])
    for number, hold in enumerate(holds):
        await settled(desk, hold, 0, hold.nusd, Limits())
        use = await desk.limits.use("acme", Limits())
        assert (use.held_nusd, use.spent_nusd) == (sum(amounts[number + 1 :]), sum(amounts[: number + 1]))


async def test_renewing_keeps_a_lease_from_running_out(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await desk.connection.call("ZADD", desk.name("lease"), int(await desk.now() * 1000) + 5000, "req_1 1000 500")

    await desk.limits.renew("acme", [HOLD])

    score = float(await desk.connection.call("ZSCORE", desk.name("lease"), "req_1 1000 500"))
    assert score == pytest.approx(await desk.now() * 1000 + 60_000, abs=30_000)


async def test_renewing_a_lease_that_ran_out_takes_its_hold_again(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await desk.run_out(HOLD)
    assert (await desk.limits.use("acme", ALL)).in_flight == 0

    await desk.limits.renew("acme", [HOLD])

    use = await desk.limits.use("acme", ALL)
    assert (use.in_flight, use.held_nusd) == (1, 500)
    await settled(desk)
    assert (await desk.limits.use("acme", ALL)).held_nusd == 0


async def test_renewing_what_is_settled_does_not_bring_it_back(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await settled(desk)

    await desk.limits.renew("acme", [HOLD])

    assert await desk.leases() == []


async def test_more_leases_than_fit_one_call_are_renewed(desk):
    holds = [Hold(f"req_{number}", 1, 1) for number in range(230)]
    await asyncio.gather(*[desk.limits.admit(desk.identity, Limits(), hold) for hold in holds])
    before = int(await desk.now() * 1000)
    for hold in holds:
        await desk.connection.call("ZADD", desk.name("lease"), before + 1000, f"{hold.request_id} 1 1")

    await desk.limits.renew("acme", holds)

    assert await desk.connection.call("ZCOUNT", desk.name("lease"), before + 30_000, "+inf") == 230


async def test_a_new_day_begins_with_nothing_used(desk):
    limits = Limits(tokens_per_day=1000, budget_nusd=1000, budget_per=Period.DAY)
    await desk.admit(limits, tokens=900, nusd=900)
    await settled(desk, Hold("req_1", 900, 900), 900, 900, limits)
    assert isinstance(await desk.admit(limits, "req_2", tokens=200, nusd=200), LimitReached)

    await desk.put(day=await desk.counter("day") - 1)

    assert isinstance(await desk.admit(limits, "req_2", tokens=200, nusd=200), Reservation)
    await settled(desk, Hold("req_2", 200, 200), 150, 150, limits)
    use = await desk.limits.use("acme", limits)
    assert (use.limits[Limit.TOKENS_PER_DAY].used, use.spent_nusd) == (150, 150)
    month = await desk.limits.use("acme", Limits(budget_per=Period.MONTH))
    assert month.spent_nusd == 1050


async def test_a_new_month_begins_with_nothing_spent_and_the_total_goes_on(desk):
    limits = Limits(budget_nusd=1000, budget_per=Period.MONTH)
    await desk.admit(limits, nusd=900)
    await settled(desk, Hold("req_1", 0, 900), 0, 900, limits)

    await desk.put(day=await desk.counter("day") - 40, month=202001)

    assert isinstance(await desk.admit(limits, "req_2", nusd=200), Reservation)
    await settled(desk, Hold("req_2", 0, 200), 0, 150, limits)
    assert (await desk.limits.use("acme", limits)).spent_nusd == 150
    assert (await desk.limits.use("acme", Limits(budget_per=Period.TOTAL))).spent_nusd == 1050


@pytest.mark.parametrize("period", [Period.DAY, Period.MONTH])
async def test_in_a_new_period_nothing_is_spent_even_before_anything_is_settled(desk, period):
    await desk.admit(ALL, tokens=900, nusd=900)
    await settled(desk, Hold("req_1", 900, 900), 900, 900)

    await desk.put(day=await desk.counter("day") - 40, month=202001)

    use = await desk.limits.use("acme", Limits(tokens_per_day=1000, budget_nusd=1000, budget_per=period))
    assert (use.limits[Limit.TOKENS_PER_DAY].used, use.spent_nusd) == (0, 0)


async def test_the_use_of_an_account_that_did_nothing(desk):
    use = await desk.limits.use("acme", Limits(5, 100, 2, 1000, 1000, Period.TOTAL))

    assert use.limits[Limit.REQUESTS_PER_MINUTE] == LimitUse(5, 0, 5, None)
    assert use.limits[Limit.TOKENS_PER_MINUTE] == LimitUse(100, 0, 100, None)
    assert use.limits[Limit.CONCURRENT_REQUESTS] == LimitUse(2, 0, 2, None)
    assert (use.limits[Limit.TOKENS_PER_DAY].used, use.limits[Limit.TOKENS_PER_DAY].remaining) == (0, 1000)
    assert (use.spent_nusd, use.held_nusd, use.budget_resets_ms, use.in_flight) == (0, 0, None, 0)


async def test_the_use_tells_when_limits_are_whole_again(desk):
    await desk.admit(ALL, tokens=5000)

    use = await desk.limits.use("acme", ALL)
    now_ms = await desk.now() * 1000

    assert use.limits[Limit.TOKENS_PER_MINUTE].resets_ms == pytest.approx(now_ms + 30_000, abs=10_000)
    assert use.limits[Limit.TOKENS_PER_DAY].resets_ms == use.budget_resets_ms
    assert 0 < use.budget_resets_ms - now_ms <= 86_400_000


async def test_a_limit_that_an_account_does_not_have_is_not_in_its_use(desk):
    assert (await desk.limits.use("acme", Limits())).limits == {}


async def test_an_admission_whose_caller_has_gone_is_given_back(desk):
    task = asyncio.get_running_loop().create_task(desk.admit(Limits(concurrent_requests=1), "req_1", tokens=5))
    await asyncio.sleep(0)  # the call is queued now
    await asyncio.sleep(0)  # and on its way
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert isinstance(await desk.admit(Limits(concurrent_requests=1), "req_2"), Reservation)


async def test_a_full_memory_refuses_new_requests_and_settles_old_ones(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await desk.connection.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await desk.admit(ALL, "req_2")
        await desk.limits.renew("acme", [HOLD])
        await settled(desk)
        use = await desk.limits.use("acme", ALL)
    finally:
        await desk.connection.call("CONFIG", "SET", "maxmemory", "0")

    assert (use.spent_nusd, use.in_flight) == (200, 0)


async def test_scripts_that_the_server_forgot_are_loaded_again(desk):
    await desk.admit(ALL, tokens=1000, nusd=500)
    await desk.connection.call("SCRIPT", "FLUSH")
    await settled(desk)
    await desk.connection.call("SCRIPT", "FLUSH")

    assert isinstance(await desk.admit(ALL, "req_2"), Reservation)
    assert (await desk.limits.use("acme", ALL)).spent_nusd == 200
