"""A store behind Redis Sentinel: who is the primary at this moment, asked anew for every connection.

No watching in between: a primary that was replaced ends its connections or answers READONLY, and both lead here again.
"""

import asyncio
from collections import Counter
from typing import Final

from redis.exceptions import AuthenticationError, RedisError

from proxy.store_url import Node, StoreUrl
from proxy.stores.packing import pack
from proxy.stores.server import Line, Server

ASK_TIMEOUT: Final = 0.3
"""Seconds for a sentinel to answer; all are asked at once, so that one that is gone costs no more than this."""


class NoPrimary(RedisError):  # noqa: N818 - the state of the sentinels
    """The sentinels name nobody; the message says why."""


class SentinelServer:
    """Opens lines to the primary of a service, and explains what went wrong without telling a password."""

    def __init__(self, url: StoreUrl, connect_timeout: float, *, allow_eviction: bool = True) -> None:
        """Use a URL of the topology SENTINEL. Raises ValueError for options that mean nothing."""
        self._service = url.service
        self._data = Server(url.server, connect_timeout, allow_eviction=allow_eviction)
        any_sentinel = Server(url.sentinel, min(ASK_TIMEOUT, connect_timeout))
        self._sentinels = [any_sentinel.at(node) for node in url.nodes]
        self._tried: Server | None = None

    @property
    def address(self) -> str:
        """The primary that was used or tried last; before that, the service and its sentinels."""
        if self._tried is not None:
            return self._tried.address
        return f"{self._service} of the sentinels {', '.join(one.address for one in self._sentinels)}"

    async def open(self) -> Line:
        """Ask every sentinel and open the server that most of them name, if it agrees that it is the primary.

        Where they differ, as they do for a moment after a failover, the others are tried as well.
        """
        self._tried = None
        said = await asyncio.gather(*[self._ask(sentinel) for sentinel in self._sentinels])
        named = Counter(node for node in said if isinstance(node, Node))
        trouble: Exception = NoPrimary(_why_nobody(self._sentinels, said))
        for node, _ in named.most_common():
            self._tried = self._data.at(node, primary=True)
            try:
                return await self._tried.open()
            except (RedisError, OSError, TimeoutError) as error:
                trouble = error
        raise trouble

    def explain(self, error: BaseException) -> str:
        """Say in one sentence what is wrong and what to do, without credentials."""
        if self._tried is not None:
            return self._tried.explain(error)
        return f"the store {self.address} cannot be found: {error}; see that the sentinels run and know the service"

    async def _ask(self, sentinel: Server) -> Node | str:
        """Return who is the primary, or why this sentinel does not say."""
        line = None
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                line = await sentinel.connect()
                await line.send([pack(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))])
                reply = await line.read()
                if isinstance(reply, RedisError):
                    raise reply
        except AuthenticationError:
            return "a user name or password is refused (`sentinel_username`, `sentinel_password` after the `?`)"
        except TimeoutError:
            return "no answer in time"
        except (RedisError, OSError) as error:
            return sentinel.without_password(str(error))
        finally:
            if line is not None:
                await line.drop()
        return f"no service {self._service} is known" if reply is None else Node(reply[0].decode(), int(reply[1]))


def _why_nobody(sentinels: list[Server], said: list[Node | str]) -> str:
    """Say what every sentinel said, those that said the same together."""
    of_reason: dict[str, list[str]] = {}
    for sentinel, reason in zip(sentinels, said, strict=True):
        of_reason.setdefault(str(reason), []).append(sentinel.address)
    return "; ".join(f"{', '.join(addresses)}: {reason}" for reason, addresses in of_reason.items())
