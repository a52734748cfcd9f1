"""What a provider receives, what becomes of its answer, and what of its failures a client is told."""

import json

import pytest
from provider_scripts import completion, failing, usage, whole
from raw_client import chat, chat_body, request_bytes

from conftest import MAIN_KEY, SECOND_KEY

CHAT = "/v1/chat/completions"
UNTOUCHED = (
    b'"seed":123456789012345678901234567890,"odd":"\\ud83d","spaced" : [ 1.0 , 1e5 ],"logit_bias":{"50256":-100},'
    b'"top_p":0.10,"tools":[{"type":"function","function":{"name":"f","strict":true}}],"tool_choice":"auto",'
    b'"chat_template_kwargs":{"enable_thinking":false},"response_format":{"type":"json_object"}'
)


def sent_as(provider, gateway, key, body: bytes):
    """The request as the provider got it."""
    provider.on("main", whole())
    with gateway.client() as client:
        answer = client.ask(request_bytes("POST", CHAT, body, key=key.secret))
    assert answer.status == 200, answer
    return provider.only(), answer


def test_the_model_is_called_by_its_provider_s_name(gateway, provider, key):
    provider.on("main", whole(model="name-upstream"))
    answer = key.ask("test/renamed")
    assert provider.only().json["model"] == "name-upstream"
    assert answer.json["model"] == "test/renamed"


def test_fields_that_are_not_ours_arrive_byte_for_byte(gateway, provider, key):
    messages = b'"messages":[{"role":"user","content":"caf\\u00e9 \\ud83d \xc3\xa9","name":"n", "x" : {"y":null}}]'
    exchange, _ = sent_as(provider, gateway, key, b'{"model":"same",' + messages + b"," + UNTOUCHED + b"}")
    assert messages.partition(b":")[2] in exchange.body
    for field in UNTOUCHED.split(b',"'):
        assert field.partition(b":")[2].strip() in exchange.body, field


def test_fields_keep_their_order(gateway, provider, key):
    body = b'{"seed":1,"messages":[{"role":"user","content":"x"}],"model":"same","a":2,"top_p":1}'
    exchange, _ = sent_as(provider, gateway, key, body)
    assert list(exchange.json) == ["seed", "messages", "model", "a", "top_p"]


def test_fields_that_go_behind_the_operator_s_back_are_dropped_and_named(gateway, provider, key):
    dropped = {"store": False, "service_tier": "x", "api_base": "http://evil", "fallbacks": [], "usage": {}}
    exchange, answer = sent_as(provider, gateway, key, chat_body(**dropped, top_k=3))
    assert exchange.json == {"model": "same", "messages": [{"role": "user", "content": "Hi."}], "top_k": 3}
    assert answer.header("x-gateway-ignored-params") == "store,service_tier,api_base,fallbacks,usage"


def test_an_answer_to_a_request_that_lost_nothing_names_nothing(gateway, provider, key):
    _, answer = sent_as(provider, gateway, key, chat_body())
    assert answer.header("x-gateway-ignored-params") is None


def test_metadata_and_the_wish_for_split_reasoning_stay_here(gateway, provider, key):
    exchange, answer = sent_as(provider, gateway, key, chat_body(metadata={"a": 1}, reasoning_split=False))
    assert set(exchange.json) == {"model", "messages"}
    assert answer.header("x-gateway-ignored-params") is None


def test_a_stream_s_usage_is_asked_for_beside_what_the_client_asked(gateway, provider, key):
    provider.on("main", lambda exchange: exchange.answer(completion("Hi.", usage(1, 1))))
    key.ask(stream=True, stream_options={"include_usage": False, "other": 1})
    assert provider.only().json["stream_options"] == {"include_usage": True, "other": 1}


def test_options_of_a_stream_that_is_none_are_not_sent(gateway, provider, key):
    exchange, _ = sent_as(provider, gateway, key, chat_body(stream=False, stream_options={"include_usage": True}))
    assert "stream_options" not in exchange.json


def test_the_provider_gets_the_operator_s_key_and_no_header_of_the_client(gateway, provider, key):
    provider.on("main", whole())
    spies = {"X-Spy": "1", "Cookie": "a=b", "User-Agent": "spy", "OpenAI-Organization": "o", "x_stainless_os": "L"}
    with gateway.client() as client:
        client.ask(request_bytes("POST", CHAT, chat_body(), key=key.secret, **spies, X_Forwarded_For="1.2.3.4"))
    exchange = provider.only()
    assert dict(exchange.headers) == {
        "host": f"127.0.0.1:{provider.port}",
        "authorization": f"Bearer {MAIN_KEY}",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-length": str(len(exchange.body)),
    }
    assert key.secret.encode() not in exchange.head + exchange.body


