"""How a stream ends that its provider does not end: before the first word as an answer, after it as an event, never in
silence.
"""

import json
import threading

import pytest
from provider_scripts import completion, finish, role, story, streaming, usage, word
from raw_client import chat
from scripted_provider import DONE

ASK_USAGE = {"include_usage": True}

ERRORS = {
    "an error event": b'data: {"error":{"message":"db-7 broke","code":500}}\n\n',
    "an error event of an older form": b'data: {"object":"error","message":"db-7 broke","code":500}\n\n',
    "an error in a field of its own": b'error: {"code":500,"message":"db-7 broke"}\n\n',
    "an ending that is an error": finish("error"),
    "three events that are no JSON": b'data: {"error": db-7\n\n' * 3,
}


@pytest.mark.parametrize("failure", ERRORS.values(), ids=ERRORS)
def test_an_error_after_the_first_word_is_the_last_event_but_one(gateway, provider, key, failure):
    provider.on("main", streaming([role(), word("Once"), word(" upon"), failure]))
    with gateway.client() as client:
        answer = client.ask(chat(key.secret, stream=True, stream_options=ASK_USAGE))
        assert answer.complete
        *chunks, error, done = answer.events
        assert (done, answer.body[-14:]) == (b"[DONE]", DONE)
        told = json.loads(error)
        assert list(told) == ["error"]
        assert told["error"]["type"] == "provider_error"
        assert answer.request_id in told["error"]["message"]
        assert "".join(json.loads(c)["choices"][0]["delta"].get("content", "") for c in chunks) == "Once upon"
        assert b"db-7" not in answer.body
        assert b"prompt_tokens" not in answer.body
    line = gateway.request_line(answer.request_id)
    assert (line["status"], line["ending"], line["usage_source"]) == (200, "upstream_error", "estimated")
    assert (line["prompt_tokens"], line["completion_tokens"]) == (5, 3)


EVENTS = story(["Once", " upon"], usage(7, 3))


@pytest.mark.parametrize("sent", range(len(EVENTS)))
@pytest.mark.parametrize("cut", ["closed", "ended"])
def test_a_provider_that_dies_at_any_event_leaves_no_silent_end(gateway, provider, key, sent, cut):
    """Before the first word: an answer with a status. After the finish reason: the stream is whole. Between: an error
    event.
    """

    def dying(exchange):
        exchange.start_stream()
        if sent:
            exchange.chunk(b"".join(EVENTS[:sent]))
        {"closed": exchange.close, "ended": exchange.end_stream}[cut]()

    provider.on("main", dying)
    answer = key.ask(stream=True)
    if sent <= 1:
        assert (answer.status, answer.error["type"]) == (502, "provider_error")
        return
    assert answer.events[-1] == b"[DONE]"
    error = json.loads(answer.events[-2]).get("error")
    line = gateway.request_line(answer.request_id)
    if sent < 4:
        assert error["code"] == "upstream_truncated"
        assert (line["ending"], line["usage_source"]) == ("upstream_truncated", "estimated")
    else:
        assert error is None
        assert line["ending"] == "complete"
    if sent == 5:
        assert (line["prompt_tokens"], line["completion_tokens"]) == (7, 3)


def test_a_connection_that_is_reset_in_the_middle_of_a_stream_is_an_error_event(gateway, provider, key):
    read = threading.Event()

    def resetting(exchange):
        exchange.start_stream()
        exchange.chunk(role() + word("Once"))
        exchange.wait(read)
        exchange.reset()

    provider.on("main", resetting)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        client.head()
        client.body_until(b"Once")
        read.set()
        assert b'"code":"upstream_truncated"' in client.stream_rest()
    assert gateway.only_line_of(key)["ending"] == "upstream_truncated"


def test_a_stream_that_falls_silent_is_ended_with_an_error_when_its_time_is_over(gateway, provider, key):
    def silent(exchange):
        exchange.start_stream()
        exchange.chunk(role("quick") + word("Once", "quick"))
        exchange.wait_gone()

    provider.on("quick", silent)
    answer = key.ask("quick", stream=True)
    assert json.loads(answer.events[-2])["error"]["code"] == "upstream_timeout"
    assert gateway.request_line(answer.request_id)["ending"] == "upstream_error"


def test_a_stream_of_no_choices_is_no_answer(gateway, provider, key):
    provider.on("main", streaming([DONE]))
    answer = key.ask(stream=True)
    assert (answer.status, answer.error["code"]) == (502, "upstream_bad_response")


def test_a_completion_that_says_error_at_its_end_is_502_when_nothing_was_sent_yet(gateway, provider, key):
    body = completion("Half", usage(1, 1))
    body["choices"][0]["finish_reason"] = "error"
    provider.on("main", lambda exchange: exchange.answer(body))
    assert key.ask(stream=True).status == 502
