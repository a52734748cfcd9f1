"""The chaos run: two gateways under mixed traffic while Redis, gateways and workers are killed; then the accounts are
compared, to the token and the pico-dollar, with those of a provider that kept its own.

`python3 run.py chaos` prints its seed; `--seed N` sends the same requests and draws the same faults again.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random

from command import Say, carry_out
from oracle import Oracle
from places import TIGHT_BUDGET_USD, Place, account_name
from plan import ACCOUNTS, TIGHT_ACCOUNT, planned
from traffic import Traffic
from verdict import Verdict, by_number, judge, nusd

SETTLES_WITHIN_S = 150.0
"""How long holds may live on (a lease lasts a minute) and counters may differ (a minute) once the traffic has ended."""
SHOWN = 10


@dataclass(slots=True)
class Report:
    """What a run has found."""

    seed: int
    requests: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    by_ending: dict[str, int] = field(default_factory=dict)
    redis_kills: int = 0
    gateway_kills: int = 0
    worker_kills: int = 0
    script_flushes: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    invented: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return not self.findings


class Faults:
    """Kills what the dice say, as long as the traffic runs."""

    def __init__(self, place: Place, dice: Random, every: float, say: Say) -> None:
        self._place = place
        self._dice = dice
        self._every = every
        self._say = say
        self.redis_kills = self.gateway_kills = self.worker_kills = self.script_flushes = 0

    async def run(self, over: asyncio.Event) -> None:
        """Go on until the traffic is over; what was killed is started again first."""
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), self._dice.uniform(0.3, 1.7) * self._every)
                return
            await asyncio.to_thread(self._one)

    def _one(self) -> None:
        what = self._dice.choice(("redis", "redis", "flush", "gateway", "gateway", "worker"))
        pause = self._dice.choice((0.0, 0.1, 1.0))
        if what == "redis":
            self._place.redis.kill()
            time.sleep(pause)
            self._place.redis.start()
            self.redis_kills += 1
        elif what == "flush":
            self._place.flush_scripts()
            self.script_flushes += 1
        else:
            gateway = self._dice.choice(self._place.gateways)
            if what == "gateway":
                gateway.kill(whole=self._dice.random() < 0.7)
                time.sleep(pause)
                gateway.start()
                self.gateway_kills += 1
            elif children := gateway.children():
                os.kill(self._dice.choice(children), signal.SIGKILL)
                self.worker_kills += 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="run.py chaos", description="Kill things, and compare the accounts.")
    parser.add_argument("--seconds", type=float, help="how long the traffic runs (default 90, unless --requests)")
    parser.add_argument("--requests", type=int, help="how many requests are sent")
    parser.add_argument("--kills", type=int, default=0, help="go on until Redis and gateways were killed so often each")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two faults, on average (default 2)")
    parser.add_argument("--at-once", type=int, default=48, help="requests at the same time (default 48)")
    parser.add_argument("--workers", type=int, default=1, help="workers of each gateway (default 1)")
    parser.add_argument("--seed", type=int, help="repeat the run with this seed")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this new folder")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args()
    if options.seconds is None and options.requests is None and not options.kills:
        options.seconds = 90.0
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4))
    return options


async def run(options: argparse.Namespace, folder: Path, say: Say) -> Report:
    """One run; returns what it found."""
    plan = partial(planned, options.seed)
    oracle = Oracle(plan)
    await oracle.start()
    place = Place(folder, oracle.port, options.workers)
    try:
        keys = await asyncio.to_thread(place.start)
        traffic = Traffic(plan, [gateway.port for gateway in place.gateways], keys, options.at_once)
        faults = Faults(place, Random(options.seed), options.every, say)
        await load(options, traffic, faults, say)
        say(f"the traffic has ended after {len(traffic.seen)} requests; waiting for the accounts to agree")
        verdict, report = await asyncio.to_thread(settled, place, oracle, traffic, options.seed, say)
        report.redis_kills, report.gateway_kills = faults.redis_kills, faults.gateway_kills
        report.worker_kills, report.script_flushes = faults.worker_kills, faults.script_flushes
        report.lost, report.doubled = len(verdict.lost), len(verdict.doubled)
        report.wrong, report.invented = len(verdict.wrong), len(verdict.invented)
        return report
    finally:
        codes = await asyncio.to_thread(place.stop)
        say(f"stopped; the gateways' exit codes are {codes}")
        await oracle.stop()


async def load(options: argparse.Namespace, traffic: Traffic, faults: Faults, say: Say) -> None:
    """Send requests and make faults until the command line is satisfied."""
    began = time.monotonic()
    shown = began

    def more(number: int) -> bool:
        nonlocal shown
        now = time.monotonic()
        if now - shown > 5:
            shown = now
            say(f"{number} requests, {faults.redis_kills} kills of Redis, {faults.gateway_kills} of gateways")
        enough = options.seconds is None or now - began > options.seconds
        enough = enough and (options.requests is None or number >= options.requests)
        return not (enough and min(faults.redis_kills, faults.gateway_kills) >= options.kills)

    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(faults.run(over))
        try:
            await traffic.run(more)
        finally:
            over.set()


def settled(place: Place, oracle: Oracle, traffic: Traffic, seed: int, say: Say) -> tuple[Verdict, Report]:
    """Compare the accounts until they agree, or time is up."""
    deadline = time.monotonic() + SETTLES_WITHIN_S
    while True:
        rows = place.rows()
        verdict = judge(partial(planned, seed), oracle.served, traffic.seen, by_number(rows))
        findings = [*verdict.findings(), *account_findings(place, rows)]
        if not findings or time.monotonic() > deadline:
            break
        say(f"{len(findings)} findings so far, such as: {findings[0][:200]}")
        time.sleep(3)
    checks = place.command("ledger", "verify")
    findings += [f"ledger verify: {check}" for check in checks["checks"] if not check["ok"]]
    report = Report(seed, requests=len(traffic.seen), rows=len(rows), findings=findings)
    for row in rows:
        report.by_ending[row["ending"]] = report.by_ending.get(row["ending"], 0) + 1
    for seen in traffic.seen.values():
        status = "none" if seen.status is None else str(seen.status)
        report.answered[status] = report.answered.get(status, 0) + 1
    return verdict, report


def account_findings(place: Place, rows: list[dict[str, object]]) -> Iterator[str]:
    """Compare the counters in Redis with the rows, and look for holds that nobody gave back."""
    for number in range(ACCOUNTS):
        name = account_name(number)
        shown = place.command("accounts", "show", name)
        budget = shown["budget"]
        spent = Decimal(budget["spent_usd"])
        charged = Decimal(sum(nusd(int(str(row["cost_pusd"]))) for row in rows if row["account"] == name)) / 10**9
        if spent != charged:
            yield f"{name}: the counter says {spent} USD, the ledger {charged}"
        if shown["in_flight"] or Decimal(budget["held_usd"]):
            yield f"{name}: {shown['in_flight']} requests and {budget['held_usd']} USD are held by nobody"
        if number == TIGHT_ACCOUNT and charged > Decimal(TIGHT_BUDGET_USD):
            yield f"{name}: spent {charged} USD of a budget of {TIGHT_BUDGET_USD}"


def table(report: Report) -> str:
    """What a run found, for people."""
    lines = {
        "seed": report.seed,
        "requests sent": report.requests,
        "answers by status": ", ".join(f"{status}: {count}" for status, count in sorted(report.answered.items())),
        "rows in the ledger": report.rows,
        "rows by ending": ", ".join(f"{ending}: {count}" for ending, count in sorted(report.by_ending.items())),
        "kills of Redis": report.redis_kills,
        "kills of gateways": report.gateway_kills,
        "kills of workers": report.worker_kills,
        "flushes of scripts": report.script_flushes,
        "lost": report.lost,
        "doubled": report.doubled,
        "wrong amounts": report.wrong,
        "rows of nothing": report.invented,
        "all findings": len(report.findings),
    }
    width = max(map(len, lines))
    found = "".join(f"\n- {finding}" for finding in report.findings[:SHOWN])
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items()) + found


def shown(report: Report, *, as_json: bool) -> bool:
    """Print what a run found, for people or for programs; returns whether everything agrees."""
    if as_json:
        fields = {name: getattr(report, name) for name in report.__slots__}
        print(json.dumps({"ok": report.ok, **fields}, indent=2))
    else:
        print(table(report))
    return report.ok


def main() -> int:
    """Run; 0 if everything agrees."""
    options = arguments()
    return carry_out("chaos", options, run, partial(shown, as_json=options.json))


if __name__ == "__main__":
    sys.exit(main())
