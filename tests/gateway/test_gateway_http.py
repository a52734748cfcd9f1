"""HTTP as clients of every kind speak it: versions, connections, bodies in pieces, and the public model listing."""

import gzip
import json

import pytest
from provider_scripts import completion, story, streaming, talking, usage, whole
from raw_client import chat, chat_body, request_bytes

CHAT = "/v1/chat/completions"
MODEL_KEYS = [
    "id", "name", "description", "date", "context_length", "max_completion_tokens", "is_moderated", "architecture",
    "pricing",
]  # fmt: skip


def test_the_listing_has_the_two_forms_of_the_same_models(gateway):
    with gateway.client() as client:
        body = client.ask(request_bytes("GET", "/v1/models")).json
    assert list(body) == ["object", "data", "models"]
    assert [list(model) for model in body["models"]] == [MODEL_KEYS] * len(body["models"])
    shown = [{name: model[name] for name in MODEL_KEYS} for model in body["data"]]
    assert shown == body["models"]
    prices = {"prompt": "0.0000008", "completion": "0.0000016", "input_cache_read": "0.0000002"}
    assert body["models"][0]["pricing"] == prices


def test_the_listing_says_nothing_of_where_models_run(gateway, all_providers):
    with gateway.client() as client:
        body = client.ask(request_bytes("GET", "/v1/models")).body.decode()
    assert "name-upstream" not in body
    assert '"routes"' not in body
    assert str(all_providers.port) not in body


@pytest.mark.parametrize("authorization", [None, "Bearer sk-wrong", "Basic x", ""])
def test_the_listing_needs_no_key_and_minds_no_wrong_one(gateway, authorization):
    with gateway.client() as client:
        assert client.ask(request_bytes("GET", "/v1/models", Authorization=authorization)).status == 200


@pytest.mark.parametrize("path", ["/v1/models/test/renamed", "/v1/models/test%2Frenamed", "/v1/models/test%2frenamed/"])
def test_a_model_is_found_with_its_slash_written_either_way(gateway, path):
    with gateway.client() as client:
        answer = client.ask(request_bytes("GET", path))
    assert answer.json["id"] == "test/renamed"
    assert answer.json["created"] == 1_735_776_000  # 2025-01-02


def test_a_model_that_is_not_there_is_404_and_names_the_parameter(gateway):
    with gateway.client() as client:
        answer = client.ask(request_bytes("GET", "/v1/models/none"))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/same", "/v1/models/none"])
def test_head_is_get_without_a_body(gateway, path):
    with gateway.client() as client:
        get = client.ask(request_bytes("GET", path))
        head = client.ask(request_bytes("HEAD", path), method="HEAD")
        again = client.ask(request_bytes("GET", path))
    assert head.status == get.status
    assert head.header("Content-Length") == get.header("Content-Length")
    assert again.body == get.body


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models?limit=1", "/v1/models/?beta=true&x=%00"])
def test_one_trailing_slash_and_any_query_change_nothing(gateway, path):
    with gateway.client() as client:
        assert client.ask(request_bytes("GET", path)).json["object"] == "list"


def test_a_chat_url_with_a_slash_and_a_query_is_served_without_a_redirect(gateway, provider, key):
    provider.on("main", whole())
    with gateway.client() as client:
        data = request_bytes("POST", f"{CHAT}/?beta=true", chat_body(), key=key.secret)
        assert client.ask(data).status == 200


def test_a_target_that_names_a_host_is_for_a_proxy_of_another_kind(gateway):
    with gateway.client() as client:
        answer = client.ask(request_bytes("GET", f"http://127.0.0.1:{gateway.api}/v1/models"))
    assert (answer.status, answer.error["code"]) == (400, "invalid_http")


