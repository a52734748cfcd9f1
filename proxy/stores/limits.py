"""The shared truth about limits: `LimitStore` in terms of the scripts in `lua/`, and the names of their keys.

Only packing arguments and reading replies: what a limit means is arithmetic inside the scripts, what a plan says is
settled before. Every reply repeats the name that was asked for, so that the connection sees whose it is.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from proxy.accounts import Identity, shard_of
from proxy.limits import (
    AccountChanged,
    AccountUse,
    Admission,
    Hold,
    KeyRefused,
    KeyState,
    Limit,
    LimitReached,
    Limits,
    LimitUse,
    Remaining,
    Reservation,
)
from proxy.stores.records import account_from
from proxy.stores.scripts import Script, load_script
from proxy.stores.store import Store, Word

LEASE_MS: Final = 60_000
"""How long a hold outlives a gateway that does not renew it; renewing every 20 s allows for two failures."""
LEASES_PER_CALL: Final = 100
_NAMES_KEPT: Final = 10_000
_ADMITTED, _LIMIT_REACHED, _KEY_REFUSED, _ACCOUNT_CHANGED = range(4)


@dataclass(frozen=True, slots=True)
class _Names:
    """The keys of one account; all have its shard as hash tag, so that one script may touch them on a cluster."""

    key_prefix: str
    account: str
    leases: str
    late: str


class RedisLimits:
    """`LimitStore` over a `Store`."""

    def __init__(self, connection: Store) -> None:
        """Read the scripts; the connection may be opened later."""
        self._connection = connection
        self._admit = load_script("admit")
        self._settle = load_script("settle")
        self._renew = load_script("renew")
        self._use = load_script("use")
        self._names: dict[str, _Names] = {}

    async def admit(self, identity: Identity, limits: Limits, hold: Hold) -> Admission:
        """Check the key and every limit, and take the hold, all or nothing, in one round-trip.

        Idempotent per request id, as long as the hold is the same. If the caller is cancelled while the store is
        being asked, the hold is given back. Raises StoreUnavailable.
        """
        account = identity.account
        names = self._names_of(account.name)
        args: tuple[Word, ...] = (
            hold.request_id,
            _lease(hold),
            hold.tokens,
            hold.nusd,
            account.version,
            LEASE_MS,
            _or_empty(limits.requests_per_minute),
            _or_empty(limits.tokens_per_minute),
            _or_empty(limits.concurrent_requests),
            _or_empty(limits.tokens_per_day),
            _or_empty(limits.budget_nusd),
            limits.budget_per,
        )
        keys = (names.key_prefix + identity.digest, names.account, names.leases, names.late)
        try:
            reply = await self._ask(self._admit, keys, args, urgent=True)
        except asyncio.CancelledError:
            self._give_back(names, hold, limits)
            raise
        verdict = reply[1]
        if verdict == _ADMITTED:
            return Reservation(hold, account.name, _remaining(reply, limits))
        if verdict == _LIMIT_REACHED:
            return _limit_reached(reply, limits, hold)
        if verdict == _KEY_REFUSED:
            return KeyRefused(KeyState(reply[2].decode()))
        changed = account_from(reply[2:])
        if changed is None or changed.name != account.name:
            raise self._desync()
        return AccountChanged(changed)

    async def settle(self, account: str, hold: Hold, tokens: int, nusd: int, limits: Limits) -> None:
        """Give the hold back and charge what was used; a second settle of the same request changes nothing."""
        names = self._names_of(account)
        await self._ask(self._settle, (names.account, names.leases, names.late), _settling(hold, tokens, nusd, limits))

    def begin_settle(self, account: str, hold: Hold, tokens: int, nusd: int, limits: Limits) -> asyncio.Future[object]:
        """Send a settlement without waiting for it; the future fails with StoreUnavailable. Safe to send again."""
        names = self._names_of(account)
        return self._ask(self._settle, (names.account, names.leases, names.late), _settling(hold, tokens, nusd, limits))

    async def renew(self, account: str, holds: list[Hold]) -> None:
        """Extend the leases of requests that are still running; one that ran out meanwhile is taken again."""
        names = self._names_of(account)
        keys = (names.account, names.leases, names.late)
        for start in range(0, len(holds), LEASES_PER_CALL):
            leases = [_lease(hold) for hold in holds[start : start + LEASES_PER_CALL]]
            await self._ask(self._renew, keys, (account, LEASE_MS, *leases))

    async def use(self, account: str, limits: Limits) -> AccountUse:
        """Tell how much of `limits` the account has used; frees leases that ran out on the way."""
        names = self._names_of(account)
        reply = await self._ask(
            self._use,
            (names.account, names.leases, names.late),
            (account, _or_empty(limits.requests_per_minute), _or_empty(limits.tokens_per_minute), limits.budget_per),
        )
        return _account_use(reply, limits)

    def _ask(
        self, script: Script, keys: tuple[Word, ...], args: tuple[Word, ...], *, urgent: bool = False
    ) -> asyncio.Future[Any]:
        return self._connection.script(script, keys, args, echo=str(args[0]), urgent=urgent)

    def _desync(self) -> Exception:
        return self._connection.distrust("a reply of the store belonged to another request; the connection was dropped")

    def _give_back(self, names: _Names, hold: Hold, limits: Limits) -> None:
        """Undo an admission whose caller has gone: calls go out in order, so this runs after it if it runs at all."""
        keys = (names.account, names.leases, names.late)
        self._ask(self._settle, keys, _settling(hold, 0, 0, limits)).add_done_callback(_lease_runs_out_instead)

    def _names_of(self, account: str) -> _Names:
        names = self._names.get(account)
        if names is None:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            shard = shard_prefix(shard_of(account))
            names = _Names(
                f"{shard}key:", f"{shard}acct:{account}", f"{shard}lease:{account}", f"{shard}late:{account}"
            )
            self._names[account] = names
        return names


def shard_prefix(shard: int) -> str:
    """Return what every key of a shard begins with; the braces make it the unit of a cluster."""
    return f"aion:{{s{shard:02d}}}:"


def _lease(hold: Hold) -> str:
    return f"{hold.request_id} {hold.tokens} {hold.nusd}"


def _or_empty(limit: int | None) -> Word:
    return "" if limit is None else limit


def _settling(hold: Hold, tokens: int, nusd: int, limits: Limits) -> tuple[Word, ...]:
    return (hold.request_id, _lease(hold), hold.tokens, hold.nusd, tokens, nusd, _or_empty(limits.tokens_per_minute))


def _lease_runs_out_instead(reply: asyncio.Future[Any]) -> None:
    """A hold that could not be given back is freed with its lease, a minute later."""
    if not reply.cancelled():
        reply.exception()


def _remaining(reply: list[Any], limits: Limits) -> Remaining:
    return Remaining(limits.requests_per_minute, reply[2], reply[3], limits.tokens_per_minute, reply[4], reply[5])


def _limit_reached(reply: list[Any], limits: Limits, hold: Hold) -> LimitReached:
    limit, left, wait_ms = Limit(reply[6].decode()), reply[7], reply[8]
    allowed, asked = {
        Limit.REQUESTS_PER_MINUTE: (limits.requests_per_minute, 1),
        Limit.TOKENS_PER_MINUTE: (limits.tokens_per_minute, hold.tokens),
        Limit.CONCURRENT_REQUESTS: (limits.concurrent_requests, 1),
        Limit.TOKENS_PER_DAY: (limits.tokens_per_day, hold.tokens),
        Limit.BUDGET: (limits.budget_nusd, hold.nusd),
    }[limit]
    retry_after = None if wait_ms < 0 else wait_ms
    return LimitReached(limit, allowed or 0, left, asked, retry_after, _remaining(reply, limits))


def _account_use(reply: list[Any], limits: Limits) -> AccountUse:
    (now, requests_left, requests_reset, tokens_left, tokens_reset, in_flight, today, held) = reply[1:9]
    day_ends, spent, held_nusd, period_ends = reply[9], int(reply[10]) - int(reply[11]), int(reply[12]), reply[13]
    use: dict[Limit, LimitUse] = {}

    def note(limit: Limit, allowed: int | None, left: int, resets_ms: int | None) -> None:
        if allowed is not None:
            use[limit] = LimitUse(allowed, allowed - left, max(left, 0), resets_ms)

    def after(reset: int) -> int | None:
        return now + reset if reset else None

    note(Limit.REQUESTS_PER_MINUTE, limits.requests_per_minute, requests_left, after(requests_reset))
    note(Limit.TOKENS_PER_MINUTE, limits.tokens_per_minute, tokens_left, after(tokens_reset))
    note(Limit.CONCURRENT_REQUESTS, limits.concurrent_requests, (limits.concurrent_requests or 0) - in_flight, None)
    note(Limit.TOKENS_PER_DAY, limits.tokens_per_day, (limits.tokens_per_day or 0) - today - held, day_ends)
    return AccountUse(use, spent, held_nusd, None if period_ends < 0 else period_ends, in_flight)
