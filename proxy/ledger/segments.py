"""Where journals lie on disk: a folder for each process that writes one, in it numbered segments and a lock.

Names, locks and removal only; what is in a segment is not known here. A lock belongs to the process that writes, and
the kernel drops it when that process dies, however it dies: whoever can take it knows that nobody writes here any more.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

ROOT: Final = "journal"
SUFFIX: Final = ".j1"
"""Of a segment; the number is the version of what is in it."""
DAMAGED: Final = "damaged"
"""The folder beside the journals for segments in which something could not be read."""
_LOCK: Final = "lock"
_DIGITS: Final = 8


class Folder(Struct, frozen=True):
    """One process's journal on disk."""

    path: Path

    @classmethod
    def create(cls, root: Path, name: str) -> "tuple[Self, int]":
        """Make a folder and take its lock, which is held until the descriptor that comes with it is closed.

        Nobody sees the folder before it is locked. Raises OSError.
        """
        hidden = root / f".{name}"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(hidden / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(root / name)
        return cls(root / name), lock

    @classmethod
    def all_in(cls, root: Path) -> list[Self]:
        """Return every process's folder, by name."""
        with suppress(FileNotFoundError):
            return [cls(path) for path in sorted(root.iterdir()) if (path / _LOCK).exists() and path.name[0] != "."]
        return []

    @classmethod
    def tidy(cls, root: Path) -> None:
        """Remove folders whose removal was interrupted: nothing is in them any more."""
        with suppress(FileNotFoundError):
            for path in root.iterdir():
                if path.is_dir() and not path.name.startswith("."):
                    with suppress(OSError):  # something is in it
                        path.rmdir()

    def take(self) -> int | None:
        """Take the lock of a process that has died, for as long as the returned descriptor is open; None: it lives."""
        lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def segment(self, number: int) -> Path:
        """Return where the segment of this number is, or would be."""
        return self.path / f"{number:0{_DIGITS}d}{SUFFIX}"

    def numbers(self) -> list[int]:
        """Return the numbers of the segments that are there, in order."""
        names = (path.stem for path in self.path.iterdir() if path.suffix == SUFFIX)
        return sorted(int(stem) for stem in names if stem.isdecimal())

    def strangers(self) -> list[str]:
        """Return the names of files that this version did not write: a newer one did, or a person."""
        return sorted(
            path.name
            for path in self.path.iterdir()
            if path.name != _LOCK and path.suffix != SUFFIX and not path.name.startswith(".")
        )

    def size(self) -> int:
        """Return how many bytes all segments have."""
        total = 0
        for number in self.numbers():
            with suppress(FileNotFoundError):
                total += self.segment(number).stat().st_size
        return total

    def forget(self, number: int, *, damaged: bool) -> None:
        """Remove a segment that nobody needs any more; one that is damaged is put aside instead."""
        path = self.segment(number)
        if damaged:
            aside = self.path.parent / DAMAGED
            aside.mkdir(mode=0o700, exist_ok=True)
            path.rename(aside / f"{self.path.name}-{path.name}")
        else:
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove what is left when no segment is: the lock last, so that a folder without segments stays one."""
        for path in self.path.iterdir():
            if path.name != _LOCK:
                path.unlink(missing_ok=True)
        (self.path / _LOCK).unlink(missing_ok=True)
        self.path.rmdir()


def sync(path: Path) -> None:
    """Have a file or a folder reach the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
