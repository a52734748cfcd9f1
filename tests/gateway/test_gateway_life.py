"""How a gateway stops, and how it comes back from every kind of death with all that it must remember."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from gateway_process import Gateway, children, command_line, eventually, is_alive
from held_stream import Held, begin
from provider_scripts import completion, usage, whole
from raw_client import chat, request_bytes


@pytest.fixture
def own(make_gateway: Callable[..., Gateway], provider) -> Iterator[Gateway]:
    """A gateway of this test's own."""
    gateway = make_gateway()
    gateway.start()
    yield gateway
    gateway.stop()
    assert "Traceback" not in gateway.log.read_text(), gateway.log.read_text()[-4000:]


def test_the_signal_to_stop_lets_open_streams_end_and_settles_them(own, provider):
    key, script = own.new_key(), Held()
    provider.on("main", script)
    with own.client() as client:
        begin(client, key)
        own.signal(signal.SIGTERM)
        own.wait_logged("stopping")
        script.go.set()
        assert b" more." in client.stream_rest()
        assert client.ended()
    assert own.ended() == 0
    line = own.only_line_of(key)
    assert (line["ending"], line["usage_source"], line["completion_tokens"]) == ("complete", "upstream", 3)
    own.start()
    assert key.settled().spent_nusd == 7 * 800 + 3 * 1600


def test_while_it_stops_it_is_not_ready_and_takes_no_new_connection(own, provider):
    key, script = own.new_key(), Held()
    provider.on("main", script)
    with own.client() as client:
        begin(client, key)
        assert own.ready()
        own.signal(signal.SIGTERM)
        own.wait_logged("stopping")
        status, page = own.admin_page("/readyz")
        assert (status, page) == (503, b'{"ready": false, "reasons": ["the gateway is stopping"]}')
        assert own.admin_page("/healthz")[0] == 200

        def is_refused() -> bool:
            try:
                own.client().sock.close()
            except ConnectionRefusedError:
                return True
            return False

        assert eventually(is_refused)
        script.go.set()
        client.stream_rest()
    assert own.ended() == 0


def test_a_connection_that_is_open_when_it_stops_gets_its_answer_and_is_told_that_it_was_the_last(own, provider):
    key, script = own.new_key(), Held()
    provider.on("main", script, whole())
    with own.client() as streaming, own.client() as idle:
        assert idle.ask(request_bytes("GET", "/v1/models")).header("Connection") is None
        begin(streaming, key)
        own.signal(signal.SIGTERM)
        own.wait_logged("stopping")
        eventually(lambda: idle.ask(chat(key.secret)).header("Connection") == "close", within=5)
        assert idle.ended()
        script.go.set()
        streaming.stream_rest()
    assert own.ended() == 0


def test_the_second_signal_cuts_what_is_open_with_an_error_and_charges_it(own, provider):
    key, script = own.new_key(), Held()
    provider.on("main", script, lambda exchange: exchange.wait_gone())
    with own.client() as streaming, own.client() as waiting:
        begin(streaming, key)
        waiting.send(chat(key.secret))
        provider.wait_asked(2)
        own.signal(signal.SIGTERM)
        own.wait_logged("stopping")
        own.signal(signal.SIGTERM)
        rest = streaming.stream_rest()
        assert b'{"error":{' in rest
        assert b'"code":"overloaded"' in rest
        answer = waiting.answer()
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
        assert int(answer.header("Retry-After")) >= 1
    assert own.ended() == 0
    streamed, whole_one = sorted(own.lines_of(key), key=lambda line: not line["stream"])
    assert (streamed["ending"], streamed["status"], streamed["usage_source"]) == ("cancelled", 200, "estimated")
    assert (whole_one["ending"], whole_one["status"]) == ("cancelled", 503)
    own.start()
    use = key.settled()
    assert (use.spent_nusd, use.held_nusd) == (5 * 800 + 1600, 0)


def test_what_is_open_when_its_time_to_stop_is_over_is_cut(make_gateway, provider):
    gateway = make_gateway()
    text = gateway.config.read_text().replace("max_body", "stop_grace: 200ms, max_body")
    gateway.config.write_text(text)
    gateway.start()
    key = gateway.new_key()
    provider.on("main", Held())
    with gateway.client() as client:
        begin(client, key)
        gateway.signal(signal.SIGINT)
        assert b'{"error":{' in client.stream_rest()
    assert gateway.ended() == 0
    assert gateway.only_line_of(key)["ending"] == "cancelled"


def test_a_request_whose_client_left_is_settled_by_its_usage_although_it_stops(own, provider):
    key = own.new_key()
    go = threading.Event()

    def slow(exchange):
        exchange.wait(go)
        exchange.answer(completion("Hi.", usage(30, 20), "drained"))

    provider.on("drain", slow)
    with own.client() as client:
        client.send(chat(key.secret, "drained"))
        provider.wait_asked()
    assert eventually(lambda: own.metric("aion_in_flight_requests") == 0)
    go.set()
    assert own.only_line_of(key)["usage_source"] == "upstream"
    assert own.stop() == 0
    own.start()
    assert key.settled().spent_nusd == 30 * 800 + 20 * 1600


def test_nothing_is_left_of_a_gateway_that_is_killed_and_the_next_one_remembers(own, provider):
    key, limited = own.new_key(), own.new_key(requests_per_minute=2)
    provider.on("main", whole("Hello.", usage(10, 5)))
    assert key.ask().status == 200
    assert (limited.ask().status, limited.ask().status) == (200, 200)
    key.settled()
    limited.settled()
    everyone = children(own.process.pid)
    assert len(everyone) == 2, [command_line(pid) for pid in everyone]  # a worker and the store
    own.signal(signal.SIGKILL)
    own.ended()
    assert eventually(lambda: not any(is_alive(pid) for pid in everyone))
    own.start()
    assert key.settled().spent_nusd == 16_000
    assert key.ask().status == 200
    assert limited.ask().error["code"] == "rate_limit_exceeded"
    assert own.command("accounts", "show", key.account)["budget"] is None


def test_one_that_is_killed_in_the_middle_of_a_stream_starts_again_at_once(own, provider):
    """Also on the address that its workers have not given back yet."""
    key, script = own.new_key(), Held()
    provider.on("main", script)
    text = own.config.read_text().replace('listen: "127.0.0.1:0", admin', f'listen: "127.0.0.1:{own.api}", admin')
    with own.client() as client:
        begin(client, key)
        own.config.write_text(text)
        own.signal(signal.SIGKILL)
        own.ended()
        own.start()
        provider.on("main", whole())
        assert key.ask().status == 200


def test_a_supervisor_that_dies_before_it_reads_what_its_workers_say_takes_them_along(own, provider):
    (worker,) = own.workers()
    (store,) = [pid for pid in children(own.process.pid) if pid != worker]
    own.signal(signal.SIGSTOP)
    begin_at = own.log.stat().st_size
    os.kill(store, signal.SIGKILL)
    own.wait_logged("store is away", after=begin_at)  # and told the supervisor so, which does not listen
    own.signal(signal.SIGKILL)
    own.ended()
    assert eventually(lambda: not is_alive(worker))
