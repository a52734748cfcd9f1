"""Everything that a provider may answer before its first word, byte by byte: what its client gets, and what is left in
the books.

The model has one route, so that nothing is tried elsewhere. Each row begins with its fault's number.
"""

import gzip
import json
import threading
from collections.abc import Iterator

import pytest
from provider_rows import (
    HOST,
    OPERATOR_HEADER,
    OWN,
    PATH,
    PROVIDER_KEY,
    Faulty,
    Script,
    chunked,
    faulty_gateway,
    http,
    on,
    sending,
)
from provider_scripts import completion, role, usage
from scripted_provider import PATIENCE

GOOD = json.dumps(completion("Hello.", usage(10, 5))).encode()
ROLE = role()
SAID = f"db-7 at {HOST} broke: key {PROVIDER_KEY}, {OPERATOR_HEADER}, http://{HOST}/{PATH}".encode()
BROKE = json.dumps({"error": {"message": SAID.decode()}}).encode()
BROKE_IN_200 = json.dumps({"error": {"message": SAID.decode(), "code": 500}}).encode()
TIMEOUT, TRUNCATED, BAD = "upstream_timeout", "upstream_truncated", "upstream_bad_response"
ERROR, BUSY, GONE = "upstream_error", "upstream_overloaded", "upstream_unavailable"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    models = {"same": ["provider: main, model: same"]}
    with faulty_gateway(tmp_path_factory.mktemp("answers"), {"main": OWN}, models) as running:
        yield running


@pytest.fixture
def faulty(running: Faulty) -> Iterator[Faulty]:
    yield running
    running.provider.reset()


