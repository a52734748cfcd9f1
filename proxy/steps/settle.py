"""The last step: what was held is given back and what was used is charged, exactly once, whatever the ending.

Settling never waits for the store and is never given up: a settlement that failed is sent again with the same id
until the store has taken it, and a second one changes nothing. Between admission and settlement the reservations'
leases are renewed here, and holds grow that a stream is about to pass.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final, Protocol

from msgspec import Struct

from proxy.call import Call, Metered
from proxy.errors import StoreUnavailable
from proxy.holds import Allowance, watched
from proxy.limits import Hold, Limits, LimitStore, Reservation
from proxy.pricing import nano_usd_ceil

RENEW_SECONDS: Final = 20.0
RETRY_SECONDS: Final = 0.5
AT_ONCE: Final = 128
"""Settlements of a backlog that are under way at a time: new requests must not wait behind all of them."""


class _Open(Struct):
    """What one request holds, until it is settled."""

    account: str
    hold: Hold
    limits: Limits
    since: float
    maybe: Hold | None = None
    """What it may hold instead: the store was asked for more, and its answer has not come (yet)."""

    def holds(self) -> list[Hold]:
        """Return what it holds or may hold."""
        return [self.hold] if self.maybe is None else [self.hold, self.maybe]


class Settlement(Struct, frozen=True, gc=False):
    """What one request really used: tokens, and nano-dollars rounded up once."""

    account: str
    hold: Hold
    maybe: Hold | None
    limits: Limits
    tokens: int
    nusd: int


class SettlingStore(LimitStore, Protocol):
    """A limit store that can also settle without being waited for."""

    def begin_settle(
        self, account: str, hold: Hold, tokens: int, nusd: int, limits: Limits, *, maybe: Hold | None = None
    ) -> "asyncio.Future[object]":
        """Send a settlement; the future fails where `settle` would raise."""

    async def adopt(self, account: str, hold: Hold, limits: Limits, age_ms: int) -> None:
        """Take the hold of a request that was let in so long ago, unless the store has it. Raises StoreUnavailable."""


class Settler:
    """Keeps every open reservation of one worker until the store has taken its settlement."""

    def __init__(self, store: SettlingStore, on_trouble: Callable[[str], None]) -> None:
        """Settle with `store`; `on_trouble` hears why settlements have to wait, once until they go through again."""
        self._store = store
        self._on_trouble = on_trouble
        self._open: dict[str, _Open] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._sent: dict[str, Settlement] = {}
        self._failed: deque[Settlement] = deque()
        self._troubled = False
        self._renew_at = 0.0
        self.held_tokens = 0
        self.held_nusd = 0
        """What the open reservations of this worker hold together."""

    @property
    def unsettled(self) -> int:
        """How many reservations the store has not been told the end of."""
        return len(self._open) + len(self._sent) + len(self._failed)

    def opened(self, reservation: Reservation, limits: Limits, now: float) -> None:
        """Take charge of a reservation, at this moment in monotonic seconds: its lease is renewed from now on."""
        hold = reservation.hold
        self._open[hold.request_id] = _Open(reservation.account, hold, limits, now)
        self.held_tokens += hold.tokens
        self.held_nusd += hold.nusd

    def allowance(self, call: Call, reservation: Reservation) -> Allowance | None:
        """Return what watches over the hold of an open stream; None for a call of which nothing is to be watched."""
        one = self._open[reservation.hold.request_id]
        of = watched(call, one.hold, one.limits)
        return None if of is None else Allowance(one.hold, of, self._begin_top_up)

    def settle(self, reservation: Reservation, metered: Metered) -> "asyncio.Future[object] | None":
        """Give back and charge. The first call for a reservation counts; it never fails and never waits. Returns what
        the store answers to the first try, for those who want to know.
        """
        ended = self._open.pop(reservation.hold.request_id, None)
        if ended is None:
            return None
        self.held_tokens -= ended.hold.tokens
        self.held_nusd -= ended.hold.nusd
        usage = metered.usage
        tokens, nusd = usage.prompt + usage.completion, nano_usd_ceil(metered.cost_pusd)
        return self._send(Settlement(ended.account, ended.hold, ended.maybe, ended.limits, tokens, nusd))

    def give_back(self, account: str, hold: Hold, limits: Limits) -> None:
        """Settle a hold that the store may have taken for a request that was refused: it used nothing."""
        self._send(Settlement(account, hold, None, limits, 0, 0))

    async def run(self) -> None:
        """Renew leases and send again what failed, for ever."""
        clock = asyncio.get_running_loop().time
        self._renew_at = clock() + RENEW_SECONDS
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            self.send_again()
            if clock() >= self._renew_at:
                self._renew_at = clock() + RENEW_SECONDS
                await self.renew()

    def store_is_back(self) -> None:
        """Begin at once with what had to wait for the store, and renew every lease soon."""
        self._renew_at = 0.0
        self.send_again()

    def store_was_replaced(self, now: float) -> None:
        """Have a store that may have lost what it was told last take every open hold again."""
        for one in self._open.values():
            self._keep(self._adopt(one, now))

    async def renew(self) -> None:
        """Extend the lease of every open reservation, one call per account: on a cluster, some may be out of reach."""
        by_account: dict[str, list[Hold]] = defaultdict(list)
        for one in self._open.values():
            by_account[one.account] += one.holds()
        for account, holds in by_account.items():
            try:
                await self._store.renew(account, holds)
            except StoreUnavailable as away:
                self._trouble(away.detail)

    def send_again(self) -> None:
        """Send settlements that the store did not take; each that it takes then draws the next one after it."""
        for _ in range(min(len(self._failed), AT_ONCE - len(self._sent))):
            self._send(self._failed.popleft())

    async def flush(self, seconds: float) -> int:
        """Wait until all is settled, at most this long; returns how many settlements the store has not taken."""
        try:
            async with asyncio.timeout(seconds):
                while self._sent or self._failed:
                    await asyncio.sleep(0.01)
                    self.send_again()
        except TimeoutError:
            pass
        return len(self._sent) + len(self._failed)

    def _begin_top_up(self, allowance: Allowance, wants: Hold) -> None:
        one = self._open.get(wants.request_id)
        if one is not None:
            before, one.maybe = one.maybe, wants
            self._keep(self._top_up(one, allowance, before))

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _adopt(self, one: _Open, now: float) -> None:
        if self._open.get(one.hold.request_id) is not one:  # it has ended, and its settlement has been sent
            return
        try:
            await self._store.adopt(one.account, one.hold, one.limits, int((now - one.since) * 1000))
        except StoreUnavailable as away:
            self._trouble(away.detail)

    async def _top_up(self, one: _Open, allowance: Allowance, before: Hold | None) -> None:
        """Ask for what it may hold then; `before` is what it may hold already, since an answer that was lost.

        The request may end meanwhile: it is then settled with both holds, and this comes too late.
        """
        wants = one.maybe
        assert wants is not None  # noqa: S101 - nobody else writes it while this one is asking
        try:
            no_room = await self._store.top_up(one.account, one.hold, wants, one.limits)
        except StoreUnavailable as away:
            if not away.may_have_run:
                one.maybe = before
            allowance.unheard()
            return
        one.maybe = None
        if no_room is not None:
            allowance.refused(no_room)
            return
        if self._open.get(wants.request_id) is one:
            self.held_tokens += wants.tokens - one.hold.tokens
            self.held_nusd += wants.nusd - one.hold.nusd
        one.hold = wants
        allowance.granted()

    def _send(self, settlement: Settlement) -> "asyncio.Future[object]":
        self._sent[settlement.hold.request_id] = settlement
        reply = self._store.begin_settle(
            settlement.account, settlement.hold, settlement.tokens, settlement.nusd, settlement.limits,
            maybe=settlement.maybe,
        )  # fmt: skip
        reply.add_done_callback(partial(self._answered, settlement))
        return reply

    def _answered(self, settlement: Settlement, reply: "asyncio.Future[object]") -> None:
        self._sent.pop(settlement.hold.request_id, None)
        error = asyncio.CancelledError("the call was cancelled") if reply.cancelled() else reply.exception()
        if error is not None:
            self._failed.append(settlement)
            self._trouble(str(error))
        else:
            self._troubled = False
            if self._failed:
                self.send_again()

    def _trouble(self, detail: str) -> None:
        if not self._troubled:
            self._troubled = True
            self._on_trouble(detail)
