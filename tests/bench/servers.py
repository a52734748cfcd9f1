"""What stands side by side in a run: the mock upstream, nginx and the gateway, each with its configuration.

The configuration is part of what the figures claim, so it stands here in full: both proxies check a key, keep
connections alive and pass streams on unbuffered; the gateway also has every limit of a plan on, and logs to a file.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from processes import BenchError, Children, own_pids

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODEL = "bench/mock"
REWRITTEN = "bench/rewritten"
"""The same model behind a provider whose every event is parsed and written anew."""
ANSWERS_WITHIN_S = 30.0
COMMAND_WITHIN_S = 30.0

GATEWAY_YAML = """\
server: {{listen: "127.0.0.1:{port}", admin_listen: "127.0.0.1:{admin_port}", workers: 1, stop_delay: 0s}}
store: embedded
ledger: embedded
data_dir: {data}
catalog: catalog.yaml
providers:
  bench: {{base_url: "http://127.0.0.1:{upstream}/v1", api_key: upstream}}
  rewritten: {{base_url: "http://127.0.0.1:{upstream}/v1", api_key: upstream, fix_deltas: true}}
plans:
  bench:
    requests_per_minute: 10000000
    tokens_per_minute: 10000000000
    concurrent_requests: 100000
    tokens_per_day: 1000000000000
    budget: {{usd: "1000", per: month}}
default_plan: bench
"""

ENTRY_YAML = """\
  - id: {model}
    name: "Bench: Mock"
    description: "The upstream of the benchmark."
    date: "2025-01-01"
    context_length: 131072
    max_completion_tokens: 32768
    is_moderated: false
    architecture: {{modality: "text->text"}}
    pricing: {{prompt: "0.00000001", completion: "0.00000002", input_cache_read: "0.000000005"}}
    routes:
      - {{provider: {provider}, model: bench/mock}}
"""
CATALOG_YAML = "models:\n" + "".join(
    ENTRY_YAML.format(model=model, provider=provider)
    for model, provider in ((MODEL, "bench"), (REWRITTEN, "rewritten"))
)

NGINX_CONF = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 10000; }}
http {{
  access_log off;
  tcp_nodelay on;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_body_buffer_size 2m;
  client_max_body_size 20m;
  keepalive_requests 1000000000;
  map_hash_bucket_size 256;
  map $http_authorization $known_key {{ default 0; "Bearer {key}" 1; }}
  upstream mock {{
    server 127.0.0.1:{upstream};
    keepalive 2048;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      if ($known_key = 0) {{ return 401; }}
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer upstream";
      proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A program under measurement: where it listens, the key it accepts, and the root of its processes."""

    name: str
    port: int
    pid: int
    key: str = field(default="", repr=False)

    def pids(self) -> list[int]:
        """Its processes, the embedded store not among them."""
        return own_pids(self.pid)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core does what: the proxies under measurement have one, everything else the other."""

    measured: int
    rest: int


@dataclass(frozen=True, slots=True)
class Tools:
    """The compiled programs."""

    mock: Path
    load: Path


def build(folder: Path) -> Tools:
    """Compile the mock and the load generator into `folder`; BenchError says what to install if that cannot be done."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    missing = [name for name, path in (("gcc libc6-dev", compiler), ("nginx-light", _nginx())) if not path]
    if missing or not compiler:
        raise BenchError(f"the benchmark needs a C compiler and nginx: apt-get install {' '.join(missing)}")
    for name in ("mock", "load"):
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(folder / name), str(HERE / f"{name}.c")]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise BenchError(f"{name}.c does not compile (glibc 2.35 or newer is needed):\n{made.stderr[-2000:]}")
    return Tools(mock=folder / "mock", load=folder / "load")


