"""A worker's journal: what it wrote is there when it dies, and what it cannot write it says."""

import asyncio
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rows import marked, row, started

from proxy.journal_frames import scan
from proxy.journal_records import Carried, Dropped, Ended, Opened, Record, decode
from proxy.ledger import journal as module
from proxy.ledger.journal import Journal
from proxy.ledger.segments import Folder
from waiting import until


class Told:
    """What a journal said of its troubles."""

    def __init__(self) -> None:
        self.words: list[str | None] = []

    def __call__(self, trouble: str | None) -> None:
        self.words.append(trouble)


@pytest.fixture
def told() -> Told:
    return Told()


def records_in(root: Path) -> list[list[Record | None]]:
    """The records of every segment below `root`, in order."""
    return [
        [decode(payload) for payload in scan(folder.segment(number).read_bytes(), final=True).payloads]
        for folder in Folder.all_in(root)
        for number in folder.numbers()
    ]


async def test_what_is_written_is_there_at_once(tmp_path: Path, told: Told) -> None:
    journal = Journal(tmp_path, "one", told)
    assert journal.start(started(1))
    assert journal.start(started(2))
    journal.mark(marked(1))
    journal.end(row(1))
    journal.drop(row(2).request_id)
    wanted = [started(1), started(2), marked(1), Ended(row(1)), Dropped(row(2).request_id)]
    assert records_in(tmp_path) == [wanted]
    await journal.close()
    assert records_in(tmp_path) == [wanted]
    assert told.words == []


async def test_a_request_that_was_not_started_has_no_marks_and_is_not_dropped(tmp_path: Path, told: Told) -> None:
    journal = Journal(tmp_path, "one", told)
    journal.mark(marked(1))
    journal.drop(row(1).request_id)
    assert records_in(tmp_path) == [[]]
    await journal.close()


async def test_its_lock_tells_that_it_lives(tmp_path: Path, told: Told) -> None:
    journal = Journal(tmp_path, "one", told)
    (folder,) = Folder.all_in(tmp_path)
    assert folder.take() is None
    await journal.close()
    lock = folder.take()
    assert lock is not None
    os.close(lock)


async def test_a_full_segment_is_followed_by_one_that_begins_with_what_is_open(tmp_path: Path, told: Told) -> None:
    journal = Journal(tmp_path, "one", told, segment_bytes=300)
    for number in range(1, 4):
        journal.start(started(number))
    journal.mark(marked(2))
    journal.end(row(3))
    await journal.tend()
    journal.end(row(1))
    first, second = records_in(tmp_path)
    assert first[-1] == Ended(row(3))
    assert second == [Carried(started(1)), Carried(started(2), marked(2)), Opened(2), Ended(row(1))]
    await journal.close()


async def test_a_segment_that_is_not_full_is_written_on(tmp_path: Path, told: Told) -> None:
    journal = Journal(tmp_path, "one", told)
    for number in range(50):
        journal.start(started(number))
        await journal.tend()
    assert len(records_in(tmp_path)) == 1
    await journal.close()


