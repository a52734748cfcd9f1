"""One worker process: builds the gateway from its parts, in reading order, serves the listening socket it was given,
and stops orderly.

It lives as long as its supervisor: when the control channel ends, so does it. `python -m proxy.worker` is started by
the supervisor alone.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from pathlib import Path
from secrets import SystemRandom
from typing import TYPE_CHECKING, Final

import uvloop
from prometheus_client import values

from proxy.api import Api
from proxy.configuration import PREFIX, Configuration, load
from proxy.control import Files, Reload, Start, State, Stop, read_to_worker, write
from proxy.errors import StoreUnavailable
from proxy.gateway import Gateway
from proxy.http_server import GatewayServer
from proxy.logs import FastRequestLog, ReadableRequestLog, is_readable, make_logger
from proxy.metrics import Metrics
from proxy.mistakes import ConfigurationError
from proxy.report import Report
from proxy.serving import Serving
from proxy.settings import StoreEviction
from proxy.steps.settle import Settler
from proxy.stores.connection import CALL_TIMEOUT
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import store_at
from proxy.stores.server import Greeting, evicting
from proxy.upstream.providers import open_upstreams

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SWEEP_SECONDS: Final = 0.1
LINGER_SECONDS: Final = 0.5
"""After it stopped accepting, a worker waits this long for requests on connections that it has accepted but not read.
"""
ORPHAN_GRACE: Final = 1.0
"""How long a worker whose supervisor died goes on: its successor wants the port."""
FLUSH_SECONDS: Final = 5.0
_POOL_SWEEPS: Final = 50
GC_THRESHOLDS: Final = (10_000, 20, 50)
"""Objects between two collections: requests free nearly all of theirs by themselves."""
_LAST_RESORT: Final = 10


class Worker:
    """The parts of one worker, and their life."""

    def __init__(
        self, start: Start, listener: socket.socket, control: asyncio.StreamWriter, logger: "FilteringBoundLogger"
    ) -> None:
        """Put everything together; nothing is opened yet. Raises `ConfigurationError`."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._control = control
        self._logger = logger
        configuration = _load(start.files)
        self._metrics = Metrics(account_label=configuration.settings.metrics.account_label)
        self._store = store_at(
            start.store_url,
            patience=configuration.settings.store_timeout,
            call_timeout=max(CALL_TIMEOUT, configuration.settings.store_timeout),
            allow_eviction=configuration.settings.store_eviction is StoreEviction.WARN,
            on_change=self._store_changed,
            on_trouble=self._store_away,
            on_new_server=self._new_server,
            on_call=self._metrics.store_call,
        )
        self._store_was_up = False
        self._complained = True  # so that the first time it is up is told
        limits = RedisLimits(self._store)
        self._settler = Settler(limits, self._settling_waits)
        serving = Serving(
            configuration, open_upstreams(configuration.settings.providers, start.builtin_urls, self._loop)
        )
        requests = (
            ReadableRequestLog(logger)
            if is_readable(None)
            else FastRequestLog(sys.stderr.buffer, self._loop.call_soon, time.time, start.slot)
        )
        report = Report(self._metrics, requests, logger)
        self._gateway = Gateway(
            RedisKeys(self._store), limits, self._settler, report, time.time, SystemRandom().random, self._loop
        )
        self._api = Api(serving, self._gateway, report, time.time)
        self._stopping = asyncio.Event()
        self._cut = asyncio.Event()
        self._grace = ORPHAN_GRACE
        self._listening = False

    async def run(self, commands: asyncio.StreamReader) -> None:
        """Serve until told to stop; returns when everything is settled."""
        with contextlib.suppress(StoreUnavailable):  # it goes on trying, and readiness says so
            await self._store.connect()
        server = GatewayServer(self._api.handle, self._api.on_malformed)
        tasks = [self._loop.create_task(work) for work in (self._settler.run(), self._sweep(), self._obey(commands))]
        accepting = await self._loop.create_server(server, sock=self._listener, backlog=4096)
        self._listening = True
        self._tell()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.collect()
        gc.freeze()  # what was loaded stays: no collection has to walk it again
        await self._stopping.wait()
        accepting.close()
        await self._wind_down(server)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._metrics.flush()
        await self._store.close()

    async def _wind_down(self, server: GatewayServer) -> None:
        self._api.closing = True
        await self._pause(LINGER_SECONDS)
        deadline = self._loop.time() + self._grace
        while self._api.in_flight and self._loop.time() < deadline and not self._cut.is_set():
            await self._pause(0.02)
        for exchange in list(self._gateway.exchanges):
            exchange.cut()
        await server.close_connections()
        unsettled = await self._gateway.finish(FLUSH_SECONDS)
        if unsettled:
            self._logger.error("stopped with settlements that the store has not taken", settlements=unsettled)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless everything is to be cut at once."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._cut.wait(), seconds)

    async def _obey(self, commands: asyncio.StreamReader) -> None:
        """Do what the supervisor says, until it says no more."""
        while line := await commands.readline():
            message = read_to_worker(line)
            if isinstance(message, Reload):
                self._reload(message)
            elif isinstance(message, Stop):
                self.stop(message.grace)
        signal.alarm(_LAST_RESORT)  # nobody is left to end us if something hangs
        self.stop(ORPHAN_GRACE)

    def stop(self, grace: float) -> None:
        """Begin to stop; the second time, cut what is still open."""
        if self._stopping.is_set():
            self._cut.set()
        self._grace = grace
        self._stopping.set()

    def _reload(self, message: Reload) -> None:
        """Serve by the files as they are now; a mistake in them leaves everything as it is."""
        try:
            configuration = _load(message.files)
        except ConfigurationError as error:
            self._logger.error("configuration not reloaded", mistakes=[str(mistake) for mistake in error.mistakes])
            return
        providers = configuration.settings.providers
        upstreams = open_upstreams(providers, message.builtin_urls, self._loop, self._api.serving.upstreams)
        self._api.serving = Serving(configuration, upstreams)

    async def _sweep(self) -> None:
        """Keep the deadlines of all exchanges and idle connections with one timer."""
        rounds = 0
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for exchange in list(self._gateway.exchanges):
                exchange.check(now)
            self._metrics.flight(self._api.in_flight, self._gateway.streams)
            self._metrics.flush()
            rounds += 1
            if rounds % _POOL_SWEEPS == 0:
                for upstream in self._api.serving.upstreams.values():
                    upstream.pool.sweep(now)

    def _store_changed(self, up: bool) -> None:  # noqa: FBT001 - called back with one word
        self._metrics.store_up(up=up)
        self._store_was_up = self._store_was_up or up
        if up and self._complained:
            self._complained = False
            self._logger.info("store is up", address=self._store.address)
        self._tell()

    def _store_away(self, detail: str) -> None:
        """Say why, as often as the reason changes; a store that comes and goes does not fill the log."""
        if not self._stopping.is_set():  # else it is this worker that goes away
            self._complained = True
            self._logger.error("store is away", detail=detail)
            self._tell()

    def _new_server(self, greeting: Greeting) -> None:
        """Take note of a server that was restarted or replaced: what it was told last may be lost."""
        if self._store_was_up:
            self._logger.warning("the store was restarted or replaced", run_id=greeting.run_id)
        if greeting.evicts:
            self._logger.warning("the store may lose limits", detail=evicting(greeting.eviction))

    def _settling_waits(self, detail: str) -> None:
        self._logger.warning("a settlement waits for the store", detail=detail)

    def _tell(self) -> None:
        """Tell the supervisor whether requests would be served."""
        reasons = [] if self._listening else ["the worker is starting"]
        if not self._store.up:
            reasons.append(self._store.detail)
        self._control.write(write(State(ready=not reasons, reasons=reasons)))


