"""A gateway with short deadlines before a provider of raw sockets, and what is left of a request when it is over.

The provider's every byte is the test's (`scripted_provider.py`); here is only where the two meet, and how the traces
of a request are looked up: its log line, its row in the ledger, its holds.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_process import Gateway, Key, eventually
from raw_client import Answer
from scripted_provider import Exchange, ScriptedProvider

PROVIDER_KEY = "prov-canary-5150"
OPERATOR_HEADER = "operator-canary-1984"
HOST = "127.1"
"""Where the provider is, in a spelling that nothing else here has; a name, as far as its addresses are judged."""
PATH = "canary-path"
CONFIG = """\
server: {{listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0"}}
catalog: catalog.yaml
store_timeout: 1s
failover: {{{failover}}}
providers:
{providers}"""
ENTRY = """\
  - {{id: {model}, name: A model, date: "2025-01-02", context_length: 8192, max_completion_tokens: 1024,
     pricing: {{prompt: "0.0000008", completion: "0.0000016"}}, routes: [{routes}]}}
"""
OWN = (
    'base_url: "{url}", allow_private: true, api_key: "${PROVIDER_KEY}", headers: {X-Own: "${OPERATOR_HEADER}"}, '
    "connect_timeout: 500ms, first_byte_timeout: 400ms, idle_timeout: 400ms"
)


def gateway_file(providers: str, failover: str = "") -> str:
    """Write a `gateway.yaml` with these lines of providers."""
    return CONFIG.format(providers=providers, failover=failover)


Script = Callable[[Exchange], object]


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
        self._key: Key | None = None

    @property
    def canaries(self) -> tuple[bytes, ...]:
        """What nobody but the provider itself may ever see."""
        texts = PROVIDER_KEY, OPERATOR_HEADER, HOST, f":{self.provider.port}", PATH
        return tuple(text.encode() for text in texts)

    def ask(self, model: str = "same", **more: object) -> Answer:
        """Ask by a key with a limit of tokens, so that something is held; the answer holds no canary."""
        if self._key is None:
            self._key = self.gateway.new_key(tokens_per_day=10**12)
        answer = self._key.ask(model, **more)
        seen = answer.body + repr(answer.headers).encode()
        assert not [canary for canary in self.canaries if canary in seen], seen
        return answer

    def traces(self, request_id: str, *, row: bool = True) -> Traces:
        """What a request left, once it is settled: a row in the ledger or none, and nothing held."""
        assert self._key is not None
        use = self._key.settled()
        assert (use.in_flight, use.held_nusd) == (0, 0)
        line = self.gateway.request_line(request_id)
        if row:
            assert eventually(lambda: self._rows(request_id)), f"no row in the ledger: {line}"
        rows = self._rows(request_id)
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
    """Run a gateway; `providers` are their settings (`{url}` is where the scripts are), `models` their routes. In the
    end it stops in order, and no canary is in its log or its metrics.
    """
    scripted = ScriptedProvider()
    urls = {name: scripted.url(f"{PATH}-{name}").replace("127.0.0.1", HOST) for name in providers}
    lines = "".join(f"  {name}: {{{settings.replace('{url}', urls[name])}}}\n" for name, settings in providers.items())
    catalog = "models:\n" + "".join(
        ENTRY.format(model=model, routes=", ".join(f"{{{route}}}" for route in routes))
        for model, routes in models.items()
    )
    keys = {"PROVIDER_KEY": PROVIDER_KEY, "OPERATOR_HEADER": OPERATOR_HEADER}
    gateway = Gateway(folder, gateway_file(lines, failover), catalog, keys)
    try:
        gateway.start()
        faulty = Faulty(gateway, scripted)
        yield faulty
        page = gateway.admin_page("/metrics")[1]
        assert gateway.stop() == 0, gateway.log.read_text()[-4000:]
        log = gateway.log.read_bytes()
        assert b"Traceback" not in log, log[-4000:]
        assert not [line for line in gateway.lines() if line["event"] == "bug"]
        scripted.reset()
        assert not gateway.leaks(*scripted.told)
        for canary in faulty.canaries:
            assert canary not in page
            assert canary not in log, log[log.index(canary) - 300 :][:400]
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.stop()
        scripted.close()


def on(faulty: Faulty, name: str, *scripts: Script) -> None:
    """Let a provider go by these scripts, as `ScriptedProvider.on` does."""
    faulty.provider.on(f"{PATH}-{name}", *scripts)


def asked(faulty: Faulty, name: str) -> int:
    """How many requests a provider has got."""
    return len(faulty.provider.asked(f"{PATH}-{name}"))


def sending(*pieces: bytes, then: str = "keep") -> Script:
    """Say exactly this, and keep the connection for what comes on it, or close it, or reset it."""

    def script(exchange: Exchange) -> None:
        for piece in pieces:
            exchange.send(piece)
        if then != "keep":
            {"close": exchange.close, "reset": exchange.reset}[then]()

    return script


def http(body: bytes, *lines: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """An answer with its length."""
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", *lines]
    head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n", lines: str = "") -> bytes:
    """An answer in chunks; without its `end` it is cut off."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{lines}\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end
