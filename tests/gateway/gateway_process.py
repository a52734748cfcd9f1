"""The gateway as an operator runs it: a process with its files, its log, its admin port, and its commands."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families
from raw_client import Answer, RawClient, chat
from scripted_provider import PATIENCE

from proxy.accounts import Account, ApiKey, digest_of_key, hint_of_key, mint_key
from proxy.limits import AccountUse, Limits
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import connect_store
from proxy.stores.store import Store

ROOT = Path(__file__).parents[2]
_T = TypeVar("_T")
_names = count(1)


def eventually(is_so: Callable[[], object], within: float = PATIENCE) -> bool:
    """Whether it comes true within so many seconds; it is asked again and again until then."""
    deadline = time.monotonic() + within
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Key:
    """A key and the account that it belongs to."""

    def __init__(self, gateway: "Gateway", account: str, key_id: str, secret: str) -> None:
        self._gateway = gateway
        self.account = account
        self.key_id = key_id
        self.secret = secret

    def ask(self, model: str = "same", content: str = "Hi.", **more: object) -> Answer:
        """Send one chat request on a connection of its own and read the whole answer."""
        with self._gateway.client() as client:
            return client.ask(chat(self.secret, model, content, **more))

    def use(self, **limits: int) -> AccountUse:
        """What the store says of the account's use of such limits."""

        async def work(store: Store) -> AccountUse:
            return await RedisLimits(store).use(self.account, Limits(**limits))

        return self._gateway.in_store(work)

    def settled(self) -> AccountUse:
        """The use once nothing is in flight any more."""
        assert eventually(lambda: self.use().in_flight == 0), "a request was never settled"
        return self.use()

    def change(self, *, disabled: bool = False, **overrides: int | str) -> None:
        """Change the account as the commands do."""

        async def work(store: Store) -> None:
            keys = RedisKeys(store)
            account = await keys.account(self.account)
            assert account is not None
            changed = Account(account.name, account.plan, disabled, account.version, account.created_ms, overrides)
            assert await keys.change_account(changed) is not None

        self._gateway.in_store(work)


