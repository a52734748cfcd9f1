"""How long the dashboard's pages take with a million rows in the ledger: real time at a gateway that does nothing else.

The rows are of two hundred accounts of very different size, twelve models and the last thirty days. They are made once
for a run, which takes a minute or two.
"""

import http.client
import itertools
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from msgspec.structs import replace
from processes import BenchError
from servers import CATALOG_YAML, GATEWAY_YAML, Site, free_ports, wait_listening

from ledger import row
from proxy.ledger.database import Ledger

ROWS: Final = 1_000_000
QUICK_ROWS: Final = 50_000
TARGET_MS: Final = 200.0
_TOKEN: Final = "admin-token-of-the-benchmark"
_ACCOUNTS: Final = 200
_MODELS: Final = 12
_AT_ONCE: Final = 5_000
_DAYS_MS: Final = 30 * 86_400_000
_TURNS: Final = 7
_OK: Final = 200
_SEE_OTHER: Final = 303
PAGES: Final = {
    "overview-hour": ("the overview of an hour", "/?window=hour"),
    "overview-day": ("the overview of a day", "/?window=day"),
    "overview-month": ("the overview of a month", "/?window=month"),
    "accounts": (f"{_ACCOUNTS} accounts with their limits", "/accounts"),
    "usage": ("the latest requests", "/usage"),
    "usage-account": ("those of the largest account", "/usage?account=account_0"),
    "usage-key": ("those of a key of a small one", "/usage?key_id=key_199"),
    "usage-rare": ("those of a model and an ending that is rare", "/usage?model=m%2F11&ending=upstream_error"),
    "usage-old": ("a page from the middle of the month", "/usage?until=15d"),
    "limits": ("limits", "/limits"),
    "models": ("models", "/models"),
    "audit": ("the audit log", "/audit"),
}


def fill(data_dir: Path, rows: int, now_ms: int) -> None:
    """Make the ledger."""
    drawn = random.Random(1)
    shares = [1 / (number + 1) for number in range(_ACCOUNTS)]
    accounts = drawn.choices(range(_ACCOUNTS), shares, k=rows)
    data_dir.mkdir(parents=True)
    ledger = Ledger.open("embedded", data_dir)
    for first in range(0, rows, _AT_ONCE):
        ledger.insert(
            [
                replace(
                    row(number),
                    account=f"account_{accounts[number]}",
                    key_id=f"key_{accounts[number]}",
                    model=f"m/{(accounts[number] + number % 4) % _MODELS}",
                    ending="upstream_error" if number % 997 == 0 else "complete",
                    started_at=now_ms - _DAYS_MS + number * _DAYS_MS // rows,
                )
                for number in range(first, min(rows, first + _AT_ONCE))
            ]
        )
    ledger.close()


class Visitor:
    """Somebody who is signed in, over one connection."""

    def __init__(self, port: int) -> None:
        """Sign in."""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", "/sign-in", urlencode({"token": _TOKEN}), form)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != _SEE_OTHER:
            raise BenchError(f"the dashboard does not let the benchmark in: {answer.status}")
        self._cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]

    def make_account(self, name: str) -> None:
        """Make an account over the admin API."""
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        self._connection.request("POST", "/admin/api/accounts", f'{{"account": "{name}"}}', headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != http.HTTPStatus.CREATED:
            raise BenchError(f"no account could be made: {said.decode()}")

    def time_page(self, path: str) -> float:
        """Milliseconds from the request to the end of the page."""
        begin = time.perf_counter()
        self._connection.request("GET", path, headers={"Cookie": self._cookie})
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != _OK:
            raise BenchError(f"{path} answered {answer.status}")
        return (time.perf_counter() - begin) * 1e3


def start(site: Site, data_dir: Path) -> int:
    """Start a gateway on that ledger; returns its admin port."""
    port, admin_port, upstream = free_ports(3)
    home = data_dir.parent
    config = home / "gateway.yaml"
    config.write_text(GATEWAY_YAML.format(port=port, admin_port=admin_port, data=data_dir, upstream=upstream))
    (home / "catalog.yaml").write_text(CATALOG_YAML)
    environment = site.environment() | {"AION_PROXY_ADMIN_TOKEN": _TOKEN}
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(config)]
    with (home / "gateway.log").open("wb") as log:
        child = site.children.start(command, core=site.cores.measured, log=log, cwd=home, env=environment)
    wait_listening(admin_port, child, home / "gateway.log")
    return admin_port


def measure(site: Site, rounds: int, progress: Callable[[str], None], *, quick: bool) -> dict[str, list[float]]:
    """The median of some turns of each page in milliseconds, by round."""
    home, rows = site.folder / "pages", QUICK_ROWS if quick else ROWS
    progress(f"pages: making a ledger of {rows:,} rows")
    fill(home / "data", rows, time.time_ns() // 1_000_000)
    visitor = Visitor(start(site, home / "data"))
    for number in range(_ACCOUNTS):
        visitor.make_account(f"account_{number}")
    found: dict[str, list[float]] = {}
    for _, (name, (_, path)) in itertools.product(range(rounds), PAGES.items()):
        visitor.time_page(path)
        taken = sorted(visitor.time_page(path) for _ in range(_TURNS))
        found.setdefault(name, []).append(taken[_TURNS // 2])
    return found
