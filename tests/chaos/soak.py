"""The soak run: two gateways under mixed traffic for half an hour, with a fault every ten seconds that ends neither;
then nothing may have grown, nothing may have stayed behind, and the accounts must agree.

`python3 run.py soak` prints its seed; `--seed N` sends the same requests and draws the same faults again.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import urllib.request
from collections import defaultdict
from functools import partial
from pathlib import Path
from random import Random

from command import Say, carry_out
from oracle import Oracle
from places import Place
from plan import planned
from steadiness import MIB, Growth, Sample, growth
from traffic import Traffic

from chaos import settled, table

GROWTH = 1.0
"""MiB an hour that a process may grow after its warm-up."""
WARM_UP_S = 600.0
"""Until then everything has happened that happens for the first time; of a shorter run it is a third."""
CROWD_S = 300.0
"""So long there are twice as many clients: what piles up in a fault is then more than ever after. Of a shorter run, a
sixth.
"""
FILES_MORE = 4
"""Files that a process may have open more at its end than before the first request: the store's connections."""
QUIET_WITHIN_S = 120.0
"""How long connections that nobody uses may be kept."""
SAMPLE_S = 5.0
LONG_S = 20.0
"""How long store and ledger are away once, at the beginning."""


class Weather:
    """Faults around the gateways: of the store, the ledger and the configuration."""

    def __init__(self, place: Place, dice: Random, every: float) -> None:
        self._place = place
        self._dice = dice
        self._every = every
        self.seen: dict[str, int] = defaultdict(int)

    async def run(self, over: asyncio.Event) -> None:
        """Go on until the traffic is over.

        The longest outages come first: what piles up in them is the most that is ever kept, and no growth.
        """
        await asyncio.to_thread(self.kill_store, LONG_S)
        await asyncio.to_thread(self.kill_ledger, LONG_S)
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), self._every)
                return
            what = self._dice.choice((self.kill_store, self.stop_store, self.kill_ledger, self.flush, self.reload))
            self.seen[what.__name__] += 1
            await asyncio.to_thread(what)

    def kill_store(self, away: float = 0.5) -> None:
        """Kill Redis and start it again after so many seconds."""
        self._place.redis.kill()
        time.sleep(away)
        self._place.redis.start()

    def stop_store(self) -> None:
        """Have Redis accept, and answer nothing for a second."""
        self._place.redis.signal(signal.SIGSTOP)
        time.sleep(1)
        self._place.redis.signal(signal.SIGCONT)

    def kill_ledger(self, away: float = 0.5) -> None:
        """Kill PostgreSQL and start it again after so many seconds."""
        self._place.database.kill()
        time.sleep(away)
        self._place.database.start()

    def flush(self) -> None:
        """Make Redis forget its scripts."""
        self._place.flush_scripts()

    def reload(self) -> None:
        """Have both gateways read their configuration again."""
        for gateway in self._place.gateways:
            gateway.signal(signal.SIGHUP)


