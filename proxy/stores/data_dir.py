"""The embedded store's files in the data directory: who may run a server there, who is using it, where its socket is.

Locks and paths only; the server itself is in `embedded.py`. The kernel drops the locks of a process that dies,
however it dies, so nothing here can be left behind that needs a person.
"""

import fcntl
import os
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from proxy.errors import StoreUnavailable

_LONGEST_SOCKET_PATH: Final = 100
"""Bytes; the kernel allows 107 on Linux and 103 on macOS."""
_PRIVATE: Final = "aion-store-"
_POLL: Final = 0.02
_ANSWER_WITHIN: Final = 1.0
_READ_LIMIT: Final = 4096


class DataDir:
    """One data directory. Its lock belongs to the process that runs the server; others may be users of that server."""

    def __init__(self, root: Path, held: int | None = None) -> None:
        """Use `at` or `locked`."""
        self.root = root
        self.files = root / "store"
        self.log = root / "store.log"
        self._lock = root / "store.lock"
        self._users = root / "store.users"
        self._record = root / "store.path"
        self._held = held

    @classmethod
    def at(cls, root: Path) -> Self:
        """Make the directory, private to its owner, if it is not there."""
        data = cls(root.resolve())
        try:
            data.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            data.files.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"the data directory {data.root} cannot be used ({error.strerror}): make it writable for this user, "
                "or set another `data_dir`"
            ) from None
        return data

    @classmethod
    def locked(cls, root: Path, wait: float) -> Self:
        """Take the right to run a server here; StoreUnavailable if another process keeps it longer than `wait` s."""
        root = cls.at(root).root
        held = _open(root / "store.lock")
        if not _flock(held, fcntl.LOCK_EX, wait):
            owner = os.pread(held, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(held)
            raise StoreUnavailable(
                f"another aion-proxy (process {owner}) uses the data directory {root}: stop it, or give this one "
                "a `data_dir` of its own"
            )
        os.ftruncate(held, 0)
        os.pwrite(held, str(os.getpid()).encode(), 0)
        return cls(root, held)

    def unlock(self) -> None:
        """Give the right back; a second time does nothing."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def is_locked(self) -> bool:
        """Whether some process has the right at this moment."""
        probe = _open(self._lock)
        try:
            return not _flock(probe, fcntl.LOCK_SH, 0.0)
        finally:
            os.close(probe)

    @contextmanager
    def as_user(self) -> Iterator[bool]:
        """Be counted among the server's users, who are waited for before it stops; False: it is stopping now."""
        users = _open(self._users)
        try:
            yield _flock(users, fcntl.LOCK_SH, 0.0)
        finally:
            os.close(users)

    @contextmanager
    def no_users(self, wait: float) -> Iterator[None]:
        """Wait up to `wait` s until nobody uses the server, and let nobody begin inside the block."""
        users = _open(self._users)
        try:
            _flock(users, fcntl.LOCK_EX, wait)
            yield
        finally:
            os.close(users)

    def socket_path(self) -> Path:
        """Where the server listens, or would."""
        try:
            return Path(self._record.read_text("utf-8"))
        except FileNotFoundError:
            return self.root / "store.sock"

    def new_socket_path(self) -> Path:
        """Choose where a new server is to listen: in the directory, or in a short private one if that is too long."""
        path = self.root / "store.sock"
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            path = Path(tempfile.mkdtemp(prefix=_PRIVATE, dir="/tmp")) / "store.sock"
            self._record.write_text(str(path), "utf-8")
        return path

    def forget_socket(self, path: Path) -> None:
        """Remove what is left of a server that has ended."""
        path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        if path.parent != self.root and path.parent.name.startswith(_PRIVATE):
            shutil.rmtree(path.parent, ignore_errors=True)


def ask(path: Path, command: bytes) -> bytes:
    """Send one command to the server on a socket and return the beginning of its answer; empty if there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_ANSWER_WITHIN)
            client.connect(os.fspath(path))
            client.sendall(command + b"\r\n")
            return client.recv(_READ_LIMIT)
    except OSError:
        return b""


def is_ready(path: Path) -> bool:
    """Whether a server answers on the socket and has read its data."""
    return ask(path, b"PING").startswith(b"+PONG")


def listener(path: Path) -> int | None:
    """Return the process id of whoever listens on the socket (0: the system does not tell); None if nobody does."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_ANSWER_WITHIN)
            client.connect(os.fspath(path))
            if not hasattr(socket, "SO_PEERCRED"):
                return 0
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return int(struct.unpack("3i", credentials)[0])
    except OSError:
        return None


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _flock(lock: int, kind: int, wait: float) -> bool:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        else:
            return True