def test_a_provider_may_want_its_key_and_more_in_headers_of_its_own(gateway, provider, key):
    provider.on("second", whole())
    key.ask("second")
    headers = dict(provider.only().headers)
    assert (headers["api-key"], headers["x-operator"]) == (SECOND_KEY, "our-header")
    assert "authorization" not in headers


def test_a_provider_s_dialect_is_spoken(gateway, provider, key):
    body = {**completion("Hi.", usage(1, 1)), "vendor": "shy", "other": 1}
    provider.on("dialect", lambda exchange: exchange.answer(body))
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "developer"}]
    with gateway.client() as client:
        data = json.dumps({"model": "dialect", "messages": messages, "max_tokens": 5, "top_k": 1}).encode()
        answer = client.ask(request_bytes("POST", CHAT, data, key=key.secret))
    sent = provider.only().json
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, messages[1]]
    assert (sent["max_completion_tokens"], sent["safe_mode"]) == (5, True)
    assert not {"max_tokens", "top_k"} & set(sent)
    assert "vendor" not in answer.json
    assert answer.json["other"] == 1


def test_text_and_arguments_are_returned_byte_for_byte(gateway, provider, key):
    message = (
        b'{"role":"assistant","content":"caf\\u00e9 \xc3\xa9 \\ud83d\\/ \\u003c",'
        b'"annotations":[ {"x" : 1.0} ],"tool_calls":[{"id":"c","type":"function","function":{"name":"f",'
        b'"arguments":"{ \\"a\\" : 1.0 }"}}]}'
    )
    body = b'{"id":"x","object":"chat.completion","created":5,"model":"m","choices":[{"index":0,"message":' + message
    body += b',"finish_reason":"tool_calls","logprobs":{"content":[{"bytes":[1, 2]}]}}],"usage":{"prompt_tokens":1,'
    provider.on("main", lambda exchange: exchange.answer(body + b'"completion_tokens":1,"total_tokens":2}}'))
    came = key.ask().body
    for kept in (
        b'"caf\\u00e9 \xc3\xa9 \\ud83d\\/ \\u003c"',
        b'"{ \\"a\\" : 1.0 }"',
        b'[ {"x" : 1.0} ]',
        b'{"content":[{"bytes":[1, 2]}]}',
    ):
        assert kept in came


