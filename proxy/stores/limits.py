"""The shared truth about limits: `LimitStore` in terms of the scripts in `lua/`, and the names of their keys.

Only packing arguments and reading replies: what a limit means is arithmetic inside the scripts, what a plan says is
settled before. Every reply repeats the name that was asked for, so that the connection sees whose it is.
"""

import asyncio
from dataclasses import dataclass
from math import inf
from struct import Struct
from typing import Any, Final

from proxy.accounts import Identity, shard_of
from proxy.limits import (
    AccountChanged,
    AccountUse,
    Admission,
    BudgetUse,
    Hold,
    KeyRefused,
    KeyState,
    Limit,
    LimitReached,
    Limits,
    LimitUse,
    Period,
    Remaining,
    Reservation,
)
from proxy.stores.packing import Command, Word
from proxy.stores.records import account_from
from proxy.stores.scripts import Script, load_script
from proxy.stores.store import Store

LEASE_MS: Final = 60_000
"""How long a hold outlives a gateway that does not renew it; renewing every 20 s allows for two failures."""
LEASES_PER_CALL: Final = 100
SWEEPS: Final = 100
"""How often one question is asked again because leases that ran out filled the account; each call frees a hundred."""
_NAMES_KEPT: Final = 10_000
_LIMIT_REACHED, _KEY_REFUSED, _ACCOUNT_CHANGED = range(1, 4)
_NO_VERSION: Final = 0
"""The first is 1. With this one, the store looks at the account again before it says that it is disabled."""
_TERMS: Final = Struct("<9d")
_HELD: Final = Struct("<2d")
_SETTLED: Final = Struct("<5d")
_ADMITTED: Final = Struct("<6q")
"""Numbers that a script reads or writes at once, in the order that its header tells: a word for each costs more."""
_NO_ROOM: Final = 0
_MORE_TO_FREE: Final = -1
"""Where the replies of `admit` (when a limit is reached) and `use` say that leases may be left that ran out."""


@dataclass(frozen=True, slots=True)
class _Names:
    """The keys of one account; all have its shard as hash tag, so that one script may touch them on a cluster."""

    key_prefix: str
    account: str
    leases: str
    late: str
    charged: str
    settle: Command


@dataclass(frozen=True, slots=True)
class _Asking:
    """What all admissions of one key have in common, as long as neither its account nor the limits change."""

    version: int
    limits: Limits
    key: str
    command: Command
    terms: bytes


