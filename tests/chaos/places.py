"""What a chaos run runs: a Redis, a PostgreSQL, and two gateways that share both; they are killed and started again.

Every program is started here, in a session of its own, on a free port of the loopback, and is stopped by its id.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plan import ACCOUNTS, TIGHT_ACCOUNT, Route
from verdict import COMPLETION_PRICE, PROMPT_PRICE

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
TIGHT_BUDGET_USD = "0.02"

GATEWAY_YAML = """\
server: {{listen: "127.0.0.1:{api}", admin_listen: "127.0.0.1:{admin}", workers: {workers}, stop_delay: 0s}}
store: redis://127.0.0.1:{redis}
ledger: {ledger}
data_dir: {data}
catalog: {catalog}
providers:
  cancels: {{base_url: "http://127.0.0.1:{oracle}/v1", on_disconnect: cancel}}
  drains: {{base_url: "http://127.0.0.1:{oracle}/v1", on_disconnect: drain}}
  refusing: {{base_url: "http://127.0.0.1:{oracle}/refusing/v1"}}
plans:
  chaos: {{budget: {{usd: "1000000", per: total}}, concurrent_requests: 100000, tokens_per_day: 1000000000000}}
  tight: {{budget: {{usd: "{tight}", per: total}}}}
default_plan: chaos
"""

CATALOG_ENTRY = """\
  - id: chaos/{route}
    name: "Chaos"
    description: "A model of the chaos run."
    date: "2025-01-01"
    context_length: 4096
    max_completion_tokens: 1024
    is_moderated: false
    architecture: {{modality: "text->text"}}
    pricing: {{prompt: "{prompt}", completion: "{completion}"}}
    routes: [{routes}]
"""

ROUTES: Mapping[Route, str] = {
    Route.CANCELS: "{provider: cancels, model: m}",
    Route.DRAINS: "{provider: drains, model: m}",
    Route.FAILS_OVER: "{provider: refusing, model: m}, {provider: cancels, model: m, weight: 0}",
}


class ChaosError(Exception):
    """The run cannot go on; the text says why."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Program:
    """One program that may be killed and started again."""

    def __init__(self, name: str, command: Sequence[str], port: int, log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.port = port
        self.kills = 0
        self._command = command
        self._log = log
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again and again until it listens: what was killed may hold its port for a moment longer."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", *self._command],
                    cwd=ROOT,
                    env=dict(self._env),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            while self._process.poll() is None and time.monotonic() < deadline:
                if listens(self.port):
                    return
                time.sleep(0.02)
            time.sleep(0.1)
        raise ChaosError(f"{self.name} does not start; its log ends:\n{self.log()[-3000:]}")

    def kill(self, *, whole: bool = True) -> None:
        """Kill it with SIGKILL: all its processes, or the first alone."""
        assert self._process is not None
        self.kills += 1
        if whole:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to its first process."""
        assert self._process is not None
        self._process.send_signal(number)

    def processes(self) -> list[int]:
        """Its first process and those that one started."""
        assert self._process is not None
        return [self._process.pid, *self.children()]

    def children(self) -> list[int]:
        """The processes that its first one started."""
        assert self._process is not None
        pid = self._process.pid
        with contextlib.suppress(OSError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
        return []

    def stop(self) -> int:
        """End it in order; returns its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def log(self) -> str:
        """What it has said."""
        return self._log.read_text("utf-8", errors="replace")


