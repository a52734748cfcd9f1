"""Clients that leave: the provider is let go, one line is left in the log, and what was produced is charged."""

import socket
import struct
import threading
import time

import pytest
from gateway_process import eventually
from provider_scripts import chunk, completion, finish, role, usage, usage_chunk, word
from raw_client import chat, request_bytes
from scripted_provider import DONE

AT_MOST = 5.0
"""Seconds within which a provider is let go, on a machine that is busy with other things; it should be a tenth."""


def reset_when_closed(client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(client, how: str) -> None:
    if how == "reset":
        reset_when_closed(client)
    client.sock.close()


class Leaving:
    """A script that sends what it is told and then waits to be let go."""

    def __init__(self, *pieces: bytes, stream: bool = True) -> None:
        self._pieces = pieces
        self._stream = stream
        self.gone = threading.Event()

    def __call__(self, exchange) -> None:
        if self._stream:
            exchange.start_stream()
            for piece in filter(None, self._pieces):
                exchange.chunk(piece)
        exchange.wait_gone()
        self.gone.set()

    def is_let_go(self) -> bool:
        begun = time.monotonic()
        return self.gone.wait(30) and time.monotonic() - begun < AT_MOST


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("stream", [False, True])
def test_one_that_leaves_before_any_answer_is_charged_its_prompt(gateway, provider, key, stream, how):
    script = Leaving(stream=False)
    provider.on("main", script)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=stream))
        provider.wait_asked()
        close(client, how)
    assert script.is_let_go()
    line = gateway.only_line_of(key)
    assert (line["ending"], line["status"], line["usage_source"]) == ("client_gone", 499, "estimated")
    assert (line["prompt_tokens"], line["completion_tokens"], line["cost_usd"]) == (5, 0, "0.000004")
    assert key.settled().spent_nusd == 4000


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("words", [1, 2, 7])
def test_one_that_leaves_in_the_middle_is_charged_what_was_produced(gateway, provider, key, words, how):
    script = Leaving(role() + b"".join(word("12345678") for _ in range(words)))
    provider.on("main", script)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        client.head()
        client.body_until(b"12345678")
        close(client, how)
    assert script.is_let_go()
    line = gateway.only_line_of(key)
    assert (line["ending"], line["status"], line["usage_source"]) == ("client_gone", 200, "estimated")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (5, 2 * words)
    assert key.settled().spent_nusd == 5 * 800 + 2 * words * 1600


EVENTS = 6
"""Events of the streams that clients leave after each of them: the role, five words; then finish, usage and the end."""


def said_after(events: int, model: str, *, counted: bool = False) -> bytes:
    """So many events, with the usage so far in each if the provider counts."""
    told = [{"usage": usage(100, 7 * number)} if counted else {} for number in range(events)]
    deltas = [{"role": "assistant", "content": ""}, *[{"content": "12345678"}] * (events - 1)][:events]
    return b"".join(chunk(delta, model=model, **more) for delta, more in zip(deltas, told, strict=True))


@pytest.mark.parametrize("events", range(EVENTS + 1))
def test_whenever_one_leaves_the_provider_is_let_go_and_what_was_produced_is_charged(gateway, provider, key, events):
    script = Leaving(said_after(events, "same"))
    provider.on("main", script)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        provider.wait_asked()
        if events > 1:
            read_words(client, events - 1)
    assert script.is_let_go()
    line = gateway.only_line_of(key)
    words = max(0, events - 1)
    assert (line["ending"], line["prompt_tokens"], line["completion_tokens"]) == ("client_gone", 5, 2 * words)
    use = key.settled()
    assert (use.spent_nusd, use.held_nusd) == (5 * 800 + 2 * words * 1600, 0)


