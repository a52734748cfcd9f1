"""How much memory may be taken, and how much is: of this process, or of the control group that it runs in.

A container's limit holds for all of its processes together, and the kernel kills one of them when it is passed. Only
version 2 of control groups is known (the kernel's documentation, admin-guide/cgroup-v2).
"""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.pressure import Pressure, pressure

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUP: Final = Path("/proc/self/cgroup")
_STATM: Final = Path("/proc/self/statm")

Memory = Callable[[], tuple[int, int]]
"""Returns what is used and what may be, in bytes. Raises `OSError` or `ValueError` if it cannot be told."""


class MemoryWatch:
    """Looks now and then, and says in the log when the state changes."""

    def __init__(self, memory: Memory | None, logger: "FilteringBoundLogger") -> None:
        """Watch `memory`; without one there is never any pressure."""
        self._memory = memory
        self._logger = logger
        self.pressure = Pressure.NONE
        """What was seen last."""

    def look(self) -> Pressure:
        """Return how short memory is; where that cannot be told, it is as before."""
        if self._memory is None:
            return self.pressure
        try:
            used, limit = self._memory()
        except (OSError, ValueError):
            return self.pressure
        before, self.pressure = self.pressure, pressure(used, limit, self.pressure)
        if self.pressure is not before:
            log = self._logger.info if self.pressure is Pressure.NONE else self._logger.error
            log("memory", pressure=self.pressure.name.lower(), used_mib=used >> 20, limit_mib=limit >> 20)
        return self.pressure


def own_memory(limit: int, statm: Path = _STATM) -> Memory:
    """Watch the resident memory of this process against a limit of the operator's."""
    page = resource.getpagesize()
    return lambda: (int(statm.read_text().split()[1]) * page, limit)


def group_memory(groups: Path = _GROUPS, own_group: Path = _OWN_GROUP) -> Memory | None:
    """Watch the control group whose limit is the smallest of those that hold for this process; None without one.

    Pages of files that were not used for a while do not count: the kernel takes them back before it kills.
    """
    try:
        found = [line.split(":", 2)[2] for line in own_group.read_text().splitlines() if line.startswith("0::")]
        own = groups / found[0].lstrip("/") if found else groups
    except OSError:
        return None
    limited = [
        (limit, folder)
        for folder in (own, *own.parents)
        if folder.is_relative_to(groups) and (limit := _limit(folder)) is not None
    ]
    if not limited:
        return None
    limit, folder = min(limited)
    return lambda: (_used(folder), limit)


def _limit(folder: Path) -> int | None:
    try:
        text = (folder / "memory.max").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) > 0 else None


def _used(folder: Path) -> int:
    current = int((folder / "memory.current").read_text())
    for line in (folder / "memory.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return current - int(value)
    return current
