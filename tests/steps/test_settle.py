"""A reservation is settled exactly once, whatever the store does meanwhile, and its lease is renewed until then."""

import asyncio

import pytest

from proxy.call import Metered
from proxy.errors import StoreUnavailable
from proxy.holds import Allowance
from proxy.limits import Hold, Limit, Limits, Remaining, Reservation
from proxy.steps import settle as step
from proxy.steps.settle import Settler
from proxy.usage import Usage, UsageSource
from specimens import call
from waiting import WAIT, until

LIMITS = Limits(tokens_per_minute=1000, budget_nusd=10**12)


class Store:
    """Takes settlements when the test lets it; `away` fails them at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, int, int]] = []
        self.holds: list[tuple[Hold, Hold | None]] = []
        self.replies: list[asyncio.Future[object]] = []
        self.adopted: list[tuple[str, str, int]] = []
        self.renewed: list[tuple[str, list[str]]] = []
        self.asked: list[tuple[str, Hold, Hold]] = []
        self.answer: asyncio.Future[Limit | None] = asyncio.get_running_loop().create_future()
        self.away = False
        self.away_for: set[str] = set()
        self.answers = False

    def begin_settle(
        self, account: str, hold: Hold, tokens: int, nusd: int, limits: Limits, *, maybe: Hold | None = None
    ) -> asyncio.Future[object]:
        assert limits is LIMITS
        self.holds.append((hold, maybe))
        self.sent.append((account, hold.request_id, tokens, nusd))
        reply = asyncio.get_running_loop().create_future()
        self.replies.append(reply)
        if self.away:
            reply.set_exception(StoreUnavailable("connection refused"))
        elif self.answers:
            reply.set_result(1)
        return reply

    async def renew(self, account: str, holds: list[Hold]) -> None:
        if self.away or account in self.away_for:
            raise StoreUnavailable("connection refused")
        self.renewed.append((account, [hold.request_id for hold in holds]))

    async def adopt(self, account: str, hold: Hold, limits: Limits, age_ms: int) -> None:
        if self.away:
            raise StoreUnavailable("connection refused")
        self.adopted.append((account, hold.request_id, age_ms))

    async def top_up(self, account: str, has: Hold, wants: Hold, limits: Limits) -> Limit | None:
        self.asked.append((account, has, wants))
        return await self.answer


class Bench:
    def __init__(self) -> None:
        self.store = Store()
        self.troubles: list[str] = []
        self.settler = Settler(self.store, self.troubles.append)

    def open(self, request_id: str = "req_1", account: str = "acme") -> Reservation:
        reservation = Reservation(Hold(request_id, 100, 200), account, Remaining())
        self.settler.opened(reservation, LIMITS, 100.0)
        return reservation

    def settle(self, reservation: Reservation, cost_pusd: int = 1) -> None:
        self.settler.settle(reservation, Metered(Usage(12, 8, cached=10), UsageSource.UPSTREAM, cost_pusd))


async def turns() -> None:
    """Let callbacks run."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_was_used_is_charged_in_tokens_and_in_nano_dollars_rounded_up():
    bench = Bench()
    bench.settle(bench.open(), cost_pusd=22_400_001)
    assert bench.store.sent == [("acme", "req_1", 20, 22_401)]


async def test_nothing_used_is_settled_too():
    bench = Bench()
    bench.settler.settle(bench.open(), Metered(Usage(), UsageSource.NONE, 0))
    assert bench.store.sent == [("acme", "req_1", 0, 0)]


async def test_only_the_first_settlement_of_a_reservation_counts():
    bench = Bench()
    reservation = bench.open()
    bench.settle(reservation)
    bench.settle(reservation, cost_pusd=999_999)
    assert len(bench.store.sent) == 1


async def test_a_reservation_that_was_never_opened_is_not_settled():
    bench = Bench()
    bench.settle(Reservation(Hold("req_9", 1, 1), "acme", Remaining()))
    assert bench.store.sent == []


