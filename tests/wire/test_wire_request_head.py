"""A head that repeats the one before it is known by its bytes; what is taken for one must be one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.request_head import form_of, read_head

HEAD = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX-A: b\r\n\r\n"


def test_the_form_of_a_head_measures_its_like_of_any_length():
    form = form_of(HEAD)
    assert form.measure(HEAD + b"abc") == (len(HEAD), 3)
    longer = HEAD.replace(b": 3", b": 12345")
    assert form.measure(longer) == (len(longer), 12345)


def test_a_head_that_repeats_with_its_body_still_to_come_is_measured():
    assert form_of(HEAD).measure(HEAD) == (len(HEAD), 3)


@pytest.mark.parametrize(
    "other",
    [
        HEAD[:-1],
        HEAD[:30],
        b"",
        HEAD.replace(b"X-A: b", b"X-A: c"),
        HEAD.replace(b"POST", b"PUT"),
        HEAD.replace(b": 3", b": "),
        HEAD.replace(b": 3", b": +3"),
        HEAD.replace(b": 3", b": 3 "),
        HEAD.replace(b": 3", b": 3,3"),
        HEAD.replace(b": 3", b": 0x3"),
        HEAD.replace(b": 3", b": " + b"1" * 13),
        HEAD.replace(b"\r\n\r\n", b"\r\nX-More: 1\r\n\r\n"),
        HEAD.replace(b"X-A: b\r\n", b""),
        HEAD.replace(b"X-A: b\r\n", b"Content-Length: 4\r\nX-A: b\r\n"),
        HEAD.replace(b"X-A: b\r\n", b"Transfer-Encoding: chunked\r\nX-A: b\r\n"),
        b"\r\n" + HEAD,
    ],
)
def test_a_head_that_differs_in_anything_else_is_not_measured(other):
    assert form_of(HEAD).measure(other) is None


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"Content-Length: 3\r\n", b""),
        HEAD.replace(b"X-A: b", b"content-length: 3"),
        HEAD.replace(b"X-A: b", b"X-Content-Length: 3"),
        HEAD.replace(b": 3", b": x"),
        HEAD.replace(b": 3", b": 3 4"),
    ],
)
def test_a_head_in_which_the_length_is_not_plain_to_see_has_no_form(head):
    assert form_of(head) is None


@given(st.binary(max_size=40), st.integers(0, 10**12 - 1), st.binary(max_size=20))
def test_only_the_bytes_of_the_head_itself_with_other_digits_are_measured(noise, length, rest):
    form = form_of(HEAD)
    head = HEAD.replace(b": 3", b": %d" % length)
    assert form.measure(head + rest) == (len(head), length)
    for place in (0, 10, len(HEAD) - 4):
        changed = HEAD[:place] + noise + HEAD[place:]
        measured = form.measure(changed)
        assert measured is None or changed[: measured[0]] == HEAD.replace(b": 3", b": %d" % measured[1])


def test_a_head_is_read_with_its_names_in_lower_case_and_its_path_without_the_query():
    head = read_head(
        b"POST /v1/a%2Fb?c=/d HTTP/1.1\r\nHost: h\r\nX-A:\t b \r\nx-a: c\r\nX-Name: \xc3\xa9\xff\r\n"
        b"Authorization: Bearer k\r\n\r\n"
    )
    assert (head.method, head.path) == ("POST", "/v1/a%2Fb")
    assert head.headers["x-a"] == "b"
    assert head.headers["x-name"] == "\u00e9\udcff"
    assert head.authorizations == ("Bearer k",)
    assert (head.chunks, head.last) == (True, False)


@pytest.mark.parametrize(
    "line", [b"Connection: close", b"connection: keep-alive, Close", b"Connection: a\r\nConnection: close"]
)
def test_a_client_may_say_that_its_request_is_the_last(line):
    assert read_head(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n").last


def test_two_keys_are_both_seen_and_end_the_connection():
    head = read_head(b"GET / HTTP/1.1\r\nAuthorization: a\r\nauthorization: b\r\n\r\n")
    assert (head.authorizations, head.last) == (("a", "b"), True)


def test_a_client_of_http_1_0_understands_no_chunks():
    assert not read_head(b"GET / HTTP/1.0\r\n\r\n").chunks


def test_of_repeated_headers_the_first_counts_and_of_those_that_trace_all_do():
    more = b"X-A: c\r\nTracestate: a=1\r\ntraceparent: x\r\ntracestate: b=2\r\nTraceparent: y\r\n\r\n"
    headers = read_head(HEAD[:-2] + more).headers
    assert headers["x-a"] == "b"
    assert headers["tracestate"] == "a=1,b=2"
    assert headers["traceparent"] == "x,y"  # no good one, and so none
