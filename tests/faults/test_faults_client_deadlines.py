"""Clients that are slow, silent, many, or gone, before a real gateway whose deadlines are short.

What happens is asserted, never when: each wait ends as soon as the outcome is there.
"""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from gateway_process import eventually
from http_vectors import AUTHORIZED, CHAT, HOST, JSON, chat, chunk, lines
from raw_client import RawClient
from scripted_provider import PATIENCE
from two_sides import TwoSides, envelope, resident, two_sides

MODELS = lines("GET /v1/models HTTP/1.1", "Host: gateway")
SHORT = "header_timeout: 300ms, body_timeout: 300ms, idle_timeout: 1s, stall_timeout: 1s"
CAP = 600
STREAMS = 40
MOST_OF_A_STREAM = 200 * 1024
"""What one read from a provider that floods brings (64 KiB), what waits for the client besides, and room."""
STREAM = b'{"model":"same","stream":true,"messages":[{"role":"user","content":"Hi."}]}'


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoSides]:
    with two_sides(tmp_path_factory.mktemp("gateway"), SHORT) as sides:
        yield sides


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoSides]:
    with two_sides(tmp_path_factory.mktemp("patient"), f"max_connections: {CAP}") as sides:
        yield sides


def drip(client: RawClient, data: bytes) -> None:
    """Send byte by byte, slowly, until the other side says something or everything is sent."""
    client.sock.settimeout(0.02)
    for byte in data:
        try:
            client.send(bytes([byte]))
            if client.sock.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    client.sock.settimeout(PATIENCE)


@pytest.mark.parametrize("part", [b"G", b"POST /v1/chat/comp", MODELS[:-2], MODELS[:-1], b"\r\n"])
def test_a_head_that_does_not_come_in_time_is_given_up(sides: TwoSides, part: bytes):
    """C-06; RFC 9110, 15.5.9: 408 with the end of the connection."""
    with sides.client() as client:
        client.send(part)
        envelope(client.answer(), 408, "invalid_request_error", "request_timeout")
        assert client.ended()


def test_a_head_that_drips_is_given_up(sides: TwoSides):
    """C-06: each byte is in time, the head is not."""
    with sides.client() as client:
        drip(client, lines(CHAT, HOST, *[f"X-{number}: {'x' * 50}" for number in range(90)]))
        envelope(client.answer(), 408, "invalid_request_error", "request_timeout")
        assert client.ended()


@pytest.mark.parametrize("before", [b"", MODELS], ids=["at once", "after a request"])
def test_a_connection_on_which_nothing_comes_ends_without_a_word(sides: TwoSides, before: bytes):
    """C-06."""
    with sides.client() as client:
        if before:
            assert client.ask(before, method="GET").status == 200
        assert client.ended()


BODY_HEAD = lines(CHAT, HOST, AUTHORIZED, JSON, "Content-Length: 100000")
CHUNKED_HEAD = lines(CHAT, HOST, AUTHORIZED, JSON, "Transfer-Encoding: chunked")


@pytest.mark.parametrize("head", [BODY_HEAD, CHUNKED_HEAD, CHUNKED_HEAD + b"5\r\n{", BODY_HEAD + b"{"])
def test_a_body_that_does_not_come_is_given_up(sides: TwoSides, head: bytes):
    """C-07."""
    before = sides.provider.counts
    with sides.client() as client:
        client.send(sides.bytes_of(head))
        envelope(client.answer(), 408, "invalid_request_error", "request_timeout")
        assert client.ended()
    assert sides.provider.counts == before


@pytest.mark.parametrize(("head", "body"), [(BODY_HEAD, b"{" * 9_000), (CHUNKED_HEAD, chunk(b"{") * 2_000)])
def test_a_body_that_drips_is_given_up(sides: TwoSides, head: bytes, body: bytes):
    """C-07: it has to come at some rate."""
    with sides.client() as client:
        client.send(sides.bytes_of(head))
        drip(client, body)
        envelope(client.answer(), 408, "invalid_request_error", "request_timeout")
        assert client.ended()


