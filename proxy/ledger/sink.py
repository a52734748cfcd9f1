"""Carries rows from the journals of all processes into the SQL ledger, and takes over what dead processes left.

It runs in a thread of the supervisor: there is one of it for all workers, it is idle nearly always, and in its own
process it would need a second supervisor. Nothing is lost with it: it keeps no state that is not in the journals, and
removes nothing from them before the ledger has committed it. A worker never waits for it.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import asdict

from proxy.ledger.database import Ledger, LedgerUnavailable, RowsRefused
from proxy.ledger.follower import Follower
from proxy.ledger.segments import ROOT, Folder
from proxy.metrics_ledger import LedgerMetrics
from proxy.usage_record import UsageRecord

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SET_ASIDE: Final = "set-aside.jsonl"
BATCH: Final = 4_000
"""Rows in a commit, of which each waits for the disk."""
PAUSE_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 0.5
ALARM_SECONDS: Final = 5.0
TRIES: Final = 3
LOCK: Final = "sink.lock"
"""Held by the one that works."""
_AWAY: Final = "the ledger is away: rows wait in the journal"


class Stopped(Exception):  # noqa: N818 - the state of the sink
    """The sink was told to stop while the ledger is away."""


def start_sink(
    url: str, data_dir: Path, metrics: LedgerMetrics, logger: "FilteringBoundLogger", clock: Callable[[], float]
) -> "Sink":
    """Start to carry rows into the ledger that the configuration names; one that is away is waited for meanwhile.

    Raises `NewerLedger`.
    """

    def open_ledger() -> Ledger:
        return Ledger.open(url, data_dir)

    ledger = None
    try:
        ledger = open_ledger()
    except LedgerUnavailable as why:
        logger.error(_AWAY, detail=why.detail)
    sink = Sink(data_dir / ROOT, open_ledger, metrics, logger, clock, ledger)
    sink.start()
    return sink


class Sink:
    """One sink; the first of several on a data directory works, the others wait for it to go."""

    def __init__(
        self,
        root: Path,
        open_ledger: Callable[[], Ledger],
        metrics: LedgerMetrics,
        logger: "FilteringBoundLogger",
        clock: Callable[[], float],
        ledger: Ledger | None = None,
    ) -> None:
        """Follow the journals below `root`; `open_ledger` raises `LedgerUnavailable` while it cannot be opened,
        `clock` gives Unix seconds, `ledger` is one that is open already.
        """
        self._root = root
        self._open_ledger = open_ledger
        self._metrics = metrics
        self._logger = logger
        self._clock = clock
        self._ledger = ledger
        self._followers: dict[str, tuple[Follower, int | None]] = {}
        """By the name of the folder; with the lock of those whose process has died."""
        self._lock: int | None = None
        self._stop = threading.Event()
        self._told_at: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        metrics.watch(self.lag, self.journal_bytes)
        self._waiting_since: float | None = None
        self._seen_at = clock()

    # its life

    def start(self) -> None:
        """Begin in a thread of its own, which ends with the process."""
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> bool:
        """Carry over what dead processes left, for at most this long, and end; False if something remains."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(seconds)
            return not self._thread.is_alive() and not self._followers
        return True

    def lag(self) -> float:
        """Return for how many seconds the oldest row that is not in the ledger has been waiting."""
        now, since = self._clock(), self._waiting_since
        silent = now - self._seen_at
        return max(0.0 if since is None else now - since, silent if silent > ALARM_SECONDS else 0.0)

    def journal_bytes(self) -> int:
        """Return how much all journals have on disk."""
        with suppress(OSError):
            return sum(folder.size() for folder in Folder.all_in(self._root))
        return 0

    def _run(self) -> None:
        while not self._stop.is_set():
            self._pass()
            self._stop.wait(PAUSE_SECONDS)  # also after rows: a commit of few costs nearly as much as one of many
        with suppress(Stopped):
            while self._pass():
                pass
        self._close()

    def _pass(self) -> bool:
        """Carry over what there is; a failure costs nothing but reading again."""
        try:
            return self.carry()
        except Stopped:
            self._let_go()
            if self._stop.is_set():
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, rows must go on
            self._let_go()
            self._alarm("the ledger's sink failed and begins anew", error=type(error).__name__, detail=str(error)[:500])
            self._stop.wait(RETRY_SECONDS)
        return False

    def _let_go(self) -> None:
        """Forget how far the journals were read."""
        for _, lock in self._followers.values():
            if lock is not None:
                os.close(lock)
        self._followers.clear()

    def _close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
        if self._lock is not None:
            os.close(self._lock)

    # its work

    def carry(self) -> bool:
        """Carry over what is in the journals now; True if there was anything. Raises `Stopped`."""
        if not self._is_the_one():
            return False
        self._look_around()
        rows: list[UsageRecord] = []
        found = False
        for name, (follower, lock) in list(self._followers.items()):
            while self._read(name, follower, rows, final=lock is not None):
                if len(rows) >= BATCH:
                    self._commit(rows)
                    rows, found = [], True
        if rows:
            self._commit(rows)
            found = True
        self._forget()
        self._seen_at = self._clock()
        return found

    def _read(self, name: str, follower: Follower, rows: list[UsageRecord], *, final: bool) -> bool:
        """Read on in one journal; one that cannot be read holds up no other."""
        try:
            more = follower.read(rows, final=final)
        except OSError as error:
            self._alarm("a journal cannot be read", journal=name, detail=error.strerror)
            return False
        if follower.damage:
            self._metrics.damaged(follower.damage)
            self._alarm("a journal has records that cannot be read; its segment will be put aside", journal=name)
        return more

    def _is_the_one(self) -> bool:
        """Take the right to be the sink of this directory, which ends with the process."""
        if self._lock is None:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                self._seen_at = self._clock()
                return False
            self._lock = lock
            Folder.tidy(self._root)
        return True

    def _look_around(self) -> None:
        """Find new journals, and take over those whose process has died."""
        for folder in Folder.all_in(self._root):
            name = folder.path.name
            follower = self._followers[name][0] if name in self._followers else None
            strangers = folder.strangers()
            if strangers:
                self._alarm(
                    "a journal of a newer aion-proxy is left alone: start that version again to have its rows",
                    journal=name,
                    files=strangers[:3],
                )
                continue
            lock = folder.take()
            if follower is None or lock is not None:
                self._followers[name] = (follower or Follower(folder), lock)

    def _forget(self) -> None:
        for name, (follower, lock) in list(self._followers.items()):
            try:
                follower.forget()
            except OSError as error:
                self._alarm(
                    "a journal whose rows are in the ledger cannot be removed", journal=name, detail=error.strerror
                )
                continue
            if follower.ended and lock is not None:
                os.close(lock)
                del self._followers[name]

    def _commit(self, rows: Sequence[UsageRecord]) -> None:
        """Have rows in the ledger, however long that takes; those that it never takes are set aside."""
        self._waiting_since = min(row.started_at + row.duration_ms for row in rows) / 1000
        away = False
        while True:
            try:
                if self._ledger is None:
                    self._ledger = self._open_ledger()
                self._insert(self._ledger, rows)
                break
            except LedgerUnavailable as why:
                away = True
                self._alarm(_AWAY, detail=why.detail)
                if self._stop.is_set():
                    raise Stopped from None
                self._stop.wait(RETRY_SECONDS)
        self._waiting_since = None
        if away:
            self._told_at.clear()
            self._logger.info("the ledger is back")

    def _insert(self, ledger: Ledger, rows: Sequence[UsageRecord]) -> None:
        """Insert rows; where some are refused, the others all the same."""
        for left in range(TRIES if len(rows) == 1 else 1, 0, -1):
            try:
                self._metrics.inserted(ledger.insert(rows))
            except RowsRefused as why:
                if left == 1 and len(rows) == 1:
                    self._set_aside(rows[0], why.detail)
            else:
                return
        if len(rows) > 1:
            middle = len(rows) // 2
            self._insert(ledger, rows[:middle])
            self._insert(ledger, rows[middle:])

    def _set_aside(self, row: UsageRecord, detail: str) -> None:
        line = msgspec.json.encode({"why": detail, "row": asdict(row)}) + b"\n"
        file = os.open(self._root / SET_ASIDE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
        self._metrics.set_aside()
        self._alarm(f"the ledger refuses a row; it was set aside in {SET_ASIDE}", request_id=row.request_id)

    def _alarm(self, event: str, **facts: object) -> None:
        """Log, the same event not more often than every few seconds."""
        now = time.monotonic()
        if now - self._told_at.get(event, -ALARM_SECONDS) >= ALARM_SECONDS:
            self._told_at[event] = now
            self._logger.error(event, **facts)
