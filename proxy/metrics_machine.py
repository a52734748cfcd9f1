"""The numbers of the machine: memory of the gateway's processes, workers that serve, room for the journal.

Asked for when the page is made, by the supervisor, which knows its workers; nothing here is counted. What cannot be
read on a system is NaN, which no alert mistakes for a zero.
"""

import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

_RESIDENT: Final = 1
"""The field of `/proc/<pid>/statm` that holds the pages in memory."""


class MachineMetrics:
    """The families of the processes and of the disk."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create them."""
        self._workers = Gauge("aion_workers", "Workers that would serve a request now.", registry=registry)
        memory = Gauge("aion_memory_bytes", "Memory that is resident.", ("process",), registry=registry)
        self._supervisor, self._of_workers = memory.labels("supervisor"), memory.labels("workers")
        self._free = Gauge("aion_journal_disk_free_bytes", "Room for the journal on its disk.", registry=registry)
        self._size = Gauge("aion_journal_disk_bytes", "The size of that disk.", registry=registry)

    def watch(self, data_dir: Path, workers: Callable[[], Sequence[tuple[int, bool]]]) -> None:
        """Ask for these whenever the page is made: `workers` are their process ids, and whether each would serve."""
        self._workers.set_function(lambda: sum(serves for _, serves in workers()))
        self._supervisor.set_function(lambda: resident_bytes((os.getpid(),)))
        self._of_workers.set_function(lambda: resident_bytes(pid for pid, _ in workers()))
        self._free.set_function(lambda: _room(data_dir)[1])
        self._size.set_function(lambda: _room(data_dir)[0])


def resident_bytes(pids: Iterable[int]) -> float:
    """Return the memory that these processes have resident, shared pages counted in each; NaN where none can tell."""
    found = [pages for pages in map(_resident_pages, pids) if pages is not None]
    return float(sum(found) * os.sysconf("SC_PAGE_SIZE")) if found else math.nan


def _resident_pages(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[_RESIDENT])
    except (OSError, IndexError):  # it has just ended, or this system has no such file
        return None


def _room(folder: Path) -> tuple[float, float]:
    """Return the size of a folder's disk and what this user may still write to it."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return math.nan, math.nan
    return disk.total, disk.free