class RedisLimits:
    """`LimitStore` over a `Store`."""

    def __init__(self, connection: Store) -> None:
        """Read the scripts; the connection may be opened later."""
        self._connection = connection
        self._admit = load_script("admit")
        self._settle = load_script("settle")
        self._renew = load_script("renew")
        self._top_up = load_script("top_up")
        self._use = load_script("use")
        self._names: dict[str, _Names] = {}
        self._askings: dict[str, _Asking] = {}

    async def admit(self, identity: Identity, limits: Limits, hold: Hold) -> Admission:
        """Check the key and every limit, and take the hold, all or nothing, in one round-trip.

        Idempotent per request id, as long as the hold is the same. If the caller is cancelled while the store is
        being asked, the hold is given back. Raises StoreUnavailable.
        """
        account = identity.account
        asking = self._asking_of(identity, limits)
        lease = _lease(hold)
        packed = asking.command.packed((lease.encode(), asking.terms + _HELD.pack(hold.tokens, hold.nusd)))
        try:
            reply = await self._ask_admission(asking, packed, lease)
            for _ in range(SWEEPS):
                if type(reply) is bytes or reply[1] != _LIMIT_REACHED or not reply[_MORE_TO_FREE]:
                    break
                reply = await self._ask_admission(asking, packed, lease)
        except asyncio.CancelledError:
            self._give_back(account.name, hold, limits)
            raise
        if type(reply) is bytes:
            *remaining, tokens_left, nusd_left = _ADMITTED.unpack(reply[-_ADMITTED.size :])
            return Reservation(hold, account.name, _remaining(remaining, limits), tokens_left, nusd_left)
        verdict = reply[1]
        if verdict == _LIMIT_REACHED:
            return _limit_reached(reply, limits, hold)
        if verdict == _KEY_REFUSED:
            return KeyRefused(KeyState(reply[2].decode()))
        changed = account_from(reply[2:])
        if changed is None or changed.name != account.name:
            raise self._desync()
        return AccountChanged(changed)

    async def settle(
        self, account: str, hold: Hold, tokens: int, nusd: int, limits: Limits, *, maybe: Hold | None = None
    ) -> None:
        """Give the hold back and charge what was used; a second settle of the same request changes nothing."""
        await self.begin_settle(account, hold, tokens, nusd, limits, maybe=maybe)

    def begin_settle(
        self, account: str, hold: Hold, tokens: int, nusd: int, limits: Limits, *, maybe: Hold | None = None
    ) -> asyncio.Future[object]:
        """Send a settlement without waiting for it; the future fails with StoreUnavailable. Safe to send again."""
        names = self._names_of(account)
        charge, lease = f"{hold.request_id} {tokens} {nusd}", _lease(hold)
        numbers = _SETTLED.pack(hold.tokens, hold.nusd, tokens, nusd, _or_infinite(limits.tokens_per_minute))
        if maybe is None:
            packed = names.settle.packed((charge.encode(), lease.encode(), numbers))
            return self._connection.send(self._settle, names.account, packed, echo=charge)
        keys = (names.account, names.leases, names.late, names.charged)
        return self._ask(self._settle, keys, (charge, lease, numbers, _lease(maybe)))

    async def renew(self, account: str, holds: list[Hold]) -> None:
        """Extend the leases of requests that are still running; one that ran out meanwhile is taken again."""
        names = self._names_of(account)
        keys = (names.account, names.leases, names.late)
        for start in range(0, len(holds), LEASES_PER_CALL):
            leases = [_lease(hold) for hold in holds[start : start + LEASES_PER_CALL]]
            await self._ask(self._renew, keys, (account, LEASE_MS, *leases))

    async def top_up(self, account: str, has: Hold, wants: Hold, limits: Limits) -> Limit | None:
        """Let a running request hold what it wants instead of what it has; returns the limit that has no room for it.

        A request that the store does not know (any more) is let go on: its end will settle what there is.
        """
        names = self._names_of(account)
        rate, day = _or_empty(limits.tokens_per_minute), _or_empty(limits.tokens_per_day)
        reply = await self._ask(
            self._top_up,
            (names.account, names.leases, names.late),
            (wants.request_id, _lease(wants), LEASE_MS, rate, day, *map(_or_empty, _budgets(limits)), _lease(has)),
        )
        return Limit(reply[2].decode()) if reply[1] == _NO_ROOM else None

    async def use(self, account: str, limits: Limits) -> AccountUse:
        """Tell how much of `limits` the account has used; frees leases that ran out on the way."""
        names = self._names_of(account)
        keys = (names.account, names.leases, names.late)
        args = (account, _or_empty(limits.requests_per_minute), _or_empty(limits.tokens_per_minute))
        reply = await self._ask(self._use, keys, args)
        for _ in range(SWEEPS):
            if not reply[_MORE_TO_FREE]:
                break
            reply = await self._ask(self._use, keys, args)
        return _account_use(reply, limits)

    def _ask_admission(self, asking: _Asking, packed: bytes, lease: str) -> asyncio.Future[Any]:
        return self._connection.send(self._admit, asking.key, packed, echo=lease, urgent=True)

    def _ask(self, script: Script, keys: tuple[Word, ...], args: tuple[Word, ...]) -> asyncio.Future[Any]:
        return self._connection.script(script, keys, args, echo=str(args[0]))

    def _desync(self) -> Exception:
        return self._connection.distrust("a reply of the store belonged to another request; the connection was dropped")

    def _give_back(self, account: str, hold: Hold, limits: Limits) -> None:
        """Undo an admission whose caller has gone: calls go out in order, so this runs after it if it runs at all."""
        self.begin_settle(account, hold, 0, 0, limits).add_done_callback(_lease_runs_out_instead)

    def _names_of(self, account: str) -> _Names:
        names = self._names.get(account)
        if names is None:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            shard = shard_prefix(shard_of(account))
            of = f":{account}"
            keys = (f"{shard}acct{of}", f"{shard}lease{of}", f"{shard}late{of}", f"{shard}charged{of}")
            settle = Command(("EVALSHA", self._settle.sha, len(keys), *keys), 3)
            names = _Names(f"{shard}key:", *keys, settle)
            self._names[account] = names
        return names

    def _asking_of(self, identity: Identity, limits: Limits) -> "_Asking":
        account = identity.account
        asking = self._askings.get(identity.digest)
        if asking is None or asking.limits is not limits or asking.version != account.version:
            if len(self._askings) >= _NAMES_KEPT:
                self._askings.clear()
            names = self._names_of(account.name)
            keys = (names.key_prefix + identity.digest, names.account, names.leases, names.late)
            terms = _TERMS.pack(
                _NO_VERSION if account.disabled else account.version,
                LEASE_MS,
                _or_infinite(limits.requests_per_minute),
                _or_infinite(limits.tokens_per_minute),
                _or_infinite(limits.concurrent_requests),
                _or_infinite(limits.tokens_per_day),
                *map(_or_infinite, _budgets(limits)),
            )
            command = Command(("EVALSHA", self._admit.sha, len(keys), *keys), 2)
            asking = self._askings[identity.digest] = _Asking(account.version, limits, keys[0], command, terms)
        return asking


