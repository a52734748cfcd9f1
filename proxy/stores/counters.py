"""The counters of limits as the ledger's keeper sees them: read at one moment, and moved to what the ledger says.

Only packing and reading; what is to be corrected is decided in `proxy/reconcile.py`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from proxy.accounts import shard_of
from proxy.drift import Charge, Counters, OpenHold
from proxy.limits import Hold, Limits
from proxy.stores.limits import RedisLimits, shard_prefix
from proxy.stores.scripts import load_script
from proxy.stores.store import Store

_AMOUNTS: Final = re.compile(r"(?:\S++ \d++ \d++(?:\n|\Z))*")
_AT_ONCE: Final = 100
_PERIODS: Final = ("day", "day_tokens", "day_nusd", "month", "month_nusd")
_LEDGERS: Final = f"{shard_prefix(0)}ledgers"


class RedisCounters:
    """Every account's counters over a `Store`. Every call raises `StoreUnavailable` when it is away."""

    def __init__(self, connection: Store) -> None:
        """Read the scripts; the connection may be opened later."""
        self._connection = connection
        self._limits = RedisLimits(connection)
        self._counters = load_script("counters")
        self._correct = load_script("correct")
        self._forget = load_script("forget")

    async def ledgers(self, ours: str) -> set[str]:
        """Say that this ledger's gateways use this store; returns the names of all ledgers that ever said so."""
        await self._connection.call("SADD", _LEDGERS, ours)
        return {name.decode() for name in await self._connection.call("SMEMBERS", _LEDGERS)}

    async def read(self, account: str) -> Counters | None:
        """Return an account's counters at one moment; None if the store does not have it.

        Where its periods began is read a moment later: if one begins in between, a correction is refused anyway.
        """
        prefix = shard_prefix(shard_of(account))
        keys = [f"{prefix}{kind}:{account}" for kind in ("acct", "lease", "late", "charged")]
        reply: list[Any] = await self._connection.script(self._counters, keys, (account,), echo=account)
        if not reply[1]:
            return None
        corrections, tokens, nusd, now_ms, forgotten = (int(value) for value in reply[2:7])
        settled = {name: Charge(tokens, nusd) for name, tokens, nusd in _amounts(reply[8])}
        holds = tuple(OpenHold(*lease) for lease in _amounts(reply[7]))
        words = await self._connection.call("HMGET", keys[0], *_PERIODS)
        day, day_tokens, day_nusd, month, month_nusd = (int(word or 0) for word in words)
        began = (day, Charge(day_tokens, day_nusd), month, month_nusd)
        return Counters(Charge(tokens, nusd), corrections, now_ms, forgotten, holds, settled, *began)

    async def settle(self, account: str, hold: OpenHold, used: Charge) -> None:
        """Settle a request for whoever should have done it; if it was settled meanwhile, nothing changes.

        Its tokens per minute stay as they were held: the minute is over.
        """
        taken = Hold(hold.request_id, hold.tokens, hold.nusd)
        await self._limits.settle(account, taken, used.tokens, used.nusd, Limits())

    async def arrived(self, account: str, settled: Sequence[tuple[str, Charge]]) -> None:
        """Forget settlements that the ledger knows."""
        key = f"{shard_prefix(shard_of(account))}charged:{account}"
        for start in range(0, len(settled), _AT_ONCE):
            some = [f"{name} {used.tokens} {used.nusd}" for name, used in settled[start : start + _AT_ONCE]]
            await self._connection.script(self._forget, (key,), (account, *some), echo=account)

    async def correct(
        self, account: str, read: Counters, missing: Charge, *, day: tuple[int, Charge], month: tuple[int, Charge]
    ) -> bool:
        """Add what is missing to the counters; `day` and `month` say where the totals stood when these began.

        False if somebody else has corrected them since they were `read`, or that day is over: read again.
        """
        key = f"{shard_prefix(shard_of(account))}acct:{account}"
        args = (
            *(account, read.corrections, missing.tokens, missing.nusd),
            *(day[0], day[1].tokens, day[1].nusd, month[0], month[1].nusd),
        )
        reply: list[Any] = await self._connection.script(self._correct, (key,), args, echo=account)
        return bool(reply[1])


def _amounts(members: Sequence[bytes]) -> Iterator[tuple[str, int, int]]:
    """Read `name tokens nusd` of each, all at once: there are many after a busy quarter of a minute."""
    text = b"\n".join(members).decode()
    words = text.split()
    if _AMOUNTS.fullmatch(text) is None or len(words) != 3 * len(members):
        raise ValueError("the store holds a lease or a charge that this version cannot read")
    return zip(words[::3], map(int, words[1::3]), map(int, words[2::3]), strict=True)