async def test_a_store_that_was_replaced_is_told_of_every_open_hold_again():
    bench = Bench()
    bench.open("req_1")
    bench.open("req_2", "other")
    bench.settler.store_was_replaced(101.5)
    await turns()
    assert bench.store.adopted == [("acme", "req_1", 1500), ("other", "req_2", 1500)]


async def test_what_was_settled_meanwhile_is_not_told_again():
    bench = Bench()
    reservation = bench.open()
    bench.settler.store_was_replaced(101.5)
    bench.settle(reservation)
    await turns()
    assert bench.store.adopted == []


async def test_a_store_that_goes_away_again_is_told_later_by_renewals():
    bench = Bench()
    bench.open()
    bench.store.away = True
    bench.settler.store_was_replaced(101.5)
    await turns()
    assert bench.troubles == ["connection refused"]


async def test_a_hold_of_which_nobody_heard_is_given_back_until_the_store_has_taken_it():
    bench = Bench()
    bench.store.away = True
    bench.settler.give_back("acme", Hold("req_1", 100, 200), LIMITS)
    await turns()
    assert bench.settler.unsettled == 1
    bench.store.away, bench.store.answers = False, True
    bench.settler.send_again()
    await turns()
    assert bench.store.sent == [("acme", "req_1", 0, 0)] * 2
    assert bench.settler.unsettled == 0


async def test_it_is_unsettled_until_the_store_has_taken_it():
    bench = Bench()
    reservation = bench.open()
    assert bench.settler.unsettled == 1
    bench.settle(reservation)
    assert bench.settler.unsettled == 1
    bench.store.replies[0].set_result(1)
    await turns()
    assert bench.settler.unsettled == 0


async def test_settling_never_raises_and_a_failed_one_is_sent_again_with_the_same_id_and_amounts():
    bench = Bench()
    bench.store.away = True
    bench.settle(bench.open())
    for _ in range(5):
        await turns()
        bench.settler.send_again()
    await turns()
    assert bench.settler.unsettled == 1
    assert len(bench.store.sent) == 6
    assert set(bench.store.sent) == {("acme", "req_1", 20, 1)}
    bench.store.away, bench.store.answers = False, True
    bench.settler.send_again()
    await turns()
    assert bench.settler.unsettled == 0


async def test_what_the_store_has_taken_is_not_sent_again():
    bench = Bench()
    bench.store.answers = True
    bench.settle(bench.open())
    await turns()
    bench.settler.send_again()
    assert len(bench.store.sent) == 1


async def test_what_is_on_its_way_is_not_sent_a_second_time():
    bench = Bench()
    bench.settle(bench.open())
    bench.settler.send_again()
    assert len(bench.store.sent) == 1


async def test_a_call_that_was_cancelled_is_sent_again():
    bench = Bench()
    bench.settle(bench.open())
    bench.store.replies[0].cancel()
    await turns()
    bench.settler.send_again()
    assert len(bench.store.sent) == 2


async def test_trouble_is_told_once_until_it_is_over():
    """A store that is away for an hour with a thousand settlements waiting is one thing to know."""
    bench = Bench()
    bench.store.away = True
    for number in range(3):
        bench.settle(bench.open(f"req_{number}"))
    for _ in range(3):
        await turns()
        bench.settler.send_again()
    await turns()
    assert bench.troubles == ["connection refused"]
    bench.store.away, bench.store.answers = False, True
    bench.settler.send_again()
    await turns()
    bench.store.away = True
    bench.settle(bench.open("req_9"))
    await turns()
    assert bench.troubles == ["connection refused"] * 2


async def test_every_open_reservation_is_renewed_in_one_call_for_each_account():
    bench = Bench()
    bench.open("req_1")
    bench.open("req_2")
    bench.open("req_3", account="other")
    bench.settle(bench.open("req_4"))
    await bench.settler.renew()
    assert bench.store.renewed == [("acme", ["req_1", "req_2"]), ("other", ["req_3"])]


def growing(bench: Bench, reservation: Reservation) -> Allowance:
    """A stream that has just used what it held."""
    allowance = bench.settler.allowance(call(stream=True), reservation)
    assert allowance is not None
    allowance.look(Usage(10, 5_000), 0)
    return allowance