def test_a_connection_serves_one_request_after_the_other(gateway, provider, key):
    provider.on("main", talking(["Hello."], usage(3, 1)))
    with gateway.client() as client:
        for number in range(3):
            answer = client.ask(chat(key.secret, stream=number == 1))
            assert answer.status == 200
            assert answer.header("Connection") is None
        assert client.ask(request_bytes("GET", "/nothing")).status == 404
        assert client.ask(chat(key.secret)).status == 200


def test_two_requests_sent_at_once_are_answered_in_order(gateway, provider, key):
    provider.on("main", whole("first"), whole("second"))
    with gateway.client() as client:
        client.send(chat(key.secret, content="1") + chat(key.secret, content="2") + request_bytes("GET", "/v1/models"))
        texts = [client.answer().json["choices"][0]["message"]["content"] for _ in range(2)]
        assert texts == ["first", "second"]
        assert client.answer().json["object"] == "list"


def test_a_stream_and_a_request_behind_it_do_not_mix(gateway, provider, key):
    provider.on("main", streaming(story(["One"], None)), whole("after"))
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True) + chat(key.secret))
        assert client.answer().text == "One"
        assert client.answer().json["choices"][0]["message"]["content"] == "after"


def test_a_client_that_asks_for_it_has_its_connection_closed(gateway, provider, key):
    provider.on("main", talking(["Hello."], usage(3, 1)))
    for stream in (False, True):
        data = request_bytes("POST", CHAT, chat_body(stream=stream), key=key.secret, Connection="close")
        with gateway.client() as client:
            answer = client.ask(data)
            assert answer.header("Connection") == "close"
            assert answer.complete
            assert client.ended()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_http_1_0_gets_a_body_without_chunks_that_ends_with_the_connection(gateway, provider, key, stream):
    provider.on("main", talking(["Hello", " you."], usage(3, 2)))
    data = request_bytes("POST", CHAT, chat_body(stream=stream), key=key.secret, version="1.0")
    with gateway.client() as client:
        answer = client.ask(data)
        assert answer.status == 200
        assert answer.header("Transfer-Encoding") is None
        assert client.ended()
    if stream:
        assert answer.text == "Hello you."
    else:
        assert answer.json["choices"][0]["message"]["content"] == "Hello you."


def test_a_client_that_waits_for_it_is_told_to_send_its_body(gateway, provider, key):
    provider.on("main", whole())
    body = chat_body()
    head = request_bytes("POST", CHAT, key=key.secret, Content_Length=str(len(body)), Expect="100-continue")
    with gateway.client() as client:
        assert client.ask(head).status == 100
        assert client.ask(body).status == 200


def test_a_client_that_waits_is_refused_before_it_sent_its_body_and_the_connection_ends(gateway):
    head = request_bytes("POST", CHAT, Content_Length="100000", Expect="100-continue")
    with gateway.client() as client:
        answer = client.ask(head)
        assert answer.status == 401
        assert answer.header("Connection") == "close"
        assert client.ended()


def test_a_body_of_chunks_is_read(gateway, provider, key):
    provider.on("main", whole())
    body = chat_body(content="In chunks.")
    parts = [body[start : start + 7] for start in range(0, len(body), 7)]
    data = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\n"
    head = request_bytes("POST", CHAT, key=key.secret, Transfer_Encoding="chunked")
    with gateway.client() as client:
        assert client.ask(head + data).status == 200
    assert provider.only().json["messages"][0]["content"] == "In chunks."


def test_a_request_that_comes_byte_by_byte_is_read(gateway, provider, key):
    provider.on("main", whole())
    with gateway.client() as client:
        client.sock.setsockopt(6, 1, 1)  # TCP_NODELAY: each byte travels alone
        for byte in chat(key.secret, content="Slowly."):
            client.send(bytes([byte]))
        assert client.answer().status == 200
    assert provider.only().json["messages"][0]["content"] == "Slowly."


def test_a_large_body_within_the_limit_is_passed_on_whole(gateway, provider, key):
    provider.on("main", whole())
    content = "word " * 200_000
    assert key.ask(content=content).status == 200
    assert provider.only().json["messages"][0]["content"] == content