class Watch:
    """Samples of every process of the gateways."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._began = time.monotonic()
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    async def run(self, over: asyncio.Event) -> None:
        """Take one now and then until the traffic is over."""
        while not over.is_set():
            self.take()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), SAMPLE_S)

    def take(self) -> None:
        """Take one of each process."""
        for number, gateway in enumerate(self._place.gateways):
            for pid in gateway.processes():
                kind = "supervisor" if pid == gateway.processes()[0] else "worker"
                _, resident, of_files, *_ = map(int, Path(f"/proc/{pid}/statm").read_text("ascii").split())
                own = (resident - of_files) * os.sysconf("SC_PAGE_SIZE")  # libraries come and go with the page cache
                files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
                sample = Sample(time.monotonic() - self._began, own, files)
                self.samples[f"gateway {number}, {kind} {pid}"].append(sample)


def left_behind(place: Place, watch: Watch, before: list[float]) -> list[str]:
    """Say what is still there of the traffic once it has ended, as long as that may take."""
    deadline = time.monotonic() + QUIET_WITHIN_S
    while True:
        watch.take()
        found = [
            f"{name}: {taken[-1].files} files are open, {taken[0].files} were at the beginning"
            for name, taken in watch.samples.items()
            if taken[-1].files > taken[0].files + FILES_MORE
        ]
        found += [
            f"gateway {number}: {now:.0f} tasks, {was:.0f} at the beginning"
            for number, (was, now) in enumerate(zip(before, tasks(place), strict=True))
            if now > was
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(SAMPLE_S)


def tasks(place: Place) -> list[float]:
    """Return how many tasks each gateway shows on its page."""
    found = []
    for port in place.admin_ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
            lines = page.read().decode().splitlines()
        found.append(sum(float(line.split()[-1]) for line in lines if line.startswith("aion_tasks ")))
    return found


async def run(options: argparse.Namespace, folder: Path, say: Say) -> list[str]:
    """One run; returns what it found, and prints what it saw."""
    plan = partial(planned, options.seed)
    oracle = Oracle(plan)
    await oracle.start()
    place = Place(folder, oracle.port, 1)
    try:
        keys = await asyncio.to_thread(place.start)
        await asyncio.sleep(2 * SAMPLE_S)  # the pages are written anew every five seconds
        before = await asyncio.to_thread(tasks, place)
        traffic = Traffic(plan, [gateway.port for gateway in place.gateways], keys, options.at_once)
        weather, watch, over = Weather(place, Random(options.seed), options.every), Watch(place), asyncio.Event()
        began = shown = time.monotonic()

        def more(number: int) -> bool:
            nonlocal shown
            now = time.monotonic()
            if now - shown > 30:
                shown = now
                say(f"{number} requests, {sum(weather.seen.values())} faults")
            return now - began < options.seconds

        def crowded(_: int) -> bool:
            return time.monotonic() - began < min(CROWD_S, options.seconds / 6)

        async with asyncio.TaskGroup() as group:
            group.create_task(weather.run(over))
            group.create_task(watch.run(over))
            group.create_task(traffic.run(crowded))
            await traffic.run(more)
            over.set()
        say(f"the traffic has ended after {len(traffic.seen)} requests; waiting for quiet")
        warm_up = min(WARM_UP_S, options.seconds / 3)
        rates = {name: growth(taken, warm_up) for name, taken in watch.samples.items()}
        await asyncio.to_thread(place.wait_for_ledger)
        verdict, report = await asyncio.to_thread(settled, place, oracle, traffic, options.seed, say)
        report.lost, report.doubled = len(verdict.lost), len(verdict.doubled)
        report.wrong, report.invented = len(verdict.wrong), len(verdict.invented)
        report.findings += await asyncio.to_thread(left_behind, place, watch, before)
        report.findings += [
            f"{name} grows by {found.rate:.1f} MiB an hour" for name, found in rates.items() if found.rate >= GROWTH
        ]
        report.findings += [f"{name} came or went" for name, taken in watch.samples.items() if taken[0].at > SAMPLE_S]
        show(options, table(report), watch, rates, weather)
        return report.findings
    finally:
        codes = await asyncio.to_thread(place.stop)
        say(f"stopped; the gateways' exit codes are {codes}")
        await oracle.stop()


def show(options: argparse.Namespace, accounts: str, watch: Watch, rates: dict[str, Growth], weather: Weather) -> None:
    """Print what was seen, for people or for programs."""
    processes = {
        name: {
            "growth_mib_per_hour": round(rates[name].rate, 2),
            "standard_error": round(rates[name].error, 2),
            "memory_mib": [round(taken[at].memory / MIB, 1) for at in (0, len(taken) // 2, -1)],
            "open_files": [taken[0].files, max(sample.files for sample in taken), taken[-1].files],
        }
        for name, taken in watch.samples.items()
    }
    if options.json:
        print(json.dumps({"seed": options.seed, "faults": weather.seen, "processes": processes}, indent=2))
        return
    print(accounts)
    print("faults:", ", ".join(f"{name} {count}" for name, count in sorted(weather.seen.items())))
    for name, facts in processes.items():
        first, middle, last = facts["memory_mib"]
        start, most, end = facts["open_files"]
        print(
            f"{name}: {facts['growth_mib_per_hour']:+.2f} ± {facts['standard_error']:.2f} MiB an hour "
            f"({first} MiB, {middle}, {last}); "
            f"open files {start}, at most {most}, {end} at the end"
        )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="run.py soak", description="Look for what grows or stays behind.")
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long the traffic runs (default 1800)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two faults (default 10)")
    parser.add_argument("--at-once", type=int, default=24, help="requests at the same time (default 24)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="repeat the run with this seed")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this new folder")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    return parser.parse_args()


def main() -> int:
    """Run; 0 if nothing was found."""
    return carry_out("soak", arguments(), run, lambda findings: not findings)


if __name__ == "__main__":
    sys.exit(main())