def _nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def nginx_version() -> str:
    """As nginx prints it."""
    said = subprocess.run([_nginx() or "nginx", "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().removeprefix("nginx version: ")


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


def request(
    key: str, *, stream: bool, events: int = 1, pace_ms: int = 0, size: int = 1024, model: str = MODEL
) -> bytes:
    """A whole HTTP request whose body has `size` bytes and tells the mock what to answer."""
    system = f"You are a helpful assistant. bench events={events} pace={pace_ms} "
    messages = [{"role": "system", "content": system}, {"role": "user", "content": ""}]
    body: dict[str, object] = {"model": model, "messages": messages, "temperature": 0.7}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    words = "Tell me about the fox and the dog. " * (size // 35 + 1)
    messages[1]["content"] = words[: max(0, size - len(json.dumps(body)))]
    content = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        "Accept: */*",
        f"Content-Length: {len(content)}",
        "\r\n",
    )
    return "\r\n".join(head).encode() + content


def ask(port: int, message: bytes) -> int:
    """Send one request and read the whole answer; returns its status, or 0 if there was none."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(message)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
            return answer.status
    except (OSError, http.client.HTTPException):
        return 0


def _fault(child: subprocess.Popen[bytes], log: Path, seen: str) -> BenchError:
    end = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    state = f"ended with {child.returncode}" if child.poll() is not None else seen
    return BenchError(f"{log.stem} {state}; its log ends:\n{end}")


def wait_listening(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the port can be connected to; BenchError with the end of the log if that does not happen in time."""
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise _fault(child, log, "does not listen")


def wait_served(port: int, message: bytes, child: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until the answer is 200; BenchError with the end of the program's log if that does not happen in time."""
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    status = 0
    while time.monotonic() < deadline and child.poll() is None:
        if (status := ask(port, message)) == http.HTTPStatus.OK:
            return
        time.sleep(0.02)
    raise _fault(child, log, f"answers {status or 'nothing'} instead of 200")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run keeps its files and on which cores it starts its programs."""

    folder: Path
    cores: Cores
    children: Children

    def environment(self) -> dict[str, str]:
        """For programs of the project: its own configuration only, whatever the user has set for another one."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AION_PROXY_")}
        path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
        return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.folder)}

    def start_mock(self, tools: Tools) -> Server:
        """Start the mock upstream on a port of its choice."""
        with (self.folder / "mock.log").open("wb") as log:
            child = self.children.start(
                [str(tools.mock), "0"], core=self.cores.rest, log=log, cwd=self.folder, stdout=subprocess.PIPE
            )
        line = child.stdout.readline() if child.stdout else b""
        if not line.strip():
            raise BenchError(f"the mock upstream did not start: {(self.folder / 'mock.log').read_text()}")
        return Server("mock", int(line), child.pid)

    def start_nginx(self, upstream: int, key: str) -> Server:
        """Start nginx in front of the mock."""
        (port,) = free_ports(1)
        conf, log_path = self.folder / "nginx.conf", self.folder / "nginx.log"
        conf.write_text(NGINX_CONF.format(folder=self.folder, port=port, upstream=upstream, key=key))
        command = [_nginx() or "nginx", "-e", "stderr", "-p", str(self.folder), "-c", str(conf)]
        with log_path.open("wb") as log:
            child = self.children.start(command, core=self.cores.measured, log=log, cwd=self.folder)
        wait_served(port, request(key, stream=False), child, log_path)
        return Server("nginx", port, child.pid, key)

    def start_gateway(self, upstream: int) -> Server:
        """Start the gateway with one worker in front of the mock, and make an account and a key by its own commands."""
        port, admin_port = free_ports(2)
        config, log_path = self.folder / "gateway.yaml", self.folder / "gateway.log"
        config.write_text(
            GATEWAY_YAML.format(port=port, admin_port=admin_port, data=self.folder / "data", upstream=upstream)
        )
        (self.folder / "catalog.yaml").write_text(CATALOG_YAML)
        environment = self.environment() | {"AION_PROXY_CONFIG": str(config)}
        command = [sys.executable, "-m", "proxy", "serve", "--config", str(config), "--workers", "1"]
        with log_path.open("wb") as log:
            child = self.children.start(command, core=self.cores.measured, log=log, cwd=self.folder, env=environment)
        wait_listening(port, child, log_path)
        self._command(environment, "accounts", "create", "bench", "--plan", "bench", "--json")
        key = self._command(environment, "keys", "create", "bench", "--json")["key"]
        wait_served(port, request(str(key), stream=False), child, log_path)
        return Server("gateway", port, child.pid, str(key))

    def _command(self, environment: Mapping[str, str], *words: str) -> dict[str, object]:
        command = [sys.executable, "-m", "proxy", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, timeout=COMMAND_WITHIN_S, check=False
        )
        if done.returncode:
            raise BenchError(f"`aion-proxy {' '.join(words)}` failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
        return dict(json.loads(done.stdout))

    def time_demo(self, turn: int) -> float:
        """Seconds from the demo's command to the first 200 for the key that it prints."""
        home = self.folder / f"demo{turn}"
        home.mkdir()
        (port,) = free_ports(1)
        log_path = home / "demo.log"
        command = [sys.executable, "-m", "proxy", "demo", "--port", str(port)]
        began = time.monotonic()
        with log_path.open("wb") as log:
            child = self.children.start(command, core=None, log=log, cwd=home, env=self.environment())
        try:
            key, model = self._read_demo(child, log_path)
            wait_served(port, request(key, stream=False, model=model), child, log_path)
            return time.monotonic() - began
        finally:
            self.children.stop(child)

    @staticmethod
    def _read_demo(child: subprocess.Popen[bytes], log_path: Path) -> tuple[str, str]:
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while time.monotonic() < deadline and child.poll() is None:
            said = log_path.read_text(errors="replace")
            key = re.search(r"sk-aion-[a-z0-9_]+-[0-9A-Za-z]{38}", said)
            model = re.search(r'"model": ?"([^"]+)"', said)
            if key and model:
                return key[0], model[1]
            time.sleep(0.01)
        raise BenchError("the demo printed no key and curl line in time; `python3 run.py demo` shows why")
