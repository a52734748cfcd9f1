"""The process that owns what workers share: the listening socket, the embedded store, built-in providers, the admin
port.

It starts the workers, hands the socket down, restarts one that died, and passes on reloads and the order to stop. It
serves no request of the API itself.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from proxy import __version__
from proxy.admin_port import AdminPort, Gateway
from proxy.configuration import Configuration, load
from proxy.control import Files, Reload, Start, Stop, read_state, write
from proxy.demo_provider import DemoProvider, start_demo_provider
from proxy.errors import StoreUnavailable
from proxy.health import OwnMetrics, forget_worker
from proxy.listening import CannotStart, address_of, listen
from proxy.mistakes import ConfigurationError
from proxy.providers import Builtin
from proxy.quantities import Address
from proxy.settings import StoreEviction
from proxy.stores.embedded import EmbeddedStore
from proxy.stores.opening import mistake_at
from proxy.worker_process import WorkerProcess

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from proxy.counter_keeper import CounterKeeper
    from proxy.ledger.sink import Sink

WATCH_SECONDS: Final = 1.0
START_SECONDS: Final = 20.0
LOCK_SECONDS: Final = 10.0
STOP_MARGIN: Final = 8.0
"""How long a worker may take beyond its grace before it is killed."""
RESTART_PAUSES: Final = (0.0, 0.5, 1.0, 2.0, 5.0)
LEDGER_SECONDS: Final = 10.0
"""How long the rows of workers that have stopped may take into the ledger."""
EMBEDDED: Final = "embedded"
_NEEDS_RESTART: Final = (
    *("store", "store_timeout", "store_eviction", "ledger", "data_dir", "metrics", "tracing"),
    *("journal_sync", "journal_full"),
)
_SERVER_NEEDS_RESTART: Final = ("listen", "admin_listen", "workers", "memory_limit")

OnReady = Callable[["Supervisor"], Awaitable[None]]


class Supervisor:
    """Runs one gateway."""

    def __init__(
        self, config: Path, workers: int | None, logger: "FilteringBoundLogger", *, in_terminal: bool = False
    ) -> None:
        """Read the configuration. Raises `ConfigurationError`. `in_terminal`: stop when the terminal is closed."""
        self._in_terminal = in_terminal
        self._config = config
        self._logger = logger
        self.configuration = load(config, os.environ)
        self._worker_count = workers or self.configuration.settings.server.workers
        self._workers: dict[int, WorkerProcess] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._demo: DemoProvider | None = None
        self._embedded: EmbeddedStore | None = None
        self._own = OwnMetrics(__version__)
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()
        self._deaths = 0
        self._generation = 0
        self._files = Files("", "")
        self._copies = Path()
        self.store_url = self.configuration.settings.store
        self.api_address = self.admin_address = Address("", 0)

    async def run(self, on_ready: OnReady | None = None) -> None:
        """Serve until told to stop. Raises `CannotStart`."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop_at_once)
        loop.add_signal_handler(signal.SIGHUP, self.stop_at_once if self._in_terminal else self.reload)
        settings = self.configuration.settings
        async with contextlib.AsyncExitStack() as stack:
            metrics_files = Path(stack.enter_context(TemporaryDirectory(prefix="aion-proxy-metrics-")))
            self._copies = metrics_files
            alive = self._workers.values
            self._own.machine.watch(settings.data_dir, lambda: [(w.process.pid, w.state.ready) for w in list(alive())])
            self._put_in_force(self.configuration)
            listener = stack.enter_context(await listen(settings.server.listen))
            admin_listener = stack.enter_context(await listen(settings.server.admin_listen))
            self.api_address, self.admin_address = address_of(listener), address_of(admin_listener)
            sink = loop.run_in_executor(None, self._open_sink)
            stack.push_async_callback(self._stop_sink, sink)
            await self._start_store()
            stack.callback(self._stop_store)
            await self._start_builtins(self.configuration)
            stack.push_async_callback(self._stop_builtins)
            facts = (lambda: self.configuration, self.readiness, self.store_url, self.api_address, self._own)
            admin_port = AdminPort(Gateway(*facts, self._logger, metrics_files), admin_listener)
            stack.push_async_callback(admin_port.close)
            stack.push_async_callback(self._stop_workers, listener)
            for slot in range(self._worker_count):
                self._spawn(self._keep_worker(slot, listener, metrics_files))
            await admin_port.start()
            await sink
            stack.callback(self._keep_counters().stop)
            await self._until_ready()
            self._logger.info(
                "listening", api=str(self.api_address), admin=str(self.admin_address), workers=self._worker_count
            )
            self._spawn(self._watch())
            if on_ready is not None and not self._stopping.is_set():
                await on_ready(self)
            await self._stopping.wait()
            await self._let_others_notice()

    def stop(self) -> None:
        """Begin to stop, accepting requests for `stop_delay` yet; the second time, have everything that is still open
        cut.
        """
        if self._stopping.is_set():
            self._hurried.set()
            for worker in self._workers.values():
                worker.tell(Stop(0.0))
        self._stopping.set()

    def stop_at_once(self) -> None:
        """Begin to stop without a delay: somebody sits at the terminal, and no balancer asks for readiness."""
        self.stop()
        self._hurried.set()

    def reload(self) -> None:
        """Read the configuration again and put it in force, whole or not at all."""
        self._spawn(self._reload())

    def readiness(self) -> tuple[bool, list[str]]:
        """Say whether requests would be served now, which one worker can do, and what is wrong with those that would
        or, if there are none, with all.
        """
        if self._stopping.is_set():
            return False, ["the gateway is stopping"]
        now = asyncio.get_running_loop().time()
        states = [worker.state_at(now) for worker in self._workers.values()]
        ready = [state for state in states if state.ready]
        reasons = list(dict.fromkeys(reason for state in ready or states for reason in state.reasons))
        return bool(ready), reasons if ready or reasons else ["no worker is running"]

    async def _start_store(self) -> None:
        """Have a store to serve from. One of the operator's may come later, but must not be one that loses limits."""
        settings = self.configuration.settings
        if self.store_url == EMBEDDED:
            try:
                self._embedded = EmbeddedStore.start(settings.data_dir, LOCK_SECONDS)
            except StoreUnavailable as away:
                raise CannotStart(away.detail) from None
            self.store_url = self._embedded.url
            return
        mistake = await mistake_at(self.store_url, allow_eviction=settings.store_eviction is StoreEviction.WARN)
        if mistake is not None:
            raise CannotStart(mistake)

    def _stop_store(self) -> None:
        if self._embedded is not None:
            self._embedded.stop()

    def _open_sink(self) -> "Sink":
        """Start to carry rows into the ledger. Raises `CannotStart`.

        The ledger's libraries are loaded here, beside the workers that start and never need them.
        """
        from proxy.ledger.migrations import NewerLedger  # noqa: PLC0415
        from proxy.ledger.sink import start_sink  # noqa: PLC0415

        settings = self.configuration.settings
        try:
            return start_sink(settings.ledger, settings.data_dir, self._own.ledger, self._logger, time.time)
        except NewerLedger as why:
            raise CannotStart(str(why)) from None

    def _keep_counters(self) -> "CounterKeeper":
        """Begin to compare the counters of limits with the ledger."""
        from proxy.counter_keeper import CounterKeeper  # noqa: PLC0415 - as in `_open_sink`

        keeper = CounterKeeper(lambda: self.configuration.settings, self.store_url, self._own, self._logger)
        keeper.start()
        return keeper

    async def _stop_sink(self, sink: "asyncio.Future[Sink]") -> None:
        """Carry over what the workers left, unless the ledger is away."""
        with contextlib.suppress(CannotStart):
            finish = (await sink).finish
            if not await asyncio.get_running_loop().run_in_executor(None, finish, LEDGER_SECONDS):
                self._logger.error("stopped with rows that the ledger has not taken: the next start carries them over")

    def _put_in_force(self, configuration: Configuration) -> None:
        """Keep a copy of the files that were good, for workers that start when the files no longer are."""
        folder = self._copies / f"configuration-{self._generation}"
        folder.mkdir()
        self._generation += 1
        self._files = Files(str(folder / "gateway.yaml"), str(folder / "catalog.yaml"))
        for source, copy in zip(configuration.files, (self._files.gateway, self._files.catalog), strict=True):
            shutil.copyfile(source, copy)
        self.configuration = configuration

    async def _start_builtins(self, configuration: Configuration) -> None:
        wanted = any(provider.builtin is Builtin.DEMO for provider in configuration.settings.providers.values())
        if wanted and self._demo is None:
            self._demo = await start_demo_provider()

    async def _stop_builtins(self) -> None:
        if self._demo is not None:
            await self._demo.close()

    def _builtin_urls(self) -> dict[str, str]:
        return {} if self._demo is None else {Builtin.DEMO.value: self._demo.base_url}

    async def _keep_worker(self, slot: int, listener: socket.socket, metrics_files: Path) -> None:
        """Run a worker, and another when it dies, until the gateway stops."""
        deaths = 0
        while not self._closing.is_set():
            worker, states = await self._start_worker(slot, listener, metrics_files)
            with contextlib.suppress(ConnectionError):  # it died with words of ours unread
                while line := await states.readline():
                    worker.heard(read_state(line), asyncio.get_running_loop().time())
                    deaths = 0 if worker.state.ready else deaths
                    self._changed.set()
            code = await worker.process.wait()
            del self._workers[slot]
            forget_worker(metrics_files, slot)
            if self._closing.is_set():
                return
            pause = RESTART_PAUSES[min(deaths, len(RESTART_PAUSES) - 1)]
            deaths += 1
            self._deaths += 1
            self._own.worker_restarted()
            self._logger.error("a worker died and is replaced", worker=slot, exit_code=code, pause_s=pause)
            self._changed.set()
            await asyncio.sleep(pause)

    async def _start_worker(
        self, slot: int, listener: socket.socket, metrics_files: Path
    ) -> tuple[WorkerProcess, asyncio.StreamReader]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy.worker", str(listener.fileno()), str(theirs.fileno()),
                pass_fds=(listener.fileno(), theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics_files)},
            )  # fmt: skip
        ours.settimeout(0)
        states, commands = await asyncio.open_connection(sock=ours)
        commands.write(write(Start(self._files, slot, self.store_url, self._builtin_urls())))
        worker = self._workers[slot] = WorkerProcess(slot, process, commands, asyncio.get_running_loop().time())
        return worker, states

    async def _until_ready(self) -> None:
        """Wait until a worker listens; one that cannot has said why in the log."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while not self._stopping.is_set():
                    self._changed.clear()
                    if self._deaths:
                        message = "a worker died as it started; the lines before this one say why"
                        raise CannotStart(message)
                    states = [worker.state for worker in self._workers.values()]
                    starting = ["the worker is starting"]
                    if len(states) == self._worker_count and all(
                        state.ready or state.reasons[:1] != starting for state in states
                    ):
                        return
                    await self._changed.wait()
        except TimeoutError:
            message = "no worker came up in time; the log lines before this one say why"
            raise CannotStart(message) from None

    async def _let_others_notice(self) -> None:
        """Go on accepting for a while, being not ready: whoever sends requests here hears of that a moment later."""
        delay = self.configuration.settings.server.stop_delay
        self._logger.info("stopping", accepting_s=0.0 if self._hurried.is_set() else delay)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._hurried.wait()

    async def _stop_workers(self, listener: socket.socket) -> None:
        """Have the workers finish; nobody can connect any more, rather than connect and never be answered."""
        grace = self.configuration.settings.server.stop_grace
        self._closing.set()
        self._stopping.set()
        for worker in self._workers.values():
            worker.tell(Stop(grace))
        listener.close()
        try:
            async with asyncio.timeout(grace + STOP_MARGIN):
                await asyncio.gather(*(worker.process.wait() for worker in list(self._workers.values())))
        except TimeoutError:
            for worker in list(self._workers.values()):
                self._logger.error("a worker did not stop in time and is killed", worker=worker.slot)
                worker.process.kill()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _watch(self) -> None:
        """Reload when a file of the configuration changes; restart an embedded store that died."""
        seen = _fingerprint(self.configuration.files)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = _fingerprint(self.configuration.files)
            if now != seen:
                seen = now
                await self._reload()
            if self._embedded is not None and not self._embedded.alive():
                self._logger.error("the embedded store died and is started again")
                try:
                    self._embedded.restart()
                except StoreUnavailable as away:
                    self._logger.error("the embedded store did not start", detail=away.detail)

    async def _reload(self) -> None:
        try:
            configuration = load(self._config, os.environ)
        except ConfigurationError as error:
            mistakes = [str(mistake) for mistake in error.mistakes]
            self._own.reloaded(success=False, at=time.time(), told="; ".join(mistakes))
            self._logger.error("configuration not reloaded: the old one stays in force", mistakes=mistakes)
            return
        old, new = self.configuration.settings, configuration.settings
        later = [name for name in _NEEDS_RESTART if getattr(old, name) != getattr(new, name)]
        later += [
            f"server.{name}" for name in _SERVER_NEEDS_RESTART if getattr(old.server, name) != getattr(new.server, name)
        ]
        await self._start_builtins(configuration)
        self._put_in_force(configuration)
        for worker in self._workers.values():
            worker.tell(Reload(self._files, self._builtin_urls()))
        self._own.reloaded(success=True, at=time.time(), told=", ".join(later))
        self._logger.info("configuration reloaded", **({"takes_effect_after_a_restart": later} if later else {}))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _fingerprint(files: tuple[Path, ...]) -> list[tuple[int, int, int] | None]:
    """Tell a file's state apart from another: its identity, time and size; None if it is not there."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            stat = file.stat()
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        except OSError:
            found.append(None)
    return found
