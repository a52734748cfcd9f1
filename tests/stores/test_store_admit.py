"""Admission: every limit, all or nothing, in one step of the store. One body over both kinds of server."""

from dataclasses import replace

import pytest

from proxy.limits import (
    AccountChanged,
    Hold,
    KeyRefused,
    KeyState,
    Limit,
    LimitReached,
    Limits,
    Period,
    Remaining,
    Reservation,
)

DAY_MS = 86_400_000


async def test_an_account_without_limits_is_admitted(desk):
    admission = await desk.admit(Limits(), tokens=10**9, nusd=10**12)

    assert admission == Reservation(Hold("req_1", 10**9, 10**12), "acme", Remaining())


async def test_an_admission_tells_what_is_left_of_the_rates(desk):
    await desk.admit(Limits(requests_per_minute=5, tokens_per_minute=600), "req_1", tokens=100)
    admission = await desk.admit(Limits(requests_per_minute=5, tokens_per_minute=600), "req_2", tokens=200)

    left = admission.remaining
    assert (left.requests_limit, left.requests, left.tokens_limit) == (5, 3, 600)
    assert 300 <= left.tokens < 350
    assert 19_000 < left.requests_reset_ms <= 24_000
    assert 25_000 < left.tokens_reset_ms <= 30_000


async def test_requests_per_minute(desk):
    limits = Limits(requests_per_minute=2)
    await desk.admit(limits, "req_1")
    await desk.admit(limits, "req_2")

    refusal = await desk.admit(limits, "req_3")

    assert isinstance(refusal, LimitReached)
    assert (refusal.limit, refusal.allowed, refusal.left, refusal.asked) == (Limit.REQUESTS_PER_MINUTE, 2, 0, 1)
    assert 25_000 < refusal.retry_after_ms <= 30_000


async def test_tokens_per_minute(desk):
    limits = Limits(tokens_per_minute=6000)
    await desk.admit(limits, "req_1", tokens=4000)

    refusal = await desk.admit(limits, "req_2", tokens=5000)

    assert isinstance(refusal, LimitReached)
    assert (refusal.limit, refusal.allowed, refusal.asked) == (Limit.TOKENS_PER_MINUTE, 6000, 5000)
    assert 2000 <= refusal.left < 2500
    assert 25_000 < refusal.retry_after_ms <= 30_000


@pytest.mark.parametrize(
    ("limits", "field"),
    [(Limits(requests_per_minute=2), "requests_tat"), (Limits(tokens_per_minute=200), "tokens_tat")],
)
async def test_after_the_wait_that_was_told_the_request_is_admitted(desk, limits, field):
    await desk.admit(limits, "req_1", tokens=100)
    await desk.admit(limits, "req_2", tokens=100)
    refusal = await desk.admit(limits, "req_3", tokens=100)

    await desk.rewind(field, refusal.retry_after_ms)

    assert isinstance(await desk.admit(limits, "req_3", tokens=100), Reservation)


async def test_the_wait_that_is_told_is_not_longer_than_needed(desk):
    limits = Limits(requests_per_minute=2)
    await desk.admit(limits, "req_1")
    await desk.admit(limits, "req_2")
    refusal = await desk.admit(limits, "req_3")

    await desk.rewind("requests_tat", refusal.retry_after_ms - 10_000)

    assert isinstance(await desk.admit(limits, "req_3"), LimitReached)


async def test_a_request_larger_than_the_limit_is_told_that_waiting_will_not_help(desk):
    refusal = await desk.admit(Limits(tokens_per_minute=100), tokens=101)

    assert (refusal.limit, refusal.retry_after_ms) == (Limit.TOKENS_PER_MINUTE, None)


async def test_concurrent_requests(desk):
    limits = Limits(concurrent_requests=1)
    await desk.admit(limits, "req_1")

    refusal = await desk.admit(limits, "req_2")

    assert (refusal.limit, refusal.left, refusal.retry_after_ms) == (Limit.CONCURRENT_REQUESTS, 0, 1000)


async def test_tokens_per_day_count_what_was_used_and_what_is_held(desk):
    limits = Limits(tokens_per_day=1000)
    await desk.admit(limits, "req_1", tokens=500)
    await desk.limits.settle("acme", Hold("req_1", 500, 0), 600, 0, limits)
    await desk.admit(limits, "req_2", tokens=300)

    assert isinstance(await desk.admit(limits, "req_3", tokens=101), LimitReached)
    assert isinstance(await desk.admit(limits, "req_3", tokens=100), Reservation)


