"""Real servers of the machine's own Redis on loopback, started for one test or one file of tests, stopped by their id.

Single servers, a primary with a replica under three sentinels, and a cluster of three nodes. What a test does to them
(kill, stop, reconfigure) is the test's business; nothing here waits for a time, only for what servers say.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

OptionsOfNode = Callable[[int], dict[str, str]]

PATIENCE = 30.0
_REFUSED = (RedisError, OSError)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def until(is_so: Callable[[], object], what: str) -> None:
    """Wait until it comes true; servers that do not answer yet count as not yet."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(*_REFUSED):
            if is_so():
                return
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)


@dataclass
class RedisServer:
    """One server process; `options` are those of its configuration file."""

    binary: Path
    folder: Path
    options: dict[str, str]
    environ: dict[str, str] = field(default_factory=dict)
    sentinel: bool = False
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def port(self) -> int:
        return int(self.options["port"])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it and return when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.process is not None:
            self.process.wait(PATIENCE)
        if self.sentinel:  # it keeps what it learned in its file
            file = self.folder / "sentinel.conf"
            if not file.exists():
                file.write_text("".join(f"{name} {value}\n" for name, value in self.options.items()), "utf-8")
            words = [str(file), "--sentinel"]
        else:
            words = [word for name, value in self.options.items() for word in (f"--{name}", *value.split(" "))]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(self.binary), *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"LC_ALL": "C", "PATH": os.environ["PATH"], **self.environ},
                start_new_session=True,
                preexec_fn=_ignore_file_limits,  # noqa: PLW1509 - one thread, before anything else runs
            )
        until(self._is_alive_and_answers, f"an answer of the server in {self.folder}: {self._last_words()}")

    def _is_alive_and_answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._last_words()
        with self.client() as client:
            try:
                return bool(client.ping())
            except RedisError as refused:
                return "NOAUTH" in str(refused) or "uthentication" in str(refused)

    def _last_words(self) -> str:
        log = self.folder / "log"
        return log.read_text("utf-8")[-2000:] if log.exists() else ""

    def client(self) -> "Redis":
        """A client of its own, for the test to see and do what our connections do not; TLS needs another."""
        if self.port:
            return Redis(port=self.port, socket_timeout=5, password=self.options.get("requirepass"))
        return Redis(unix_socket_path=self.options["unixsocket"], socket_timeout=5)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as kill -9 does, and wait until it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


def _ignore_file_limits() -> None:
    """A file that may grow no further is an error to a server and not its end, as a full disk is."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def options_of(port: int, **more: str) -> dict[str, str]:
    options = {"port": str(port), "bind": "127.0.0.1", "save": "''", "protected-mode": "no"}
    return options | {name.replace("_", "-"): value for name, value in more.items()}


@contextlib.contextmanager
def running(*servers: RedisServer) -> Iterator[None]:
    """Start servers in their order, and kill whatever of them is left at the end."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.kill()


@contextlib.contextmanager
def single(binary: Path, folder: Path, port: int | None = None, **more: str) -> Iterator[RedisServer]:
    """One server, on a free port if none is named."""
    server = RedisServer(binary, folder, options_of(port or free_ports(1)[0], **more))
    with running(server):
        yield server


@dataclass
class Watched:
    """A primary and its replica under three sentinels; which is which changes with a failover."""

    servers: tuple[RedisServer, RedisServer]
    sentinels: tuple[RedisServer, ...]

    def url(self, credentials: str = "", options: str = "") -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{credentials}{hosts}/main{options}"

    def primary_port(self) -> int:
        """The port of the primary, as the first sentinel says."""
        with self.sentinels[0].client() as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])


