"""A worker without file descriptors: it refuses what is new, and serves again as soon as some are free."""

import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest
from gateway_process import Gateway, eventually
from scripted_provider import PATIENCE

MODELS = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n\r\n"
ROOM = 20


@pytest.fixture
def worker(make_gateway) -> Iterator[tuple[Gateway, int]]:
    """A gateway whose worker may open only a few files more."""
    gateway = make_gateway()
    gateway.start()
    (worker,) = gateway.workers()
    most = len(os.listdir(f"/proc/{worker}/fd")) + ROOM  # noqa: PTH208 - the number alone
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (most, most))
    yield gateway, worker
    assert "Traceback" not in gateway.log.read_text()


def is_served(gateway: Gateway) -> bool:
    try:
        with gateway.client() as client:
            return client.ask(MODELS).status == 200
    except (OSError, AssertionError):  # an end in place of an answer
        return False


def test_without_file_descriptors_it_refuses_connections_and_recovers(worker):
    gateway, pid = worker
    with contextlib.ExitStack() as clients:
        for _ in range(4 * ROOM):
            clients.enter_context(socket.create_connection(("127.0.0.1", gateway.api), PATIENCE))
        assert eventually(lambda: not is_served(gateway))
        assert gateway.workers() == [pid]
    assert eventually(lambda: is_served(gateway))
    assert gateway.workers() == [pid]
