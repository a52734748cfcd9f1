"""What a gateway tells the store of itself: that it is there, and what it let in while the store was away."""

import asyncio

import pytest

from proxy.limits import Hold, Limit, LimitReached, Limits, Period, Reservation
from proxy.stores.gateways import COUNTED_MS, RedisGateways

ALL = Limits(100, 10_000, 10, 100_000, 1_000_000, Period.DAY)
HOLD = Hold("req_1", 1000, 500)
ROLL = "aion:{s00}:gateways"


@pytest.fixture
def gateways(desk) -> RedisGateways:
    return RedisGateways(desk.connection, "0-abc")


class TestAttending:
    async def test_every_worker_counts_once_however_often_it_says_that_it_is_there(self, desk):
        workers = [RedisGateways(desk.connection, name) for name in ("0-a", "1-a", "0-b")]
        assert [await worker.attend() for worker in workers] == [1, 2, 3]
        assert [await worker.attend() for worker in workers] == [3, 3, 3]

    async def test_a_worker_that_stops_counts_no_more(self, desk, gateways):
        other = RedisGateways(desk.connection, "1-abc")
        await other.attend()
        await other.leave()
        assert await gateways.attend() == 1

    async def test_a_worker_that_was_killed_counts_until_it_has_been_missed_for_a_minute(self, desk, gateways):
        now = await desk.now() * 1000
        await desk.connection.call("ZADD", ROLL, int(now - COUNTED_MS + 10_000), "late", int(now - COUNTED_MS), "gone")
        assert await gateways.attend() == 2


