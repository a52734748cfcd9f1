"""Clients that say that they send nothing more: they are served to the end, and missed when they are really gone."""

import socket
import threading

import pytest
from gateway_process import eventually
from provider_scripts import completion, finish, role, usage, usage_chunk, word
from raw_client import RawClient, chat, request_bytes
from scripted_provider import DONE, PATIENCE, Exchange


class Slow:
    """A stream that goes on by a word whenever it is told to, and notices when it is let go."""

    def __init__(self) -> None:
        self.steps = threading.Semaphore(0)
        self.ended = threading.Event()
        self.gone = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.chunk(role() + word("begun "))
        try:
            while not self.ended.is_set():
                if self.steps.acquire(timeout=0.05):
                    exchange.chunk(word("more "))
                exchange.check_running()
            exchange.chunk(finish() + usage_chunk(usage(7, 3)) + DONE)
            exchange.end_stream()
        except ConnectionError:
            self.gone.set()


def half_closed(client: RawClient, data: bytes) -> None:
    client.send(data)
    client.sock.shutdown(socket.SHUT_WR)


def after_continue(client: RawClient) -> None:
    """Read one informational answer."""
    assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_long_stream_is_served_to_its_end(gateway, provider, key):
    script = Slow()
    provider.on("main", script)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        assert client.head()[0] == 200
        client.body_until(b"begun")
        client.sock.shutdown(socket.SHUT_WR)
        for _ in range(5):
            script.steps.release()
            client.body_until(b"more")
        script.ended.set()
        assert client.stream_rest().endswith(DONE)
        assert client.ended()
    assert gateway.only_line_of(key)["ending"] == "complete"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_one_that_leaves_a_stream_later_is_missed_at_the_next_words(gateway, provider, key, how):
    script = Slow()
    provider.on("main", script)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        client.head()
        client.body_until(b"begun")
        client.sock.shutdown(socket.SHUT_WR)
        client.body_until(b"keep-alive")
        script.steps.release()
        client.body_until(b"more")
        if how == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    script.steps.release()
    assert eventually(lambda: script.steps.release() or script.gone.wait(0.05))
    line = gateway.only_line_of(key)
    assert (line["ending"], line["usage_source"]) == ("client_gone", "estimated")
    assert key.settled().in_flight == 0


def test_one_that_waits_for_an_answer_gets_it_however_long_that_takes(gateway, provider, key):
    go = threading.Event()
    provider.on("main", lambda exchange: (exchange.wait(go), exchange.answer(completion("Hi.", usage(7, 3)))))
    with gateway.client() as client:
        half_closed(client, chat(key.secret))
        after_continue(client)
        after_continue(client)  # it was looked for again
        go.set()
        while (answer := client.answer()).status == 100:
            continue
        assert answer.json["choices"][0]["message"]["content"] == "Hi."
        assert client.ended()
    assert gateway.only_line_of(key)["ending"] == "complete"


def test_one_that_stops_waiting_for_an_answer_is_missed(gateway, provider, key):
    gone = threading.Event()
    provider.on("main", lambda exchange: (exchange.wait_gone(), gone.set()))
    with gateway.client() as client:
        half_closed(client, chat(key.secret))
        after_continue(client)
        provider.wait_asked()
    assert gone.wait(PATIENCE)
    assert gateway.only_line_of(key)["ending"] == "client_gone"


def test_one_that_closes_at_once_is_missed_at_once(gateway, provider, key):
    gone = threading.Event()
    provider.on("main", lambda exchange: (exchange.wait_gone(), gone.set()))
    with gateway.client() as client:
        client.send(chat(key.secret))
        provider.wait_asked()
    assert gone.wait(PATIENCE)
    assert gateway.only_line_of(key)["ending"] == "client_gone"


def test_old_http_is_served_where_that_costs_nothing(gateway):
    """It knows no informational answers, so that one who has gone cannot be told from one who waits."""
    with gateway.client() as client:
        half_closed(client, request_bytes("GET", "/v1/models", version="1.0"))
        assert client.answer().status == 200
        assert client.ended()


def test_a_stream_of_old_http_is_served_to_its_end(gateway, provider, key):
    script = Slow()
    provider.on("main", script)
    data = chat(key.secret, stream=True).replace(b"HTTP/1.1", b"HTTP/1.0")
    with gateway.client() as client:
        client.send(data)
        client.until(b"begun ")
        client.sock.shutdown(socket.SHUT_WR)
        script.steps.release()
        client.until(b"more ")
        script.ended.set()
        assert client.rest().endswith(DONE)
