"""A head that repeats the one before it is known by its bytes; what is taken for one must be one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.request_head import form_of, is_bare, path_of

HEAD = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX-A: b\r\n\r\n"


def test_the_form_of_a_head_measures_its_like_of_any_length():
    form = form_of(HEAD + b"abc")
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
        HEAD[:-2],
        b"\r\n" + HEAD,
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


def test_a_request_is_bare_if_it_is_a_head_without_a_length_and_nothing_else():
    get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    assert is_bare(get)
    for other in (get + b"x", get[:-1], HEAD, get + get, b"\r\n" + get + b"\r\n\r\n"):
        assert not is_bare(other)


@pytest.mark.parametrize(
    ("target", "path"),
    [("/a/b?c=d", "/a/b"), ("http://host:1/a/b?c", "/a/b"), ("http://host", "/"), ("*", "/"), ("", "/")],
)
def test_a_path_is_that_of_its_target_in_every_form(target, path):
    assert path_of(target) == path
