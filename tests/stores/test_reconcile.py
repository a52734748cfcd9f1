"""Counters and ledger, over a real store and a real database: whatever the store lost is there again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_rows import record

from proxy.accounts import Account, shard_of
from proxy.drift import Charge
from proxy.ledger.database import Ledger
from proxy.limits import Hold, Limits, Period, Reservation
from proxy.pricing import nano_usd_ceil
from proxy.reconcile import OtherLedgers, compare, reconcile
from proxy.stores.counters import RedisCounters
from proxy.usage_record import UsageRecord

HOLD = Hold("req_1", 500, 10**6)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open("embedded", tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def counters(desk) -> RedisCounters:
    return RedisCounters(desk.connection)


async def row_of(desk, request_id: str, **changes) -> UsageRecord:
    """The row of a request that ended just now, by the store's clock."""
    return record(request_id, started_at=int(await desk.now() * 1000), **changes)


async def served(desk, ledger: Ledger, *request_ids: str, **changes) -> list[UsageRecord]:
    """Requests that were admitted, have their rows, and are settled."""
    rows = [await row_of(desk, request_id, **changes) for request_id in request_ids]
    ledger.insert(rows)
    for row in rows:
        assert isinstance(await desk.admit(Limits(), row.request_id, 500, 10**6), Reservation)
        await settled(desk, row)
    return rows


async def settled(desk, row: UsageRecord) -> None:
    tokens = row.prompt_tokens + row.completion_tokens
    await desk.limits.settle("acme", Hold(row.request_id, 500, 10**6), tokens, nano_usd_ceil(row.cost_pusd), Limits())


async def spent(desk, per: Period) -> int:
    return (await desk.limits.use("acme", Limits(budget_nusd=10**12, budget_per=per))).spent_nusd


async def used_today(desk) -> int:
    use = await desk.limits.use("acme", Limits(tokens_per_day=10**9))
    return next(iter(use.limits.values())).used


async def test_what_agrees_is_left_alone(desk, ledger: Ledger, counters: RedisCounters):
    await served(desk, ledger, "a", "b")
    before = await desk.picture()
    assert await reconcile(ledger, counters) == []
    assert await desk.picture() == before


@pytest.mark.parametrize("per", list(Period))
async def test_counters_that_the_store_lost_are_there_again_in_every_period(
    desk, ledger: Ledger, counters: RedisCounters, per: Period
):
    rows = await served(desk, ledger, "a", "b", "c")
    before = await desk.picture()
    await desk.connection.call("HDEL", desk.name("acct"), "total_nusd", "total_tokens", "day_nusd", "day_tokens", "day",
                               "month", "month_nusd")  # fmt: skip
    (correction,) = await reconcile(ledger, counters)
    charged = sum(nano_usd_ceil(row.cost_pusd) for row in rows)
    assert correction.missing == Charge(330, charged)
    assert await spent(desk, per) == charged
    assert await used_today(desk) == 330
    assert await reconcile(ledger, counters) == []
    assert before != await desk.picture()  # it says how often it was corrected


@pytest.mark.parametrize("by", [-7, 7, 10**15])
async def test_a_counter_that_was_changed_by_hand_is_right_again(
    desk, ledger: Ledger, counters: RedisCounters, by: int
):
    rows = await served(desk, ledger, "a")
    await desk.connection.call("HINCRBY", desk.name("acct"), "total_nusd", by)
    assert [correction.missing.nusd for correction in await reconcile(ledger, counters)] == [-by]
    assert await spent(desk, Period.TOTAL) == nano_usd_ceil(rows[0].cost_pusd)


async def test_usage_of_earlier_days_counts_for_the_total_alone(desk, ledger: Ledger, counters: RedisCounters):
    ledger.insert([record("long ago", started_at=1_600_000_000_000)])
    (old,) = await reconcile(ledger, counters)
    assert await spent(desk, Period.TOTAL) == old.missing.nusd > 0
    assert await spent(desk, Period.DAY) == await spent(desk, Period.MONTH) == await used_today(desk) == 0


@pytest.mark.parametrize("days", [1, 0], ids=["until_the_next_settlement", "since_then"])
async def test_a_day_and_month_that_a_jumping_clock_began_anew_are_whole_again(
    desk, ledger: Ledger, counters: RedisCounters, days: int
):
    rows = await served(desk, ledger, "a", "b")
    charged = sum(nano_usd_ceil(row.cost_pusd) for row in rows)
    day, month = int(await desk.now()) // 86_400 + days, await desk.counter("month") + days
    await desk.put(day=day, day_tokens=220, day_nusd=charged, month=f"{month:.0f}", month_nusd=charged)
    assert (await used_today(desk), await spent(desk, Period.DAY), await spent(desk, Period.MONTH)) == (0, 0, 0)

    (correction,) = await reconcile(ledger, counters)
    assert correction.missing == Charge()
    assert await used_today(desk) == 220
    assert {await spent(desk, per) for per in Period} == {charged}
    assert await reconcile(ledger, counters) == []


async def test_what_began_before_midnight_and_was_settled_after_it_stays_in_the_later_day(
    desk, ledger: Ledger, counters: RedisCounters
):
    yesterday = record("a", started_at=int(await desk.now() * 1000) - 86_400_000)
    ledger.insert([yesterday])
    await desk.admit(Limits(), "a", 500, 10**6)
    await settled(desk, yesterday)
    assert await reconcile(ledger, counters) == []
    assert await used_today(desk) == 110


