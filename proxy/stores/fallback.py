"""The store's limits, and what stands in for them while it is away: requests are let in by a share of every limit.

Everything that follows from that is here: such a request is unknown to the store, so that its hold has to be taken
there afterwards (adopted) before it can be extended or settled, in this order and each until it is answered. How large
a share is, and what is closed, is arithmetic in `local_limits.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

from msgspec import Struct
from redis.exceptions import OutOfMemoryError

from proxy.accounts import Identity
from proxy.errors import StoreUnavailable
from proxy.limits import AccountUse, Admission, Hold, Limit, LimitReached, Limits, Reservation
from proxy.local_limits import LocalLimits
from proxy.stores.gateways import RedisGateways
from proxy.stores.limits import RedisLimits

UNSETTLED_LIMIT: Final = 50_000
"""Requests that may wait for the store to charge them; memory for more is not spent: they are refused."""
ADOPTED_AT_ONCE: Final = 1_000
"""How many of the latest go to the store as soon as it is back, before new requests: more would keep those waiting."""
_US_PER_MS: Final = 1_000


class _Grant(Struct):
    """One request that was let in without the store: since when, and whether the store has taken its hold by now."""

    account: str
    hold: Hold
    limits: Limits
    at: int
    adopted: bool = False


class FallbackLimits:
    """`LimitStore` that goes on alone where the store is away, if it may (`degrade`)."""

    def __init__(
        self,
        store: RedisLimits,
        gateways: RedisGateways,
        clock_us: Callable[[], int],
        on_alone: Callable[[], None],
    ) -> None:
        """Stand in for `store`; `clock_us` only goes on, and `on_alone` hears of every request that is let in so."""
        self.degrade = False
        self.alone = LocalLimits()
        self._store = store
        self._gateways = gateways
        self._clock_us = clock_us
        self._on_alone = on_alone
        self._open: set[str] = set()
        self._running: dict[str, int] = {}
        """How many open requests each account has on this worker."""
        self._grants: dict[str, _Grant] = {}
        self._tasks: set[asyncio.Future[object]] = set()

    def serves_alone(self) -> bool:
        """Whether somebody would be let in if the store were away now."""
        return self.degrade and self.alone.knows_somebody(self._clock_us())

    async def admit(self, identity: Identity, limits: Limits, hold: Hold) -> Admission:
        """Ask the store, and decide alone where it cannot be asked. Raises StoreUnavailable where that will not do."""
        account = identity.account.name
        try:
            admission = await self._store.admit(identity, limits, hold)
        except StoreUnavailable as away:
            admission = self._admit_alone(identity, limits, hold, away)
        else:
            if isinstance(admission, Reservation):
                self.alone.told(identity.digest, admission, self._clock_us())
            elif isinstance(admission, LimitReached):
                self.alone.told_refusal(identity.digest, account, admission.remaining, self._clock_us())
        if isinstance(admission, Reservation):
            self._open.add(hold.request_id)
            self._running[account] = self._running.get(account, 0) + 1
        return admission

    async def settle(
        self, account: str, hold: Hold, tokens: int, nusd: int, limits: Limits, *, maybe: Hold | None = None
    ) -> None:
        """Give the hold back and charge what was used; a second settle of the same request changes nothing."""
        await self.begin_settle(account, hold, tokens, nusd, limits, maybe=maybe)

    def begin_settle(
        self, account: str, hold: Hold, tokens: int, nusd: int, limits: Limits, *, maybe: Hold | None = None
    ) -> asyncio.Future[object]:
        """Send a settlement without waiting for it; the future fails with StoreUnavailable. Safe to send again."""
        was_open = self._close(account, hold.request_id)
        grant = self._grants.get(hold.request_id)
        if grant is None:
            return self._store.begin_settle(account, hold, tokens, nusd, limits, maybe=maybe)
        if was_open:
            self.alone.ended(account, limits, grant.hold, tokens, nusd, self._clock_us())
        return self._keep(self._settle(grant, hold, tokens, nusd, limits, maybe))

    def store_is_back(self) -> None:
        """Tell the store first of all what was let in lately: it should not let the same in again."""
        unknown = [grant for grant in self._grants.values() if not grant.adopted]
        for grant in unknown[-ADOPTED_AT_ONCE:]:
            self._keep(self._adopt(grant)).add_done_callback(_tried_again_later)

    async def renew(self, account: str, holds: list[Hold]) -> None:
        """Extend the leases of requests that are still running, and have the store take those it does not know yet."""
        if self._grants:
            for hold in holds:
                await self._make_known(hold)
        await self._store.renew(account, holds)

    async def adopt(self, account: str, hold: Hold, limits: Limits, age_ms: int) -> None:
        """Have the store take the hold of a running request, unless it has it; one that was let in here is told first
        of all anyway.
        """
        if hold.request_id not in self._grants:
            await self._gateways.adopt(account, hold, limits, age_ms)

    async def top_up(self, account: str, has: Hold, wants: Hold, limits: Limits) -> Limit | None:
        """Let a running request hold what it wants instead of what it has, once the store knows what it has."""
        await self._make_known(has)
        return await self._store.top_up(account, has, wants, limits)

    async def use(self, account: str, limits: Limits) -> AccountUse:
        """Tell how much of `limits` the account has used, as far as the store knows."""
        return await self._store.use(account, limits)

    def _admit_alone(self, identity: Identity, limits: Limits, hold: Hold, away: StoreUnavailable) -> Admission:
        """Decide alone, or raise `away`: a store without memory is not away, and a refusal must not hide that the
        store may have taken the hold.
        """
        out_of_memory = isinstance(away.__cause__, OutOfMemoryError)
        if not self.degrade or out_of_memory or len(self._grants) >= UNSETTLED_LIMIT:
            raise away
        account, now = identity.account.name, self._clock_us()
        verdict = self.alone.admit(identity.digest, account, limits, hold, self._running.get(account, 0), now)
        if isinstance(verdict, LimitReached) and not away.may_have_run:
            return verdict
        if verdict is None or isinstance(verdict, LimitReached):
            raise away
        self._grants[hold.request_id] = _Grant(account, hold, limits, now)
        self._on_alone()
        return Reservation(hold, account, verdict)

    def _close(self, account: str, request_id: str) -> bool:
        """Count a request that has ended; False if it was counted before, or never admitted."""
        if request_id not in self._open:
            return False
        self._open.remove(request_id)
        if self._running[account] > 1:
            self._running[account] -= 1
        else:
            del self._running[account]
        return True

    def _keep(self, work: Coroutine[None, None, object]) -> asyncio.Future[object]:
        task: asyncio.Future[object] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _make_known(self, hold: Hold) -> None:
        """Have the store take the hold of a request that it does not know yet."""
        grant = self._grants.get(hold.request_id)
        if grant is not None and not grant.adopted:
            await self._adopt(grant)

    async def _adopt(self, grant: _Grant) -> None:
        age_ms = (self._clock_us() - grant.at) // _US_PER_MS
        await self._gateways.adopt(grant.account, grant.hold, grant.limits, age_ms)
        grant.adopted = True

    async def _settle(
        self, grant: _Grant, hold: Hold, tokens: int, nusd: int, limits: Limits, maybe: Hold | None
    ) -> object:
        await self._make_known(hold)
        reply = await self._store.begin_settle(grant.account, hold, tokens, nusd, limits, maybe=maybe)
        if self._grants.pop(hold.request_id, None) is not None:
            self.alone.settled(grant.account, self._clock_us())
        return reply


def _tried_again_later(adoption: asyncio.Future[object]) -> None:
    """An adoption that failed is tried again with the renewal or the settlement of its request."""
    if not adoption.cancelled():
        adoption.exception()
