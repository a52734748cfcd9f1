"""A gateway without its store: whom it lets in, and that the store has charged each exactly once in the end."""

import asyncio
import random
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from proxy.accounts import Identity
from proxy.errors import StoreUnavailable
from proxy.limits import Hold, KeyRefused, Limit, LimitReached, Limits, Reservation
from proxy.stores import fallback as module
from proxy.stores.fallback import FallbackLimits
from proxy.stores.gateways import RedisGateways
from proxy.stores.limits import RedisLimits
from waiting import until

LIMITS = Limits(requests_per_minute=600, tokens_per_minute=60_000, concurrent_requests=100, budget_nusd=10**9)


class Flaky:
    """The connection, to which anything may happen: `fate` decides before each call."""

    def __init__(self, connection) -> None:
        self._connection = connection
        self.fate = lambda: "whole"
        self.error: BaseException | None = None

    def call(self, *words, **how) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._suffer(lambda: self._connection.call(*words, **how)))

    def script(self, script, keys, args, **how) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._suffer(lambda: self._connection.script(script, keys, args, **how)))

    def send(self, script, key, packed, **how) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._suffer(lambda: self._connection.send(script, key, packed, **how)))

    def distrust(self, detail: str) -> StoreUnavailable:
        return self._connection.distrust(detail)

    async def _suffer(self, ask) -> Any:
        fate = self.fate()
        if fate == "away":
            away = StoreUnavailable("connection refused")
            away.__cause__ = self.error
            raise away
        reply = await ask()
        if fate == "unheard":
            raise StoreUnavailable("too slow", may_have_run=True)
        return reply


class Bench:
    def __init__(self, desk) -> None:
        self.desk = desk
        self.flaky = Flaky(desk.connection)
        self.now = 10**12
        self.let_in = 0
        self.fallback = FallbackLimits(
            RedisLimits(self.flaky), RedisGateways(self.flaky, "0-a"), lambda: self.now, self.count
        )
        self.fallback.degrade = True

    def count(self) -> None:
        self.let_in += 1

    def away(self, error: BaseException | None = None) -> None:
        self.flaky.fate, self.flaky.error = lambda: "away", error

    def back(self) -> None:
        self.flaky.fate = lambda: "whole"

    async def admit(self, request: str = "req_1", limits: Limits = LIMITS, tokens: int = 100, nusd: int = 1000):
        return await self.fallback.admit(self.desk.identity, limits, Hold(request, tokens, nusd))

    async def known(self, limits: Limits = LIMITS) -> None:
        """Have the store say once that the key is good and what is left."""
        assert isinstance(await self.admit("req_0", limits, 0, 0), Reservation)
        await self.settle("req_0", 0, 0, tokens=0, nusd=0, limits=limits)

    async def settle(self, request: str = "req_1", held: int = 100, held_nusd: int = 1000, *, tokens: int = 30,
                     nusd: int = 400, limits: Limits = LIMITS) -> None:  # fmt: skip
        await self.fallback.settle("acme", Hold(request, held, held_nusd), tokens, nusd, limits)


@pytest.fixture
def bench(desk) -> Bench:
    return Bench(desk)


async def test_while_the_store_is_there_it_decides(bench):
    assert isinstance(await bench.admit(), Reservation)
    await bench.settle()
    use = await bench.fallback.use("acme", LIMITS)
    assert (use.in_flight, use.spent_nusd, bench.let_in) == (0, 400, 0)


async def test_where_the_policy_is_to_refuse_nobody_is_let_in_without_it(bench):
    await bench.known()
    bench.fallback.degrade = False
    bench.away()
    with pytest.raises(StoreUnavailable, match="connection refused"):
        await bench.admit()
    assert not bench.fallback.serves_alone()


async def test_a_known_key_is_let_in_without_it_and_charged_once_when_it_is_back(bench):
    await bench.known()
    bench.away()
    assert bench.fallback.serves_alone()
    admitted = await bench.admit()
    assert (admitted.hold, admitted.account, bench.let_in) == (Hold("req_1", 100, 1000), "acme", 1)
    assert (admitted.remaining.requests_limit, admitted.remaining.tokens_limit) == (600, 60_000)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await bench.settle()
    bench.back()
    for _ in range(3):
        await bench.settle()
    use = await bench.fallback.use("acme", Limits(tokens_per_day=1000))
    assert (use.in_flight, use.held_nusd, use.spent_nusd, use.limits[Limit.TOKENS_PER_DAY].used) == (0, 0, 400, 30)