@contextlib.contextmanager
def watched(binary: Path, folder: Path, password: str = "") -> Iterator[Watched]:
    """Start the five processes; returns when every sentinel knows the others and the replica."""
    ports = free_ports(5)
    secret = {"requirepass": password, "masterauth": password} if password else {}
    primary = RedisServer(binary, folder / "primary", options_of(ports[0], **secret))
    follows = {"replicaof": f"127.0.0.1 {ports[0]}", "repl_diskless_sync_delay": "0"}
    replica = RedisServer(binary, folder / "replica", options_of(ports[1], **secret, **follows))
    sentinels = []
    for number, port in enumerate(ports[2:]):
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "protected-mode": "no",
            "sentinel monitor main 127.0.0.1": f"{ports[0]} 2",
            "sentinel down-after-milliseconds": "main 500",
            "sentinel failover-timeout": "main 3000",
        }
        if password:
            options["sentinel auth-pass"] = f"main {password}"
        sentinels.append(RedisServer(binary, folder / f"sentinel-{number}", options, sentinel=True))
    with running(primary, replica):
        with primary.client() as client:
            until(lambda: client.info("replication").get("slave0", {}).get("state") == "online", "a replica in step")
        with running(*sentinels):
            for sentinel in sentinels:
                with sentinel.client() as client:
                    until(lambda client=client: _knows_all(client), "sentinels that know one another")
            yield Watched((primary, replica), tuple(sentinels))


def _knows_all(sentinel: "Redis") -> bool:
    state = sentinel.sentinel_master("main")
    return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 1


@dataclass
class Cluster:
    """Three primaries, and spares that are nobody's until a test gives them a part."""

    nodes: tuple[RedisServer, ...]

    def url(self, credentials: str = "") -> str:
        return f"redis+cluster://{credentials}{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def owner(self, slot: int) -> RedisServer:
        """The node that says that it has a slot."""
        for node in self.nodes:
            with node.client() as client:
                for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER SLOTS"):
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def others(self, *known: RedisServer) -> list[RedisServer]:
        return [node for node in self.nodes if node not in known]


@contextlib.contextmanager
def cluster(
    binary: Path, folder: Path, *, replicas: bool = False, options_of_node: OptionsOfNode = lambda port: {}
) -> Iterator[Cluster]:
    """Start three primaries with a third of the slots each, and with `replicas` one replica for each of them.

    `options_of_node` gets one more free port per node.
    """
    count = 6 if replicas else 3
    ports = free_ports(3 * count)
    nodes = tuple(
        RedisServer(
            binary,
            folder / f"node-{number}",
            options_of(
                ports[number],
                cluster_enabled="yes",
                cluster_port=str(ports[count + number]),
                cluster_node_timeout="1000",
                cluster_require_full_coverage="no",
                repl_diskless_sync_delay="0",
                appendonly="yes",
                appendfsync="always",
                **options_of_node(ports[2 * count + number]),
            ),
        )
        for number in range(count)
    )
    with running(*nodes):
        _join(nodes)
        yield Cluster(nodes)


def _join(nodes: tuple[RedisServer, ...]) -> None:
    bounds = [0, 5461, 10923, 16384]
    clients = [node.client() for node in nodes]
    try:
        for number, client in enumerate(clients[:3]):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            bus = node.options["cluster-port"]
            port = node.options["tls-port"] if node.options.get("tls-cluster") == "yes" else node.port
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
        for client in clients:
            until(lambda client=client: _is_whole(client, len(nodes)), "a cluster that is whole")
        for number, client in enumerate(clients[3:]):
            client.execute_command("CLUSTER", "REPLICATE", clients[number].execute_command("CLUSTER", "MYID"))
        for client in clients[3:]:
            until(lambda client=client: client.info("replication")["master_link_status"] == "up", "replicas in step")
        for number, client in enumerate(clients):
            until(
                lambda client=client: str(client.execute_command("CLUSTER", "NODES")).count("slave") == len(nodes) - 3,
                f"node {number} knows the replicas",
            )
    finally:
        for client in clients:
            client.close()


def _is_whole(client: "Redis", nodes: int) -> bool:
    info = client.execute_command("CLUSTER", "INFO")
    text = info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
    all_of_it = (text["cluster_state"], text["cluster_slots_assigned"], text["cluster_known_nodes"])
    return all_of_it == ("ok", "16384", str(nodes))
