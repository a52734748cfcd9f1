"""A ledger of every kind: SQLite, and PostgreSQL on a server that is started for the run."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgresql_server import PostgresqlServer

from proxy.ledger.database import Ledger

KINDS = ("embedded", "postgresql")


def postgresql_programs() -> Path:
    """Find the machine's PostgreSQL; its absence skips the test, visibly, and fails it in CI."""
    beside = shutil.which("initdb")
    found = [Path(beside).resolve().parent] if beside else []
    # Debian keeps the server's programs off the PATH, by version.
    found += sorted((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), reverse=True)
    if not found:
        missing = "PostgreSQL is not there; `apt install postgresql` runs this test over it too"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found[0]


@pytest.fixture(scope="session")
def postgresql_servers() -> Iterator[Callable[[], PostgresqlServer]]:
    """One server for the whole run, started when the first test asks for it."""
    running: list[PostgresqlServer] = []

    def server() -> PostgresqlServer:
        if not running:
            running.append(PostgresqlServer(postgresql_programs()))
        return running[0]

    yield server
    for started in running:
        started.close()


@pytest.fixture
def postgresql(postgresql_servers: Callable[[], PostgresqlServer]) -> PostgresqlServer:
    return postgresql_servers()


@pytest.fixture(params=KINDS)
def ledger_url(request: pytest.FixtureRequest) -> str:
    """An empty ledger as the configuration names it: SQLite and, in a second run of the same test, PostgreSQL."""
    if request.param == "embedded":
        return "embedded"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.url()


@pytest.fixture
def ledger(ledger_url: str, tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(ledger_url, tmp_path)
    yield opened
    opened.close()