def shard_prefix(shard: int) -> str:
    """Return what every key of a shard begins with; the braces make it the unit of a cluster."""
    return f"aion:{{s{shard:02d}}}:"


def _lease(hold: Hold) -> str:
    return f"{hold.request_id} {hold.tokens} {hold.nusd}"


def _or_empty(limit: int | None) -> str | int:
    return "" if limit is None else limit


def _or_infinite(limit: int | None) -> float:
    return inf if limit is None else limit


def _budgets(limits: Limits) -> tuple[int | None, ...]:
    """Return the budgets in nUSD in the order of `Period`, which is that of the scripts' arguments."""
    by_period = dict(limits.budgets)
    return tuple(by_period.get(period) for period in Period)


def _lease_runs_out_instead(reply: asyncio.Future[Any]) -> None:
    """A hold that could not be given back is freed with its lease, a minute later."""
    if not reply.cancelled():
        reply.exception()


def _remaining(four: list[int], limits: Limits) -> Remaining:
    requests_left, requests_reset, tokens_left, tokens_reset = four
    per_minute, tokens_per_minute = limits.requests_per_minute, limits.tokens_per_minute
    return Remaining(per_minute, requests_left, requests_reset, tokens_per_minute, tokens_left, tokens_reset)


def _limit_reached(reply: list[Any], limits: Limits, hold: Hold) -> LimitReached:
    limit, left, wait_ms = Limit(reply[6].decode()), reply[7], reply[8]
    period = Period(reply[9].decode()) if limit is Limit.BUDGET else None
    allowed, asked = {
        Limit.REQUESTS_PER_MINUTE: (limits.requests_per_minute, 1),
        Limit.TOKENS_PER_MINUTE: (limits.tokens_per_minute, hold.tokens),
        Limit.CONCURRENT_REQUESTS: (limits.concurrent_requests, 1),
        Limit.TOKENS_PER_DAY: (limits.tokens_per_day, hold.tokens),
        Limit.BUDGET: (dict(limits.budgets).get(period or limits.budget_per), hold.nusd),
    }[limit]
    retry_after = None if wait_ms < 0 else wait_ms
    return LimitReached(limit, allowed or 0, left, asked, retry_after, _remaining(reply[2:6], limits), period)


def _account_use(reply: list[Any], limits: Limits) -> AccountUse:
    (now, requests_left, requests_reset, tokens_left, tokens_reset, in_flight, today, held) = reply[1:9]
    held_nusd, total, day_began, month_began = (int(text) for text in reply[9:13])
    day_ends, month_ends = reply[13:15]
    use: dict[Limit, LimitUse] = {}

    def note(limit: Limit, allowed: int | None, left: int, resets_ms: int | None, held: int = 0) -> None:
        if allowed is not None:
            use[limit] = LimitUse(allowed, allowed - left - held, max(left, 0), resets_ms, held)

    def after(reset: int) -> int | None:
        return now + reset if reset else None

    note(Limit.REQUESTS_PER_MINUTE, limits.requests_per_minute, requests_left, after(requests_reset))
    note(Limit.TOKENS_PER_MINUTE, limits.tokens_per_minute, tokens_left, after(tokens_reset))
    note(Limit.CONCURRENT_REQUESTS, limits.concurrent_requests, (limits.concurrent_requests or 0) - in_flight, None)
    note(Limit.TOKENS_PER_DAY, limits.tokens_per_day, (limits.tokens_per_day or 0) - today - held, day_ends, held)
    spent = {
        Period.DAY: (total - day_began, day_ends),
        Period.MONTH: (total - month_began, month_ends),
        Period.TOTAL: (total, None),
    }
    budgets = tuple(BudgetUse(period, allowed, *spent[period]) for period, allowed in limits.budgets)
    return AccountUse(use, spent[limits.budget_per][0], held_nusd, spent[limits.budget_per][1], in_flight, budgets)