async def test_a_settlement_whose_row_is_on_its_way_stays_counted(desk, ledger: Ledger, counters: RedisCounters):
    await served(desk, ledger, "a")
    row = await row_of(desk, "b")
    await desk.admit(Limits(), "b", 500, 10**6)
    await settled(desk, row)
    before = await spent(desk, Period.TOTAL)
    assert await reconcile(ledger, counters) == []
    assert await spent(desk, Period.TOTAL) == before
    assert (await compare(ledger, counters))["acme"].on_the_way.tokens == 110


async def test_a_row_whose_settlement_is_on_its_way_is_settled_once(desk, ledger: Ledger, counters: RedisCounters):
    row = await row_of(desk, "a")
    await desk.admit(Limits(), "a", 500, 10**6)
    ledger.insert([row])
    assert await reconcile(ledger, counters) == []
    assert await desk.leases() == []
    await settled(desk, row)
    assert await spent(desk, Period.TOTAL) == nano_usd_ceil(row.cost_pusd)


async def test_a_request_whose_gateway_died_is_charged_by_its_row(desk, ledger: Ledger, counters: RedisCounters):
    await desk.admit(Limits(), HOLD.request_id, HOLD.tokens, HOLD.nusd)
    await desk.run_out(HOLD)
    await desk.limits.use("acme", Limits())  # the lease is swept
    row = await row_of(desk, HOLD.request_id, ending="crashed", usage_source="estimated")
    ledger.insert([row])
    assert await reconcile(ledger, counters) == []
    use = await desk.limits.use("acme", Limits(budget_nusd=10**12))
    assert (use.spent_nusd, use.held_nusd, use.in_flight) == (nano_usd_ceil(row.cost_pusd), 0, 0)


async def test_what_the_ledger_knows_is_forgotten_by_the_store(desk, ledger: Ledger, counters: RedisCounters):
    await served(desk, ledger, *(f"r{number}" for number in range(30)))
    charged_key = f"aion:{{s{shard_of('acme'):02d}}}:charged:acme"
    assert await desk.connection.call("LLEN", charged_key) == 30
    await reconcile(ledger, counters)
    assert await desk.connection.call("LLEN", charged_key) == 0


async def test_a_request_that_used_nothing_is_not_remembered(desk, counters: RedisCounters):
    await desk.admit(Limits(), "a", 5, 5)
    await desk.limits.settle("acme", Hold("a", 5, 5), 0, 0, Limits())
    read = await counters.read("acme")
    assert read is not None
    assert read.settled == {}


async def test_counters_are_not_lowered_after_settlements_were_forgotten(desk, ledger: Ledger, counters: RedisCounters):
    await served(desk, ledger, "a")
    await desk.put(total_nusd=10**9, settled_until=int(await desk.now() * 1000))
    assert await reconcile(ledger, counters) == []
    await desk.put(total_nusd=0)
    assert len(await reconcile(ledger, counters)) == 1


@pytest.mark.parametrize("entry", ["", "x", "x 1", "x 1 -2", "x 1.5 2", "x 1 2 3", " 1 2", "x  1 2"], ids=repr)
async def test_what_cannot_be_read_is_refused_and_nothing_is_guessed(desk, counters: RedisCounters, entry: str):
    await desk.connection.call("RPUSH", desk.name("charged"), "a 1 2", entry, "b 3 4")
    with pytest.raises(ValueError, match="a lease or a charge that this version cannot read"):
        await counters.read("acme")


async def test_of_two_that_correct_at_once_one_does(desk, ledger: Ledger, counters: RedisCounters):
    await served(desk, ledger, "a")
    await desk.put(total_nusd=0)
    read = await counters.read("acme")
    assert read is not None
    day = (read.now_ms // 86_400_000, Charge())
    assert await counters.correct("acme", read, Charge(0, 5), day=day, month=(202601, Charge()))
    assert not await counters.correct("acme", read, Charge(0, 5), day=day, month=(202601, Charge()))
    assert await desk.counter("total_nusd") == 5


async def test_a_day_that_is_over_is_not_corrected(desk, counters: RedisCounters):
    read = await counters.read("acme")
    assert read is not None
    yesterday = (read.now_ms // 86_400_000 - 1, Charge())
    assert not await counters.correct("acme", read, Charge(0, 5), day=yesterday, month=(202601, Charge()))


async def test_an_account_that_the_store_does_not_have_is_left_to_the_operator(ledger, desk, counters: RedisCounters):
    ledger.insert([record("a", account="gone")])
    assert await reconcile(ledger, counters) == []
    assert await counters.read("gone") is None
    assert isinstance(await desk.keys.account("gone"), Account | None)


async def test_a_store_that_several_ledgers_use_is_not_corrected_by_any(
    desk, ledger: Ledger, counters: RedisCounters, tmp_path_factory: pytest.TempPathFactory
):
    await served(desk, ledger, "a")
    await reconcile(ledger, counters)
    other = Ledger.open("embedded", tmp_path_factory.mktemp("other"))
    try:
        for one in (other, ledger):
            with pytest.raises(OtherLedgers, match="PostgreSQL"):
                await reconcile(one, counters)
    finally:
        other.close()


async def test_the_oldest_settlements_are_forgotten_when_nobody_compares(desk, ledger: Ledger, counters: RedisCounters):
    charged_key = f"aion:{{s{shard_of('acme'):02d}}}:charged:acme"
    await desk.connection.call("RPUSH", charged_key, *[f"old{number} 1 1" for number in range(20_000)])
    before = int(await desk.now() * 1000)
    await served(desk, ledger, "a")
    assert await desk.connection.call("LLEN", charged_key) == 20_000
    assert await desk.connection.call("LRANGE", charged_key, 0, 0) == [b"old1 1 1"]
    assert before <= await desk.counter("settled_until") <= await desk.now() * 1000