async def test_a_key_that_the_store_has_not_called_good_is_not_let_in(bench):
    await bench.known()
    bench.away()
    who = bench.desk.identity
    with pytest.raises(StoreUnavailable):
        await bench.fallback.admit(Identity(who.account, who.key, "another digest"), LIMITS, Hold("req_1", 0, 0))


async def test_a_key_that_the_store_refuses_is_refused(bench):
    await bench.known()
    await bench.desk.keys.change_key("key_1", revoked_ms=1)
    assert isinstance(await bench.admit(), KeyRefused)


async def test_a_store_without_memory_is_not_away(bench):
    await bench.known()
    bench.away(OutOfMemoryError("used memory > 'maxmemory'"))
    with pytest.raises(StoreUnavailable):
        await bench.admit()


async def test_requests_that_the_store_had_admitted_count_among_those_that_run_at_once(bench):
    limits = Limits(concurrent_requests=2)
    await bench.admit("req_1", limits)
    bench.away()
    assert isinstance(await bench.admit("req_2", limits), Reservation)
    refusal = await bench.admit("req_3", limits)
    assert isinstance(refusal, LimitReached)
    assert refusal.limit is Limit.CONCURRENT_REQUESTS
    with pytest.raises(StoreUnavailable):
        await bench.settle("req_1", limits=limits)
    assert isinstance(await bench.admit("req_4", limits), Reservation)


async def test_a_share_is_of_as_many_gateways_as_were_counted_last(bench):
    limits = Limits(requests_per_minute=10)
    await bench.known(limits)
    bench.fallback.alone.gateways = 5
    bench.away()
    verdicts = [await bench.admit(f"req_{number}", limits) for number in range(1, 5)]
    assert [isinstance(verdict, Reservation) for verdict in verdicts] == [True, False, False, False]


async def test_a_refusal_never_hides_that_the_store_may_have_taken_the_hold(bench):
    """It is then not a 429 but a 503, after which the hold is given back."""
    limits = Limits(requests_per_minute=1)
    await bench.known(limits)
    bench.now += 60_000_000
    await bench.desk.rewind("requests_tat", 60_000)
    bench.away()
    assert isinstance(await bench.admit("req_1", limits), Reservation)
    bench.flaky.fate = lambda: "unheard"
    with pytest.raises(StoreUnavailable) as away:
        await bench.admit("req_2", limits)
    assert away.value.may_have_run
    bench.back()
    await bench.settle("req_2", tokens=0, nusd=0, limits=limits)
    assert (await bench.fallback.use("acme", limits)).in_flight == 0


async def test_a_hold_that_the_store_took_unheard_is_not_taken_again(bench):
    await bench.known()
    bench.flaky.fate = lambda: "unheard"
    assert isinstance(await bench.admit(), Reservation)
    bench.back()
    await bench.fallback.renew("acme", [Hold("req_1", 100, 1000)])
    assert (await bench.fallback.use("acme", LIMITS)).held_nusd == 1000
    await bench.settle()
    use = await bench.fallback.use("acme", LIMITS)
    assert (use.in_flight, use.held_nusd, use.spent_nusd) == (0, 0, 400)


async def test_what_still_runs_when_the_store_is_back_is_held_there_from_then_on(bench):
    await bench.known()
    await bench.admit("req_9", tokens=1, nusd=1)
    bench.away()
    await bench.admit()
    holds = [Hold("req_9", 1, 1), Hold("req_1", 100, 1000)]
    with pytest.raises(StoreUnavailable):
        await bench.fallback.renew("acme", holds)
    bench.back()
    for _ in range(2):
        await bench.fallback.renew("acme", holds)
    use = await bench.fallback.use("acme", LIMITS)
    assert (use.in_flight, use.held_nusd) == (2, 1001)
    await bench.settle()
    use = await bench.fallback.use("acme", LIMITS)
    assert (use.in_flight, use.held_nusd, use.spent_nusd) == (1, 1, 400)


async def test_what_was_let_in_lately_is_told_to_the_store_as_soon_as_it_is_back(bench, monkeypatch):
    monkeypatch.setattr(module, "ADOPTED_AT_ONCE", 2)
    await bench.known()
    bench.away()
    for request in ("req_1", "req_2", "req_3"):
        await bench.admit(request)
    bench.fallback.store_is_back()  # it has gone again
    await asyncio.sleep(0)
    bench.back()
    held = []
    for _ in range(2):
        bench.fallback.store_is_back()
        await until(lambda: not bench.fallback._tasks)
        held.append(sorted(lease[:5] for lease in await bench.desk.leases()))
    assert held == [[b"req_2", b"req_3"], [b"req_1", b"req_2", b"req_3"]]


