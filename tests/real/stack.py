"""A model server and a gateway as processes, and a look at what both of them counted; the fixtures start them."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec
import openai
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
RENAMED = "local/smollm2"
"""The catalog's second name for the model: not the one that the server knows, so that every piece has to be changed."""

PRICES = {"prompt": "0.0000008", "completion": "0.0000016", "input_cache_read": "0.0000002"}
PATIENCE = 60.0
"""Seconds that anything may take to start or to be counted, on a busy machine; nothing waits longer than it has to."""


def free_ports(number: int) -> list[int]:
    """Ports that were free a moment ago; all are held while the others are chosen."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


def get(port: int, path: str) -> bytes:
    """The body of a 200 answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, f"GET {path}: {answer.status} {body[:500]!r}"
        return body
    finally:
        connection.close()


def eventually(is_so: Callable[[], object], within: float = PATIENCE) -> bool:
    """Whether it comes true within so many seconds; it is asked again and again until then."""
    deadline = time.monotonic() + within
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def running(arguments: list[str], log: Path, **more: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to `log` and is ended with SIGTERM, after half a minute with SIGKILL."""
    with log.open("ab") as output:
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=output, stderr=output, **more)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def samples(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], Decimal]:
    """Every sample of a metrics page."""
    families = text_string_to_metric_families(get(port, "/metrics").decode())
    return {
        (sample.name, frozenset(sample.labels.items())): Decimal(str(sample.value))
        for family in families
        for sample in family.samples
    }


@dataclass(frozen=True)
class ModelServer:
    """llama.cpp's server, and what it says of itself."""

    port: int

    def busy_slots(self) -> int:
        """How many of its slots work on a request at this moment."""
        return sum(slot["is_processing"] for slot in msgspec.json.decode(get(self.port, "/slots")))

    def counted(self) -> dict[str, int]:
        """The tokens it has seen and made since it started, by its own counters."""
        page = {name: int(value) for (name, _), value in samples(self.port).items()}
        cached = page["llamacpp:prompt_tokens_cached_total"]
        return {
            "prompt": page["llamacpp:prompt_tokens_total"] + cached,
            "cached": cached,
            "completion": page["llamacpp:tokens_predicted_total"],
        }


@dataclass(frozen=True)
class Gateway:
    """A running gateway and the configuration it was started with."""

    port: int
    admin_port: int
    config: Path
    names: Iterator[str]

    def run(self, *arguments: str) -> dict[str, object]:
        """The JSON document of a command of `aion-proxy`."""
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *arguments, "--config", str(self.config), "--json"],
            cwd=ROOT,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr.decode()}"
        return msgspec.json.decode(done.stdout)

    def new_account(self) -> "Account":
        """An account that nothing has been metered for, with a key."""
        name = next(self.names)
        self.run("accounts", "create", name)
        return Account(self, name, self.run("keys", "create", name)["key"])

    def total(self, family: str, **labels: str) -> Decimal:
        """The sum of a family's samples that carry these labels."""
        wanted = labels.items()
        return sum(
            (value for (name, told), value in samples(self.admin_port).items() if name == family and wanted <= told),
            Decimal(0),
        )


@dataclass(frozen=True)
class Account:
    """One account, its key, and what the metrics page says of it."""

    gateway: Gateway
    name: str
    key: str

    def client(self, **more: object) -> openai.OpenAI:
        """The official library, which never tries twice here."""
        url = f"http://127.0.0.1:{self.gateway.port}/v1"
        return openai.OpenAI(base_url=url, api_key=self.key, max_retries=0, timeout=PATIENCE, **more)

    def metered(self) -> dict[str, int]:
        """The tokens metered for this account, by kind."""
        kinds = ("prompt", "cached", "completion")
        return {kind: int(self.gateway.total("aion_tokens_total", account=self.name, kind=kind)) for kind in kinds}

    def cost_pusd(self) -> int:
        """The cost charged to this account, in pico-dollars."""
        return round(self.gateway.total("aion_cost_usd_total", account=self.name) * 10**12)
