"""The admin port of a running gateway: health, metrics, the admin API and the dashboard, on one socket.

Here the parts get the clock, randomness, the environment, the store and the ledger; what they do with them is theirs.
Their libraries are loaded in a thread, beside the workers that start and never need them.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.configuration import Configuration
from proxy.dashboard.token_file import VARIABLE, admin_token
from proxy.errors import StoreUnavailable
from proxy.health import OwnMetrics, Readiness, admin_application, samples
from proxy.quantities import Address
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import store_at
from proxy.stores.store import Store

if TYPE_CHECKING:
    from proxy.dashboard.ledger_threads import LedgerThreads
    from proxy.dashboard.site import Site

_CALL_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the admin port is told of the gateway it belongs to."""

    configuration: Callable[[], Configuration]
    readiness: Readiness
    store_url: str
    api_address: Address
    metrics: OwnMetrics
    metrics_files: Path


class AdminPort:
    """Serves on a socket that listens already; raises `BadAdminToken` when there is no token to guard it with."""

    def __init__(self, gateway: Gateway, listener: socket.socket) -> None:
        """Open nothing yet."""
        self._gateway = gateway
        self._listener = listener
        self._closing = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Serve."""
        loop = asyncio.get_running_loop()
        store = store_at(self._gateway.store_url, call_timeout=_CALL_SECONDS)
        self._closing.push_async_callback(store.close)
        with contextlib.suppress(StoreUnavailable):  # it is tried for ever, and every page says so meanwhile
            await store.connect()
        site, ledger = await loop.run_in_executor(None, self._load, store)
        self._closing.push_async_callback(loop.run_in_executor, None, ledger.close)
        gateway = self._gateway
        application = admin_application(gateway.metrics, gateway.metrics_files, gateway.readiness)
        site.add_to(application)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
        await runner.setup()
        self._closing.push_async_callback(runner.cleanup)
        await web.SockSite(runner, self._listener).start()

    async def close(self) -> None:
        """Serve no more."""
        await self._closing.aclose()

    def _load(self, store: Store) -> "tuple[Site, LedgerThreads]":
        from proxy.dashboard.api import Surroundings  # noqa: PLC0415 - large, and not for those who only want to start
        from proxy.dashboard.ledger_threads import LedgerThreads  # noqa: PLC0415
        from proxy.dashboard.operations import Desk  # noqa: PLC0415
        from proxy.dashboard.site import make_site  # noqa: PLC0415
        from proxy.dashboard.watching import Sample  # noqa: PLC0415

        gateway = self._gateway
        settings = gateway.configuration().settings
        token = admin_token(os.environ.get(VARIABLE), settings.data_dir, secrets.token_bytes)
        ledger = LedgerThreads(settings.ledger, settings.data_dir)
        desk = Desk(RedisKeys(store), RedisLimits(store), ledger, gateway.configuration, time.time, secrets.token_bytes)
        surroundings = Surroundings(gateway.readiness, gateway.store_url, _url_of(gateway.api_address))

        def numbers() -> Iterator[Sample]:
            return (Sample(*one) for one in samples(gateway.metrics, gateway.metrics_files))

        return make_site(desk, token, time.monotonic, surroundings, numbers), ledger


def _url_of(address: Address) -> str:
    """Return where somebody on this machine finds the API; an address for all networks is none to connect to."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
    return f"http://{Address(host, address.port)}/v1"