def test_a_large_compressed_body_within_the_limit_is_passed_on_whole(gateway, provider, key):
    provider.on("main", whole())
    content = "word " * 150_000
    packed = gzip.compress(chat_body(content=content))
    with gateway.client() as client:
        answer = client.ask(request_bytes("POST", CHAT, packed, key=key.secret, Content_Encoding="gzip"))
    assert answer.status == 200
    assert provider.only().json["messages"][0]["content"] == content


@pytest.mark.parametrize(
    "kind", [None, "application/json; charset=UTF-8", "application/vnd.api+json", "APPLICATION/JSON"]
)
def test_json_is_taken_under_all_its_names(gateway, provider, key, kind):
    provider.on("main", whole())
    with gateway.client() as client:
        answer = client.ask(request_bytes("POST", CHAT, chat_body(), key=key.secret, Content_Type=kind))
    assert answer.status == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bEaReR", "Api-Key", "api-key"])
@pytest.mark.parametrize("gap", [" ", "  \t "])
def test_a_key_is_taken_under_both_schemes_however_they_are_spelt(gateway, provider, key, scheme, gap):
    provider.on("main", whole())
    data = request_bytes("POST", CHAT, chat_body(), Authorization=f"{scheme}{gap}{key.secret} ")
    with gateway.client() as client:
        assert client.ask(data).status == 200


@pytest.mark.parametrize("accept", ["text/plain", "application/json", "text/event-stream;q=0"])
def test_what_a_client_says_it_accepts_is_not_looked_at(gateway, provider, key, accept):
    provider.on("main", streaming(story(["One"], None)))
    data = request_bytes("POST", CHAT, chat_body(stream=True), key=key.secret, Accept=accept)
    with gateway.client() as client:
        answer = client.ask(data)
    assert answer.header("Content-Type") == "text/event-stream; charset=utf-8"
    assert answer.header("Cache-Control") == "no-cache"
    assert answer.header("X-Accel-Buffering") == "no"
    assert answer.header("Content-Length") is None


def test_an_id_that_a_client_sends_is_logged_beside_ours_and_never_taken_over(gateway, provider, key):
    provider.on("main", whole())
    data = request_bytes("POST", CHAT, chat_body(), key=key.secret, X_Client_Request_Id="mine-1", x_request_id="forged")
    with gateway.client() as client:
        answer = client.ask(data)
    assert answer.request_id.startswith("req_")
    assert gateway.request_line(answer.request_id)["client_request_id"] == "mine-1"


def test_no_two_requests_have_the_same_id(gateway):
    with gateway.client() as client:
        ids = [client.ask(request_bytes("GET", "/v1/models")).request_id for _ in range(50)]
    assert len(set(ids)) == 50


def test_an_answer_of_several_megabytes_arrives_whole(gateway, provider, key):
    text = "0123456789" * 500_000
    provider.on("main", whole(text))
    assert key.ask().json["choices"][0]["message"]["content"] == text


def test_the_first_keys_of_an_answer_are_the_documented_ones(gateway, provider, key):
    body = {**completion("Hi.", usage(1, 1)), "system_fingerprint": "fp", "service": "x"}
    provider.on("main", lambda exchange: exchange.answer(body))
    assert list(key.ask().json) == [
        "id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service",
    ]  # fmt: skip


def test_a_provider_s_headers_do_not_reach_the_client(gateway, provider, key):
    hidden = {"Set-Cookie": "a=b", "Server": "secret/1", "x-ratelimit-limit-requests": "7", "x-request-id": "theirs"}
    body = json.dumps(completion("Hi.", usage(1, 1))).encode()
    provider.on("main", lambda exchange: exchange.answer(body, 200, **hidden))
    answer = key.ask()
    names = {name.lower() for name, _ in answer.headers}
    assert names == {"content-type", "content-length", "x-request-id", "date"}
    assert answer.request_id.startswith("req_")
