"""Chromium, and gateways for it to visit: one with everything embedded, one on Redis and PostgreSQL.

Each is started once, when the first test asks for it; tests keep apart by accounts of their own. A browser that has
anything to complain of fails the test that made it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from installation import Backends, Installation, make_gateway, obliging
from playwright.sync_api import Browser, Playwright, expect, sync_playwright
from scripted_provider import ScriptedProvider
from visitor import PATIENCE_MS, Visitor, chromium_program, launch

from tests.conftest import debian_redis, missing
from tests.ledger.conftest import postgresql_programs
from tests.ledger.postgresql_server import PostgresqlServer
from tests.stores.redis_servers import single

KINDS = ("embedded", "redis-and-postgresql")


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """The machine's Chromium; its absence skips the test, visibly, and fails it in CI."""
    browser = launch(playwright, chromium_program() or missing("Chromium", "chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def provider() -> Iterator[ScriptedProvider]:
    provider = ScriptedProvider()
    provider.on("main", obliging)
    yield provider
    provider.close()


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Backends]]:
    """The store and the ledger of a kind, started where they are not the gateway's own."""
    with ExitStack() as running:

        def start(kind: str) -> Backends:
            if kind == "embedded":
                return Backends()
            redis = running.enter_context(single(debian_redis(), tmp_path_factory.mktemp("redis")))
            postgresql = PostgresqlServer(postgresql_programs())
            running.callback(postgresql.close)
            return Backends(f"redis://127.0.0.1:{redis.port}", postgresql.url())

        yield start


@pytest.fixture(scope="session")
def installations(
    provider: ScriptedProvider,
    backends: Callable[[str], Backends],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Installation]]:
    """A running gateway of each kind, for the whole run."""
    running: dict[str, Installation] = {}

    def installation(kind: str) -> Installation:
        if kind not in running:
            gateway = make_gateway(tmp_path_factory.mktemp(kind), provider.url("main"), backends(kind))
            running[kind] = Installation(gateway)
            running[kind].gateway.start()
        return running[kind]

    yield installation
    for kind, one in running.items():
        assert one.gateway.stop() == 0, f"{kind}: it did not stop in order:\n{one.gateway.log.read_text()[-4000:]}"
        assert "Traceback" not in one.gateway.log.read_text(), one.gateway.log.read_text()[-8000:]


@pytest.fixture
def installation(installations: Callable[[str], Installation]) -> Installation:
    """A gateway with everything embedded, for tests to which store and ledger make no difference."""
    return installations("embedded")


@pytest.fixture(params=KINDS)
def each_installation(request: pytest.FixtureRequest, installations: Callable[[str], Installation]) -> Installation:
    """A gateway of each kind, one after the other."""
    return installations(request.param)


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Visitor]]:
    """Open a browser profile of one's own; whatever it complained of by the end of the test fails it."""
    open_now: list[Visitor] = []

    def visit(installation: Installation, **options: object) -> Visitor:
        open_now.append(Visitor(chromium, installation, **options))
        return open_now[-1]

    yield visit
    troubles = [trouble for visitor in open_now for trouble in visitor.troubles]
    for visitor in open_now:
        visitor.context.close()
    assert not troubles, troubles
