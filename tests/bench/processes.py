"""The processes of a benchmark run: started on a core of their own, accounted for, stopped by their id.

Everything here reads /proc or signals a process that was started here; what the processes are is none of its business.
Nothing is measured in wall time: on a shared machine only the CPU clock of a process says what its work costs.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

STORE_PROGRAMS = frozenset({"valkey-server", "redis-server"})
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36
START_DYING_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM")
"""So that nothing is left even if the benchmark is killed with -9."""
GRACE_S = 15.0
ORPHAN_GRACE_S = 3.0

QUIET_STEP_S = 0.1
QUIET_CPU_NS = 3_000_000
QUIET_STEPS = 3
SHORTEST_WAIT_S = 1.2
"""Long enough for what a gateway does once a second (a flush of rows or metrics) to be counted with the requests."""
LONGEST_WAIT_S = 5.0


class BenchError(Exception):
    """The benchmark cannot go on; the text says why and what to do."""


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def tree(root: int) -> list[int]:
    """`root` and all its descendants that are alive, parents first."""
    found = [root]
    for pid in found:
        found += [child for child in _children(pid) if child not in found]
    return found


def program(pid: int) -> str:
    """The name of the program that a process runs, or nothing if the process is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def store_pids(root: int) -> list[int]:
    """The processes of the embedded store below `root`."""
    return [pid for pid in tree(root) if program(pid) in STORE_PROGRAMS]


def own_pids(root: int) -> list[int]:
    """The tree of `root` without the embedded store: what counts as the program itself."""
    stores = {below for pid in store_pids(root) for below in tree(pid)}
    return [pid for pid in tree(root) if pid not in stores]


def cpu_ns(pids: Sequence[int]) -> int:
    """User and system time of the processes since they began, in nanoseconds.

    A process has a CPU clock whose number follows from its id (clock_getcpuclockid(3)); it holds the same sum as
    /proc/PID/stat without being rounded to ticks of 10 ms.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns((~pid << 3) | 2)
    return total


def rss_kib(pid: int) -> int:
    """Resident memory of one process in KiB, counted page by page (VmRSS in /proc/PID/status is allowed to lag)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1])
    return 0


def core_busy_ns(core: int) -> int:
    """How long a core has been busy with anything, in nanoseconds since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) * 1_000_000_000 // TICKS_PER_SECOND
    return 0


def wait_quiet(root: int) -> None:
    """Return once the tree of `root` has stopped working, so that what is done after the answer is counted too."""
    began = time.monotonic()
    quiet, last = 0, cpu_ns(own_pids(root))
    while (waited := time.monotonic() - began) < LONGEST_WAIT_S:
        if quiet >= QUIET_STEPS and waited >= SHORTEST_WAIT_S:
            return
        time.sleep(QUIET_STEP_S)
        now = cpu_ns(own_pids(root))
        quiet, last = (quiet + 1 if now - last < QUIET_CPU_NS else 0), now


def pinned_to(core: int) -> tuple[str, ...]:
    """The words before a command that keep it, and all that it starts, on one core."""
    return ("taskset", "--cpu-list", str(core))


def move(pids: Sequence[int], core: int) -> None:
    """Move every thread of the processes to one core."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), {core})


def adopt_orphans() -> None:
    """Make this process the parent of descendants that lose theirs, so that none is overlooked at the end."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise BenchError("prctl(PR_SET_CHILD_SUBREAPER) was refused; the benchmark needs Linux")


class Children:
    """The programs that a run has started; every one of them is stopped by `stop_all`, the last started first."""

    def __init__(self) -> None:
        """Start with none."""
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        command: Sequence[str],
        *,
        core: int | None,
        log: IO[bytes] | int,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdout: IO[bytes] | int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program on `core` (None: any), in a session of its own so that Ctrl-C reaches only the benchmark."""
        child = subprocess.Popen(
            [*START_DYING_WITH_PARENT, *(pinned_to(core) if core is not None else ()), *command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log if stdout is None else stdout,
            stderr=log,
            start_new_session=True,
        )
        self._running.append(child)
        return child

    def stop(self, child: subprocess.Popen[bytes]) -> None:
        """End a program with SIGTERM, and with SIGKILL if it has not gone after its grace."""
        child.terminate()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._running.remove(child)

    def stop_all(self) -> None:
        """End every program that is still there, then whatever they left behind."""
        for child in reversed(self._running.copy()):
            self.stop(child)
        deadline = time.monotonic() + ORPHAN_GRACE_S
        while (orphans := tree(os.getpid())[1:]) and time.monotonic() < deadline:
            for pid in orphans:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)
        for pid in orphans:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