@pytest.mark.parametrize(
    ("status", "error", "code", "type_"),
    [
        (400, {"message": "top_k is no number", "param": "top_k"}, "provider_validation", "invalid_request_error"),
        (422, {"message": "bad"}, "provider_validation", "invalid_request_error"),
        (413, {"message": "big"}, "provider_validation", "invalid_request_error"),
        (400, {"message": "maximum context length is 5"}, "context_length_exceeded", "invalid_request_error"),
        (404, {"message": "no such param", "param": "x"}, "provider_validation", "invalid_request_error"),
        (403, {"message": "your input was flagged"}, "content_policy_violation", "invalid_request_error"),
        (401, {"message": "bad key"}, "provider_auth", "configuration_error"),
        (402, {"message": "pay"}, "provider_quota", "configuration_error"),
        (403, {"message": "no"}, "provider_auth", "configuration_error"),
        (404, {"message": "no model"}, "provider_model_missing", "configuration_error"),
        (307, {"message": "over there"}, "provider_auth", "configuration_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_that_the_client_or_the_operator_has_to_mend_is_400(
    gateway, provider, key, status, error, code, type_, stream
):
    provider.on("main", failing(status, **error))
    answer = key.ask(stream=stream)
    assert (answer.status, answer.error["code"], answer.error["type"]) == (400, code, type_)
    if type_ == "invalid_request_error":
        assert answer.error["message"] == error["message"]
    line = gateway.request_line(answer.request_id)
    assert (line["status"], line["usage_source"], line["cost_usd"], line["attempts"]) == (400, "none", "0", 1)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "upstream_error"),
        (502, "upstream_error"),
        (503, "upstream_overloaded"),
        (529, "upstream_overloaded"),
        (429, "upstream_rate_limited"),
        (504, "upstream_timeout"),
        (408, "upstream_timeout"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_of_the_provider_is_502_without_its_words(gateway, provider, key, status, code, stream):
    provider.on("main", failing(status, "inner host db-7 failed"))
    answer = key.ask(stream=stream)
    assert (answer.status, answer.error["code"], answer.error["type"]) == (502, code, "provider_error")
    assert b"db-7" not in answer.body
    assert answer.request_id in answer.error["message"]


def test_the_time_that_a_provider_wants_to_be_left_alone_is_passed_on(gateway, provider, key):
    provider.on("main", failing(429, headers={"Retry-After": "7"}))
    answer = key.ask()
    assert (answer.header("Retry-After"), answer.header("retry-after-ms")) == ("7", "7000")


def test_a_provider_s_words_reach_the_client_without_its_key_and_host(gateway, provider, key):
    said = f"No: {MAIN_KEY}, sk-abc123, admin@inner.example, http://inner:8000/v1, 127.0.0.1:{provider.port}"
    provider.on("main", failing(400, said))
    message = key.ask().error["message"]
    assert message.startswith("No: ")
    for secret in (MAIN_KEY, "sk-abc", "admin@", "inner", str(provider.port)):
        assert secret not in message


def test_credentials_that_a_provider_quotes_do_not_reach_client_or_log(gateway, provider, key):
    provider.on("main", failing(401, f"Incorrect API key {MAIN_KEY}"), failing(500, f"It was {MAIN_KEY}."))
    for code in ("provider_auth", "upstream_error"):
        answer = key.ask()
        assert answer.error["code"] == code
        assert MAIN_KEY.encode() not in answer.body
    gateway.request_line(answer.request_id)
    assert MAIN_KEY not in gateway.log.read_text()


BROKEN = {
    "HTML": b"<html>oops</html>",
    "no choices": b'{"id":"x","choices":[]}',
    "half of it": b'{"id":"x","choices":[{"mess',
    "nothing": b"",
    "a number": b"17",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_an_answer_that_is_none_is_502(gateway, provider, key, body, stream):
    provider.on("main", lambda exchange: exchange.answer(body))
    answer = key.ask(stream=stream)
    assert (answer.status, answer.error["type"]) == (502, "provider_error")
    assert answer.error["code"] in ("upstream_bad_response", "upstream_truncated")


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_in_an_answer_of_200_is_that_error(gateway, provider, key, stream):
    body = {"error": {"message": "slow down", "code": 429}}
    provider.on("main", lambda exchange: exchange.answer(body))
    answer = key.ask(stream=stream)
    assert (answer.status, answer.error["code"]) == (502, "upstream_rate_limited")


def test_blank_lines_before_an_answer_are_skipped(gateway, provider, key):
    body = b"\n\n\n" + json.dumps(completion("Hi.", usage(1, 1))).encode()
    provider.on("main", lambda exchange: exchange.answer(body))
    assert key.ask().json["choices"][0]["message"]["content"] == "Hi."


@pytest.mark.parametrize(
    ("told", "cost", "source"),
    [
        (usage(1000, 10, cached=400), "0.000576", "upstream"),
        (usage(1_000_000_000, 0), "800", "upstream"),
        ({"prompt_tokens": 10, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 50}}, "0.000002",
         "upstream"),
        (None, "0.0000056", "estimated"),
        ({"prompt_tokens": "12", "completion_tokens": 8}, "0.0000056", "estimated"),
        (usage(0, 0), "0.0000056", "estimated"),
    ],
)  # fmt: skip
def test_an_answer_is_priced_by_its_usage_or_else_by_its_length(gateway, provider, key, told, cost, source):
    """The estimate: 4 and a token per 4 bytes of the prompt (`Hi.`), a token per 4 bytes of the answer (`Hi.`)."""
    provider.on("main", lambda exchange: exchange.answer(completion("Hi.", told)))
    answer = key.ask()
    line = gateway.request_line(answer.request_id)
    assert (line["cost_usd"], line["usage_source"]) == (cost, source)
    assert key.settled().spent_nusd == round(float(cost) * 10**9)
    assert answer.json["usage"]["prompt_tokens"] == line["prompt_tokens"]


def test_what_the_client_sees_is_what_is_charged(gateway, provider, key):
    provider.on("main", whole("Hello.", usage(11, 5, cached=4)))
    answer = key.ask()
    line = gateway.request_line(answer.request_id)
    told = answer.json["usage"]
    assert (told["prompt_tokens"], told["completion_tokens"]) == (line["prompt_tokens"], line["completion_tokens"])
    assert line["cost_usd"] == "0.0000144"
    assert line["upstream_id"] == answer.json["id"]


def test_a_provider_that_is_down_is_502_at_once_and_costs_nothing(gateway, key):
    for stream in (False, True):
        answer = key.ask("down", stream=stream)
        assert (answer.status, answer.error["code"]) == (502, "upstream_unavailable")
        assert gateway.request_line(answer.request_id)["cost_usd"] == "0"
    assert (key.settled().spent_nusd, key.use().held_nusd) == (0, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_is_silent_is_502_when_its_time_is_over(gateway, provider, key, stream):
    provider.on("quick", lambda exchange: exchange.wait_gone())
    answer = key.ask("quick", stream=stream)
    assert (answer.status, answer.error["code"]) == (502, "upstream_timeout")


def test_no_parameters_of_a_chat_survive_from_one_request_to_the_next(gateway, provider, key):
    provider.on("main", whole())
    with gateway.client() as client:
        client.ask(chat(key.secret, temperature=1))
        client.ask(chat(key.secret))
    assert [set(exchange.json) for exchange in provider.asked()] == [
        {"model", "messages", "temperature"},
        {"model", "messages"},
    ]
