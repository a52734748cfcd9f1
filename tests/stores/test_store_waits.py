"""Whoever waits as long as a refusal says is admitted, and not much earlier: every limit, by a clock of the test."""

from datetime import UTC, datetime

import pytest

from proxy.limits import Hold, Limit, LimitReached, Limits, Period, Reservation

MOMENTS = [
    datetime(2026, 11, 23, 10, 30, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    datetime(2028, 2, 28, 12, 0, 0, 500, tzinfo=UTC),
    datetime(2028, 2, 29, 0, 0, tzinfo=UTC),
    datetime(2027, 3, 1, 0, 0, 0, 1, tzinfo=UTC),
]
ENOUGH = Hold("req_9", 500, 500)

SPENT = {
    "requests_per_minute": Limits(requests_per_minute=1),
    "tokens_per_minute": Limits(tokens_per_minute=1000),
    "tokens_per_day": Limits(tokens_per_day=1000),
    "budget of a day": Limits(budget_nusd=1000, budget_per=Period.DAY),
    "budget of a month": Limits(budget_nusd=1000, budget_per=Period.MONTH),
    "budgets of day and month": Limits(budget_nusd=1000, budget_per=Period.DAY, more_budgets=((Period.MONTH, 1200),)),
    "all at once": Limits(1, 1000, 5, 1000, 1000, Period.MONTH, ((Period.DAY, 900),)),
}


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize("limits", SPENT.values(), ids=list(SPENT))
async def test_where_all_was_used_the_wait_that_is_told_is_right(timed_desk, limits, moment):
    await timed_desk.set_time(moment)
    await timed_desk.admit(limits, "req_1", tokens=900, nusd=900)
    await timed_desk.limits.settle("acme", Hold("req_1", 900, 900), 900, 900, limits)

    refusal = await timed_desk.limits.admit(timed_desk.identity, limits, ENOUGH)
    assert isinstance(refusal, LimitReached)

    before = min(3, refusal.retry_after_ms)  # a rate forgives a millisecond
    await timed_desk.pass_by(refusal.retry_after_ms - before)
    assert isinstance(await timed_desk.limits.admit(timed_desk.identity, limits, ENOUGH), LimitReached)
    await timed_desk.pass_by(before)
    assert isinstance(await timed_desk.limits.admit(timed_desk.identity, limits, ENOUGH), Reservation)


FULL = {
    "concurrent_requests": Limits(concurrent_requests=1),
    "tokens_per_day": Limits(tokens_per_day=1000),
    **{f"budget of {period}": Limits(budget_nusd=1000, budget_per=period) for period in Period},
}


@pytest.mark.parametrize("limits", FULL.values(), ids=list(FULL))
@pytest.mark.parametrize("ending", ["settled", "lost"])
async def test_where_requests_under_way_are_all_that_is_in_the_way_a_second_is_told(timed_desk, limits, ending):
    """It is enough if they have ended by then; nobody can know when they will, but a minute after their gateway died
    they have."""
    await timed_desk.admit(limits, "req_1", tokens=900, nusd=900)
    refusal = await timed_desk.limits.admit(timed_desk.identity, limits, ENOUGH)
    assert (type(refusal), refusal.retry_after_ms) == (LimitReached, 1000)

    if ending == "settled":
        await timed_desk.limits.settle("acme", Hold("req_1", 900, 900), 10, 10, limits)
    else:
        await timed_desk.pass_by(59_000)
    await timed_desk.pass_by(refusal.retry_after_ms)

    assert isinstance(await timed_desk.limits.admit(timed_desk.identity, limits, ENOUGH), Reservation)


async def test_a_total_that_is_used_up_never_comes_back(timed_desk):
    limits = Limits(budget_nusd=1000, budget_per=Period.TOTAL, more_budgets=((Period.DAY, 1000),))
    await timed_desk.admit(limits, "req_1", nusd=900)
    await timed_desk.limits.settle("acme", Hold("req_1", 0, 900), 0, 900, limits)

    refusal = await timed_desk.limits.admit(timed_desk.identity, limits, ENOUGH)

    assert (refusal.limit, refusal.period, refusal.retry_after_ms) == (Limit.BUDGET, Period.TOTAL, None)


SPENDING = {
    Period.DAY: [(0, 900)],
    Period.MONTH: [(0, 1000), (1, 1000), (1, 900)],
    Period.TOTAL: [(0, 1000), (31, 1000), (31, 1000), (31, 600), (31, 200)],
}
"""What is spent until 100 are left of 1,000 a day, 3,000 a month or 3,900 in all: days later, and how much."""


@pytest.mark.parametrize("period", list(Period))
async def test_each_of_several_budgets_is_a_ceiling_and_is_named(timed_desk, period):
    limits = Limits(budget_nusd=3000, budget_per=Period.MONTH, more_budgets=((Period.TOTAL, 3900), (Period.DAY, 1000)))
    await timed_desk.set_time(datetime(2026, 1, 1, tzinfo=UTC))
    for number, (days, nusd) in enumerate(SPENDING[period]):
        await timed_desk.pass_by(86_400_000 * days)
        await timed_desk.admit(limits, f"req_{number}", nusd=nusd)
        await timed_desk.limits.settle("acme", Hold(f"req_{number}", 0, nusd), 0, nusd, limits)

    refusal = await timed_desk.admit(limits, "req_9", nusd=101)

    assert (refusal.limit, refusal.period, refusal.left) == (Limit.BUDGET, period, 100)
    assert isinstance(await timed_desk.admit(limits, "req_9", nusd=100), Reservation)


async def test_the_use_of_several_budgets_is_told_one_by_one(timed_desk):
    limits = Limits(budget_nusd=3000, budget_per=Period.MONTH, more_budgets=((Period.TOTAL, 9000), (Period.DAY, 1000)))
    for number, days in enumerate((0, 1, 31)):
        await timed_desk.pass_by(86_400_000 * days)
        await timed_desk.admit(limits, f"req_{number}", nusd=100)
        await timed_desk.limits.settle("acme", Hold(f"req_{number}", 0, 100), 0, 10**number, limits)

    use = await timed_desk.limits.use("acme", limits)

    assert [(budget.period, budget.limit_nusd, budget.spent_nusd) for budget in use.budgets] == [
        (Period.MONTH, 3000, 100),
        (Period.TOTAL, 9000, 111),
        (Period.DAY, 1000, 100),
    ]
    assert (use.spent_nusd, use.budget_resets_ms) == (100, use.budgets[0].resets_ms)
    assert use.budgets[1].resets_ms is None