async def test_a_day_that_is_used_up_waits_for_the_next(desk):
    limits = Limits(tokens_per_day=1000)
    await desk.admit(limits, "req_1", tokens=900)
    await desk.limits.settle("acme", Hold("req_1", 900, 0), 900, 0, limits)

    refusal = await desk.admit(limits, "req_2", tokens=500)

    to_midnight = DAY_MS - await desk.now() * 1000 % DAY_MS
    assert (refusal.limit, refusal.left, refusal.asked) == (Limit.TOKENS_PER_DAY, 100, 500)
    assert refusal.retry_after_ms == pytest.approx(to_midnight, abs=60_000)


@pytest.mark.parametrize("period", list(Period))
async def test_a_budget_is_an_exact_ceiling(desk, period):
    limits = Limits(budget_nusd=1000, budget_per=period)
    await desk.admit(limits, "req_1", nusd=400)
    await desk.limits.settle("acme", Hold("req_1", 0, 400), 0, 300, limits)
    await desk.admit(limits, "req_2", nusd=500)

    assert isinstance(await desk.admit(limits, "req_3", nusd=201), LimitReached)
    assert isinstance(await desk.admit(limits, "req_3", nusd=200), Reservation)
    assert isinstance(await desk.admit(limits, "req_4", nusd=1), LimitReached)


async def test_a_budget_that_is_spent_for_good_is_told_that_waiting_will_not_help(desk):
    limits = Limits(budget_nusd=1000, budget_per=Period.TOTAL)
    await desk.admit(limits, "req_1", nusd=900)
    await desk.limits.settle("acme", Hold("req_1", 0, 900), 0, 900, limits)

    refusal = await desk.admit(limits, "req_2", nusd=101)

    assert (refusal.limit, refusal.left, refusal.asked, refusal.retry_after_ms) == (Limit.BUDGET, 100, 101, None)


async def test_a_monthly_budget_waits_for_the_next_month(desk):
    limits = Limits(budget_nusd=1000, budget_per=Period.MONTH)
    await desk.admit(limits, "req_1", nusd=900)
    await desk.limits.settle("acme", Hold("req_1", 0, 900), 0, 900, limits)

    refusal = await desk.admit(limits, "req_2", nusd=101)

    use = await desk.limits.use("acme", limits)
    assert refusal.retry_after_ms == pytest.approx(use.budget_resets_ms - await desk.now() * 1000, abs=60_000)


async def test_a_budget_that_only_holds_of_others_fill_is_worth_another_try_soon(desk):
    limits = Limits(budget_nusd=1000, budget_per=Period.TOTAL)
    await desk.admit(limits, "req_1", nusd=900)

    refusal = await desk.admit(limits, "req_2", nusd=101)

    assert (refusal.limit, refusal.retry_after_ms) == (Limit.BUDGET, 1000)


async def test_budgets_beyond_what_a_double_counts_are_exact(desk):
    limits = Limits(budget_nusd=2**62)
    nusd = 2**53 + 1
    await desk.admit(limits, "req_1", nusd=nusd)
    await desk.limits.settle("acme", Hold("req_1", 0, nusd), 0, nusd, limits)

    use = await desk.limits.use("acme", limits)

    assert (use.spent_nusd, use.held_nusd) == (nusd, 0)


@pytest.mark.parametrize(
    ("limits", "tokens", "nusd"),
    [
        (Limits(requests_per_minute=5, tokens_per_minute=100), 101, 0),
        (Limits(requests_per_minute=5, tokens_per_minute=100, tokens_per_day=10), 11, 0),
        (Limits(requests_per_minute=5, tokens_per_minute=100, budget_nusd=10), 5, 11),
    ],
)
async def test_a_refusal_by_one_limit_takes_nothing_of_the_others(desk, limits, tokens, nusd):
    before = await desk.picture()

    assert isinstance(await desk.admit(limits, tokens=tokens, nusd=nusd), LimitReached)

    assert await desk.picture() == before


