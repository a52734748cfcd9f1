"""Every answer of the API's port, seen on the socket: one envelope, one id, and nothing of what was sent in it."""

import gzip
import json
import zlib

import pytest
from gateway_process import Gateway
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from provider_scripts import whole
from raw_client import RawClient, chat, chat_body, request_bytes

from proxy.accounts import mint_key

CHAT = "/v1/chat/completions"
ECHO = "tell-tale-9c1f"
"""Part of everything that is sent wrongly here; no answer and no log line may hold it."""


def asked(gateway: Gateway, data: bytes, method: str = "POST"):
    """The answer to these bytes, checked for what holds of every refusal."""
    with gateway.client() as client:
        answer = client.ask(data, method=method)
    if method != "HEAD":
        assert answer.error
    assert answer.request_id.startswith("req_")
    assert len(answer.request_id) == 30
    assert answer.header("Content-Type") == "application/json"
    assert ECHO.encode() not in answer.body
    assert b"Traceback" not in answer.body
    return answer


def refused(gateway: Gateway, data: bytes, status: int, code: str, param: str | None = None, **more: str):
    answer = asked(gateway, data, **more)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (status, code, param), answer
    return answer


@pytest.mark.parametrize("path", ["/", f"/{ECHO}", "/v1", "/v1/chat", "/v1/response", "/v2/models", "/v1/models-x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_that_is_not_there_is_404(gateway, path, method):
    refused(gateway, request_bytes(method, path), 404, "unknown_url", method=method)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("DELETE", CHAT, "POST"),
        ("OPTIONS", CHAT, "POST"),
        ("GET", "/v1/responses", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/v1/models/same", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405_and_told_which_it_takes(gateway, method, path, allowed):
    answer = refused(gateway, request_bytes(method, path), 405, "method_not_allowed")
    assert answer.header("Allow") == allowed


NO_KEYS = {
    "another scheme": f"Basic {ECHO}",
    "no key": "Bearer",
    "an empty key": "Bearer   ",
    "two words": f"Bearer {ECHO} {ECHO}",
    "a key of another form": f"Bearer {ECHO}",
    "a key whose check digits are wrong": "Bearer sk-aion-acme-" + "0" * 38,
    "a key that is too long": "Bearer " + "x" * 513,
    "not ASCII": "Bearer \xe9\xe9",
}


@pytest.mark.parametrize("value", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_is_401_with_one_text(gateway, value):
    answer = refused(gateway, request_bytes("POST", CHAT, chat_body(), Authorization=value), 401, "invalid_api_key")
    assert answer.error["message"] == "The API key is not valid; check it, or ask for a new one."
    assert answer.header("WWW-Authenticate") == "Bearer"


def test_a_request_without_a_key_is_401_and_told_how_to_send_one(gateway):
    answer = refused(gateway, request_bytes("POST", CHAT, chat_body()), 401, "missing_api_key")
    assert answer.header("WWW-Authenticate") == "Bearer"
    assert "Authorization: Bearer" in answer.error["message"]


@pytest.mark.parametrize("place", ["x-api-key", "api-key"])
def test_a_key_in_another_header_is_no_key(gateway, key, place):
    data = request_bytes("POST", CHAT, chat_body(), **{place: key.secret})
    refused(gateway, data, 401, "missing_api_key")


def test_a_key_in_the_query_is_no_key(gateway, key):
    refused(gateway, request_bytes("POST", f"{CHAT}?api_key={key.secret}", chat_body()), 401, "missing_api_key")


def test_two_authorization_headers_are_401_even_if_both_are_good(gateway, key):
    one = f"Authorization: Bearer {key.secret}\r\n".encode()
    data = request_bytes("POST", CHAT, chat_body()).replace(b"Host:", one + one + b"Host:")
    refused(gateway, data, 401, "invalid_api_key")


def test_an_unknown_key_and_a_revoked_one_cannot_be_told_apart(gateway, provider, key):
    other = gateway.new_key(account=key.account)
    gateway.command("keys", "revoke", other.key_id)
    revoked = refused(gateway, chat(other.secret), 401, "invalid_api_key")
    unknown = refused(gateway, chat(mint_key("nobody", bytes(24))), 401, "invalid_api_key")
    assert revoked.error == unknown.error
    assert [name for name, _ in revoked.headers] == [name for name, _ in unknown.headers]


BAD_BODIES = {
    "not JSON": (b'{"model": ' + ECHO.encode(), "invalid_json", None),
    "not an object": (b'["' + ECHO.encode() + b'"]', "invalid_json", None),
    "NaN": (b'{"model":"same","messages":[],"temperature":NaN}', "invalid_json", None),
    "bad UTF-8": (b'{"model":"\xff\xfe"}', "invalid_json", None),
    "too deep": (b'{"x":' + b"[" * 200 + b"]" * 200 + b"}", "invalid_json", None),
    "very deep": (b"[" * 500_000, "invalid_json", None),
    "no model": (b'{"messages":[{"role":"user","content":"x"}]}', "missing_parameter", "model"),
    "no messages": (b'{"model":"same"}', "missing_parameter", "messages"),
    "a role that there is none of": (
        json.dumps({"model": "same", "messages": [{"role": ECHO, "content": "x"}]}).encode(),
        "invalid_value",
        "messages[0].role",
    ),
    "a stream that is no boolean": (chat_body(stream=ECHO), "invalid_value", "stream"),
    "a temperature that is no number": (chat_body(temperature=ECHO), "invalid_value", "temperature"),
    "a model that there is none of": (chat_body(model=ECHO), "model_not_found", "model"),
    "no bytes": (b"", "invalid_json", None),
}


@pytest.mark.parametrize(("body", "code", "param"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_is_wrong_is_400_and_told_where(gateway, provider, key, body, code, param):
    data = request_bytes("POST", CHAT, body, key=key.secret)
    assert refused(gateway, data, 400, code, param).error["type"] == "invalid_request_error"


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/json; charset=latin-1"])
def test_a_body_that_is_not_called_json_is_415(gateway, key, kind):
    refused(
        gateway, request_bytes("POST", CHAT, chat_body(), key=key.secret, Content_Type=kind),
        415, "unsupported_media_type",
    )  # fmt: skip


def test_a_coding_that_nobody_knows_is_415(gateway, key):
    data = request_bytes("POST", CHAT, chat_body(), key=key.secret, Content_Encoding="rot13")
    refused(gateway, data, 415, "unsupported_media_type")


def test_a_body_whose_length_is_told_and_too_large_is_413_before_it_is_sent(gateway, key):
    head = request_bytes("POST", CHAT, key=key.secret, Content_Length=str(2**20 + 1))
    answer = refused(gateway, head, 413, "request_too_large")
    assert answer.header("Connection") == "close"


def test_a_body_of_chunks_that_grows_too_large_is_413_before_its_end(gateway, key):
    head = request_bytes("POST", CHAT, key=key.secret, Transfer_Encoding="chunked", Content_Type="application/json")
    block = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = refused(gateway, head + block * 17, 413, "request_too_large")
    assert answer.header("Connection") == "close"


def test_a_small_body_that_unpacks_to_a_large_one_is_413(gateway, key):
    body = gzip.compress(b" " * 30_000_000)
    data = request_bytes("POST", CHAT, body, key=key.secret, Content_Encoding="gzip")
    refused(gateway, data, 413, "request_too_large")


def test_a_body_that_cannot_be_unpacked_is_400(gateway, key):
    data = request_bytes("POST", CHAT, ECHO.encode() * 50, key=key.secret, Content_Encoding="gzip")
    refused(gateway, data, 400, "invalid_body")


def test_nothing_is_parsed_for_a_caller_without_a_key(gateway):
    data = request_bytes("POST", CHAT, b"{" * 100, Content_Type="text/nonsense")
    refused(gateway, data, 401, "missing_api_key")


MALFORMED = {
    "no request at all": f"{ECHO}\r\n\r\n".encode(),
    "a method of strange bytes": f"G\x01T /{ECHO} HTTP/1.1\r\n\r\n".encode(),
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + ECHO.encode() + b"\r\n\r\n",
    "a version that there is none of": f"GET /{ECHO} HTTP/9.9\r\nHost: x\r\n\r\n".encode(),
    "a header without a colon": f"GET / HTTP/1.1\r\n{ECHO}\r\n\r\n".encode(),
    "a header name with a blank": f"GET / HTTP/1.1\r\nA {ECHO} : x\r\n\r\n".encode(),
    "a folded header": f"GET / HTTP/1.1\r\nA: x\r\n {ECHO}\r\n\r\n".encode(),
    "a length that is no number": f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {ECHO}\r\n\r\n".encode(),
    "two lengths": f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".encode(),
    "a length and chunks": f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    f"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
    "a bare line feed in a header": f"GET / HTTP/1.1\r\nA: x\n{ECHO}: y\r\n\r\n".encode(),
    "a null byte in a header": f"GET / HTTP/1.1\r\nA: x\0{ECHO}\r\n\r\n".encode(),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_http_is_400_in_the_envelope_and_ends_the_connection(gateway, data):
    with gateway.client() as client:
        answer = client.ask(data)
        assert answer.status == (505 if b"HTTP/9.9" in data else 400)
        assert answer.error["type"] == "invalid_request_error"
        assert answer.request_id
        assert ECHO.encode() not in answer.body
        assert answer.header("Connection") == "close"
        assert client.ended()


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (f"GET /{ECHO * 1000} HTTP/1.1\r\n\r\n".encode(), 414, "uri_too_long"),
        (f"GET / HTTP/1.1\r\nA: {ECHO * 2000}\r\n\r\n".encode(), 431, "request_header_too_large"),
    ],
    ids=["a long target", "a long header"],
)
def test_a_head_that_is_too_long_is_refused_in_the_envelope(gateway, data, status, code):
    answer = asked(gateway, data)
    assert (answer.status, answer.error["code"]) == (status, code)


def test_garbage_after_a_good_request_is_refused_after_its_answer(gateway, provider, key):
    provider.on("main", whole())
    with gateway.client() as client:
        assert client.ask(chat(key.secret)).status == 200
        assert client.ask(b"\0garbage\r\n\r\n").error["code"] == "invalid_http"
        assert client.ended()


def test_chunks_that_are_none_are_400(gateway, provider, key):
    head = request_bytes("POST", CHAT, key=key.secret, Transfer_Encoding="chunked", Content_Type="application/json")
    answer = asked(gateway, head + b"5\r\nabcdefgh" + ECHO.encode() + b"\r\n\r\n")
    assert answer.status == 400


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=200))
def test_whatever_bytes_come_the_answer_is_an_envelope_or_nothing(shared_gateway, data):
    with RawClient(shared_gateway.api) as client:
        client.send(data)
        client.sock.shutdown(1)
        came = client.rest()
    assert came == b"" or b'{"error":{' in came
    assert b"Traceback" not in came


def test_a_compressed_body_is_read(gateway, provider, key):
    provider.on("main", whole())
    for coding, packed in (("gzip", gzip.compress(chat_body())), ("deflate", zlib.compress(chat_body()))):
        data = request_bytes("POST", CHAT, packed, key=key.secret, Content_Encoding=coding)
        with gateway.client() as client:
            assert client.ask(data).status == 200
        assert provider.asked()[-1].json["messages"] == [{"role": "user", "content": "Hi."}]


def test_nothing_that_was_refused_here_is_in_the_log(gateway):
    with gateway.client() as client:
        client.ask(request_bytes("GET", f"/{ECHO}"))
    assert ECHO not in gateway.log.read_text()
