"""A gateway on a store of the operator's: it starts without it, refuses one that loses limits, says what is wrong."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from gateway_process import ROOT, Gateway, eventually
from provider_scripts import usage, whole
from raw_client import chat

from tests.conftest import debian_redis
from tests.stores.redis_servers import RedisServer, cluster, free_ports, options_of, single, watched


@pytest.fixture
def make(make_gateway: Callable[..., Gateway]) -> Iterator[Callable[[str], Gateway]]:
    """Make a gateway on the store at a URL; it is stopped in order."""
    made = []

    def on(url: str, more: str = "") -> Gateway:
        gateway = make_gateway(more=f'store: "{url}"\n{more}')
        gateway.store_url = url
        made.append(gateway)
        return gateway

    yield on
    for gateway in made:
        if gateway.process is not None and gateway.process.poll() is None:
            assert gateway.stop() == 0
            assert "Traceback" not in gateway.log.read_text()


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def new_secret(gateway: Gateway, account: str) -> str:
    """A key as the commands make it."""
    gateway.command("accounts", "create", account)
    return gateway.command("keys", "create", account)["key"]


def test_it_starts_before_its_store_and_is_ready_by_itself_when_that_comes(make, port, provider, tmp_path):
    provider.on("main", whole("Hello.", usage(10, 5)))
    gateway = make(f"redis://127.0.0.1:{port}")
    gateway.start()
    assert gateway.admin_page("/healthz")[0] == 200
    status, page = gateway.admin_page("/readyz")
    assert status == 503
    assert f"127.0.0.1:{port}".encode() in page
    with gateway.client() as client:  # what is no key needs no store
        assert client.ask(chat("sk-aion-acme-" + "0" * 38, "same", "Hi.")).status == 401

    with single(debian_redis(), tmp_path, port):
        assert eventually(gateway.ready)
        assert gateway.new_key().ask().status == 200
        assert gateway.metric("aion_worker_restarts") == 0
        assert len(gateway.workers()) == 1


@pytest.mark.parametrize("loss", ["killed", "in order"])
def test_a_store_that_was_restarted_is_noticed(make, port, provider, tmp_path, loss):
    provider.on("main", whole("Hello.", usage(10, 5)))
    with single(debian_redis(), tmp_path, port, appendonly="yes", appendfsync="always") as server:
        gateway = make(f"redis://127.0.0.1:{port}")
        gateway.start()
        key = gateway.new_key()
        assert key.ask().status == 200
        if loss == "killed":
            server.kill()
        else:
            server.process.terminate()
        server.start()
        gateway.wait_logged("the store was restarted or replaced")
        assert eventually(lambda: key.ask().status == 200)


def test_a_wrong_password_is_one_line_and_no_crash(make, port, tmp_path):
    with single(debian_redis(), tmp_path, port, requirepass="right-secret") as server:
        gateway = make(f"redis://:wrong-secret@127.0.0.1:{port}")
        gateway.start()
        with server.client() as client:
            assert eventually(lambda: client.info("stats")["total_connections_received"] > 6)
        status, page = gateway.admin_page("/readyz")
        assert (status, b"refused the user name or password" in page) == (503, True)
        assert len([line for line in gateway.lines() if line["event"] == "store is away"]) == 1
        assert b"secret" not in gateway.log.read_bytes() + page
        assert gateway.metric("aion_worker_restarts") == 0


def refusal(gateway: Gateway) -> bytes:
    """What a gateway says that does not start."""
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(gateway.config)]
    done = subprocess.run(command, cwd=ROOT, env=gateway.environ, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    return done.stderr


def test_a_store_that_evicts_is_refused_at_the_start(make, port, tmp_path):
    with single(debian_redis(), tmp_path, port, maxmemory_policy="allkeys-lru"):
        said = refusal(make(f"redis://127.0.0.1:{port}"))

        assert b"maxmemory-policy allkeys-lru" in said
        assert b"store_eviction: warn" in said


@pytest.mark.parametrize("option", ["redis://{}?colour=red", "rediss+cluster://{}?ssl_cert_reqs=perhaps"])
def test_an_option_of_the_url_that_means_nothing_is_refused_at_the_start(make, port, option):
    assert b"correct or remove them" in refusal(make(option.format(f"127.0.0.1:{port}")))


def test_a_store_that_evicts_is_used_with_a_warning_if_the_configuration_says_so(make, port, provider, tmp_path):
    provider.on("main", whole("Hello.", usage(10, 5)))
    with single(debian_redis(), tmp_path, port, maxmemory_policy="volatile-ttl"):
        gateway = make(f"redis://127.0.0.1:{port}", "store_eviction: warn\n")
        gateway.start()
        assert "volatile-ttl" in gateway.wait_logged("the store may lose limits")["detail"]
        assert gateway.new_key().ask().status == 200


def test_a_store_that_begins_to_evict_later_is_not_ready(make, port, tmp_path):
    """It was away at the start, so that nobody could tell; it is refused when it comes."""
    gateway = make(f"redis://127.0.0.1:{port}")
    gateway.start()
    with single(debian_redis(), tmp_path, port, maxmemory_policy="allkeys-lfu"):
        assert eventually(lambda: b"allkeys-lfu" in gateway.admin_page("/readyz")[1])


@pytest.mark.timeout(120)
def test_a_gateway_and_its_commands_work_on_a_cluster(make, provider, tmp_path):
    provider.on("main", whole("Hello.", usage(10, 5)))
    with cluster(debian_redis(), tmp_path) as nodes:
        gateway = make(nodes.url())
        gateway.start()
        keys = [gateway.new_key() for _ in range(8)]
        assert [key.ask().status for key in keys] == [200] * 8
        one = keys[0].settled().spent_nusd
        secret = new_secret(gateway, "acme")
        with gateway.client() as client:
            assert client.ask(chat(secret, "same", "Hi.")).status == 200
        assert len(gateway.command("accounts", "list")["accounts"]) == 9
        nodes.nodes[0].kill()
        assert eventually(lambda: f"127.0.0.1:{nodes.nodes[0].port}".encode() in gateway.admin_page("/readyz")[1])
        assert [key.ask().status for key in keys] == [200] * 8  # those of the lost node by what was known of them
        assert gateway.metric("aion_store_up") == 0
        nodes.nodes[0].start()
        assert eventually(lambda: gateway.metric("aion_store_up") == 1)
        assert eventually(lambda: [key.use().spent_nusd for key in keys] == [2 * one] * 8)


@pytest.mark.timeout(120)
def test_a_gateway_follows_a_failover_of_its_store(make, provider, tmp_path):
    provider.on("main", whole("Hello.", usage(10, 5)))
    with watched(debian_redis(), tmp_path) as servers:
        gateway = make(servers.url())
        gateway.start()
        key = gateway.new_key()
        assert key.ask().status == 200
        servers.servers[0].kill()
        statuses = set()

        def served_by_another() -> bool:
            statuses.add(status := key.ask().status)
            return status == 200 and servers.primary_port() == servers.servers[1].port

        assert eventually(served_by_another)
        assert statuses <= {200, 503}


def test_a_port_that_is_a_node_of_a_cluster_is_explained(make, port, tmp_path):
    options = options_of(port, cluster_enabled="yes", cluster_port=str(free_ports(1)[0]))
    node = RedisServer(debian_redis(), tmp_path, options)
    try:
        node.start()
        gateway = make(f"redis://127.0.0.1:{port}")
        gateway.start()
        assert eventually(lambda: b"redis+cluster://" in gateway.admin_page("/readyz")[1])
    finally:
        node.kill()