async def test_concurrency_refused_takes_nothing_of_the_rates(desk):
    limits = Limits(requests_per_minute=5, tokens_per_minute=100, concurrent_requests=1)
    await desk.admit(limits, "req_1", tokens=10)
    before = await desk.picture()

    assert isinstance(await desk.admit(limits, "req_2", tokens=10), LimitReached)

    assert await desk.picture() == before


async def test_of_several_limits_the_one_with_the_longest_wait_is_told(desk):
    limits = Limits(requests_per_minute=1, concurrent_requests=1, tokens_per_day=10)
    await desk.admit(limits, "req_1", tokens=5)
    assert (await desk.admit(limits, "req_2", tokens=5)).limit == Limit.REQUESTS_PER_MINUTE

    refusal = await desk.admit(limits, "req_3", tokens=11)

    assert (refusal.limit, refusal.retry_after_ms) == (Limit.TOKENS_PER_DAY, None)


async def test_a_refusal_also_tells_what_is_left_of_the_rates(desk):
    limits = Limits(requests_per_minute=5, tokens_per_minute=100, concurrent_requests=1)
    await desk.admit(limits, "req_1", tokens=10)

    left = (await desk.admit(limits, "req_2", tokens=10)).remaining

    assert left.requests == 4
    assert 90 <= left.tokens < 100


async def test_the_same_request_admitted_twice_is_held_once(desk):
    limits = Limits(requests_per_minute=5, tokens_per_minute=100, concurrent_requests=1, budget_nusd=10)
    await desk.admit(limits, tokens=60, nusd=10)
    before = await desk.picture()

    again = await desk.admit(limits, tokens=60, nusd=10)

    assert isinstance(again, Reservation)
    assert again.remaining.requests == 4
    assert 40 <= again.remaining.tokens < 50
    assert await desk.picture() == before


async def test_the_same_request_admitted_twice_is_held_once_where_there_is_room_for_more(desk):
    limits = Limits(requests_per_minute=5, tokens_per_minute=100)
    await desk.admit(limits, tokens=10, nusd=10)
    before = await desk.picture()

    assert isinstance(await desk.admit(limits, tokens=10, nusd=10), Reservation)

    assert await desk.picture() == before


async def test_limits_lowered_below_what_is_used_leave_nothing_and_never_less(desk):
    before = Limits(requests_per_minute=6, tokens_per_minute=1000, concurrent_requests=10, tokens_per_day=1000)
    for number in range(5):
        await desk.admit(before, f"req_{number}", tokens=200, nusd=10)

    lowered = Limits(1, 10, 1, 10, 10)
    refusal = await desk.admit(lowered, "req_9", tokens=1, nusd=1)
    use = await desk.limits.use("acme", lowered)

    assert refusal.left == 0
    assert (refusal.remaining.requests, refusal.remaining.tokens) == (0, 0)
    assert {limit.remaining for limit in use.limits.values()} == {0}


async def test_limits_raised_hold_at_once(desk):
    await desk.admit(Limits(concurrent_requests=1), "req_1")

    assert isinstance(await desk.admit(Limits(concurrent_requests=2), "req_2"), Reservation)


async def test_a_revoked_key_is_refused_from_the_next_request_on(desk):
    await desk.admit(Limits(), "req_1")
    await desk.keys.change_key("key_1", revoked_ms=5)

    assert await desk.admit(Limits(), "req_2") == KeyRefused(KeyState.REVOKED)


async def test_a_key_is_refused_once_it_has_expired(desk):
    now_ms = int(await desk.now() * 1000)
    await desk.keys.change_key("key_1", expires_ms=now_ms + 60_000)
    assert isinstance(await desk.admit(Limits(), "req_1"), Reservation)

    await desk.keys.change_key("key_1", expires_ms=now_ms)

    assert await desk.admit(Limits(), "req_2") == KeyRefused(KeyState.EXPIRED)


async def test_a_disabled_account_is_refused(desk):
    await desk.keys.change_account(replace(desk.identity.account, disabled=True))

    assert await desk.admit(Limits()) == KeyRefused(KeyState.DISABLED)