@pytest.mark.parametrize("events", range(2, EVENTS + 1))
def test_whenever_one_leaves_a_provider_that_counts_is_paid_what_it_counted(gateway, provider, key, events):
    script = Leaving(said_after(events, "counted", counted=True))
    provider.on("counting", script)
    with gateway.client() as client:
        client.send(chat(key.secret, "counted", stream=True))
        assert b"usage" not in read_words(client, events - 1)
    assert script.is_let_go()
    assert provider.only().json["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    line = gateway.only_line_of(key)
    assert (line["usage_source"], line["prompt_tokens"], line["completion_tokens"]) == (
        "upstream",
        100,
        7 * (events - 1),
    )
    assert key.settled().spent_nusd == 100 * 800 + 7 * (events - 1) * 1600


@pytest.mark.parametrize("events", range(EVENTS + 1))
def test_whenever_one_leaves_a_provider_that_is_drained_is_paid_what_it_says_in_the_end(gateway, provider, key, events):
    go = threading.Event()

    def script(exchange):
        exchange.start_stream()
        whole = said_after(EVENTS, "drained")
        begun = said_after(events, "drained")
        if begun:
            exchange.chunk(begun)
        exchange.wait(go)
        exchange.chunk(whole[len(begun) :] + finish(model="drained") + usage_chunk(usage(30, 20), "drained") + DONE)
        exchange.end_stream()

    provider.on("drain", script)
    with gateway.client() as client:
        client.send(chat(key.secret, "drained", stream=True))
        provider.wait_asked()
        if events > 1:
            read_words(client, events - 1)
    go.set()
    line = gateway.only_line_of(key)
    assert (line["usage_source"], line["prompt_tokens"], line["completion_tokens"]) == ("upstream", 30, 20)
    assert key.settled().spent_nusd == 30 * 800 + 20 * 1600


def read_words(client, words: int) -> bytes:
    """Read a stream until so many words have come."""
    client.head()
    body = b""
    while body.count(b"12345678") < words:
        body += client.part()
    return body


def test_one_that_leaves_while_the_provider_is_silent_is_noticed_at_once(gateway, provider, key):
    script = Leaving(role() + word("Once"))
    provider.on("main", script)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        client.head()
        client.body_until(b"Once")
    assert script.is_let_go()


def test_one_that_leaves_before_the_first_word_of_a_stream(gateway, provider, key):
    script = Leaving(role())
    provider.on("main", script)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        provider.wait_asked()
    assert script.is_let_go()
    line = gateway.only_line_of(key)
    assert (line["ending"], line["completion_tokens"], line["cost_usd"]) == ("client_gone", 0, "0.000004")


@pytest.mark.parametrize("model", ["same", "drained"])
def test_one_that_leaves_just_before_the_usage_is_charged_by_it(gateway, provider, key, model):
    """Every choice has its finish reason: the usage is worth waiting for, whatever the provider's setting."""
    go = threading.Event()

    def late_usage(exchange):
        exchange.start_stream()
        exchange.chunk(role(model) + word("12345678", model) + finish(model=model))
        exchange.wait(go)
        exchange.chunk(usage_chunk(usage(100, 50), model) + DONE)
        exchange.end_stream()

    provider.on("main" if model == "same" else "drain", late_usage)
    with gateway.client() as client:
        client.send(chat(key.secret, model, stream=True))
        client.head()
        client.body_until(b'"stop"')
        gateway.miss(client)
    assert gateway.lines_of(key) == []
    go.set()
    line = gateway.only_line_of(key)
    assert (line["ending"], line["usage_source"]) == ("client_gone", "upstream")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (100, 50)
    assert key.settled().spent_nusd == 100 * 800 + 50 * 1600


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_is_to_be_drained_is_read_to_its_end_for_the_exact_usage(gateway, provider, key, stream):
    go = threading.Event()

    def slow(exchange):
        if stream:
            exchange.start_stream()
            exchange.chunk(role("drained") + word("first", "drained"))
        exchange.wait(go)
        if not stream:
            exchange.answer(completion("It took a while.", usage(30, 20, cached=10)))
            return
        for _ in range(100):
            exchange.chunk(word("more", "drained"))
        exchange.chunk(finish(model="drained") + usage_chunk(usage(30, 20, cached=10), "drained") + DONE)
        exchange.end_stream()

    provider.on("drain", slow)
    with gateway.client() as client:
        client.send(chat(key.secret, "drained", stream=stream))
        provider.wait_asked()
        if stream:
            client.head()
            client.body_until(b"first")
        reset_when_closed(client)
        gateway.miss(client)
    go.set()
    line = gateway.only_line_of(key)
    assert (line["ending"], line["usage_source"]) == ("client_gone", "upstream")
    assert (line["prompt_tokens"], line["cached_tokens"], line["completion_tokens"]) == (30, 10, 20)
    assert key.settled().spent_nusd == 20 * 800 + 10 * 200 + 20 * 1600


def test_a_drained_provider_that_breaks_off_is_charged_by_what_came(gateway, provider, key):
    go = threading.Event()

    def breaking(exchange):
        exchange.start_stream()
        exchange.chunk(role("drained") + word("1234", "drained"))
        exchange.wait(go)
        exchange.chunk(word("5678", "drained"))
        exchange.close()

    provider.on("drain", breaking)
    with gateway.client() as client:
        client.send(chat(key.secret, "drained", stream=True))
        client.head()
        client.body_until(b"1234")
        gateway.miss(client)
    go.set()
    line = gateway.only_line_of(key)
    assert (line["ending"], line["usage_source"], line["completion_tokens"]) == ("client_gone", "estimated", 2)


def test_one_that_leaves_after_its_answer_leaves_nothing_behind(gateway, provider, key):
    provider.on("main", lambda exchange: exchange.answer(completion("Hi.", usage(3, 2))))
    answer = key.ask()
    line = gateway.request_line(answer.request_id)
    assert (line["ending"], line["status"]) == ("complete", 200)
    assert len(gateway.lines_of(key)) == 1


def test_one_that_leaves_before_its_body_was_sent_reaches_nobody(gateway, provider, key):
    head = request_bytes("POST", "/v1/chat/completions", key=key.secret, Content_Length="1000")
    before = gateway.log.stat().st_size
    with gateway.client() as client:
        client.send(head + b'{"model":')
    line = gateway.wait_logged("request", after=before)
    assert (line["status"], line["ending"], line["model"]) == (499, "client_gone", "unknown")
    assert provider.asked() == []
    assert key.use().in_flight == 0


def test_one_that_leaves_is_not_taken_to_the_next_place(gateway, provider, key):
    script = Leaving(stream=False)
    provider.on("main", script)
    with gateway.client() as client:
        client.send(chat(key.secret, "main-then-second"))
        provider.wait_asked()
    assert script.is_let_go()
    assert gateway.only_line_of(key)["attempts"] == 1
    assert provider.asked("second") == []


def test_a_client_that_stops_reading_and_leaves_lets_the_provider_go(gateway, provider, key):
    gone = threading.Event()

    def flood(exchange):
        exchange.start_stream()
        exchange.chunk(role())
        try:
            while True:
                data = word("x" * 16_000)
                exchange.chunk(data)
        except ConnectionError:
            exchange.closed = True
            gone.set()

    provider.on("main", flood)
    with gateway.client(receive_buffer=65536) as client:
        client.send(chat(key.secret, stream=True))
        client.head()
        client.part()
    assert gone.wait(30)
    line = gateway.only_line_of(key)
    assert line["ending"] == "client_gone"
    assert line["completion_tokens"] > 0


def test_many_that_leave_at_every_moment_each_leave_one_line_and_hold_nothing(gateway, provider, key):
    """Forty clients, each gone after another number of bytes of its answer, from the first to nearly the last."""

    def telling(exchange):
        exchange.start_stream()
        try:
            for _ in range(20):
                exchange.chunk(word("12345678"))
            exchange.chunk(finish() + usage_chunk(usage(10, 40)) + DONE)
            exchange.end_stream()
        except ConnectionError:
            exchange.closed = True

    provider.on("main", telling)
    for number in range(1, 41):
        with gateway.client() as client:
            client.send(chat(key.secret, stream=True))
            assert len(client.exactly(number * 80)) == number * 80
    key.settled()
    assert key.use().held_nusd == 0
    assert eventually(lambda: len(gateway.lines_of(key)) >= 40)
    lines = gateway.lines_of(key)
    assert len({line["request_id"] for line in lines}) == 40
    cost = sum(line["prompt_tokens"] * 800 + line["completion_tokens"] * 1600 for line in lines)
    assert key.settled().spent_nusd == cost
