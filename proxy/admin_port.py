"""The admin port of a running gateway: health, metrics, the admin API and the dashboard, on one socket.

Here the parts get the clock, randomness, the environment, the store and the ledger; what they do with them is theirs.
Their libraries are loaded in a thread, beside the workers that start and never need them.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from proxy.configuration import Configuration
from proxy.dashboard.token_file import VARIABLE, admin_token
from proxy.errors import StoreUnavailable
from proxy.health import OwnMetrics, Readiness, admin_application, samples
from proxy.quantities import Address
from proxy.report import where_of
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import store_at
from proxy.stores.store import Store

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

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
    logger: "FilteringBoundLogger"
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
        connecting = loop.create_task(_connected(store))
        self._closing.push_async_callback(asyncio.wait, (connecting,))
        self._closing.push_async_callback(store.close)
        site, ledger = await loop.run_in_executor(None, self._load, store)
        self._closing.push_async_callback(loop.run_in_executor, None, ledger.close)
        gateway = self._gateway
        application = admin_application(gateway.metrics, gateway.metrics_files, gateway.readiness)
        site.add_to(application)
        logger = logging.Logger("admin port")  # noqa: LOG001 - of this port alone, and of no tree
        logger.addHandler(_Bugs(gateway.logger))
        runner = web.AppRunner(application, access_log=None, logger=logger, shutdown_timeout=_CLOSE_SECONDS)
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
        surroundings = Surroundings(
            gateway.readiness,
            gateway.store_url,
            _url_of(gateway.api_address),
            lambda: gateway.metrics.last_reload,
        )

        def numbers() -> Iterator[Sample]:
            return (Sample(*one) for one in samples(gateway.metrics, gateway.metrics_files))

        return make_site(desk, token, time.monotonic, surroundings, numbers), ledger


class _Bugs(logging.Handler):
    """Tells of bugs in pages by their name and place; what aiohttp would write may hold a header, and so a token."""

    def __init__(self, logger: "FilteringBoundLogger") -> None:
        super().__init__(logging.ERROR)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Leave out requests that are none: they are answered with 400."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, HttpProcessingError):
            self._logger.error("bug", error=type(error).__name__, where=where_of(error))


async def _connected(store: Store) -> None:
    with contextlib.suppress(StoreUnavailable):  # it is tried for ever, and every page says so meanwhile
        await store.connect()


def _url_of(address: Address) -> str:
    """Return where somebody on this machine finds the API; an address for all networks is none to connect to."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
    return f"http://{Address(host, address.port)}/v1"
