"""Several places for one model, and the connections to them: who is asked next, what is reused, what is not trusted."""

import json
import threading

import pytest
from provider_scripts import chunk, completion, event, failing, finish, role, streaming, talking, usage, whole, word
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


FAILURES = {
    "500": failing(500),
    "429": failing(429),
    "503": failing(503),
    "401": failing(401),
    "404": failing(404),
    "not an answer": lambda exchange: exchange.answer(b"<html>"),
    "an error in a 200": lambda exchange: exchange.answer({"error": {"message": "x", "code": 503}}),
    "a cut before the answer": lambda exchange: exchange.close(),
    "a reset before the answer": lambda exchange: exchange.reset(),
    "bytes that are no HTTP": lambda exchange: (exchange.send(b"SSH-2.0-x\r\n\r\n"), exchange.wait_gone()),
    "an answer that is cut": lambda exchange: (
        exchange.head_of(200, {"Content-Length": "100", "Content-Type": "application/json"}),
        exchange.send(b'{"id":'),
        exchange.close(),
    ),
    "a compressed answer": lambda exchange: exchange.answer(b"\x1f\x8b", Content_Encoding="gzip"),
    "another protocol": lambda exchange: (
        exchange.head_of(101, {"Upgrade": "x", "Connection": "Upgrade"}),
        exchange.wait_gone(),
    ),
}
FAILURES_OF_STREAMS = {
    **FAILURES,
    "a first chunk without words, then an error": streaming([role("m1"), event({"error": {"message": "no"}})]),
    "no chunk at all": streaming([]),
}
EACH = [(failure, False) for failure in FAILURES.values()]
EACH += [(failure, True) for failure in FAILURES_OF_STREAMS.values()]


@pytest.mark.parametrize(
    ("failure", "stream"), EACH, ids=[*FAILURES, *(f"{name}, streamed" for name in FAILURES_OF_STREAMS)]
)
def test_the_next_place_is_asked_when_the_first_fails(gateway, provider, key, failure, stream):
    provider.on("main", failure)
    provider.on("second", talking(["From", " the second."], usage(6, 4)))
    answer = key.ask("main-then-second", stream=stream)
    assert answer.status == 200
    text = answer.text if stream else answer.json["choices"][0]["message"]["content"]
    assert text == "From the second."
    assert [exchange.json["model"] for exchange in provider.asked()] == ["m1", "m2"]
    line = gateway.request_line(answer.request_id)
    assert (line["provider"], line["attempts"], line["ending"]) == ("second", 2, "complete")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (6, 4)
    assert key.settled().spent_nusd == 6 * 800 + 4 * 1600


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["down-then-second", "quick-then-second"])
def test_a_place_that_is_down_or_silent_is_passed_over(gateway, provider, key, model, stream):
    provider.on("quick", lambda exchange: exchange.wait_gone())
    provider.on("second", talking(["Here."], usage(6, 4)))
    answer = key.ask(model, stream=stream)
    assert answer.status == 200
    assert gateway.request_line(answer.request_id)["attempts"] == 2


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_one_place_finds_wrong_is_not_tried_elsewhere(gateway, provider, key, status):
    provider.on("main", failing(status, "wrong"))
    provider.on("second", whole())
    assert key.ask("main-then-second").status == 400
    assert len(provider.asked()) == 1


def test_when_all_places_fail_the_last_failure_is_told(gateway, provider, key):
    provider.on("main", failing(500))
    provider.on("second", failing(429, headers={"Retry-After": "3"}))
    answer = key.ask("main-then-second")
    assert (answer.status, answer.error["code"], answer.header("Retry-After")) == (502, "upstream_rate_limited", "3")
    line = gateway.request_line(answer.request_id)
    assert (line["attempts"], line["cost_usd"]) == (2, "0")
    assert key.settled().in_flight == 0


def test_nobody_else_is_asked_once_the_client_has_had_a_byte(gateway, provider, key):
    provider.on("main", streaming([role("m1"), word("Once", "m1"), event({"error": {"message": "x"}})]))
    provider.on("second", whole())
    answer = key.ask("main-then-second", stream=True)
    assert json.loads(answer.events[-2])["error"]["type"] == "provider_error"
    assert len(provider.asked()) == 1


def test_a_request_is_written_for_each_place_in_its_own_way(gateway, provider, key):
    provider.on("main", failing(500))
    provider.on("second", whole())
    key.ask("main-then-second", top_p=0.5)
    first, second = provider.asked()
    assert {**first.json, "model": ""} == {**second.json, "model": ""}
    assert dict(first.headers)["authorization"]
    assert "authorization" not in dict(second.headers)


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

    provider.on("main", slow_end, whole())
    assert key.ask(stream=True).text == "Hi."
    read.set()
    key.settled()
    assert gateway.metric("aion_in_flight_requests") == 0


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
