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
from secrets import SystemRandom, token_hex
from typing import TYPE_CHECKING, Final

import uvloop
from prometheus_client import values

from proxy.api import Api
from proxy.configuration import PREFIX, Configuration, load
from proxy.control import Files, Reload, Start, State, Stop, read_to_worker, write
from proxy.errors import StoreUnavailable
from proxy.gateway import Gateway
from proxy.http_server import GatewayServer
from proxy.ledger.journal import Journal
from proxy.ledger.segments import ROOT
from proxy.logs import FastRequestLog, ReadableRequestLog, is_readable, make_logger
from proxy.memory import MemoryWatch, group_memory, own_memory
from proxy.metrics import Metrics
from proxy.mistakes import ConfigurationError
from proxy.pressure import Pressure
from proxy.report import Report
from proxy.serving import Serving
from proxy.settings import JournalFull, OnStoreOutage, StoreEviction
from proxy.steps.record import Recorder
from proxy.steps.settle import Settler
from proxy.stores.connection import CALL_TIMEOUT
from proxy.stores.fallback import FallbackLimits
from proxy.stores.gateways import RedisGateways
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import store_at
from proxy.stores.server import Greeting, evicting
from proxy.upstream.providers import open_upstreams
from proxy.worker_tracing import start_tracing

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SWEEP_SECONDS: Final = 0.2
LINGER_SECONDS: Final = 0.5
"""After it stopped accepting, a worker waits this long for requests on connections that it has accepted but not read.
"""
ORPHAN_GRACE: Final = 1.0
"""How long a worker whose supervisor died goes on: its successor wants the port."""
FLUSH_SECONDS: Final = 5.0
ALARM_SECONDS: Final = 1.0
"""Between two lines that say that the journal still cannot be written."""
ATTEND_SECONDS: Final = 5.0
"""How often a worker says to the store that it is there: each knows how many share the limits before it needs to."""
WAITING_LINE_SECONDS: Final = 1.0
"""Between two log lines that say that settlements wait for the store."""
SERVES_ALONE: Final = "until then keys that were seen good are served within a share of their limits"
_POOL_SWEEPS: Final = 25
_MEMORY_SWEEPS: Final = 5
REPEAT_SECONDS: Final = 1.0
"""How often a worker says how it is although nothing has changed: its silence tells the supervisor that it is stuck."""
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
        settings = configuration.settings
        self._metrics = Metrics(account_label=settings.metrics.account_label, genai=settings.metrics.genai)
        self._store = store_at(
            start.store_url,
            patience=settings.store_timeout,
            call_timeout=max(CALL_TIMEOUT, settings.store_timeout),
            allow_eviction=settings.store_eviction is StoreEviction.WARN,
            on_change=self._store_changed,
            on_trouble=self._store_away,
            on_new_server=self._new_server,
            on_call=self._metrics.store_call,
        )
        self._store_was_up = False
        self._complained = True  # so that the first time it is up is told
        self._gateways = RedisGateways(self._store, f"{start.slot}-{token_hex(8)}")
        self._limits = FallbackLimits(
            RedisLimits(self._store), self._gateways, lambda: time.monotonic_ns() // 1_000, self._metrics.let_in_alone
        )
        self._limits.degrade = settings.on_store_outage is OnStoreOutage.DEGRADE
        self._settler = Settler(self._limits, self._settling_waits)
        serving = Serving(
            configuration, open_upstreams(configuration.settings.providers, start.builtin_urls, self._loop)
        )
        requests = (
            ReadableRequestLog(logger)
            if is_readable(None)
            else FastRequestLog(sys.stderr.buffer, self._loop.call_soon, time.time, start.slot)
        )
        report = Report(self._metrics, requests, logger)
        self._blocks = settings.journal_full is JournalFull.BLOCK
        self._told_of_journal_at = 0.0
        self._journal = Journal(
            settings.data_dir / ROOT, f"{int(time.time() * 1000):012x}-{os.getpid()}", self._journal_changed
        )
        self._recorder = Recorder(self._journal, settings.journal_sync, settings.journal_full)
        self._gateway = Gateway(
            RedisKeys(self._store),
            self._limits,
            self._settler,
            self._recorder,
            report,
            time.time,
            SystemRandom().random,
            self._loop,
        )
        self._gateway.health.renew(settings.failover.policy())
        self._tracing = start_tracing(settings.tracing, self._metrics.spans, logger)
        self._gateway.tracer = None if self._tracing is None else self._tracing.tracer
        self._api = Api(serving, self._gateway, report, time.time)
        self._server = GatewayServer(self._api.handle, self._api.on_malformed, settings.server)
        self._stopping = asyncio.Event()
        self._cut = asyncio.Event()
        self._grace = ORPHAN_GRACE
        self._listening = False
        self._store_is_back = asyncio.Event()
        self._waiting_said_at = -WAITING_LINE_SECONDS
        self._state: State | None = None
        self._told_at = 0.0
        limit = settings.server.memory_limit
        self._memory = MemoryWatch(group_memory() if limit is None else own_memory(limit), logger)

    async def run(self, commands: asyncio.StreamReader) -> None:
        """Serve until told to stop; returns when everything is settled."""
        with contextlib.suppress(StoreUnavailable):  # it goes on trying, and readiness says so
            await self._store.connect()
        work = (self._settler.run(), self._attend(), self._journal.keep(), self._sweep(), self._obey(commands))
        tasks = [self._loop.create_task(one) for one in work]
        for task in tasks:
            task.add_done_callback(self._part_ended)
        self._server.prepare(self._listener)
        accepting = await self._loop.create_server(self._server, sock=self._listener, backlog=4096)
        self._listening = True
        self._tell()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.collect()
        gc.freeze()  # what was loaded stays: no collection has to walk it again
        await self._stopping.wait()
        accepting.close()
        await self._wind_down()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._journal.close()
        if self._tracing is not None:
            await self._tracing.close()
        self._metrics.flush()
        with contextlib.suppress(StoreUnavailable):
            await self._gateways.leave()
        await self._store.close()

    async def _wind_down(self) -> None:
        self._api.closing = True
        await self._pause(LINGER_SECONDS)
        deadline = self._loop.time() + self._grace
        while self._api.in_flight and self._loop.time() < deadline and not self._cut.is_set():
            await self._pause(0.02)
        for exchange in list(self._gateway.exchanges):
            exchange.cut()
        await self._server.close_connections()
        unsettled = await self._gateway.finish(FLUSH_SECONDS)
        if unsettled:
            self._logger.error("stopped with settlements that the store has not taken", settlements=unsettled)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless everything is to be cut at once."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._cut.wait(), seconds)

    async def _obey(self, commands: asyncio.StreamReader) -> None:
        """Do what the supervisor says, until it says no more."""
        with contextlib.suppress(ConnectionError):  # a supervisor that was killed before it read what we told it
            while line := await commands.readline():
                message = read_to_worker(line)
                if isinstance(message, Reload):
                    self._reload(message)
                elif isinstance(message, Stop):
                    self.stop(message.grace)
        signal.alarm(_LAST_RESORT)  # nobody is left to end us if something hangs
        self.stop(ORPHAN_GRACE)

    def _part_ended(self, task: "asyncio.Task[None]") -> None:
        """Stop in order if a part that runs for ever has failed: a new worker is whole again."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._logger.error(
                "a part of the worker failed, so it stops", error=type(error).__name__, detail=str(error)
            )
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
        self._server.settings = configuration.settings.server
        self._gateway.health.renew(configuration.settings.failover.policy())
        self._limits.degrade = configuration.settings.on_store_outage is OnStoreOutage.DEGRADE

    async def _attend(self) -> None:
        """Say to the store that this worker is there, every few seconds and as soon as it is back; what had to wait
        for it goes first.
        """
        pause = ATTEND_SECONDS / 32  # of gateways that start together, the first must soon hear of the others
        while True:
            self._store_is_back.clear()
            with contextlib.suppress(StoreUnavailable):
                self._limits.alone.gateways = count = await self._gateways.attend()
                self._metrics.gateways(count)
            pause = min(2 * pause, ATTEND_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._store_is_back.wait(), pause)
                self._settler.store_is_back()

    async def _sweep(self) -> None:
        """Keep the deadlines of all exchanges and idle connections with one timer."""
        rounds, now = 0, time.monotonic()
        while True:
            due = time.monotonic() + SWEEP_SECONDS
            await asyncio.sleep(SWEEP_SECONDS)
            before, now = now, time.monotonic()
            self._metrics.loop_lag(max(0.0, now - due))
            self._recorder.mark(self._gateway.exchanges, before, now, int(time.time() * 1000))
            for exchange in list(self._gateway.exchanges):
                exchange.check(now)
            self._metrics.flight(self._api.in_flight, self._gateway.streams)
            self._metrics.held(self._settler.held_tokens, self._settler.held_nusd)
            self._count_health(now)
            self._metrics.flush()
            self._tell()
            rounds += 1
            if rounds % _MEMORY_SWEEPS == 0:
                self._look_at_memory()
            if rounds % _POOL_SWEEPS == 0:
                self._metrics.tasks(len(asyncio.all_tasks()))
                for upstream in self._api.serving.upstreams.values():
                    upstream.pool.sweep(now)

    def _count_health(self, now: float) -> None:
        health = self._gateway.health
        self._metrics.passed_over(health.passed_over(now))
        if health.denied:
            self._metrics.retries_denied(health.denied)
            health.denied.clear()

    def _store_changed(self, up: bool) -> None:  # noqa: FBT001 - called back with one word
        self._metrics.store_up(up=up)
        self._store_was_up = self._store_was_up or up
        if up:
            self._limits.store_is_back()
            self._store_is_back.set()
            if self._complained:
                self._complained = False
                self._logger.info("store is up", address=self._store.address)
        self._tell()

    def _store_away(self, detail: str) -> None:
        """Say why, as often as the reason changes; a store that comes and goes does not fill the log."""
        if not self._stopping.is_set():  # else it is this worker that goes away
            self._complained = True
            shared_by = {"gateways": self._limits.alone.gateways} if self._limits.degrade else {}
            self._logger.error("store is away", detail=detail, degraded=self._limits.degrade, **shared_by)
            self._tell()

    def _new_server(self, greeting: Greeting) -> None:
        """Take note of a server that was restarted or replaced: what it was told last may be lost."""
        if self._store_was_up:
            self._logger.warning("the store was restarted or replaced", run_id=greeting.run_id)
            self._settler.store_was_replaced(time.monotonic())
        if greeting.evicts:
            self._logger.warning("the store may lose limits", detail=evicting(greeting.eviction))

    def _journal_changed(self, trouble: str | None) -> None:
        self._metrics.journal_writable(writable=trouble is None)
        now = time.monotonic()
        if trouble is None:
            self._logger.info("the journal can be written again")
        elif now - self._told_of_journal_at >= ALARM_SECONDS:
            self._told_of_journal_at = now
            consequence = "requests are refused" if self._blocks else "requests go on, and their usage may be lost"
            self._logger.error(
                "the journal cannot be written",
                consequence=consequence,
                detail=trouble,
                given_up=self._journal.given_up,
            )
        self._tell()

    def _settling_waits(self, detail: str) -> None:
        now = self._loop.time()
        if now - self._waiting_said_at >= WAITING_LINE_SECONDS:
            self._waiting_said_at = now
            self._logger.warning("a settlement waits for the store", detail=detail)

    def _tell(self) -> None:
        """Tell the supervisor whether requests would be served, and what is wrong, if that has changed."""
        reasons = [] if self._listening else ["the worker is starting"]
        ready = self._listening
        if not self._store.up:
            alone = self._limits.serves_alone()
            ready = ready and alone
            reasons.append(self._store.detail + (f"; {SERVES_ALONE}" if alone else ""))
        if self._journal.trouble is not None and self._blocks:
            ready = False
            reasons.append(f"the journal cannot be written: {self._journal.trouble}")
        if self._memory.pressure is not Pressure.NONE:
            ready = False
            reasons.append("memory is nearly used up, so new requests are refused")
        state, now = State(ready=ready, reasons=reasons), self._loop.time()
        if state != self._state or now - self._told_at >= REPEAT_SECONDS:
            self._state, self._told_at = state, now
            if not self._control.is_closing():  # a supervisor that was killed hears nothing
                self._control.write(write(state))

    def _look_at_memory(self) -> None:
        """Refuse new requests while memory is short, and cut streams that nobody reads before the kernel ends us."""
        now = self._memory.look()
        self._api.overloaded = now is not Pressure.NONE
        if now is Pressure.CRITICAL:
            self._gateway.drop_stalled()


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
