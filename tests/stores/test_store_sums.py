"""Whatever happens to requests, in whatever order: the counters are the sums that were kept beside them, exactly.

Admitting, coming to hold more, settling, renewing, running out and repeating are mixed at random, by a clock of the
test, and compared with a model in plain Python after every step.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.limits import Hold, Limit, Limits, Period, Reservation
from proxy.stores import limits as store_limits
from proxy.stores.opening import connect_store
from tests.stores.conftest import TimedDesk, load_timed_script, make_desk

LIMITS = Limits(
    concurrent_requests=4,
    tokens_per_day=2_000,
    budget_nusd=3_000,
    budget_per=Period.DAY,
    more_budgets=((Period.MONTH, 6_000), (Period.TOTAL, 9_000)),
)
BEGINS = [datetime(2026, 11, day, 20, 0, tzinfo=UTC) for day in (29, 30)]
"""A midnight comes soon: of a day, or of a month."""
LEASE = timedelta(minutes=1)
A_DAY_OF_MEMORY = timedelta(hours=23)
"""A request whose lease ran out can still be settled for a day; no story lasts longer."""
amounts = st.integers(0, 900)
requests = st.integers(0, 5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), requests, amounts, amounts),
        st.tuples(st.just("top_up"), requests, amounts, amounts),
        st.tuples(st.just("settle"), requests, amounts, amounts),
        st.tuples(st.just("repeat"), requests, amounts, amounts),
        st.tuples(st.just("renew"), requests, amounts, amounts),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 59, 61, 3_600, 20_000]), amounts, amounts),
    ),
    min_size=10,
    max_size=60,
)


@dataclass
class Model:
    """The same promises, kept without any cleverness."""

    now: datetime
    holds: dict[str, Hold] = field(default_factory=dict)
    until: dict[str, datetime] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    bills: list[tuple[datetime, int, int]] = field(default_factory=list)

    def sweep(self) -> None:
        for name in [name for name, until in self.until.items() if until <= self.now]:
            del self.until[name]
            self.late.add(name)

    def held(self) -> tuple[int, int]:
        holding = [self.holds[name] for name in self.until]
        return sum(hold.tokens for hold in holding), sum(hold.nusd for hold in holding)

    def used(self) -> tuple[int, int, int, int]:
        """Tokens today; nUSD today, this month, ever."""
        today = [bill for bill in self.bills if bill[0].date() == self.now.date()]
        month = [bill for bill in self.bills if (bill[0].year, bill[0].month) == (self.now.year, self.now.month)]
        return (
            sum(tokens for _, tokens, _ in today),
            sum(nusd for *_, nusd in today),
            sum(nusd for *_, nusd in month),
            sum(nusd for *_, nusd in self.bills),
        )

    def fits(self, tokens: int, nusd: int) -> bool:
        held_tokens, held_nusd = self.held()
        tokens_today, *spent = self.used()
        rooms = [3_000, 6_000, 9_000]
        return tokens_today + held_tokens + tokens <= 2_000 and all(
            used + held_nusd + nusd <= room for used, room in zip(spent, rooms, strict=True)
        )

    def revive(self, name: str) -> bool:
        """Whether the request is there; if its lease ran out it holds again."""
        if name in self.late:
            self.late.discard(name)
            self.until[name] = self.now + LEASE
        return name in self.until


@dataclass
class Play:
    """A desk and a model that hear the same; requests are known by small numbers."""

    desk: TimedDesk
    model: Model
    last: datetime
    admitted: int = 0
    names: dict[int, str] = field(default_factory=dict)

    def hold(self, which: int) -> Hold:
        """What a request holds, or what one that never was might hold."""
        name = self.names.get(which, "req_none")
        return self.model.holds.get(name, Hold(name, 7, 7))

    async def wait(self, seconds: int, _tokens: int, _nusd: int) -> None:
        if self.model.now + timedelta(seconds=seconds) <= self.last:
            self.model.now += timedelta(seconds=seconds)
            await self.desk.set_time(self.model.now)

    async def admit(self, which: int, tokens: int, nusd: int) -> None:
        model = self.model
        self.admitted += 1
        hold = Hold(f"req_{self.admitted}", tokens, nusd)
        model.sweep()
        fits = len(model.until) < 4 and model.fits(tokens, nusd)
        admission = await self.desk.limits.admit(self.desk.identity, LIMITS, hold)
        assert isinstance(admission, Reservation) == fits, admission
        if fits:
            self.names[which] = hold.request_id
            model.holds[hold.request_id] = hold
            model.until[hold.request_id] = model.now + LEASE

    async def repeat(self, which: int, _tokens: int, _nusd: int) -> None:
        """Admit once more what is admitted already."""
        hold = self.hold(which)
        self.model.sweep()
        if hold.request_id in self.model.until:
            admission = await self.desk.limits.admit(self.desk.identity, LIMITS, hold)
            assert isinstance(admission, Reservation)

    async def top_up(self, which: int, tokens: int, nusd: int) -> None:
        model, hold = self.model, self.hold(which)
        wants = Hold(hold.request_id, hold.tokens + tokens, hold.nusd + nusd)
        model.sweep()
        there = model.revive(hold.request_id)
        fits = there and (wants == hold or model.fits(tokens, nusd))
        full = await self.desk.limits.top_up("acme", hold, wants, LIMITS)
        assert (full is not None) == (there and not fits)
        if fits and wants != hold:
            model.holds[hold.request_id] = wants
            model.until[hold.request_id] = model.now + LEASE

    async def settle(self, which: int, tokens: int, nusd: int) -> None:
        """Once or more often, and sometimes unsure of what it holds."""
        model, hold = self.model, self.hold(which)
        other = Hold(hold.request_id, hold.tokens + 1, hold.nusd + 1)
        first, maybe = [(hold, None), (hold, other), (other, hold)][nusd % 3]
        for _ in range(1 + tokens % 3):
            await self.desk.limits.settle("acme", first, tokens, nusd, LIMITS, maybe=maybe)
        if hold.request_id in model.until or hold.request_id in model.late:
            model.until.pop(hold.request_id, None)
            model.late.discard(hold.request_id)
            model.bills.append((model.now, tokens, nusd))

    async def renew(self, which: int, _tokens: int, _nusd: int) -> None:
        hold = self.hold(which)
        await self.desk.limits.renew("acme", [hold, Hold(hold.request_id, hold.tokens + 1, hold.nusd)])
        if self.model.revive(hold.request_id):
            self.model.until[hold.request_id] = self.model.now + LEASE

    async def compare(self) -> None:
        desk, model = self.desk, self.model
        use = await desk.limits.use("acme", LIMITS)
        model.sweep()
        assert (await desk.counter("held_tokens"), await desk.counter("held_nusd")) == model.held()
        assert (use.in_flight, use.held_nusd) == (len(model.until), model.held()[1])
        tokens_today, *spent = model.used()
        assert use.limits[Limit.TOKENS_PER_DAY].used == tokens_today
        assert [budget.spent_nusd for budget in use.budgets] == spent


async def play(url: str, begin: datetime, story: list[tuple[str, int, int, int]]) -> None:
    async with connect_store(url, call_timeout=10) as connection:
        await connection.call("FLUSHALL")
        desk = await make_desk(connection, TimedDesk)
        await desk.set_time(begin)
        game = Play(desk, Model(begin), begin + A_DAY_OF_MEMORY)
        for what, which, tokens, nusd in story:
            await getattr(game, what)(which, tokens, nusd)
            await game.compare()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(begin=st.sampled_from(BEGINS), story=steps)
def test_counters_are_the_sums_of_what_happened(store_url, begin, story):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_limits, "load_script", load_timed_script)
        asyncio.run(play(store_url, begin, story))