async def test_the_store_is_told_how_long_ago_it_was(bench):
    await bench.known()
    bench.away()
    await bench.admit(tokens=30_000)
    bench.now += 45_000_000
    for rate in ("requests_tat", "tokens_tat"):
        await bench.desk.rewind(rate, 45_000)
    bench.back()
    await bench.fallback.renew("acme", [Hold("req_1", 30_000, 1000)])
    use = await bench.fallback.use("acme", LIMITS)
    assert use.limits[Limit.REQUESTS_PER_MINUTE].remaining == 600
    assert use.limits[Limit.TOKENS_PER_MINUTE].remaining == 60_000


async def test_the_grace_is_open_again_when_all_is_charged_and_the_store_has_spoken(bench):
    limits = Limits(budget_nusd=100_000)
    await bench.known(limits)
    bench.away()
    assert isinstance(await bench.admit("req_1", limits), Reservation)
    with pytest.raises(StoreUnavailable):
        await bench.admit("req_2", limits)
    bench.now += 1
    bench.back()
    await bench.settle(nusd=0, limits=limits)
    bench.now += 1
    await bench.known(limits)
    bench.away()
    assert isinstance(await bench.admit("req_3", limits), Reservation)


async def test_there_is_an_end_to_what_may_wait_for_the_store(bench, monkeypatch):
    monkeypatch.setattr(module, "UNSETTLED_LIMIT", 2)
    await bench.known()
    bench.away()
    await bench.admit("req_1")
    await bench.admit("req_2")
    with pytest.raises(StoreUnavailable):
        await bench.admit("req_3")
    bench.back()
    await bench.settle("req_1")
    bench.away()
    assert isinstance(await bench.admit("req_3"), Reservation)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_is_lost_on_the_way_everything_is_charged_exactly_once(bench, seed):
    """Every call may find the store away, or be carried out without anyone hearing of it."""
    dice = random.Random(seed)
    await bench.known()
    bench.flaky.fate = lambda: dice.choice(["away", "away", "unheard", "whole"])
    charged = 0

    async def request(number: int) -> None:
        nonlocal charged
        name, used = f"req_{number}", dice.randrange(1000)
        try:
            admitted = await bench.admit(name)
        except StoreUnavailable as away:
            assert away.may_have_run
            used = 0
        else:
            assert isinstance(admitted, Reservation)
        charged += used
        for _ in range(dice.randrange(3)):
            try:
                await bench.fallback.renew("acme", [Hold(name, 100, 1000)])
            except StoreUnavailable:
                await asyncio.sleep(0)
        while True:
            try:
                await bench.settle(name, nusd=used)
            except StoreUnavailable:
                await asyncio.sleep(0)
            else:
                return

    await asyncio.gather(*[request(number) for number in range(30)])
    bench.back()
    use = await bench.fallback.use("acme", LIMITS)
    assert (use.in_flight, use.held_nusd, use.spent_nusd) == (0, 0, charged)


async def test_a_stream_that_was_let_in_alone_and_then_held_more_is_charged_once(bench):
    """The store would not know what to top up, and say yes: it has to hear of the request first."""
    await bench.known()
    bench.away()
    await bench.admit()
    small, large = Hold("req_1", 100, 1000), Hold("req_1", 200, 2000)
    with pytest.raises(StoreUnavailable):
        await bench.fallback.top_up("acme", small, large, LIMITS)
    bench.back()
    assert await bench.fallback.top_up("acme", small, large, LIMITS) is None
    use = await bench.fallback.use("acme", LIMITS)
    assert (use.in_flight, use.held_nusd) == (1, 2000)
    await bench.settle("req_1", 200, 2000, nusd=1500)
    use = await bench.fallback.use("acme", LIMITS)
    assert (use.in_flight, use.held_nusd, use.spent_nusd) == (0, 0, 1500)


async def test_one_that_ends_before_its_top_up_was_heard_is_charged_once(bench):
    await bench.known()
    bench.away()
    await bench.admit()
    small, large = Hold("req_1", 100, 1000), Hold("req_1", 200, 2000)
    bench.back()
    await bench.fallback.renew("acme", [small])
    bench.flaky.fate = lambda: "unheard"
    with pytest.raises(StoreUnavailable):
        await bench.fallback.top_up("acme", small, large, LIMITS)
    bench.back()
    await bench.fallback.settle("acme", small, 150, 1500, LIMITS, maybe=large)
    use = await bench.fallback.use("acme", LIMITS)
    assert (use.in_flight, use.held_nusd, use.spent_nusd) == (0, 0, 1500)
