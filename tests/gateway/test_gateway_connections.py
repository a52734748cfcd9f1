"""The connections to a provider: kept and used again, and never trusted further than what was asked of them."""

import json
import threading

from gateway_process import eventually
from provider_scripts import chunk, completion, failing, finish, role, talking, usage, whole, word
from raw_client import chat, chat_body, request_bytes
from scripted_provider import DONE


def poison():
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n"
        + json.dumps(completion("POISON", usage(1, 1))).encode().ljust(200)[:200]
    )


def until(threads):
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_connection_is_kept_and_used_again(gateway, provider, key):
    provider.on("main", talking(["Hello."], usage(3, 1)))
    for number in range(6):
        assert key.ask(stream=number % 2 == 0).status == 200
    assert {exchange.connection for exchange in provider.asked()} == {1}
    assert len(provider.asked()) == 6


def test_a_connection_survives_an_error_that_was_answered_in_full(gateway, provider, key):
    provider.on("main", failing(400), failing(500), whole())
    for stream in (True, False, False):
        key.ask(stream=stream)
    assert [exchange.connection for exchange in provider.asked()] == [1, 1, 1]


def test_a_connection_whose_provider_closes_it_after_an_answer_is_not_used_again(gateway, provider, key):
    def once(exchange):
        exchange.answer(completion("Hi.", usage(1, 1)), Connection="close")
        exchange.close()

    provider.on("main", once)
    assert [key.ask().status for _ in range(3)] == [200, 200, 200]
    assert [exchange.connection for exchange in provider.asked()] == [1, 2, 3]


def test_a_connection_that_the_provider_closed_while_it_was_idle_costs_no_request(gateway, provider, key):
    """The provider closes without having said so, again and again at the worst moment: as the next request comes."""

    def close_later(exchange):
        exchange.answer(completion("Hi.", usage(1, 1)))
        exchange.close()

    provider.on("main", close_later)
    for _ in range(30):
        assert key.ask().status == 200
    assert len(provider.asked()) == 30


def test_a_request_whose_kept_connection_ends_without_an_answer_is_sent_once_more(gateway, provider, key):
    """The provider gave the connection up as the request was on its way."""
    provider.on("main", whole("first"), lambda exchange: exchange.close(), whole("again"))
    assert key.ask().status == 200
    answer = key.ask()
    assert answer.json["choices"][0]["message"]["content"] == "again"
    assert [exchange.connection for exchange in provider.asked()] == [1, 1, 2]
    assert gateway.request_line(answer.request_id)["attempts"] == 1


def test_a_request_whose_new_connection_ends_without_an_answer_is_not_sent_again(gateway, provider, key):
    provider.on("main", lambda exchange: exchange.close())
    assert key.ask().error["code"] == "upstream_unavailable"
    assert len(provider.asked()) == 1


def test_bytes_that_come_on_an_idle_connection_reach_nobody(gateway, provider, key):
    said = threading.Event()

    def and_poison(exchange):
        exchange.answer(completion("ok", usage(1, 1)))
        exchange.send(poison())
        said.set()

    provider.on("main", and_poison, whole("clean"))
    assert key.ask().json["choices"][0]["message"]["content"] == "ok"
    assert said.wait(30)
    for _ in range(3):
        assert key.ask().json["choices"][0]["message"]["content"] == "clean"
    assert provider.asked()[0].connection != provider.asked()[1].connection


def test_a_second_answer_in_the_packet_of_the_first_reaches_nobody(gateway, provider, key):
    body = json.dumps(completion("ok", usage(1, 1))).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    provider.on("main", lambda exchange: exchange.send(head + body + poison()), whole("clean"))
    texts = [key.ask().json["choices"][0]["message"]["content"] for _ in range(3)]
    assert texts == ["ok", "clean", "clean"]
    assert [exchange.connection for exchange in provider.asked()] == [1, 2, 2]


def test_a_redirect_is_not_followed(gateway, provider, key):
    provider.on("main", failing(307, headers={"Location": provider.url("second") + "/chat/completions"}))
    provider.on("second", whole())
    answer = key.ask()
    assert (answer.status, answer.error["type"]) == (400, "configuration_error")
    assert provider.asked("second") == []


