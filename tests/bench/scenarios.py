"""What is measured and how: one function per kind of figure, each of which returns rows for the report.

The main figure is CPU time of the program under measurement (for the gateway: supervisor and workers, without the
embedded store), from before the first request until its processes are quiet after the last, divided by the answers.
No figure is taken from a load with a wrong or missing answer: it ends the scenario with a fault.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from pages import PAGES, TARGET_MS
from pages import measure as measure_pages
from processes import BenchError, core_busy_ns, cpu_ns, pinned_to, rss_kib, store_pids, wait_quiet
from scan import AT_ONCE, CASES, TARGETS, measure
from servers import MODEL, REWRITTEN, Server, Site, Tools, request
from stalls import TARGET_MS as STALL_TARGET_MS
from stalls import WORST, held_up
from store import measure as measure_store

from ledger import APPEND_TARGET_US, ROW_TARGET_US, appends, carried

SPREAD_RAMP_MS = 10
"""Added to the second in which paced streams are opened, so that their events do not fall into step."""
LONGEST_LOAD_S = 360
SCANNED_EVENTS = 4000
STORE_REQUESTS = 20_000
SCANS = 3


class Judged(StrEnum):
    """How a row is held against its target."""

    RATIO = "ratio"
    VALUE = "value"
    SHOWN = "shown"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report; `rounds` holds what the medians were taken of."""

    name: str
    title: str
    unit: str
    judged: Judged
    target: float | None = None
    rounds: dict[str, list[float]] = field(default_factory=dict)
    detail: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def median(self, server: str) -> float | None:
        """The median of a server's rounds, None if it was not measured."""
        return statistics.median(self.rounds[server]) if self.rounds.get(server) else None

    def ratio(self) -> float | None:
        """Gateway over nginx, of the medians."""
        ours, theirs = self.median("gateway"), self.median("nginx")
        return ours / theirs if self.judged is Judged.RATIO and ours and theirs else None

    def met(self) -> bool | None:
        """Whether the target is met; None if there is none or nothing to hold against it."""
        value = self.ratio() if self.judged is Judged.RATIO else self.median("gateway")
        return None if self.target is None or value is None else value <= self.target


@dataclass(frozen=True, slots=True)
class Cost:
    """A load whose price in CPU is asked for: per whole answer, or per content event if `per_event`."""

    name: str
    title: str
    target: float | None
    connections: int
    seconds: float
    events: int = 0
    pace_ms: int = 0
    per_event: bool = False
    model: str = MODEL

    def message(self, key: str) -> bytes:
        """The request that every connection sends."""
        return request(key, stream=bool(self.events), events=self.events, pace_ms=self.pace_ms, model=self.model)

    def arguments(self) -> list[str]:
        """For the load generator: closed loops for a time, or paced streams of `seconds`, opened in a second."""
        shape = ["-m", "stream" if self.events else "json", "-c", str(self.connections), "-k", str(self.events)]
        if not self.pace_ms:
            return [*shape, "-s", str(self.seconds)]
        return [*shape, "-n", str(self.connections), "-r", str(1000 + SPREAD_RAMP_MS), "-d", str(self.seconds + 20)]


def costs(*, quick: bool) -> tuple[Cost, ...]:
    """The loads of a run; `quick` shortens them, for a look and not for the record."""
    paced_s = 2.0 if quick else 6.0
    return (
        Cost("small", "request, 1 KiB, JSON answer, 64 at once", 6.0, connections=64, seconds=1.0 if quick else 2.5),
        Cost("burst", "stream of 256 events, unpaced, 16 at once", 2.0, 16, seconds=1.0 if quick else 2.0, events=256),
        Cost("rewritten", "the same, every event written anew", None, 16, 1.0 if quick else 2.0, 256, model=REWRITTEN),
        Cost("paced", "event, 500 streams at 50 events/s", 1.6, 500, paced_s, round(paced_s * 50), 20, per_event=True),
    )


