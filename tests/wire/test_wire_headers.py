"""The heads of answers and requests: each line as promised, and nothing in them that somebody else wrote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ErrorType, Fault
from proxy.limits import Remaining
from proxy.wire.headers import (
    MAX_IGNORED,
    answer_head,
    fault_lines,
    go_duration,
    http_date,
    ignored_line,
    new_request_id,
    rate_limit_lines,
    request_head,
    stream_head,
)


def fault(*, retry_after_ms: int | None = None, should_retry: bool | None = None) -> Fault:
    return Fault(429, ErrorType.RATE_LIMIT, "x", "x", retry_after_ms=retry_after_ms, should_retry=should_retry)


def lines_of(head: bytes) -> list[bytes]:
    assert head.endswith(b"\r\n")
    return head.split(b"\r\n")[:-1]


@given(st.integers(0, 2**48 - 1), st.binary(min_size=7, max_size=7))
def test_a_request_id_is_req_and_26_characters(now_ms: int, random: bytes):
    made = new_request_id(now_ms, random)
    assert made.startswith("req_")
    assert len(made) == 4 + 26
    assert made[4:].isalnum()
    assert made.isascii()


def test_request_ids_sort_by_time():
    assert new_request_id(1_795_000_000_000, b"\xff" * 7) < new_request_id(1_795_000_000_001, b"\x00" * 7)


def test_the_date_is_an_http_date():
    assert http_date(1_795_406_307) == b"Date: Mon, 23 Nov 2026 03:58:27 GMT\r\n"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 405, 408, 413, 415, 429, 500, 502, 503])
def test_an_answer_begins_with_its_status_and_length(status: int):
    head = answer_head(status, 12, b"x-request-id: req_1\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert lines_of(head)[1:] == [b"Content-Type: application/json", b"Content-Length: 12", b"x-request-id: req_1", b""]


def test_an_answer_may_be_of_another_type():
    assert b"Content-Type: text/plain\r\n" in answer_head(200, 0, b"", content_type="text/plain")


def test_a_stream_says_so_and_forbids_keeping_it():
    assert lines_of(stream_head(b"x-request-id: req_1\r\n", chunked=True)) == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/event-stream; charset=utf-8",
        b"Cache-Control: no-cache",
        b"X-Accel-Buffering: no",
        b"Transfer-Encoding: chunked",
        b"x-request-id: req_1",
        b"",
    ]


def test_an_old_client_gets_a_stream_without_chunks():
    assert b"Transfer-Encoding" not in stream_head(b"", chunked=False)


@pytest.mark.parametrize(("stream", "accept"), [(True, b"text/event-stream"), (False, b"application/json")])
def test_a_request_to_a_provider_holds_what_the_gateway_wrote_alone(stream: bool, accept: bytes):
    head = request_head("/v1/chat/completions", "host:8000", b"Authorization: Bearer k\r\n", 7, stream=stream)
    assert lines_of(head) == [
        b"POST /v1/chat/completions HTTP/1.1",
        b"Host: host:8000",
        b"Content-Type: application/json",
        b"Accept: " + accept,
        b"Accept-Encoding: identity",
        b"Content-Length: 7",
        b"Authorization: Bearer k",
        b"",
    ]


def test_the_limits_of_an_account_are_told_with_what_is_left():
    remaining = Remaining(600, 599, 100, 200_000, 199_900, 61_500)
    assert lines_of(rate_limit_lines(remaining)) == [
        b"x-ratelimit-limit-requests: 600",
        b"x-ratelimit-remaining-requests: 599",
        b"x-ratelimit-reset-requests: 100ms",
        b"x-ratelimit-limit-tokens: 200000",
        b"x-ratelimit-remaining-tokens: 199900",
        b"x-ratelimit-reset-tokens: 1m1.5s",
    ]


def test_a_limit_that_an_account_does_not_have_is_not_told():
    assert rate_limit_lines(Remaining()) == b""
    assert b"tokens" not in rate_limit_lines(Remaining(requests_limit=1))
    assert b"requests" not in rate_limit_lines(Remaining(tokens_limit=1))


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [(0, "0s"), (1, "1ms"), (120, "120ms"), (999, "999ms"), (1000, "1s"), (1001, "1.001s"), (1500, "1.5s"),
     (59_999, "59.999s"), (60_000, "1m0s"), (61_500, "1m1.5s"), (360_000, "6m0s"), (3_600_000, "1h0m0s"),
     (3_661_001, "1h1m1.001s"), (90_000_000, "25h0m0s")],
)  # fmt: skip
def test_a_duration_is_written_as_go_writes_it(milliseconds: int, written: str):
    assert go_duration(milliseconds) == written


@given(st.integers(0, 10**10))
def test_a_duration_can_be_read_back(milliseconds: int):
    text = go_duration(milliseconds)
    if text.endswith("ms"):
        assert int(text[:-2]) == milliseconds
        return
    hours, _, rest = text.rpartition("h")
    minutes, _, seconds = rest.rpartition("m")
    whole, _, thousandths = seconds.removesuffix("s").partition(".")
    total = (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(whole)
    assert total * 1000 + int(thousandths.ljust(3, "0")) == milliseconds


@pytest.mark.parametrize(
    ("wait_ms", "seconds", "milliseconds"), [(0, 1, 1), (1, 1, 1), (999, 1, 999), (1000, 1, 1000), (1001, 2, 1001)]
)
def test_a_wait_is_told_in_whole_seconds_and_in_milliseconds(wait_ms: int, seconds: int, milliseconds: int):
    assert fault_lines(fault(retry_after_ms=wait_ms)) == (
        f"Retry-After: {seconds}\r\nretry-after-ms: {milliseconds}\r\n".encode()
    )


@pytest.mark.parametrize(
    ("given_fault", "useless"),
    [
        (fault(should_retry=False), True),
        (fault(should_retry=False, retry_after_ms=5), True),
        (fault(retry_after_ms=60_001), True),
        (fault(retry_after_ms=60_000), False),
        (fault(should_retry=True), False),
        (fault(), False),
    ],
)
def test_clients_are_told_when_another_try_is_useless(given_fault: Fault, useless: bool):
    assert fault_lines(given_fault).endswith(b"x-should-retry: false\r\n") is useless


def test_an_error_without_advice_adds_no_line():
    assert fault_lines(fault()) == b""


def test_what_was_dropped_is_listed():
    assert ignored_line(()) == b""
    assert ignored_line(("store", "tools[1]")) == b"x-gateway-ignored-params: store,tools[1]\r\n"


@given(st.lists(st.sampled_from(["store", "service_tier", "tools[12]", "x" * 300]), min_size=1, max_size=30))
def test_the_list_of_what_was_dropped_holds_whole_names_and_at_most_1_kib(names: list[str]):
    listed = ignored_line(tuple(names)).removeprefix(b"x-gateway-ignored-params: ").removesuffix(b"\r\n").decode()
    assert len(listed) <= MAX_IGNORED
    assert listed.split(",") == names[: listed.count(",") + 1]
