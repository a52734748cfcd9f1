"""What those in front of a gateway see of its restarts and of its lack of memory."""

import json
import signal
import threading
from collections.abc import Iterator
from typing import Self

import pytest
from gateway_process import Gateway, Key, eventually
from provider_scripts import usage, whole
from raw_client import chat

from tests.conftest import debian_redis
from tests.stores.redis_servers import free_ports, single

CLIENTS = 4


@pytest.fixture
def pair(make_gateway, provider, tmp_path) -> Iterator[list[Gateway]]:
    """Two gateways that share a store, each of which goes on for a while after the signal to stop."""
    provider.on("main", whole("Hello.", usage(10, 5)))
    port = free_ports(1)[0]
    with single(debian_redis(), tmp_path, port):
        url = f"redis://127.0.0.1:{port}"
        gateways = [make_gateway(more=f'store: "{url}"\n') for _ in range(2)]
        for gateway in gateways:
            gateway.store_url = url
            gateway.environ["AION_PROXY_SERVER__STOP_DELAY"] = "3s"
            gateway.start()
        yield gateways
        for gateway in gateways:
            gateway.signal(signal.SIGINT)
            assert gateway.ended() == 0
            assert "Traceback" not in gateway.log.read_text()


class Balancer:
    """Sends requests, one after the other, to gateways that say that they are ready."""

    def __init__(self, gateways: list[Gateway], key: Key) -> None:
        self._gateways = gateways
        self._key = key
        self._over = threading.Event()
        self.statuses: list[int] = []
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        turn = 0
        while not self._over.is_set():
            turn += 1
            gateway = self._gateways[turn % len(self._gateways)]
            if not self._is_ready(gateway):
                continue
            try:
                with gateway.client() as client:
                    self.statuses.append(client.ask(chat(self._key.secret, "same", "Hi.")).status)
            except OSError:
                self.statuses.append(0)

    def _is_ready(self, gateway: Gateway) -> bool:
        try:
            return gateway.ready()
        except OSError:
            return False


def test_a_rolling_restart_of_two_gateways_fails_no_request(pair):
    with Balancer(pair, pair[0].new_key()) as balancer:
        for gateway in pair:
            before = len(balancer.statuses)
            assert eventually(lambda before=before: len(balancer.statuses) > before + 20)
            gateway.signal(signal.SIGTERM)
            assert gateway.ended() == 0
            gateway.start()
            assert eventually(gateway.ready)
    assert set(balancer.statuses) == {200}


def test_after_the_signal_to_stop_it_is_not_ready_and_serves_until_it_is_told_again(make_gateway, provider):
    provider.on("main", whole("Hello.", usage(10, 5)))
    gateway = make_gateway()
    gateway.environ["AION_PROXY_SERVER__STOP_DELAY"] = "1h"
    gateway.start()
    key = gateway.new_key()
    gateway.signal(signal.SIGTERM)
    gateway.wait_logged("stopping", accepting_s=3600.0)
    assert gateway.admin_page("/readyz")[0] == 503
    assert key.ask().status == 200
    gateway.signal(signal.SIGTERM)
    assert gateway.ended() == 0


def test_without_memory_it_refuses_completions_and_nothing_else(make_gateway, provider):
    gateway = make_gateway()
    gateway.environ["AION_PROXY_SERVER__MEMORY_LIMIT"] = "1MiB"
    gateway.start()
    gateway.wait_logged("memory", pressure="critical")
    answer = gateway.new_key().ask()
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["type"], error["code"]) == (503, "internal_error", "overloaded")
    assert answer.header("retry-after") == "2"
    with gateway.client() as client:
        assert client.ask(b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\r\n").status == 200
    assert eventually(lambda: not gateway.ready())
    assert b"memory is nearly used up" in gateway.admin_page("/readyz")[1]
    assert eventually(lambda: gateway.metric("aion_refused_total", reason="overloaded") == 1)
    assert provider.requests == []
