"""Fixtures that tests of several parts share: each starts what it needs, on a socket of its own, and stops it."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from proxy.stores.connection import StoreConnection
from proxy.stores.data_dir import ask
from proxy.stores.embedded import EmbeddedStore
from proxy.stores.opening import connect_store

STORES = ("embedded", "redis")


@pytest.fixture(scope="session")
def store_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], EmbeddedStore]]:
    """One server of each kind for the whole run, started when the first test asks for it."""
    running: dict[str, EmbeddedStore] = {}

    def server(kind: str) -> EmbeddedStore:
        if kind not in running:
            binary = None if kind == "embedded" else debian_redis()
            running[kind] = EmbeddedStore.start(tmp_path_factory.mktemp(f"store-{kind}"), binary=binary)
        return running[kind]

    yield server
    for store in running.values():
        store.stop()


@pytest.fixture(params=STORES)
def store_server(request: pytest.FixtureRequest, store_servers: Callable[[str], EmbeddedStore]) -> EmbeddedStore:
    """An empty server: the bundled one and, in a second run of the same test, the machine's redis-server."""
    return emptied(store_servers(request.param))


@pytest.fixture
def store_url(store_server: EmbeddedStore) -> str:
    """The URL of `store_server`."""
    return store_server.url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[StoreConnection]:
    """A connection to `store_server`."""
    async with connect_store(store_url, call_timeout=10) as connection:
        yield connection


@pytest.fixture
def embedded_url(store_servers: Callable[[str], EmbeddedStore]) -> str:
    """The URL of an empty bundled server, for tests to which the kind of server makes no difference."""
    return emptied(store_servers("embedded")).url


def debian_redis() -> Path:
    """Find the machine's redis-server; its absence skips the test, visibly, and fails it in CI."""
    found = shutil.which("redis-server")
    if found is None:
        missing("redis-server", "redis-server")
    return Path(found)


def own_clock(file: Path) -> dict[str, str]:
    """The environment of a process whose clock a file sets, as `put_clock` writes it; what only goes on stays real."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return {
        "LD_PRELOAD": str(found[0] if found else missing("libfaketime", "libfaketime")),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def put_clock(file: Path, seconds: int) -> None:
    """Put the clock of such a process so far from the real time."""
    new = file.with_suffix(".new")
    new.write_text(f"{seconds:+d}\n")
    new.replace(file)


def missing(what: str, package: str) -> NoReturn:
    """Skip the test, visibly, because something is not on this machine; in CI, where it has to be, fail it."""
    reason = f"{what} is not on this machine; `apt install {package}` runs this test too"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def emptied(server: EmbeddedStore) -> EmbeddedStore:
    assert ask(server.path, b"FLUSHALL") == b"+OK\r\n"
    return server
