"""The admin port: health, readiness, and the metrics of all workers on one page. Never on the API's port.

Served by the supervisor, because collecting the page takes tens of milliseconds that no stream should wait for. The
dashboard and its API belong on this port too.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from proxy.metrics_budgets import BudgetMetrics
from proxy.metrics_ledger import LedgerMetrics
from proxy.metrics_machine import MachineMetrics

Readiness = Callable[[], tuple[bool, list[str]]]
"""Whether requests would be served now, and what is wrong; something may be wrong although they are."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The last time that the configuration was read again: when, in Unix seconds, and what came of it."""

    at: float
    success: bool
    told: str
    """What is wrong with the files, or what of them holds after a restart."""


class OwnMetrics:
    """The metrics that only the supervisor knows."""

    def __init__(self, version: str) -> None:
        """Create the families."""
        self.last_reload: Reloaded | None = None
        self.registry = CollectorRegistry()
        build = Gauge("aion_build_info", "The version that runs.", ("version",), registry=self.registry)
        build.labels(version).set(1)
        self._reload = Gauge(
            "aion_config_reload_success", "Whether the files on disk are in force.", registry=self.registry
        )
        self._reload.set(1)
        self._restarts = Gauge("aion_worker_restarts", "Workers that died and were replaced.", registry=self.registry)
        self.ledger = LedgerMetrics(self.registry)
        self.budgets = BudgetMetrics(self.registry)
        self.machine = MachineMetrics(self.registry)

    def reloaded(self, *, success: bool, at: float, told: str = "") -> None:
        """Show whether the configuration on disk is the one in force."""
        self._reload.set(success)
        self.last_reload = Reloaded(at, success, told)

    def worker_restarted(self) -> None:
        """Count a worker that died."""
        self._restarts.inc()


def admin_application(own: OwnMetrics, workers_files: Path, readiness: Readiness) -> web.Application:
    """Build the admin port: `/healthz`, `/readyz`, `/metrics`."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"healthy": True})

    async def readyz(_: web.Request) -> web.Response:
        ready, reasons = readiness()
        return web.json_response({"ready": ready, "reasons": reasons}, status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        page = await asyncio.get_running_loop().run_in_executor(None, metrics_page, own, workers_files)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application(middlewares=[_in_one_envelope])
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return application


def metrics_page(own: OwnMetrics, workers_files: Path) -> bytes:
    """Collect the page: what all workers wrote to their files, and the supervisor's own families."""
    of_workers = CollectorRegistry()
    of_workers.register(_OfWorkers(workers_files))
    return generate_latest(of_workers) + generate_latest(own.registry)


def samples(own: OwnMetrics, workers_files: Path) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Collect the same as numbers: the name of each, its labels and its value."""
    for collector in (_OfWorkers(workers_files), own.registry):
        for family in collector.collect():
            yield from ((sample.name, sample.labels, sample.value) for sample in family.samples)


class _OfWorkers(Collector):
    """The families of all workers, each file with the others."""

    def __init__(self, files: Path) -> None:
        self._files = files

    def collect(self) -> Iterable[Metric]:
        """Leave out a file that a worker has just made and not written to yet: the library cannot read it."""
        files = [str(file) for file in self._files.glob("*.db") if _size(file)]
        return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call, no-any-return]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # of a worker that has just been forgotten
        return 0


def forget_worker(workers_files: Path, slot: int) -> None:
    """Drop the gauges of a worker that died: what it had open is over. Its counters stay and are continued by its
    successor.
    """
    for file in workers_files.glob(f"gauge_live*_{slot}.db"):
        file.unlink(missing_ok=True)


@web.middleware
async def _in_one_envelope(request: web.Request, handler: Callable[[web.Request], object]) -> web.StreamResponse:
    try:
        return await handler(request)  # type: ignore[no-any-return, misc] # aiohttp's own type of a handler
    except web.HTTPException as error:
        known = "see /, /admin/api/openapi.json, /healthz, /readyz and /metrics"
        message = f"There is no such page; {known}." if error.status == 404 else error.reason  # noqa: PLR2004
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        body = {"error": {"message": message, "type": "invalid_request_error"}}
        return web.json_response(body, status=error.status, headers=allowed)
