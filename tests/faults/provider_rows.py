"""A gateway with short deadlines before a provider of raw sockets, and what is left of a request when it is over.

The provider's every byte is the test's (`scripted_provider.py`); here is only where the two meet, and how the traces
of a request are looked up: its log line, its row in the ledger, its holds.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_process import Gateway, Key, eventually
from scripted_provider import ScriptedProvider

PROVIDER_KEY = "prov-canary-5150"
OPERATOR_HEADER = "operator-canary-1984"
CONFIG = """\
server: {{listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0", workers: 1}}
catalog: catalog.yaml
store_timeout: 1s
providers:
{providers}"""
ENTRY = """\
  - {{id: {model}, name: A model, date: "2025-01-02", context_length: 8192, max_completion_tokens: 1024,
     pricing: {{prompt: "0.0000008", completion: "0.0000016"}}, routes: [{routes}]}}
"""


@dataclass(frozen=True)
class Traces:
    """What a request left behind."""

    ending: str
    attempts: int
    row: dict[str, Any] | None
    """Its row in the ledger, if it has one."""


class Faulty:
    """A gateway and the provider that fails it."""

    def __init__(self, gateway: Gateway, provider: ScriptedProvider) -> None:
        self.gateway = gateway
        self.provider = provider

    def key(self) -> Key:
        return self.gateway.new_key(tokens_per_day=10**9)

    def traces(self, key: Key, request_id: str) -> Traces:
        """What the one request of an account left, once it is settled; nothing of it is held any more."""
        use = key.settled()
        assert (use.in_flight, use.held_nusd) == (0, 0)
        line = self.gateway.request_line(request_id)
        reached = line["usage_source"] != "none" or line["attempts"] > 0
        rows = self._rows(request_id)
        if reached and line["ending"] != "refused":
            eventually(lambda: self.gateway.metric("aion_ledger_lag_seconds") == 0)
            rows = self._rows(request_id)
        assert len(rows) <= 1
        return Traces(line["ending"], line["attempts"], rows[0] if rows else None)

    def _rows(self, request_id: str) -> list[dict[str, Any]]:
        file = self.gateway.data_dir / "ledger.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute("SELECT * FROM usage WHERE request_id = ?", (request_id,))
            return [dict(row) for row in found]


@contextlib.contextmanager
def faulty_gateway(
    folder: Path, providers: dict[str, str], models: dict[str, list[str]], failover: str = ""
) -> Iterator[Faulty]:
    """Run a gateway; `providers` are their settings (`{url}` is where the scripts are), `models` their routes."""
    scripted = ScriptedProvider()
    lines = "".join(
        f"  {name}: {{{settings.replace('{url}', scripted.url(name))}}}\n" for name, settings in providers.items()
    )
    catalog = "models:\n" + "".join(
        ENTRY.format(model=model, routes=", ".join(f"{{{route}}}" for route in routes))
        for model, routes in models.items()
    )
    keys = {"PROVIDER_KEY": PROVIDER_KEY, "OPERATOR_HEADER": OPERATOR_HEADER}
    gateway = Gateway(folder, CONFIG.format(providers=lines, failover=failover), catalog, keys)
    try:
        gateway.start()
        yield Faulty(gateway, scripted)
        log = gateway.log.read_text()
        assert gateway.stop() == 0, log[-4000:]
        assert "Traceback" not in log, log[-4000:]
        assert not [line for line in gateway.lines() if line["event"] == "bug"]
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.stop()
        scripted.close()