def test_a_body_that_is_refused_is_not_read_on(sides: TwoSides):
    """C-08: the client can read why, and what it goes on to send fills its own buffers alone."""
    with sides.client() as client:
        client.send(sides.bytes_of(lines(CHAT, HOST, AUTHORIZED, JSON, "Content-Length: 900000000")))
        envelope(client.answer(), 413, "invalid_request_error", "request_too_large")
        sent = flood(client, b" " * 65_536, 200 * 2**20)
    assert sent < 100 * 2**20


def flood(client: RawClient, data: bytes, most: int) -> int:
    """Send without reading until nothing is taken any more; returns how much was."""
    client.sock.settimeout(0.2)
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most:
            sent += client.sock.send(data)
    client.sock.settimeout(PATIENCE)
    return sent


def test_a_client_that_asks_and_never_reads_is_not_read_on_and_then_cut(sides: TwoSides):
    """C-05 and C-11: answers do not pile up in the gateway."""
    (worker,) = sides.gateway.workers()
    before = resident(worker)
    with sides.client(4096) as client:
        sent = flood(client, MODELS * 500, 200 * 2**20)
        assert sent < 100 * 2**20
        assert resident(worker) - before < 20 * 2**20
        gone = time.monotonic() + PATIENCE
        answered = 0
        while time.monotonic() < gone:
            try:
                client.send(b"G")
            except ConnectionError:
                break
            except TimeoutError:
                continue
            time.sleep(0.05)
        else:
            pytest.fail("a client that takes nothing is still connected")
        answered = client.rest().count(b"HTTP/1.1 200 OK")
    assert answered < sent // len(MODELS)


def test_streams_that_are_not_read_hold_their_provider_back_and_take_little_memory(patient: TwoSides):
    """C-05."""
    patient.provider.endless = True
    data = patient.bytes_of(lines(CHAT, HOST, AUTHORIZED, JSON, f"Content-Length: {len(STREAM)}", body=STREAM))
    (worker,) = patient.gateway.workers()
    with contextlib.ExitStack() as clients:
        for _ in range(25):  # what the first ones take is taken once
            begin(clients.enter_context(patient.client(4096)), data)
        before = resident(worker)
        for _ in range(STREAMS):
            begin(clients.enter_context(patient.client(4096)), data)
        sizes = settled(worker)
    patient.provider.endless = False
    assert sizes - before < STREAMS * MOST_OF_A_STREAM
    assert eventually(lambda: patient.gateway.metric("aion_in_flight_requests") == 0)


def begin(client: RawClient, data: bytes) -> None:
    client.send(data)
    assert client.head()[0] == 200


def settled(pid: int) -> int:
    """The memory of a process once it has stopped growing."""
    sizes = [resident(pid)]
    while len(sizes) < 10 or max(sizes[-10:]) != sizes[-1] or min(sizes[-10:]) != sizes[-1]:
        time.sleep(0.05)
        sizes.append(resident(pid))
        assert len(sizes) < 600, "it grows and grows"
    return sizes[-1]


def test_idle_connections_are_capped_and_take_little_memory(patient: TwoSides):
    """C-13: what is above the cap is told so and closed; when others leave, there is room again."""
    (worker,) = patient.gateway.workers()
    with contextlib.ExitStack() as clients:
        opened = [clients.enter_context(patient.client()) for _ in range(50)]
        for client in opened:
            assert client.ask(MODELS, method="GET").status == 200
        before = resident(worker)
        for _ in range(CAP - 50):
            client = clients.enter_context(patient.client())
            assert client.ask(MODELS, method="GET").status == 200
            opened.append(client)
        assert resident(worker) - before <= (CAP - 50) * 20 * 1024
        with patient.client() as late:
            answer = late.answer()
            envelope(answer, 503, "internal_error", "overloaded")
            assert answer.header("Retry-After") == "1"
            assert late.ended()
        assert opened[0].ask(MODELS, method="GET").status == 200
        for client in opened[:10]:
            client.sock.close()
        assert eventually(lambda: is_served(patient))


def is_served(sides: TwoSides) -> bool:
    with sides.client() as client:
        client.send(MODELS)
        return client.answer(method="GET").status == 200


def test_a_client_that_is_served_within_the_deadlines_notices_nothing_of_them(sides: TwoSides):
    with sides.client() as client:
        for _ in range(3):
            assert client.ask(sides.bytes_of(chat())).status == 200