class Gateway:
    """One gateway: a folder with its files, and the process while it runs."""

    def __init__(self, folder: Path, config: str, catalog: str, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.config = folder / "gateway.yaml"
        self.config.write_text(config, "utf-8")
        self.catalog = folder / "catalog.yaml"
        self.catalog.write_text(catalog, "utf-8")
        self.data_dir = folder / "data"
        self.store_url = f"unix://{self.data_dir / 'store.sock'}"
        """Where the tests find its store: by default the embedded one."""
        self.log = folder / "log"
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("AION_")}
        self.environ |= {
            "AION_PROXY_DATA_DIR": str(self.data_dir),
            "AION_PROXY_SERVER__STOP_DELAY": "0s",
            **(environ or {}),
        }
        self.secrets: list[str] = []
        """Every key that was issued for it."""
        self.process: subprocess.Popen[bytes] | None = None
        self.api = self.admin = 0

    def start(self, *arguments: str) -> None:
        """Start it and return when it listens."""
        begin = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-m", "proxy", "serve", "--config", str(self.config), *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environ, stdout=log, stderr=log)
        listening = self.wait_logged("listening", after=begin)
        self.api, self.admin = (int(listening[name].rpartition(":")[2]) for name in ("api", "admin"))

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end of the process; returns its exit code."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """Stop it in order; returns its exit code."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                return self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        return self.ended()

    def client(self, receive_buffer: int | None = None) -> RawClient:
        return RawClient(self.api, receive_buffer)

    def leaks(self, *credentials: str) -> list[str]:
        """The files it wrote, its log among them, that hold one of these texts or of the keys issued for it."""
        places = [self.log, *self.data_dir.rglob("*")]
        secrets = [secret.encode(errors="surrogatepass") for secret in (*credentials, *self.secrets)]
        found = [(place, _held(place.read_bytes(), secrets)) for place in places if place.is_file()]
        return [f"{place}: {secret!r}" for place, secret in found if secret is not None]

    # what it says

    def lines(self, after: int = 0) -> list[dict[str, Any]]:
        """Every whole line of its log."""
        text = self.log.read_bytes()[after:]
        return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines() if line.startswith(b"{")]

    def wait_logged(self, event: str, after: int = 0, **facts: object) -> dict[str, Any]:
        """The first line with this event and these facts, once it is there."""

        def found() -> dict[str, Any] | None:
            lines = (line for line in self.lines(after) if line["event"] == event and facts.items() <= line.items())
            return next(lines, None)

        def there() -> bool:
            ended = self.process is None or self.process.poll() is not None
            there = found() is not None
            assert there or not ended, f"the gateway ended:\n{self.log.read_text()[-4000:]}"
            return there

        assert eventually(there), f"never logged: {event} {facts}\n{self.log.read_text()[-4000:]}"
        line = found()
        assert line is not None
        return line

    def request_line(self, request_id: str) -> dict[str, Any]:
        """The one line that a request leaves."""
        self.wait_logged("request", request_id=request_id)
        (line,) = [line for line in self.lines() if line["event"] == "request" and line["request_id"] == request_id]
        return line

    def lines_of(self, key: Key) -> list[dict[str, Any]]:
        """The lines of all requests of an account."""
        return [line for line in self.lines() if line["event"] == "request" and line.get("account") == key.account]

    def only_line_of(self, key: Key) -> dict[str, Any]:
        """The line of the one request that an account made."""
        self.wait_logged("request", account=key.account)
        (line,) = self.lines_of(key)
        return line

    def admin_page(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ready(self) -> bool:
        return self.admin_page("/readyz")[0] == 200

    def metric(self, name: str, **labels: str) -> Decimal:
        """The sum of a metric's samples that carry these labels."""
        page = self.admin_page("/metrics")[1].decode()
        return sum(
            (
                Decimal(str(sample.value))
                for family in text_string_to_metric_families(page)
                for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            ),
            Decimal(0),
        )

    # what its operator does

    def command(self, *arguments: str) -> dict[str, Any]:
        """The document of one `aion-proxy` command."""
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *arguments, "--config", str(self.config), "--json"],
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr.decode()}"
        return json.loads(done.stdout)

    def in_store(self, work: Callable[[Store], Awaitable[_T]]) -> _T:
        """Do something in the gateway's store, over a connection of the test's own."""

        async def connected() -> _T:
            async with connect_store(self.store_url, call_timeout=PATIENCE) as store:
                return await work(store)

        with ThreadPoolExecutor(1) as pool:  # a test may have a loop of its own in its thread
            return pool.submit(asyncio.run, connected()).result(PATIENCE)

    def new_key(
        self, *, account: str | None = None, models: frozenset[str] | None = None, expires_ms: int | None = None,
        plan: str | None = None, **overrides: int | str,
    ) -> Key:  # fmt: skip
        """A key of an account that nobody has used, with limits of its own; or one more key of an account."""
        name = account or f"account_{next(_names)}"
        secret = mint_key(name, os.urandom(32))
        now_ms = int(time.time() * 1000)
        key_id = f"key_{digest_of_key(secret)[:12]}"
        record = ApiKey(key_id, name, "test", hint_of_key(secret, name), now_ms, expires_ms, models=models)

        async def work(store: Store) -> None:
            keys = RedisKeys(store)
            if account is None:
                assert await keys.create_account(Account(name, plan, disabled=False, version=1, created_ms=now_ms,
                                                         overrides=overrides))  # fmt: skip
            await keys.create_key(record, digest_of_key(secret))

        self.in_store(work)
        self.secrets.append(secret)
        return Key(self, name, key_id, secret)

    # its processes

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        assert self.process is not None
        return [pid for pid in children(self.process.pid) if b"proxy.worker" in command_line(pid)]

    def miss(self, client: RawClient) -> None:
        """Close a client's connection, and wait until the gateway has closed its own end too: it knows by then."""
        its_end = f"socket:[{socket_between(self.api, client.sock.getsockname()[1])}]"
        client.sock.close()
        assert eventually(lambda: not any(its_end in opened_by(pid) for pid in self.workers()))


def _held(data: bytes, secrets: list[bytes]) -> bytes | None:
    return next((secret for secret in secrets if secret in data), None)


def children(pid: int) -> list[int]:
    """The living processes that this one started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [int(child) for child in found]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def socket_between(port: int, other: int) -> int:
    """The number (inode) of the socket at a local port of this machine that is connected to another one."""
    rows = (row.split() for row in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:])
    ends = (f"0100007F:{port:04X}", f"0100007F:{other:04X}")
    return next(int(row[9]) for row in rows if (row[1], row[2]) == ends)


def opened_by(pid: int) -> list[str]:
    """What a process holds open, as the system names it."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.append(str(descriptor.readlink()))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
