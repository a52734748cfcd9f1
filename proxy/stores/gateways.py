"""What a gateway tells the store of itself: that it is there, and which requests it let in while the store was away.

Packing and reading only. How often it says so, and what it does alone, is decided elsewhere.
"""

from typing import Any, Final

from proxy.accounts import shard_of
from proxy.limits import Hold, Limits
from proxy.stores.limits import LEASE_MS, shard_prefix
from proxy.stores.packing import Word
from proxy.stores.scripts import Script, load_script
from proxy.stores.store import Store

COUNTED_MS: Final = 60_000
"""How long a worker counts that says no more: too many only make every share smaller."""
_ROLL: Final = f"{shard_prefix(0)}gateways"


class RedisGateways:
    """This worker's part in the store's picture of all gateways."""

    def __init__(self, connection: Store, name: str) -> None:
        """Speak under a `name` that no other worker has; the connection may be opened later."""
        self._connection = connection
        self._name = name
        self._attend = load_script("attend")
        self._adopt = load_script("adopt")

    async def attend(self) -> int:
        """Say that this worker is there; returns how many there are, all gateways and this one included."""
        reply = await self._ask(self._attend, (_ROLL,), (self._name, COUNTED_MS))
        count: int = reply[1]
        return count

    async def leave(self) -> None:
        """Say that this worker stops: the shares of the others need not wait until it is missed."""
        await self._connection.call("ZREM", _ROLL, self._name)

    async def adopt(self, account: str, hold: Hold, limits: Limits, age_ms: int) -> None:
        """Have the store take the hold of a request that was let in without it `age_ms` ago, whatever the limits say.

        Safe to send again as long as the request has not been settled. Raises StoreUnavailable.
        """
        shard = shard_prefix(shard_of(account))
        keys = (f"{shard}acct:{account}", f"{shard}lease:{account}", f"{shard}late:{account}")
        per_minute = (limits.requests_per_minute, limits.tokens_per_minute)
        rates = ["" if limit is None else limit for limit in per_minute]
        lease = f"{hold.request_id} {hold.tokens} {hold.nusd}"
        args = (hold.request_id, lease, hold.tokens, hold.nusd, LEASE_MS, age_ms, *rates)
        await self._ask(self._adopt, keys, args)

    async def _ask(self, script: Script, keys: tuple[Word, ...], args: tuple[Word, ...]) -> list[Any]:
        reply: list[Any] = await self._connection.script(script, keys, args, echo=str(args[0]))
        return reply