def _load(files: Files) -> Configuration:
    """Read the supervisor's copies of the files. Raises `ConfigurationError`."""
    return load(Path(files.gateway), {**os.environ, f"{PREFIX}CATALOG": files.catalog})


async def serve(listener: socket.socket, control: socket.socket) -> int:
    """Run one worker on the sockets it inherited; returns the exit code."""
    commands, writer = await asyncio.open_connection(sock=control)
    start = read_to_worker(await commands.readline())
    if not isinstance(start, Start):
        return 1
    logger = make_logger().bind(worker=start.slot)
    values.ValueClass = values.MultiProcessValue(lambda: start.slot)  # type: ignore[no-untyped-call] # one file per slot, not per pid
    try:
        worker = Worker(start, listener, writer, logger)
    except ConfigurationError as error:
        logger.error("configuration refused", mistakes=[str(mistake) for mistake in error.mistakes])
        return 2
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop, ORPHAN_GRACE)
    await worker.run(commands)
    writer.close()
    return 0


def main(arguments: list[str]) -> int:
    """Run a worker; the arguments are the file descriptors of the listening socket and of the control channel."""
    listener, control = (socket.socket(fileno=int(number)) for number in arguments)
    for inherited in (listener, control):
        inherited.settimeout(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(listener, control))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