async def test_a_disabled_account_is_refused_also_to_a_gateway_that_knows_it_is(desk):
    limits = Limits(requests_per_minute=5)
    account = await desk.keys.change_account(replace(desk.identity.account, disabled=True))
    desk = replace(desk, identity=replace(desk.identity, account=account))

    assert await desk.admit(limits) == KeyRefused(KeyState.DISABLED)
    assert await desk.leases() == []

    account = await desk.keys.change_account(replace(account, disabled=False))
    assert await desk.admit(limits) == AccountChanged(account)


async def test_a_key_whose_last_use_is_nowhere_is_admitted(desk):
    key = f"{desk.name('key').rpartition(':')[0]}:{desk.identity.digest}"
    assert await desk.connection.call("HDEL", key, "last_used", "revoked", "expires") == 3

    assert isinstance(await desk.admit(Limits()), Reservation)
    assert await desk.connection.call("HEXISTS", key, "last_used") == 1


async def test_a_key_that_the_store_does_not_know_is_refused(desk):
    stranger = replace(desk.identity, digest="f" * 64)

    assert await desk.limits.admit(stranger, Limits(), Hold("req_1", 0, 0)) == KeyRefused(KeyState.UNKNOWN)


async def test_a_changed_account_is_told_to_whoever_has_an_old_copy_and_nothing_is_taken(desk):
    changed = await desk.keys.change_account(
        replace(desk.identity.account, plan="pro", overrides={"requests_per_minute": 7})
    )
    before = await desk.picture()

    admission = await desk.admit(Limits(requests_per_minute=5))

    assert admission == AccountChanged(changed)
    assert (changed.plan, changed.overrides, changed.version) == ("pro", {"requests_per_minute": 7}, 2)
    assert await desk.picture() == before
    renewed = replace(desk.identity, account=changed)
    assert isinstance(await desk.limits.admit(renewed, Limits(), Hold("req_1", 0, 0)), Reservation)


async def test_a_changed_plan_finds_what_was_spent_under_the_old_one(desk):
    await desk.admit(Limits(), nusd=700)
    await desk.limits.settle("acme", Hold("req_1", 0, 700), 0, 700, Limits())

    for period in Period:
        assert isinstance(await desk.admit(Limits(budget_nusd=1000, budget_per=period), nusd=301), LimitReached)


async def test_the_last_use_of_a_key_is_noted_once_a_minute(desk):
    await desk.admit(Limits(), "req_1")
    first = (await desk.keys.key("key_1")).last_used_ms
    assert first == pytest.approx(await desk.now() * 1000, abs=60_000)

    record = f"{desk.name('key').rpartition(':')[0]}:{desk.identity.digest}"
    await desk.connection.call("HSET", record, "last_used", first - 30_000)
    await desk.admit(Limits(), "req_2")
    assert (await desk.keys.key("key_1")).last_used_ms == first - 30_000

    await desk.connection.call("HSET", record, "last_used", first - 60_000)
    await desk.admit(Limits(), "req_3")
    assert (await desk.keys.key("key_1")).last_used_ms >= first


async def test_a_refused_request_is_no_use_of_a_key(desk):
    await desk.admit(Limits(tokens_per_minute=1), tokens=2)

    assert (await desk.keys.key("key_1")).last_used_ms is None


async def test_a_rate_that_a_jumping_clock_left_ahead_is_usable_within_a_window(desk):
    hour_ahead = (await desk.now() + 3600) * 1e6
    await desk.put(requests_tat=hour_ahead, tokens_tat=hour_ahead)
    limits = Limits(requests_per_minute=60, tokens_per_minute=600)

    refusal = await desk.admit(limits, tokens=100)
    assert refusal.retry_after_ms <= 60_000

    await desk.rewind("requests_tat", 60_000)
    await desk.rewind("tokens_tat", 60_000)
    assert isinstance(await desk.admit(limits, tokens=100), Reservation)


async def test_leases_that_a_jumping_clock_left_ahead_end_with_the_others(desk):
    limits = Limits(concurrent_requests=1)
    await desk.admit(limits, "req_1")
    now_ms = await desk.now() * 1000
    await desk.connection.call("ZADD", desk.name("lease"), int(now_ms + 3_600_000), "req_1 0 0")

    assert isinstance(await desk.admit(limits, "req_2"), LimitReached)

    score = float(await desk.connection.call("ZSCORE", desk.name("lease"), "req_1 0 0"))
    assert score == pytest.approx(now_ms + 60_000, abs=30_000)
