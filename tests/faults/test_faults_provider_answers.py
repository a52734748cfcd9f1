"""Everything that a provider may answer with, byte by byte: what its client gets, and what is left in the books.

Each row names its fault; a provider has one route here, so that nothing is tried elsewhere.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator

import pytest
from provider_rows import Faulty, faulty_gateway
from provider_scripts import completion, event, finish, role, story, usage, word
from scripted_provider import DONE, Exchange

Script = Callable[[Exchange], object]
GOOD = json.dumps(completion("Hello.", usage(10, 5))).encode()
SHORT = "connect_timeout: 500ms, first_byte_timeout: 700ms, idle_timeout: 700ms"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    own = f'base_url: "{{url}}", api_key: "${{PROVIDER_KEY}}", headers: {{X-Own: "${{OPERATOR_HEADER}}"}}, {SHORT}'
    with faulty_gateway(
        tmp_path_factory.mktemp("answers"), {"main": own}, {"same": ["provider: main, model: same"]}
    ) as running:
        yield running


@pytest.fixture
def faulty(running: Faulty) -> Iterator[Faulty]:
    yield running
    running.provider.reset()


def sending(*pieces: bytes, then: str = "wait") -> Script:
    def script(exchange: Exchange) -> None:
        for piece in pieces:
            exchange.send(piece)
        {"wait": exchange.wait_gone, "close": exchange.close, "reset": exchange.reset}[then]()

    return script


def http(body: bytes, *lines: str, status: str = "200 OK", length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", *lines]
    head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n", lines: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{lines}\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


# name: (script, code, status)
BEFORE: dict[str, tuple[Script, int, str]] = {
    "U-03 nothing is said": (sending(), 502, "upstream_timeout"),
    "U-03 half a head": (sending(b"HTTP/1.1 200 OK\r\nContent-"), 502, "upstream_timeout"),
    "U-03 closed": (sending(then="close"), 502, "upstream_unavailable"),
    "U-03 reset": (sending(then="reset"), 502, "upstream_unavailable"),
    "U-05 not HTTP": (sending(b"SSH-2.0-canary-bytes\r\n\r\n"), 502, "upstream_bad_response"),
    "U-05 nul": (sending(b"\0" * 64), 502, "upstream_bad_response"),
    "U-05 HTTP/9": (sending(b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}"), 502, "upstream_bad_response"),
    "U-05 HTTP/2 preface": (sending(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 502, "upstream_bad_response"),
    "U-05 endless head": (sending(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000), 502, "upstream_bad_response"),
    "U-05 many headers": (
        sending(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000 + b"\r\n"),
        502,
        "upstream_bad_response",
    ),
    "U-06 short length": (sending(http(GOOD, length=len(GOOD) + 9), then="close"), 502, "upstream_truncated"),
    "U-06 short chunks": (sending(chunked(GOOD, end=b""), then="close"), 502, "upstream_truncated"),
    "U-06 reset": (sending(http(GOOD, length=len(GOOD) + 9), then="reset"), 502, "upstream_truncated"),
    "U-06 bad chunk size": (sending(chunked(GOOD, end=b"zz\r\n")), 502, "upstream_bad_response"),
    "U-06 length and chunks": (
        sending(chunked(GOOD, lines="Content-Length: 5\r\n")),
        502,
        "upstream_bad_response",
    ),
    "U-06 two lengths": (sending(http(GOOD, "Content-Length: 5")), 502, "upstream_bad_response"),
    "U-06 body stops": (sending(http(GOOD, length=len(GOOD) + 9)), 502, "upstream_timeout"),
    **{
        f"U-07 {status}": (sending(http(b'{"error":{"message":"db-7 broke"}}', status=f"{status} X")), 502, code)
        for status, code in {
            500: "upstream_error",
            501: "upstream_error",
            502: "upstream_error",
            503: "upstream_overloaded",
            504: "upstream_timeout",
            520: "upstream_error",
            599: "upstream_error",
            408: "upstream_timeout",
        }.items()
    },
    "U-08 429": (sending(http(b"{}", "Retry-After: 7", status="429 X")), 502, "upstream_rate_limited"),
    "U-08 529": (sending(http(b"{}", "Retry-After: 7", status="529 X")), 502, "upstream_overloaded"),
    "U-09 error in 200": (
        sending(http(b'{"error":{"message":"db-7 broke","code":500}}')),
        502,
        "upstream_error",
    ),
    "U-15 html": (sending(http(b"<html>db-7 broke</html>")), 502, "upstream_bad_response"),
    "U-15 empty": (sending(http(b"")), 502, "upstream_bad_response"),
    "U-16 gzip": (
        sending(http(gzip.compress(GOOD), "Content-Encoding: gzip")),
        502,
        "upstream_bad_response",
    ),
    "U-16 bomb": (
        sending(http(gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip")),
        502,
        "upstream_bad_response",
    ),
    "U-16 deflate": (
        sending(http(zlib.compress(GOOD), "Content-Encoding: x-unknown")),
        502,
        "upstream_bad_response",
    ),
    "U-20 099": (sending(http(GOOD, status="099 X")), 502, "upstream_bad_response"),
    "U-20 000": (sending(http(GOOD, status="000 X")), 502, "upstream_bad_response"),
    "U-20 600": (sending(http(GOOD, status="600 X")), 502, "upstream_error"),
    "U-20 999": (sending(http(GOOD, status="999 X")), 502, "upstream_error"),
    "U-20 1000": (sending(http(GOOD, status="1000 X")), 502, "upstream_bad_response"),
    "U-20 101": (
        sending(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + GOOD),
        502,
        "upstream_error",
    ),
    "U-20 1xx flood": (
        sending(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 1000 + http(GOOD)),
        502,
        "upstream_bad_response",
    ),
    "U-20 204": (sending(http(GOOD, status="204 No Content")), 502, "upstream_bad_response"),
    "U-20 205": (sending(http(b"", status="205 Reset")), 502, "upstream_bad_response"),
    "U-20 304": (sending(http(GOOD, status="304 Not Modified")), 400, "provider_auth"),
    "U-17 307": (
        sending(http(b"", "Location: http://169.254.169.254/latest/meta-data", status="307 X")),
        400,
        "provider_auth",
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("script", "status", "code"), BEFORE.values(), ids=BEFORE)
def test_before_the_first_word(faulty: Faulty, script: Script, status: int, code: str, stream: bool):
    faulty.provider.on("main", script)
    key = faulty.key()
    answer = key.ask(stream=stream)
    print(answer.status, answer.body[:300])
    traces = faulty.traces(key, answer.request_id)
    print(traces)
    assert (answer.status, answer.error["code"]) == (status, code)
