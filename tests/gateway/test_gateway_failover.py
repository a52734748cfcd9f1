"""Several places for one model: who is asked when one of them fails, and when nobody is asked any more."""

import json

import pytest
from provider_scripts import event, failing, role, streaming, talking, usage, whole, word

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