class TestAdopting:
    async def test_an_adopted_request_is_as_one_that_was_admitted(self, desk, gateways):
        before = await desk.now() * 1e6
        await gateways.adopt("acme", HOLD, ALL, 0)
        after = await desk.now() * 1e6
        use = await desk.limits.use("acme", ALL)
        assert (use.in_flight, use.held_nusd, use.spent_nusd) == (1, 500, 0)
        assert before <= await desk.counter("requests_tat") - 600_000 <= after
        assert before <= await desk.counter("tokens_tat") - 6_000_000 <= after
        assert use.limits[Limit.TOKENS_PER_DAY].remaining == 99_000
        await desk.limits.settle("acme", HOLD, 300, 200, ALL)
        use = await desk.limits.use("acme", ALL)
        assert (use.in_flight, use.held_nusd, use.spent_nusd) == (0, 0, 200)
        assert use.limits[Limit.TOKENS_PER_DAY].used == 300
        settled = await desk.now() * 1e6
        assert before + 1_800_000 <= await desk.counter("tokens_tat") <= max(after + 1_800_000, settled)

    async def test_nothing_is_refused_because_it_runs_already(self, desk, gateways):
        limits = Limits(1, 1, 1, 1, 1)
        for number in range(3):
            await gateways.adopt("acme", Hold(f"req_{number}", 1000, 500), limits, 0)
        assert (await desk.limits.use("acme", limits)).in_flight == 3
        assert isinstance(await desk.admit(limits, "req_9", tokens=1, nusd=1), LimitReached)

    async def test_adopting_twice_takes_nothing_twice(self, desk, gateways):
        await gateways.adopt("acme", HOLD, ALL, 0)
        record, _ = await desk.picture()
        await gateways.adopt("acme", HOLD, ALL, 0)
        again, leases = await desk.picture()
        assert again == record
        assert leases[::2] == [b"req_1 1000 500"]

    async def test_one_that_the_store_had_admitted_without_anyone_hearing_of_it_is_held_once(self, desk, gateways):
        await desk.admit(ALL, tokens=1000, nusd=500)
        record, _ = await desk.picture()
        await gateways.adopt("acme", HOLD, ALL, 0)
        again, _ = await desk.picture()
        assert again == record

    async def test_one_whose_unheard_admission_ran_out_is_held_again_and_charged_once(self, desk, gateways):
        await desk.admit(ALL, tokens=1000, nusd=500)
        await desk.run_out(HOLD)
        await desk.limits.use("acme", ALL)
        rate = await desk.counter("requests_tat")
        await gateways.adopt("acme", HOLD, ALL, 0)
        assert (await desk.limits.use("acme", ALL)).held_nusd == 500
        assert await desk.counter("requests_tat") == rate
        for _ in range(2):
            await desk.limits.settle("acme", HOLD, 300, 200, ALL)
        use = await desk.limits.use("acme", ALL)
        assert (use.held_nusd, use.spent_nusd, use.in_flight) == (0, 200, 0)

    async def test_one_that_arrives_after_its_settlement_is_charged_nothing_more(self, desk, gateways):
        await gateways.adopt("acme", HOLD, ALL, 0)
        await desk.limits.settle("acme", HOLD, 300, 200, ALL)
        await gateways.adopt("acme", HOLD, ALL, 0)
        await desk.run_out(HOLD)
        use = await desk.limits.use("acme", ALL)
        assert (use.in_flight, use.held_nusd, use.spent_nusd) == (0, 0, 200)

    async def test_rates_are_charged_as_of_when_it_was_let_in(self, desk, gateways):
        before = await desk.now() * 1e6
        await gateways.adopt("acme", HOLD, ALL, 3_000)
        after = await desk.now() * 1e6
        assert before <= await desk.counter("requests_tat") + 3_000_000 - 600_000 <= after
        assert before <= await desk.counter("tokens_tat") + 3_000_000 - 6_000_000 <= after
        use = await desk.limits.use("acme", ALL)
        assert use.limits[Limit.TOKENS_PER_DAY].remaining == 99_000

    async def test_requests_of_long_ago_leave_the_rates_as_they_are(self, desk, gateways):
        await asyncio.gather(*[gateways.adopt("acme", Hold(f"req_{n}", 100, 0), ALL, 120_000) for n in range(50)])
        use = await desk.limits.use("acme", ALL)
        assert use.limits[Limit.REQUESTS_PER_MINUTE].remaining == 100

    async def test_nobody_is_locked_out_for_longer_than_two_windows(self, desk, gateways):
        await asyncio.gather(*[gateways.adopt("acme", Hold(f"req_{n}", 0, 0), ALL, 0) for n in range(400)])
        await desk.rewind("requests_tat", 61_000)
        assert (await desk.limits.use("acme", ALL)).limits[Limit.REQUESTS_PER_MINUTE].remaining >= 1

    async def test_without_limits_no_rate_is_written(self, desk, gateways):
        await gateways.adopt("acme", HOLD, Limits(), 0)
        assert await desk.counter("requests_tat") == await desk.counter("tokens_tat") == 0

    async def test_an_account_that_the_store_has_lost_is_not_made_by_it(self, desk, gateways):
        await gateways.adopt("nobody", HOLD, ALL, 0)
        await desk.limits.settle("nobody", HOLD, 300, 200, ALL)
        assert await desk.connection.call("KEYS", "aion:*:nobody") == []


class TestWhatIsLeft:
    async def test_an_admission_tells_what_the_hold_leaves_of_the_day_and_of_the_budget(self, desk):
        first = await desk.admit(ALL, tokens=1000, nusd=500)
        assert (first.tokens_left, first.nusd_left) == (99_000, 999_500)
        await desk.limits.settle("acme", HOLD, 300, 200, ALL)
        second = await desk.admit(ALL, "req_2", tokens=10, nusd=1)
        assert (second.tokens_left, second.nusd_left) == (99_690, 999_799)

    async def test_of_several_budgets_the_scarcest_is_told(self, desk):
        limits = Limits(budget_nusd=1000, budget_per=Period.DAY, more_budgets=((Period.TOTAL, 800),))
        assert (await desk.admit(limits, nusd=500)).nusd_left == 300

    async def test_of_limits_that_do_not_apply_nothing_is_told(self, desk):
        admitted = await desk.admit(Limits(), tokens=1000, nusd=500)
        assert isinstance(admitted, Reservation)
        assert (admitted.tokens_left, admitted.nusd_left) == (-1, -1)

    async def test_an_admission_that_is_repeated_tells_nothing_of_them(self, desk):
        """Its own hold is among what is held: what it would tell would be too little."""
        await desk.admit(ALL, tokens=1000, nusd=500)
        again = await desk.admit(ALL, tokens=1000, nusd=500)
        assert (again.tokens_left, again.nusd_left) == (-1, -1)
