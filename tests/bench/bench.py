"""The benchmark (`python3 run.py bench`): gateway and nginx in front of one mock upstream, side by side.

This file only puts a run together and takes it down; what is measured is in scenarios.py, what stands is in servers.py.
Loopback only, bounded in count and time, and everything that was started is stopped however the run ends.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from processes import BenchError, Children, adopt_orphans, move, store_pids
from report import conditions, document, table
from scenarios import Bench, Row, costs, journal, ledger, pages, scan, stall, start, store
from servers import Cores, Site, build

LATENCY, MEMORY, SCAN, STORE, START = "latency", "memory", "scan", "store", "start"
JOURNAL, LEDGER, PAGES, STALL = "journal", "ledger", "pages", "stall"

Step = Callable[[], list[Row]]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    alone = [LATENCY, MEMORY, SCAN, STALL, STORE, JOURNAL, LEDGER, PAGES, START]
    names = [*(cost.name for cost in costs(quick=False)), *alone]
    parser = argparse.ArgumentParser(prog="run.py bench", description="Measure the gateway beside nginx.")
    parser.add_argument("--rounds", type=int, default=3, help="how often every figure is taken (default 3)")
    parser.add_argument("--quick", action="store_true", help="shorter loads: for a look, not for the record")
    parser.add_argument("--only", choices=names, action="append", help="only this scenario (may be given again)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    options.only = options.only or names
    return options


def two_cores() -> Cores:
    """The first two cores that this process may use; with a single one, everything shares it."""
    cores = sorted(os.sched_getaffinity(0))
    return Cores(measured=cores[0], rest=cores[min(1, len(cores) - 1)])


def raise_file_limit() -> None:
    """Let every child open as many files as the system allows: a thousand streams are two thousand sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def stopping_everything(children: Children) -> Iterator[None]:
    """End all children however the block ends, SIGTERM, SIGINT and SIGHUP included."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in ends:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in ends:
            signal.signal(number, signal.SIG_IGN)
        children.stop_all()


def steps(bench: Bench, wanted: Sequence[str]) -> Iterator[tuple[str, Step]]:
    """The scenarios in the order in which they disturb each other least: memory needs servers that have done little."""
    if MEMORY in wanted:
        yield MEMORY, bench.memory
    chosen = [cost for cost in costs(quick=bench.quick) if cost.name in wanted]
    if chosen or LATENCY in wanted:
        yield "warm-up", bench.warm_up
    for cost in chosen:
        yield cost.name, partial(bench.cost, cost)
    if LATENCY in wanted:
        yield LATENCY, bench.latency


def set_up(site: Site, options: argparse.Namespace, progress: Callable[[str], None]) -> Bench:
    """Build the tools and start the mock, the gateway and nginx, which accepts the gateway's key."""
    progress("compiling the mock upstream and the load generator")
    tools = build(site.folder)
    mock = site.start_mock(tools)
    progress("starting the gateway and nginx")
    gateway = site.start_gateway(mock.port)
    servers = (site.start_nginx(mock.port, gateway.key), gateway)
    move(store_pids(os.getpid()), site.cores.rest)
    return Bench(site, tools, servers, mock, options.rounds, options.quick, progress)


def measure(site: Site, options: argparse.Namespace, progress: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    """All rows that could be measured, and a remark for every scenario that could not."""
    todo: list[tuple[str, Step]] = []
    here = {SCAN: scan, STALL: stall}
    if not {SCAN, STALL, STORE, JOURNAL, LEDGER, PAGES, START}.issuperset(options.only):
        todo += steps(set_up(site, options, progress), options.only)
    todo += [(name, partial(step, options.rounds, progress)) for name, step in here.items() if name in options.only]
    if STORE in options.only:
        todo.append((STORE, partial(store, options.rounds, progress, quick=options.quick)))
    if JOURNAL in options.only:
        todo.append((JOURNAL, partial(journal, site, options.rounds, progress)))
    if LEDGER in options.only:
        todo.append((LEDGER, partial(ledger, site, options.rounds, progress)))
    if PAGES in options.only:
        todo.append((PAGES, partial(pages, site, options.rounds, progress, quick=options.quick)))
    if START in options.only:
        todo.append((START, partial(start, site, options.rounds, progress)))
    rows, faults = [], []
    for name, step in todo:
        try:
            rows += step()
        except BenchError as fault:
            faults.append(f"{name} FAILED: {fault}")
            progress(faults[-1])
    return rows, faults


def main() -> int:
    """Run what the command line asks for; 0 if all of it could be measured and, with --check, all targets are met."""
    options = arguments()
    began = time.monotonic()

    def progress(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {text}", file=sys.stderr, flush=True)

    cores = two_cores()
    raise_file_limit()
    adopt_orphans()
    children = Children()
    with tempfile.TemporaryDirectory(prefix="aion-bench-") as folder, stopping_everything(children):
        try:
            rows, faults = measure(Site(Path(folder), cores, children), options, progress)
        except (BenchError, subprocess.TimeoutExpired) as fault:
            print(f"bench: {fault}", file=sys.stderr)
            return 1
    terms = conditions(cores, options.rounds, quick=options.quick)
    print(json.dumps(document(rows, terms, faults), indent=2) if options.json else table(rows, terms, faults))
    missed = options.check and any(row.met() is False for row in rows)
    return 1 if faults or missed else 0


if __name__ == "__main__":
    sys.exit(main())