def test_nothing_is_watched_where_nothing_is_limited():
    settler = Settler(None, print)
    reservation = Reservation(Hold("req_1", 100, 200), "acme", Remaining())
    settler.opened(reservation, Limits(requests_per_minute=1), 0.0)
    assert settler.allowance(call(stream=True), reservation) is None


async def test_a_stream_that_passes_its_hold_is_granted_more_and_settled_with_it():
    bench = Bench()
    reservation = bench.open()
    allowance = growing(bench, reservation)
    await turns()
    ((account, has, wants),) = bench.store.asked
    assert (account, has) == ("acme", reservation.hold)
    assert wants.tokens > has.tokens
    bench.store.answer.set_result(None)
    await turns()
    assert allowance.hold == wants
    assert (bench.settler.held_tokens, bench.settler.held_nusd) == (wants.tokens, wants.nusd)
    bench.settle(reservation)
    assert bench.store.holds == [(wants, None)]


async def test_a_stream_that_is_refused_more_keeps_what_it_has():
    bench = Bench()
    reservation = bench.open()
    allowance = growing(bench, reservation)
    bench.store.answer.set_result(Limit.BUDGET)
    await turns()
    assert allowance.look(Usage(10, 9_000), 0) is None
    bench.settle(reservation)
    assert bench.store.holds == [(reservation.hold, None)]


async def test_a_stream_that_ends_before_it_hears_is_settled_with_both_holds():
    bench = Bench()
    reservation = bench.open()
    growing(bench, reservation)
    await turns()
    bench.settle(reservation)
    bench.store.answer.set_result(None)
    await turns()
    wants = bench.store.asked[0][2]
    assert bench.store.holds == [(reservation.hold, wants)]
    assert (bench.settler.held_tokens, bench.settler.held_nusd) == (0, 0)


@pytest.mark.parametrize("may_have_run", [False, True])
async def test_where_the_answer_is_lost_both_holds_are_named_until_it_is_known(may_have_run):
    bench = Bench()
    reservation = bench.open()
    allowance = growing(bench, reservation)
    await turns()
    wants = bench.store.asked[0][2]
    bench.store.answer.set_exception(StoreUnavailable("too slow", may_have_run=may_have_run))
    await turns()
    await bench.settler.renew()
    assert bench.store.renewed == [("acme", ["req_1", "req_1"] if may_have_run else ["req_1"])]
    bench.store.answer = asyncio.get_running_loop().create_future()
    assert allowance.look(Usage(10, 50_000), 0) is not None
    await turns()
    assert bench.store.asked[1] == ("acme", reservation.hold, wants)
    bench.settle(reservation)
    assert bench.store.holds == [(reservation.hold, wants)]


async def test_a_second_question_that_was_never_sent_does_not_make_the_first_forgotten():
    bench = Bench()
    reservation = bench.open()
    allowance = growing(bench, reservation)
    for may_have_run in (True, False):
        await turns()
        bench.store.answer.set_exception(StoreUnavailable("away", may_have_run=may_have_run))
        await turns()
        bench.store.answer = asyncio.get_running_loop().create_future()
        allowance.look(Usage(10, 50_000 if may_have_run else 90_000), 0)
    bench.settle(reservation)
    assert bench.store.holds == [(reservation.hold, bench.store.asked[0][2])]


async def test_a_stream_that_is_over_asks_for_nothing():
    bench = Bench()
    reservation = bench.open()
    allowance = bench.settler.allowance(call(stream=True), reservation)
    bench.settle(reservation)
    allowance.look(Usage(10, 5_000), 0)
    await turns()
    assert bench.store.asked == []


async def test_what_is_held_is_known_at_every_moment():
    bench = Bench()
    one, two = bench.open("req_1"), bench.open("req_2")
    assert (bench.settler.held_tokens, bench.settler.held_nusd) == (200, 400)
    bench.settle(one)
    bench.settle(one)
    assert (bench.settler.held_tokens, bench.settler.held_nusd) == (100, 200)
    bench.settle(two)
    assert (bench.settler.held_tokens, bench.settler.held_nusd) == (0, 0)