@dataclass(frozen=True, slots=True)
class Counts:
    """What the load generator counted, every answer of it whole."""

    answers: int
    events: int
    peak: int
    latency_us: dict[str, int]
    seconds: float
    lag_us: dict[str, int]

    @classmethod
    def read(cls, said: bytes, fault: bytes) -> Self:
        """Read the generator's output; BenchError if a single answer was wrong or missing."""
        counted = json.loads(said) if said else {}
        if not counted.get("good") or counted["wrong"] or counted["unfinished"]:
            text = (said + fault).decode(errors="replace")
            raise BenchError(f"not every answer was whole: {text}")
        latency, lag = counted["latency_us"], counted.get("lag_us", {})
        return cls(counted["good"], counted["events"], counted["peak"], latency, counted["seconds"], lag)


@dataclass(frozen=True, slots=True)
class Bench:
    """A run: what stands, what measures, and how often."""

    site: Site
    tools: Tools
    servers: tuple[Server, ...]
    mock: Server
    rounds: int
    quick: bool
    progress: Callable[[str], None]

    def _start_load(self, port: int, message: bytes, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        command = [*pinned_to(self.site.cores.rest), str(self.tools.load), "-p", str(port), *arguments]
        load = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        if load.stdin:
            load.stdin.write(message)
            load.stdin.close()
            load.stdin = None
        return load

    def load(self, port: int, message: bytes, *arguments: str) -> Counts:
        """Offer a load to its end; BenchError if an answer was not whole."""
        return Counts.read(*self._start_load(port, message, arguments).communicate(timeout=LONGEST_LOAD_S))

    def warm_up(self) -> list[Row]:
        """Let every server load what it loads late and open its connections; gives no rows."""
        for server in self.servers:
            self.progress(f"warming up {server.name}")
            self.load(server.port, request(server.key, stream=False), "-m", "json", "-c", "64", "-s", "1")
            stream = request(server.key, stream=True, events=32)
            self.load(server.port, stream, "-m", "stream", "-c", "16", "-s", "0.5", "-k", "32")
            wait_quiet(server.pid)
        return []

    def cost(self, cost: Cost) -> list[Row]:
        """CPU microseconds per answer or event, nginx and gateway in turns; of paced events also their way's time."""
        row = Row(cost.name, f"CPU per {cost.title}", "µs", Judged.RATIO, cost.target)
        for turn in range(self.rounds):
            for server in self.servers if turn % 2 == 0 else self.servers[::-1]:
                value, detail = self._price(server, cost)
                row.rounds.setdefault(server.name, []).append(value)
                row.detail.setdefault(server.name, []).append(detail)
                self.progress(f"round {turn + 1} of {self.rounds}: {cost.name}, {server.name}: {value:.1f} µs")
        delays = [Row(cost.name, f"event delay {p}, mock to client", "µs", Judged.SHOWN) for p in ("p50", "p99")]
        for delay, p in zip(delays, ("p50", "p99"), strict=True):
            for name, samples in row.detail.items():
                delay.rounds[name] = [sample[f"event_delay_{p}_us"] for sample in samples if cost.pace_ms]
        return [row, *(delays if cost.pace_ms else ())]

    def _price(self, server: Server, cost: Cost) -> tuple[float, dict[str, float]]:
        pids, stores, core = server.pids(), store_pids(os.getpid()), self.site.cores.measured
        cpu, store_cpu, busy, began = cpu_ns(pids), cpu_ns(stores), core_busy_ns(core), time.monotonic_ns()
        counted = self.load(server.port, cost.message(server.key), *cost.arguments())
        lasted = time.monotonic_ns() - began
        others = core_busy_ns(core) - busy - (cpu_ns(pids) - cpu)
        wait_quiet(server.pid)
        if server.pids() != pids:
            raise BenchError(f"processes of {server.name} came or went while it was measured: the figure means nothing")
        units = counted.events if cost.per_event else counted.answers
        detail = {
            "answers": counted.answers,
            "events": counted.events,
            "seconds": counted.seconds,
            "store_us_each": (cpu_ns(stores) - store_cpu) / 1000 / units,
            "others_on_its_core": max(0.0, others / lasted),
            **{f"latency_{p}_us": us for p, us in counted.latency_us.items()},
            **{f"event_delay_{p}_us": us for p, us in counted.lag_us.items()},
        }
        return (cpu_ns(pids) - cpu) / 1000 / units, detail

    def latency(self) -> list[Row]:
        """What a proxy adds to a request that is alone: its percentiles less those of asking the mock directly."""
        rows = [Row("latency", f"added latency {p}, one request at a time", "µs", Judged.SHOWN) for p in ("p50", "p99")]
        for turn in range(self.rounds):
            seen: dict[str, dict[str, int]] = {}
            for server in (self.mock, *self.servers):
                message = request(server.key, stream=False)
                counted = self.load(server.port, message, "-m", "json", "-c", "1", "-s", "0.5" if self.quick else "1")
                seen[server.name] = counted.latency_us
            for server in self.servers:
                for row, p in zip(rows, ("p50", "p99"), strict=True):
                    row.rounds.setdefault(server.name, []).append(seen[server.name][p] - seen["mock"][p])
            self.progress(f"round {turn + 1} of {self.rounds}: latency: {seen}")
        return rows

    def memory(self) -> list[Row]:
        """Resident memory of freshly started servers: idle, and what every open flowing stream adds."""
        rows = [
            Row("memory", "idle memory, one worker", "MiB", Judged.VALUE, 120),
            Row("memory", "idle memory, supervisor (nginx: master)", "MiB", Judged.SHOWN),
            Row("memory", "memory per open stream, 1,000 streams", "KiB", Judged.VALUE, 60),
        ]
        for server in self.servers:
            self.progress(f"memory: {server.name}, 1,000 streams")
            self.load(server.port, request(server.key, stream=False), "-m", "json", "-c", "1", "-n", "50")
            wait_quiet(server.pid)
            pids = server.pids()
            idle = {pid: rss_kib(pid) for pid in pids}
            worker = max(pids[1:] or pids, key=lambda pid: idle[pid])
            full = self._fullest(server, pids, streams=1000, events=4 if self.quick else 7)
            rows[0].rounds[server.name] = [idle[worker] / 1024]
            rows[1].rounds[server.name] = [sum(kib for pid, kib in idle.items() if pid != worker) / 1024]
            rows[2].rounds[server.name] = [(full - sum(idle.values())) / 1000]
        return rows

    def _fullest(self, server: Server, pids: Sequence[int], *, streams: int, events: int) -> int:
        """KiB resident while `streams` streams are open and each gets an event a second."""
        message = request(server.key, stream=True, events=events, pace_ms=1000)
        shape = ("-m", "stream", "-c", str(streams), "-n", str(streams), "-r", "1500", "-k", str(events))
        load = self._start_load(server.port, message, shape)
        full = 0
        while load.poll() is None:
            full = max(full, sum(map(rss_kib, pids)))
            time.sleep(0.2)
        counted = Counts.read(*load.communicate(timeout=LONGEST_LOAD_S))
        if counted.peak != streams:
            raise BenchError(f"only {counted.peak} of {streams} streams were open at once")
        return full


def scan(rounds: int, progress: Callable[[str], None]) -> list[Row]:
    """What one event costs where streams are read, by how much is done to it: in this process, without any socket."""
    rows = []
    for case in CASES:
        measured = [measure(case, SCANNED_EVENTS, SCANS) for _ in range(rounds)]
        for how, values in (
            ("alone", [one.alone for one in measured]),
            (f"in {AT_ONCE}s", [one.together for one in measured]),
        ):
            title = f"scan of an event {how}, level {case.level}: {case.name}"
            rows.append(Row("scan", title, "µs", Judged.VALUE, TARGETS[case.level], {"gateway": values}))
            progress(f"{title}: {rows[-1].median('gateway'):.2f} µs")
    return rows


def stall(rounds: int, progress: Callable[[str], None]) -> list[Row]:
    """How long others wait while the largest that a client or a provider may send is read, in its worst shapes."""
    rows = []
    for kind in WORST:
        seen = [held_up(kind) for _ in range(rounds)]
        for title, values in (
            (f"longest stall of the loop while {kind} is read", [one.longest_ms for one in seen]),
            (f"lateness of a timer p99 while {kind} is read", [one.p99_ms for one in seen]),
        ):
            row = Row("stall", title, "ms", Judged.VALUE, STALL_TARGET_MS, {"gateway": values})
            rows.append(_told(row, progress))
    return rows


def store(rounds: int, progress: Callable[[str], None], *, quick: bool) -> list[Row]:
    """What an admission and a settlement cost the store, and both of them the gateway."""
    rows = [
        Row("store", "store's CPU per admission", "µs", Judged.VALUE, 30),
        Row("store", "store's CPU per settlement", "µs", Judged.VALUE, 15),
        Row("store", "gateway's CPU for both, 32 requests at once", "µs", Judged.VALUE, 45),
    ]
    for turn in range(rounds):
        costs = measure_store(STORE_REQUESTS // (4 if quick else 1))
        for row, value in zip(rows, (costs.admit, costs.settle, costs.gateway), strict=True):
            row.rounds.setdefault("gateway", []).append(value)
        progress(f"round {turn + 1} of {rounds}: store: {costs}")
    return rows


def journal(site: Site, rounds: int, progress: Callable[[str], None]) -> list[Row]:
    """What it costs a worker to write down that a request begins and what became of it."""
    return [
        _told(
            Row(
                "journal",
                f"a request's {what} into the journal",
                "µs",
                Judged.VALUE,
                APPEND_TARGET_US,
                {"gateway": each},
            ),
            progress,
        )
        for what, each in appends(site.folder, rounds).items()
    ]


def ledger(site: Site, rounds: int, progress: Callable[[str], None]) -> list[Row]:
    """How long a row takes from a journal into SQLite; 50 µs of real time are 20,000 rows a second.

    Processor time beside it tells whether a busy machine or the program made it slow.
    """
    each = carried(site.folder, rounds)
    title = "a row from a journal into SQLite"
    real = Row("ledger", f"{title}, real time", "µs", Judged.VALUE, ROW_TARGET_US, {"gateway": each["real"]})
    processor = Row("ledger", f"{title}, processor time", "µs", Judged.SHOWN, None, {"gateway": each["processor"]})
    return [_told(row, progress) for row in (real, processor)]


def pages(site: Site, rounds: int, progress: Callable[[str], None], *, quick: bool) -> list[Row]:
    """How long the dashboard's pages take with a million rows in the ledger."""
    each = measure_pages(site, rounds, progress, quick=quick)
    rows = [
        Row(f"page-{name}", PAGES[name][0], "ms", Judged.VALUE, TARGET_MS, {"gateway": times})
        for name, times in each.items()
    ]
    return [_told(row, progress) for row in rows]


def _told(row: Row, progress: Callable[[str], None]) -> Row:
    progress(f"{row.title}: {row.median('gateway'):.2f} {row.unit}")
    return row


def start(site: Site, rounds: int, progress: Callable[[str], None]) -> list[Row]:
    """Seconds until the demo answers."""
    row = Row("start", "demo: from the command to the first 200", "s", Judged.VALUE, 10)
    for turn in range(rounds):
        row.rounds.setdefault("gateway", []).append(site.time_demo(turn))
        progress(f"round {turn + 1} of {rounds}: start: {row.rounds['gateway'][-1]:.2f} s")
    return [row]