class Place:
    """The programs of one run, and the commands of their operator."""

    def __init__(self, folder: Path, oracle_port: int, workers: int) -> None:
        self._folder = folder
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("AION_")}
        redis, database, *ports = free_ports(6)
        self.redis = self._redis(redis)
        self.database = self._database(database)
        self.catalog = folder / "catalog.yaml"
        entries = (
            CATALOG_ENTRY.format(route=route, prompt=PROMPT_PRICE, completion=COMPLETION_PRICE, routes=routes)
            for route, routes in ROUTES.items()
        )
        self.catalog.write_text("models:\n" + "".join(entries), "utf-8")
        self._configs: list[Path] = []
        self.gateways = []
        self.admin_ports = [ports[1], ports[3]]
        for number, (api, admin) in enumerate(((ports[0], ports[1]), (ports[2], ports[3]))):
            config = folder / f"gateway{number}.yaml"
            config.write_text(
                GATEWAY_YAML.format(
                    api=api, admin=admin, workers=workers, redis=redis, oracle=oracle_port, tight=TIGHT_BUDGET_USD,
                    ledger=f"postgresql://chaos@127.0.0.1:{database}/postgres",
                    data=folder / f"data{number}", catalog=self.catalog,
                ),
                "utf-8",
            )  # fmt: skip
            self._configs.append(config)
            command = [sys.executable, "-m", "proxy", "serve", "--config", str(config)]
            self.gateways.append(Program(f"gateway {number}", command, api, folder / f"gateway{number}.log", self._env))

    def start(self) -> list[str]:
        """Start everything and make the accounts; returns a key of each."""
        for program in (self.redis, self.database, *self.gateways):
            program.start()
        keys = []
        for number in range(ACCOUNTS):
            name = account_name(number)
            self.command("accounts", "create", name, "--plan", "tight" if number == TIGHT_ACCOUNT else "chaos")
            keys.append(self.command("keys", "create", name)["key"])
        return keys

    def command(self, *arguments: str) -> Any:
        """The document of one `aion-proxy` command."""
        return json.loads(self.output(*arguments, "--json"))

    def output(self, *arguments: str) -> bytes:
        """What one `aion-proxy` command prints."""
        command = [sys.executable, "-m", "proxy", *arguments, "--config", str(self._configs[0])]
        done = subprocess.run(
            command, cwd=ROOT, env=self._env, capture_output=True, timeout=PATIENCE * 5, check=False
        )  # fmt: skip
        if done.returncode:
            raise ChaosError(f"{' '.join(arguments)}: {done.stderr.decode()}{done.stdout.decode()}")
        return done.stdout

    def rows(self) -> list[dict[str, Any]]:
        """Every row of the ledger."""
        found = [json.loads(line) for line in self.output("ledger", "export", "--format", "jsonl").splitlines()]
        for row in found:
            if isinstance(row["metadata"], str):
                row["metadata"] = json.loads(row["metadata"])
        return found

    def wait_for_ledger(self) -> None:
        """Wait until a database that was killed serves again: it listens before it has recovered."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.command("usage")
            except ChaosError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
            else:
                return

    def flush_scripts(self) -> None:
        """Make Redis forget its scripts."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.redis.port), 1) as line:
            line.sendall(b"SCRIPT FLUSH\r\n")
            line.recv(64)

    def stop(self) -> list[int]:
        """End everything; returns the exit codes of the gateways."""
        codes = [gateway.stop() for gateway in self.gateways]
        self.redis.stop()
        self.database.stop()
        return codes

    def _redis(self, port: int) -> Program:
        folder = self._folder / "redis"
        folder.mkdir()
        server = shutil.which("redis-server")
        if not server:
            raise ChaosError("redis-server is not on the PATH: apt-get install redis-server")
        command = [
            *(server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
        ]
        return Program("redis", command, port, self._folder / "redis.log", self._env)

    def _database(self, port: int) -> Program:
        folder = self._folder / "postgresql"
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not programs:
            raise ChaosError("PostgreSQL is missing: apt-get install postgresql")
        binaries = programs[-1].parent
        folder.mkdir(mode=0o700)
        as_user: list[str] = []
        if os.geteuid() == 0:  # its programs refuse to run as root
            shutil.chown(folder, "postgres", "postgres")
            for parent in (self._folder, *self._folder.parents):
                if parent.stat().st_uid == 0 and parent != Path("/") and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        made = subprocess.run(
            [*as_user, str(binaries / "initdb"), "--pgdata", str(folder), "--username", "chaos", "--auth", "trust"],
            cwd=folder, capture_output=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise ChaosError(f"initdb: {made.stderr.decode()}")
        command = [
            *(*as_user, str(binaries / "postgres"), "-D", str(folder), "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"),
        ]
        return Program("postgresql", command, port, self._folder / "postgresql.log", self._env)


def account_name(number: int) -> str:
    """The name of an account of the run."""
    return f"chaos_{number}"