async def test_a_renewal_that_fails_is_told_and_tried_again_the_next_time():
    bench = Bench()
    bench.open()
    bench.store.away = True
    await bench.settler.renew()
    assert bench.troubles == ["connection refused"]
    bench.store.away = False
    await bench.settler.renew()
    assert bench.store.renewed == [("acme", ["req_1"])]


async def test_an_account_that_is_out_of_reach_costs_no_other_its_leases():
    bench = Bench()
    bench.open("req_1", account="on_a_lost_node")
    bench.open("req_2")
    bench.store.away_for = {"on_a_lost_node"}
    await bench.settler.renew()
    assert bench.troubles == ["connection refused"]
    assert bench.store.renewed == [("acme", ["req_2"])]


async def test_its_task_sends_again_and_renews_for_ever(monkeypatch):
    monkeypatch.setattr(step, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(step, "RENEW_SECONDS", 0.002)
    bench = Bench()
    bench.store.away = True
    bench.open("req_2")
    bench.settle(bench.open())
    task = asyncio.get_running_loop().create_task(bench.settler.run())
    try:
        await until(lambda: len(bench.store.sent) >= 4)
        bench.store.away, bench.store.answers = False, True
        await until(lambda: len(bench.store.renewed) >= 2 and bench.settler.unsettled == 1)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


async def test_of_a_backlog_some_are_under_way_at_a_time_and_each_that_is_taken_draws_the_next(monkeypatch):
    monkeypatch.setattr(step, "AT_ONCE", 3)
    bench = Bench()
    bench.store.away = True
    for number in range(7):
        bench.settle(bench.open(f"req_{number}"))
    await turns()
    bench.store.away = False
    bench.store.sent.clear()
    bench.store.replies.clear()
    bench.settler.store_is_back()
    bench.settler.send_again()
    assert [sent[1] for sent in bench.store.sent] == ["req_0", "req_1", "req_2"]
    bench.store.replies[1].set_result(1)
    await turns()
    assert len(bench.store.sent) == 4
    for number in (0, 2, 3, 4, 5, 6):
        bench.store.replies[number].set_result(1)
        await turns()
    assert sorted(sent[1] for sent in bench.store.sent) == [f"req_{number}" for number in range(7)]
    assert bench.settler.unsettled == 0


async def test_new_settlements_do_not_wait_behind_a_backlog(monkeypatch):
    monkeypatch.setattr(step, "AT_ONCE", 1)
    bench = Bench()
    for number in range(4):
        bench.settle(bench.open(f"req_{number}"))
    assert len(bench.store.sent) == 4


async def test_leases_are_renewed_soon_after_the_store_is_back(monkeypatch):
    monkeypatch.setattr(step, "RETRY_SECONDS", 0.001)
    bench = Bench()
    bench.open()
    task = asyncio.get_running_loop().create_task(bench.settler.run())
    try:
        await asyncio.sleep(0)
        assert bench.store.renewed == []
        bench.settler.store_is_back()
        await until(lambda: bench.store.renewed == [("acme", ["req_1"])])
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_flush_waits_until_all_is_settled_and_leaves_what_is_open_alone():
    bench = Bench()
    bench.open("req_2")
    bench.settle(bench.open())
    flushing = asyncio.get_running_loop().create_task(bench.settler.flush(WAIT))
    await turns()
    assert not flushing.done()
    bench.store.replies[0].set_exception(StoreUnavailable("away"))
    bench.store.answers = True
    assert await flushing == 0
    assert len(bench.store.sent) == 2


async def test_a_flush_ends_in_time_and_says_how_much_is_left():
    bench = Bench()
    bench.store.away = True
    for number in range(3):
        bench.settle(bench.open(f"req_{number}"))
    assert await bench.settler.flush(0.05) == 3


async def test_a_flush_of_nothing_takes_no_time():
    assert await Bench().settler.flush(0) == 0


@pytest.mark.parametrize("cost", [0, 1, 999, 1000, 1001, 10**18])
async def test_money_stays_a_whole_number(cost):
    bench = Bench()
    bench.settle(bench.open(), cost_pusd=cost)
    assert bench.store.sent[0][3] == -(-cost // 1000)
