"""A real admin port over HTTP, with records in memory, a ledger in a folder, and a clock that a test sets."""

import re
from dataclasses import dataclass, field
from html import unescape
from itertools import count
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, DummyCookieJar, web
from rows import HOUR, row

from memory_stores import MemoryKeys, MemoryLimits
from proxy.configuration import Configuration
from proxy.dashboard.api import Surroundings
from proxy.dashboard.ledger_threads import LedgerThreads
from proxy.dashboard.operations import Desk
from proxy.dashboard.site import make_site
from proxy.dashboard.watching import Sample, Watching
from proxy.health import OwnMetrics, Reloaded, admin_application
from proxy.settings import Settings
from specimens import Clock, catalog

ADMIN_TOKEN = "the-operator-s-token"
BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
NOW_MS = HOUR + 1_800_000
SETTINGS = {
    "providers": {"one": {"base_url": "http://127.0.0.1:1/v1", "api_key": "sk-of-a-provider-0815"}},
    "plans": {"standard": {"requests_per_minute": 600, "budget": {"usd": "25.00", "per": "month"}}, "unlimited": {}},
    "default_plan": "standard",
}


@dataclass
class Reply:
    status: int
    headers: Any
    text: str
    document: Any = None

    @property
    def alert(self) -> str:
        found = re.search(r'role="alert">(.*?)</p>', self.text, re.DOTALL)
        return unescape(found[1]) if found else ""

    @property
    def words(self) -> str:
        """What a person reads: the text between the tags."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.text)).split())


@dataclass
class Bench:
    """The admin port, and whoever asks it."""

    base: str
    session: ClientSession
    records: MemoryKeys
    limits: MemoryLimits
    ledger: LedgerThreads
    clock: Clock
    monotonic: Clock
    samples: list[Sample]
    watching: Watching
    reloads: list[Reloaded]
    pages: set[tuple[str, str]]
    """Every route of the pages, by method and path."""
    cookie: str = ""
    form_word: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, **more: Any) -> Reply:
        async with self.session.request(method, self.base + path, allow_redirects=False, **more) as answer:
            text = (await answer.read()).decode(errors="replace")
            document = await answer.json() if answer.content_type == "application/json" else None
            return Reply(answer.status, answer.headers, text, document)

    async def api(self, method: str, path: str, token: str = ADMIN_TOKEN, **more: Any) -> Reply:
        """Ask the admin API."""
        return await self.ask(method, f"/admin/api{path}", headers={"Authorization": f"Bearer {token}"}, **more)

    async def sign_in(self, token: str = ADMIN_TOKEN) -> Reply:
        """Sign in as a browser does, and keep its cookie."""
        reply = await self.ask("POST", "/sign-in", data={"token": token})
        if reply.status == 303:
            self.cookie = reply.headers["Set-Cookie"].partition(";")[0]
            await self.page("/audit")
        return reply

    async def page(self, path: str, **headers: str) -> Reply:
        """Open a page, and keep the word of its forms."""
        reply = await self.ask("GET", path, headers={"Cookie": self.cookie, **headers})
        found = re.search(r'name="form_word" value="([0-9a-f]+)"', reply.text)
        self.form_word = found[1] if found else self.form_word
        return reply

    async def send(self, path: str, form: dict[str, Any] | None = None, **headers: str) -> Reply:
        """Send a form of a page."""
        data = [("form_word", self.form_word)]
        for name, value in (form or {}).items():
            data += [(name, one) for one in (value if isinstance(value, list) else [value])]
        return await self.ask("POST", path, data=data, headers={"Cookie": self.cookie, **headers})

    async def account(self, name: str = "acme") -> str:
        """Make an account."""
        assert (await self.api("POST", "/accounts", json={"account": name})).status == 201
        return name

    async def key(self, account: str = "acme", **asked: Any) -> dict[str, Any]:
        """Make a key."""
        made = await self.api("POST", f"/accounts/{account}/keys", json=asked)
        assert made.status == 201, made.text
        return made.document

    async def token(self, account: str = "acme", **asked: Any) -> str:
        """Make a dashboard token."""
        made = await self.api("POST", f"/accounts/{account}/tokens", json=asked)
        assert made.status == 201, made.text
        return made.document["token"]

    async def rows(self, *records: Any) -> None:
        """Put rows into the ledger."""
        await self.ledger.use(lambda ledger: ledger.insert(list(records)))


def configuration() -> Configuration:
    return Configuration(Settings.model_validate(SETTINGS), catalog(), (Path("gateway.yaml"), Path("catalog.yaml")))


async def start_bench(
    folder: Path, reasons: list[str], api_url: str = "http://127.0.0.1:1/v1"
) -> tuple[Bench, web.AppRunner]:
    records, limits, clock, monotonic = MemoryKeys(), MemoryLimits(), Clock(NOW_MS / 1_000), Clock()
    ledger = LedgerThreads("embedded", folder)
    numbers = count(1)

    def random(size: int) -> bytes:
        return next(numbers).to_bytes(4, "big") * (size // 4) + b"\7" * (size % 4)

    inside = configuration()
    samples: list[Sample] = []
    reloads: list[Reloaded] = []
    desk = Desk(records, limits, ledger, lambda: inside, clock, random)

    def readiness() -> tuple[bool, list[str]]:
        return not reasons, reasons

    surroundings = Surroundings(
        readiness, f"unix://{folder}/nowhere.sock", api_url, lambda: reloads[-1] if reloads else None
    )
    application = admin_application(OwnMetrics("1.2.3"), folder, readiness)
    site = make_site(desk, ADMIN_TOKEN, monotonic, surroundings, lambda: list(samples))
    site.add_to(application)
    pages = {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.method != "HEAD" and not route.resource.canonical.startswith(("/admin/api", "/static"))
    } - {("GET", path) for path in ("/healthz", "/readyz", "/metrics")}
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    session = ClientSession(cookie_jar=DummyCookieJar())
    watching = site.frame.watching
    bench = Bench(base, session, records, limits, ledger, clock, monotonic, samples, watching, reloads, pages)
    return bench, runner


__all__ = ["ADMIN_TOKEN", "BEARER", "NOW_MS", "Bench", "Reply", "configuration", "row", "start_bench"]
