"""The rows of a run as a table for people or a document for programs, with the conditions of the run.

Figures without their conditions are worthless and figures of different days do not compare, so neither form omits them.
"""

import datetime as dt
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

from scenarios import Judged, Row
from servers import Cores, nginx_version

HEADINGS = ("", "nginx", "gateway", "ratio", "target", "verdict")
METHOD = (
    "CPU: user + system time of the gateway's supervisor and worker, or of nginx's processes, from before the first",
    "request until they are quiet after the last, divided by the answers. The store process is not counted: it shared",
    "the core of the load. Medians, in brackets the range over the rounds; nginx and gateway took turns.",
)


def conditions(cores: Cores, rounds: int, *, quick: bool) -> dict[str, str]:
    """Where, when and with what a run was made."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores (measured: {cores.measured}; mock, load, store: {cores.rest})",
        "kernel": f"{platform.system()} {platform.release()}",
        "versions": ", ".join(
            (
                f"Python {platform.python_version()}",
                nginx_version(),
                *map(_version, ("aion-proxy", "aiohttp", "uvloop")),
            )
        ),
        "rounds": f"{rounds}{', quick' if quick else ''}",
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def notes(rows: Sequence[Row]) -> list[str]:
    """What the reader of a table has to know beside it: what the store took, and how quiet the machine was."""
    found = []
    for row in rows:
        store = [each["store_us_each"] for each in row.detail.get("gateway", ())]
        others = [each["others_on_its_core"] for samples in row.detail.values() for each in samples]
        if store and others:
            found.append(
                f"{row.name}: the store process took {statistics.median(store):.1f} µs each beside this;"
                f" other programs had {statistics.median(others):.0%} of the measured core"
            )
    return found


def verdict(row: Row) -> str:
    """One word on a row's target, or nothing if it has none."""
    return {None: "", True: "met", False: "MISSED"}[row.met()]


def _figure(row: Row, server: str) -> str:
    median, rounds = row.median(server), row.rounds.get(server, [])
    if median is None:
        return "–"
    digits = 0 if median >= 1000 else 1 if median >= 10 else 2
    spread = f" ({min(rounds):.{digits}f}–{max(rounds):.{digits}f})" if len(rounds) > 1 else ""
    return f"{median:.{digits}f} {row.unit}{spread}"


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    return f"≤ {row.target:g}{'×' if row.judged is Judged.RATIO else ' ' + row.unit}"


def table(rows: Sequence[Row], terms: dict[str, str], remarks: Sequence[str]) -> str:
    """The rows with their conditions, for people."""
    lines: list[tuple[str, ...]] = [HEADINGS]
    for row in rows:
        ratio = row.ratio()
        shown = f"{ratio:.2f}×" if ratio is not None else ""
        lines.append((row.title, _figure(row, "nginx"), _figure(row, "gateway"), shown, _target(row), verdict(row)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    lines.insert(1, tuple("-" * width for width in widths))
    body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(
        [*body, "", *METHOD, *notes(rows), *remarks, *(f"{name}: {value}" for name, value in terms.items())]
    )


def document(rows: Sequence[Row], terms: dict[str, str], remarks: Sequence[str]) -> dict[str, object]:
    """The same for programs, with the figures of every round."""
    return {
        "conditions": terms,
        "remarks": list(remarks),
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "unit": row.unit,
                "nginx": row.median("nginx"),
                "gateway": row.median("gateway"),
                "ratio": row.ratio(),
                "judged": row.judged,
                "target": row.target,
                "met": row.met(),
                "rounds": row.rounds,
                "detail": row.detail,
            }
            for row in rows
        ],
    }