FAILURES: dict[str, tuple[Script, str]] = {
    "U-03 nothing is said": (sending(), TIMEOUT),
    "U-03 half a head": (sending(b"HTTP/1.1 200 OK\r\nContent-"), TIMEOUT),
    "U-03 closed": (sending(then="close"), GONE),
    "U-03 reset": (sending(then="reset"), GONE),
    "U-03 closed in the head": (sending(b"HTTP/1.1 200 OK\r\nContent-", then="close"), TRUNCATED),
    "U-05 another protocol": (sending(b"SSH-2.0-" + SAID + b"\r\n\r\n"), BAD),
    "U-05 zeros": (sending(b"\0" * 64), BAD),
    "U-05 HTTP/9": (sending(b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}"), BAD),
    "U-05 HTTP/2": (sending(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), BAD),
    "U-05 a status that is no number": (sending(b"HTTP/1.1 " + SAID + b"\r\n\r\n"), BAD),
    "U-05 an endless header": (sending(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000), BAD),
    "U-05 headers without end": (sending(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000), BAD),
    "U-06 shorter than its length": (sending(http(ROLE, length=len(GOOD)), then="close"), TRUNCATED),
    "U-06 without its last chunk": (sending(chunked(ROLE, end=b""), then="close"), TRUNCATED),
    "U-06 reset": (sending(http(ROLE, length=len(GOOD)), then="reset"), TRUNCATED),
    "U-06 a chunk's size that is no number": (sending(chunked(GOOD[:50], end=b"zz\r\n")), BAD),
    "U-06 a length and chunks": (sending(chunked(GOOD, lines="Content-Length: 5\r\n")), BAD),
    "U-06 two lengths": (sending(http(GOOD, "Content-Length: 5")), BAD),
    "U-04 the body stops": (sending(http(GOOD[:50], length=len(GOOD))), TIMEOUT),
    **{
        f"U-07 {status}": (sending(http(BROKE, status=f"{status} X")), code)
        for status, code in {
            **dict.fromkeys((500, 501, 502, 505, 520, 599), ERROR),
            503: BUSY,
            504: TIMEOUT,
            408: TIMEOUT,
        }.items()
    },
    "U-07 500 whose body is cut": (sending(http(BROKE[:9], status="500 X", length=99), then="close"), ERROR),
    "U-07 500 whose body stops": (sending(http(BROKE[:9], status="500 X", length=99)), ERROR),
    "U-07 500 without end": (sending(http(b"x" * 100_000, status="500 X", length=10**9)), ERROR),
    "U-07 500, compressed": (sending(http(gzip.compress(BROKE), "Content-Encoding: gzip", status="500 X")), ERROR),
    "U-08 429": (sending(http(BROKE, status="429 X")), "upstream_rate_limited"),
    "U-08 529": (sending(http(BROKE, status="529 X")), BUSY),
    "U-09 an error in a 200": (sending(http(BROKE_IN_200)), ERROR),
    "U-15 HTML": (sending(http(b"<html>" + SAID)), BAD),
    "U-15 an answer without choices": (sending(http(b'{"id":"x"}')), BAD),
    "U-16 gzip": (sending(http(gzip.compress(GOOD), "Content-Encoding: gzip")), BAD),
    "U-16 a bomb": (sending(http(gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip")), BAD),
    "U-16 two codings": (sending(http(GOOD, "Content-Encoding: gzip, br")), BAD),
    "U-20 000": (sending(http(GOOD, status="000 X")), BAD),
    "U-20 099": (sending(http(GOOD, status="099 X")), BAD),
    "U-20 600": (sending(http(GOOD, status="600 X")), ERROR),
    "U-20 999": (sending(http(GOOD, status="999 X")), ERROR),
    "U-20 1000": (sending(http(GOOD, status="1000 X")), BAD),
    "U-20 101": (sending(http(GOOD, "Upgrade: x", "Connection: Upgrade", status="101 Switching")), ERROR),
    "U-20 a flood of 103": (sending(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" * 1000 + http(GOOD)), BAD),
    "U-20 a flood of 100": (sending(b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + http(GOOD)), BAD),
}  # fmt: skip


@pytest.mark.parametrize(("script", "code"), FAILURES.values(), ids=FAILURES)
def test_a_provider_that_fails_before_its_first_word_is_a_502(faulty, script, code):
    """Nothing of what it said is passed on, nothing is charged, and the books say that it was asked."""
    on(faulty, "main", script)
    answers = [faulty.ask(stream=stream) for stream in (False, True)]
    for answer in answers:
        assert answer.complete
        assert (answer.status, answer.error["type"], answer.error["code"]) == (502, "provider_error", code)
        assert b"db-7" not in answer.body
        traces = faulty.traces(answer.request_id)
        assert (traces.ending, traces.attempts) == ("upstream_error", 1)
        assert (traces.row["status"], traces.row["usage_source"], traces.row["cost_pusd"]) == (502, "none", 0)


@pytest.mark.parametrize(("stream", "code"), [(False, BAD), (True, TRUNCATED)], ids=["whole", "stream"])
@pytest.mark.parametrize("empty", [http(b""), http(GOOD, status="204 No Content"), http(b"", status="205 Reset")])
def test_an_answer_without_a_body_is_no_answer_u15_u20(faulty, empty, stream, code):
    on(faulty, "main", sending(empty))
    answer = faulty.ask(stream=stream)
    assert (answer.status, answer.error["code"]) == (502, code)
    assert faulty.traces(answer.request_id).row["cost_pusd"] == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
def test_a_redirect_is_never_followed_u17(faulty, status):
    on(
        faulty,
        "main",
        sending(http(b"", f"Location: http://127.0.0.1:{faulty.provider.port}/stolen/v1", status=f"{status} X")),
    )
    answer = faulty.ask()
    assert (answer.status, answer.error["type"]) == (400, "configuration_error")
    assert {exchange.path.split("/")[1] for exchange in faulty.provider.asked()} == {"canary-path-main"}
    assert faulty.traces(answer.request_id).row["cost_pusd"] == 0


@pytest.mark.parametrize(("status", "code"), [(429, "upstream_rate_limited"), (529, BUSY), (503, BUSY)])
def test_a_provider_s_retry_after_is_passed_on_u08(faulty, status, code):
    on(faulty, "main", sending(http(b"{}", "Retry-After: 7", status=f"{status} X")))
    answer = faulty.ask()
    assert (answer.status, answer.error["code"], answer.header("Retry-After")) == (502, code, "7")


@pytest.mark.parametrize("stream", [False, True])
def test_the_words_of_a_refusal_are_shown_without_what_is_nobody_s_business(faulty, stream):
    on(faulty, "main", sending(http(BROKE, status="400 Bad Request")))
    answer = faulty.ask(stream=stream)
    assert (answer.status, answer.error["code"]) == (400, "provider_validation")
    assert answer.error["message"].startswith("db-7 at [removed] broke: key [removed]")


ODD_HEADERS = {
    "U-19 no ASCII": "X-Odd: \xff\xfe",
    "U-19 names of ours": "x-request-id: req_forged\r\nSet-Cookie: a\r\nx-ratelimit-limit-tokens: 1\r\nRetry-After: 1",
    "U-19 a thousand": "\r\n".join(f"X-{number}: y" for number in range(1000)),
}


@pytest.mark.parametrize("lines", ODD_HEADERS.values(), ids=ODD_HEADERS)
def test_no_header_of_a_provider_reaches_a_client(faulty, lines):
    on(faulty, "main", sending(http(GOOD)), sending(http(GOOD, lines)))
    plain, odd = faulty.ask(), faulty.ask()
    assert plain.status == odd.status == 200
    assert [name for name, _ in odd.headers] == [name for name, _ in plain.headers]
    assert odd.request_id != "req_forged"


@pytest.mark.parametrize(
    "lines", ["X-Odd: a\0b", "X-Odd: a\rb", "X-Odd: a\x01b", "X-Odd: a\r\n b", "X-Odd : b", "X Odd: b", "X-Odd", ": b"]
)
def test_headers_that_are_none_make_no_answer_u19(faulty, lines):
    on(faulty, "main", sending(http(GOOD, lines)))
    answer = faulty.ask()
    assert (answer.status, answer.error["code"]) == (502, BAD)


def test_a_few_informational_answers_are_passed_over_u20(faulty):
    on(faulty, "main", sending(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 8, http(GOOD)))
    assert faulty.ask().status == 200


def test_a_body_behind_an_answer_that_has_none_closes_the_connection_u20(faulty):
    on(faulty, "main", sending(http(GOOD, status="204 No Content")), sending(http(GOOD)))
    assert faulty.ask().status == 502
    answer = faulty.ask()
    assert (answer.status, answer.json["usage"]["completion_tokens"]) == (200, 5)
    assert len({exchange.connection for exchange in faulty.provider.asked()}) == 2


@pytest.mark.parametrize("poison", [http(GOOD.replace(b"Hello", b"POISON")), b"HTTP/1.1 200", b"\r\n\0", b"x"])
@pytest.mark.parametrize("later", [False, True], ids=["at once", "a moment later"])
def test_what_nobody_asked_for_is_served_to_nobody_u18(faulty, poison, later):
    poisoned = threading.Semaphore(0)

    def poisoning(exchange):
        for piece in (http(GOOD), poison) if later else (http(GOOD) + poison,):
            exchange.send(piece)
        poisoned.release()

    on(faulty, "main", poisoning)
    for _ in range(5):
        answer = faulty.ask()
        assert answer.json["choices"][0]["message"]["content"] == "Hello."
        assert poisoned.acquire(timeout=PATIENCE)
    assert len({exchange.connection for exchange in faulty.provider.asked()}) == 5
