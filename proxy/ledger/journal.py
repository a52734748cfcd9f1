"""The journal of one worker: what becomes of every request, on disk before anything depends on it.

A record is one write to a file, which the death of the process cannot take back; the disk is waited for by a thread,
for all records of a moment together. Nothing is read here, and nothing here knows the ledger.
"""

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy.journal_frames import frame
from proxy.journal_records import Carried, Dropped, Ended, Marked, Opened, Record, Started, encode
from proxy.ledger.segments import Folder, sync
from proxy.usage_record import UsageRecord

SEGMENT_BYTES: Final = 8 * 1024 * 1024
SYNC_SECONDS: Final = 0.2
SLOW_SECONDS: Final = 1.0
"""A disk that takes longer than this is trouble."""
MOST_UNWRITTEN: Final = 50_000
"""Ends that are kept in memory while the journal cannot be written; older ones are given up, loudly."""
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class Journal:
    """Written by one process, on one event loop, until it is closed."""

    def __init__(
        self,
        root: Path,
        name: str,
        on_trouble: Callable[[str | None], None],
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Begin a journal in a folder of its own below `root`.

        `on_trouble` hears why the journal cannot be written, again and again while that lasts, and None when it can.
        """
        self._root = root
        self._name = name
        self._folder: Folder | None = None
        self._lock = self._descriptor = -1
        self._on_trouble = on_trouble
        self._segment_bytes = segment_bytes
        self._open: dict[str, Carried] = {}
        self._unwritten: deque[Ended | Dropped] = deque()
        self._number = 1
        self._size = 0
        self._written = 0
        """Bytes of all segments."""
        self._synced = 0
        self._begin_anew = False
        self._cannot_write: str | None = None
        self._cannot_sync: str | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._wanted = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, "journal")
        self.given_up = 0
        """Ends that were lost because the journal could not be written for too long."""
        self._begin()

    @property
    def trouble(self) -> str | None:
        """Why the journal cannot be written; None while it can."""
        return self._cannot_write or self._cannot_sync

    def start(self, started: Started) -> bool:
        """Write that a request is about to be sent; False if that cannot be written now."""
        if self._cannot_sync or not self._append(started):
            return False
        self._open[started.request_id] = Carried(started)
        return True

    def mark(self, marked: Marked) -> None:
        """Write how far a request is; of no effect if its start could not be written."""
        known = self._open.get(marked.request_id)
        if known is not None and self._append(marked):
            self._open[marked.request_id] = Carried(known.started, marked)

    def end(self, record: UsageRecord) -> None:
        """Write a request's row. What cannot be written now is written as soon as it can."""
        self._finish(record.request_id, Ended(record))

    def drop(self, request_id: str) -> None:
        """Write that a request has no row, because no provider was reached."""
        if request_id in self._open:
            self._finish(request_id, Dropped(request_id))

    async def synced(self) -> bool:
        """Wait until everything written so far is on the disk; False if that takes too long."""
        if self._synced < self._written:
            done = asyncio.get_running_loop().create_future()
            self._waiting.append((self._written, done))
            self._wanted.set()
            await asyncio.wait([done], timeout=SLOW_SECONDS)
            return done.done()
        return True

    async def keep(self) -> None:
        """Bring what was written to the disk, begin new segments, and try again what failed, for ever."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), SYNC_SECONDS)
            self._wanted.clear()
            await self.tend()

    async def tend(self) -> None:
        """Do once what `keep` does for ever."""
        if self._folder is None:
            self._begin()
        if self._cannot_write and not self._unwritten:
            self._append(Dropped(""))  # says nothing to a reader; only a write can tell whether there is room again
        if self._folder and self._catch_up() and (self._size >= self._segment_bytes or self._begin_anew):
            await self._next_segment(self._folder)
        if self._synced < self._written:
            await self._sync()
        if self.trouble is not None:
            self._on_trouble(self.trouble)

    async def close(self) -> None:
        """Bring everything to the disk and let go: from here on the journal is a dead process's."""
        await self.tend()
        self._disk.shutdown(wait=False)
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)

    def _begin(self) -> None:
        try:
            if self._lock < 0:
                folder, self._lock = Folder.create(self._root, self._name)
            else:
                folder = Folder(self._root / self._name)
            self._descriptor = os.open(folder.segment(1), _APPEND, 0o600)
            self._folder = folder
        except OSError as error:
            self._failed(error)

    def _finish(self, request_id: str, last: Ended | Dropped) -> None:
        if self._append(last):
            self._open.pop(request_id, None)
            return
        self._unwritten.append(last)
        if len(self._unwritten) > MOST_UNWRITTEN:
            self._unwritten.popleft()
            self.given_up += 1

    def _catch_up(self) -> bool:
        """Write what could not be written before; False if it still cannot."""
        while self._unwritten:
            last = self._unwritten[0]
            if not self._append(last):
                return False
            self._unwritten.popleft()
            self._open.pop(last.record.request_id if isinstance(last, Ended) else last.request_id, None)
        return True

    def _append(self, record: Record) -> bool:
        if self._folder is None:
            return False
        framed = frame(encode(record))
        try:
            written = os.write(self._descriptor, framed)
        except OSError as error:
            return self._failed(error)
        if written != len(framed):
            with suppress(OSError):  # a reader finds its way past half a record too
                os.ftruncate(self._descriptor, self._size)
            return self._failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self._size += written
        self._written += written
        if self._cannot_write:
            self._cannot_write = None
            self._tell_if_well()
        return True

    async def _next_segment(self, folder: Folder) -> None:
        """Carry on in a new segment that begins with what is open, so that the old one can go when its rows are safe.

        It appears under its name when it is complete, and in one step with the change to it: a record is never in
        neither.
        """
        records: list[Record] = [*self._open.values(), Opened(len(self._open))]
        head = b"".join(frame(encode(record)) for record in records)
        path = folder.segment(self._number + 1)
        hidden = path.with_name(f".{path.name}")
        descriptor = None
        try:
            descriptor = os.open(hidden, _APPEND | os.O_TRUNC, 0o600)
            if os.write(descriptor, head) != len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - handled as what it stands for
            hidden.rename(path)
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            with suppress(OSError):
                hidden.unlink(missing_ok=True)
            self._failed(error)
            return
        old, self._descriptor = self._descriptor, descriptor
        self._number += 1
        self._size = len(head)
        self._written += len(head)
        self._begin_anew = False
        await self._on_disk(os.fsync, old)
        os.close(old)
        await self._on_disk(sync, folder.path)

    async def _sync(self) -> None:
        target = self._written
        if not await self._on_disk(os.fsync, self._descriptor):
            # What did not reach the disk may never reach it: what matters of it is written once more, elsewhere.
            self._begin_anew = True
            return
        self._synced = target
        done = [future for position, future in self._waiting if position <= target]
        self._waiting = [waiting for waiting in self._waiting if waiting[0] > target]
        for future in done:
            if not future.done():
                future.set_result(None)

    async def _on_disk(self, work: Callable[..., object], *arguments: object) -> bool:
        """Have a thread wait for the disk; a disk that takes too long is trouble already before it is done."""
        waited = asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)
        await asyncio.wait([waited], timeout=SLOW_SECONDS)
        if not waited.done():
            self._cannot_sync = f"the disk takes longer than {SLOW_SECONDS:g} s to write"
            self._on_trouble(self._cannot_sync)
        try:
            await waited
        except OSError as error:
            self._cannot_sync = error.strerror or str(error)
            return False
        if self._cannot_sync:
            self._cannot_sync = None
            self._tell_if_well()
        return True

    def _failed(self, error: OSError) -> bool:
        self._cannot_write = error.strerror or str(error)
        return False

    def _tell_if_well(self) -> None:
        if self.trouble is None:
            self._on_trouble(None)