async def test_waiting_for_the_disk_is_waiting_for_everything_written_so_far(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    journal = Journal(tmp_path, "one", told)
    keeping = asyncio.get_running_loop().create_task(journal.keep())
    journal.start(started(1))
    size = Folder.all_in(tmp_path)[0].size()
    assert await journal.synced()
    assert synced[-1] == size
    assert await journal.synced(), "nothing new was written"
    keeping.cancel()
    await journal.close()


async def test_what_was_written_reaches_the_disk_soon_without_being_asked(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path, "one", told)
    keeping = asyncio.get_running_loop().create_task(journal.keep())
    journal.start(started(1))
    await until(lambda: synced)
    keeping.cancel()
    await journal.close()


async def test_an_idle_journal_leaves_the_disk_alone(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path, "one", told)
    await journal.tend()
    assert synced == []
    await journal.close()


class Disk:
    """A small file system in memory, which a test fills and empties."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "journal"

    def fill(self) -> None:
        with (self.path / "filler").open("ab", buffering=0) as filler:
            for size in (4096, 1):
                try:
                    while True:
                        filler.write(b"x" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC

    def empty(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    libc = ctypes.CDLL(None, use_errno=True)
    path = os.fsencode(tmp_path)
    if libc.mount(b"tmpfs", path, b"tmpfs", 0, b"size=256k"):
        pytest.skip(f"a file system cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    yield Disk(tmp_path)
    libc.umount2(path, 2)


async def test_on_a_full_disk_a_request_cannot_begin_and_its_journal_says_why(disk: Disk, told: Told) -> None:
    journal = Journal(disk.root, "one", told)
    assert journal.start(started(1))
    disk.fill()
    number = 2
    while journal.start(started(number)):  # what is left of the last page
        number += 1
    assert journal.trouble == "No space left on device"
    await journal.tend()
    assert told.words[-1] == "No space left on device"
    disk.empty()
    await journal.tend()
    assert told.words[-1] is None
    assert journal.start(started(number))
    await journal.close()
    ((*records,),) = records_in(disk.root)
    assert [record for record in records if record != Dropped("")] == [started(other) for other in range(1, number + 1)]
    data = Folder.all_in(disk.root)[0].segment(1).read_bytes()
    assert scan(data, final=True).skipped == 0, "no half of a record stays"


async def test_an_end_that_does_not_fit_is_written_when_there_is_room_again(disk: Disk, told: Told) -> None:
    journal = Journal(disk.root, "one", told)
    journal.start(started(1))
    journal.start(started(2))
    disk.fill()
    filling = 3
    while journal.start(started(filling)):
        filling += 1
    journal.end(row(1))
    journal.drop(row(2).request_id)
    await journal.tend()
    assert journal.trouble is not None
    disk.empty()
    await journal.tend()
    assert journal.trouble is None
    ((*records,),) = records_in(disk.root)
    assert records[-2:] == [Ended(row(1)), Dropped(row(2).request_id)]
    await journal.close()


async def test_a_full_disk_keeps_a_journal_in_its_segment(disk: Disk, told: Told) -> None:
    journal = Journal(disk.root, "one", told, segment_bytes=1)
    journal.start(started(1))
    disk.fill()
    while journal.start(started(2)):
        pass
    await journal.tend()
    disk.empty()
    await journal.tend()
    first, second = records_in(disk.root)
    assert first[0] == started(1)
    assert second[0] == Carried(started(1))
    await journal.close()


async def test_a_journal_that_cannot_be_made_is_made_later(tmp_path: Path, told: Told) -> None:
    root = tmp_path / "journal"
    root.write_bytes(b"in the way")
    journal = Journal(root, "one", told)
    assert not journal.start(started(1))
    journal.end(row(2))
    await journal.tend()
    assert told.words == ["File exists"]
    root.unlink()
    await journal.tend()
    assert journal.start(started(1))
    assert told.words[-1] is None
    ((*records,),) = records_in(root)
    assert [record for record in records if record != Dropped("")] == [Ended(row(2)), started(1)]
    await journal.close()


async def test_ends_that_cannot_be_written_for_too_long_are_given_up_and_counted(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_UNWRITTEN", 2)
    root = tmp_path / "journal"
    root.write_bytes(b"in the way")
    journal = Journal(root, "one", told)
    for number in range(5):
        journal.end(row(number))
    assert journal.given_up == 3
    root.unlink()
    await journal.tend()
    ((*records,),) = records_in(root)
    assert records == [Ended(row(3)), Ended(row(4))]
    await journal.close()


async def test_a_disk_that_cannot_keep_what_was_written_stops_new_requests_until_it_can(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = Journal(tmp_path, "one", told)
    journal.start(started(1))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing)
        await journal.tend()
    assert told.words[-1] == "Input/output error"
    assert not journal.start(started(2))
    await journal.tend()
    assert told.words[-1] is None
    assert journal.start(started(3))
    *_, last = records_in(tmp_path)
    assert last == [Carried(started(1)), Opened(1), started(3)], "what the disk may have lost was written once more"
    await journal.close()


async def test_a_disk_that_takes_too_long_is_trouble_before_it_is_done(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.05)
    monkeypatch.setattr(os, "fsync", lambda _: go_on.wait(20))
    journal = Journal(tmp_path, "one", told)
    journal.start(started(1))
    tending = asyncio.get_running_loop().create_task(journal.tend())
    assert not await journal.synced()
    await until(lambda: told.words)
    assert "the disk takes longer" in str(told.words[-1])
    assert not journal.start(started(2))
    go_on.set()
    await tending
    assert told.words[-1] is None
    assert journal.start(started(3))
    await journal.close()


def test_a_process_that_is_killed_leaves_every_record_it_wrote(tmp_path: Path, told: Told) -> None:
    child = os.fork()
    if not child:  # killed without a chance to flush, close or unlock anything
        journal = Journal(tmp_path, "one", told)
        for number in range(100):
            journal.start(started(number))
            journal.end(row(number))
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    ((*records,),) = records_in(tmp_path)
    assert records == [record for number in range(100) for record in (started(number), Ended(row(number)))]
    lock = Folder.all_in(tmp_path)[0].take()
    assert lock is not None
    os.close(lock)


def test_nobody_sees_a_folder_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Folder]] = []
    rename: Callable[..., None] = os.rename
    monkeypatch.setattr(os, "rename", lambda *paths: (seen.append(Folder.all_in(tmp_path)), rename(*paths)))
    folder, lock = Folder.create(tmp_path, "one")
    assert seen == [[]]
    assert Folder.all_in(tmp_path) == [folder]
    assert folder.take() is None
    os.close(lock)