def test_answers_in_advance_are_read_over(gateway, provider, key):
    def early(exchange):
        exchange.head_of(103, {"Link": "</x>"})
        exchange.head_of(100, {})
        exchange.answer(completion("Hi.", usage(1, 1)))

    provider.on("main", early)
    assert key.ask().status == 200


def test_a_flood_of_answers_in_advance_is_no_answer(gateway, provider, key):
    def flood(exchange):
        for _ in range(1000):
            exchange.head_of(103, {"Link": "</x>"})
        exchange.wait_gone()

    provider.on("main", flood)
    assert key.ask().error["code"] == "upstream_bad_response"


def test_a_head_without_end_is_no_answer(gateway, provider, key):
    def endless(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\n")
        try:
            while True:
                exchange.send(b"X-Filler: " + b"x" * 1000 + b"\r\n")
        except ConnectionError:
            exchange.closed = True

    provider.on("main", endless)
    assert key.ask().error["code"] == "upstream_bad_response"


def test_a_client_that_does_not_read_its_answer_holds_up_nobody_else(gateway, provider, key):
    """A stream fails before it began; what was left of it on the client's connection must not touch the provider's
    connection, on which somebody else's stream runs by then.
    """
    go = threading.Event()

    def others_stream(exchange):
        exchange.start_stream()
        exchange.chunk(role() + word("first"))
        exchange.wait(go)
        exchange.chunk(word("second") + finish() + DONE)
        exchange.end_stream()

    huge = completion("x" * 30_000_000, usage(1, 1))
    provider.on("main", failing(400), others_stream, lambda exchange: exchange.answer(huge))
    other = gateway.new_key()
    with gateway.client(receive_buffer=65536) as lazy, gateway.client() as reader:
        assert lazy.ask(chat(key.secret, stream=True)).status == 400
        reader.send(chat(other.secret, stream=True))
        reader.head()
        reader.body_until(b"first")
        lazy.send(chat(key.secret))
        lazy.head()
        go.set()
        assert b"second" in reader.stream_rest()
    assert [exchange.connection for exchange in provider.asked()] == [1, 1, 2]


def test_a_stream_s_connection_is_kept_when_its_framing_ends_a_little_later(gateway, provider, key):
    read = threading.Event()

    def slow_end(exchange):
        exchange.start_stream()
        exchange.chunk(role() + word("Hi.") + finish() + DONE)
        exchange.wait(read)
        exchange.end_stream()

    def once(exchange):
        exchange.answer(completion("Hi.", usage(1, 1)), Connection="close")
        exchange.close()

    provider.on("main", slow_end, once)
    assert key.ask(stream=True).text == "Hi."
    read.set()
    assert eventually(lambda: key.ask().status == 200 and provider.asked()[-1].connection == 1)


def test_a_stream_that_goes_on_after_its_end_loses_its_connection(gateway, provider, key):
    def talkative(exchange):
        exchange.start_stream()
        exchange.chunk(role() + word("Hi.") + finish() + DONE + chunk({"content": "more"}) + DONE)
        exchange.wait_gone()

    provider.on("main", talkative, whole())
    assert key.ask(stream=True).text == "Hi."
    assert key.ask().status == 200
    assert [exchange.connection for exchange in provider.asked()] == [1, 2]


def test_requests_at_the_same_time_use_connections_of_their_own(gateway, provider, key):
    together = threading.Barrier(8, timeout=30)

    def meet(exchange):
        together.wait()
        exchange.answer(completion(exchange.json["messages"][0]["content"], usage(1, 1)))

    provider.on("main", meet)
    told = {}

    def ask(name):
        told[name] = key.ask(content=name).json["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=ask, args=(f"client {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    until(threads)
    assert told == {name: name for name in told}
    assert len({exchange.connection for exchange in provider.asked()}) == 8


def test_a_client_s_bytes_cannot_become_lines_of_the_provider_s_head(gateway, provider, key):
    provider.on("main", whole())
    data = request_bytes(
        "POST", "/v1/chat/completions", chat_body(user="x\r\nX-Evil: 1"), key=key.secret, X_Client_Request_Id="a b"
    )
    with gateway.client() as client:
        assert client.ask(data).status == 200
    assert "x-evil" not in dict(provider.only().headers)
