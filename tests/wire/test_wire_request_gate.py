"""What passes the gate is HTTP in one reading alone: however it is cut, and in the eyes of another parser too."""

import asyncio
from itertools import pairwise
from unittest import mock

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.wire.head_rules import MAX_FIELDS, MAX_HEAD, check_beginning, check_head
from proxy.wire.request_gate import ChunkGate, RequestGate

HEAD = b"POST /v1/x?a=%20 HTTP/1.1\r\nHost: h\r\nX-A:\t b \r\n"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-B: c\r\n\r\n"
ODD = b"\r\n\t :,;\0\x0b\x7f\x80\xff_0a+-/%#HT"


def sized(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def passed(data: bytes, *cuts: int) -> tuple[bytes, list[bytes], bool, int | None]:
    """What of the data passes in these pieces: bytes, heads, whether it ended between requests; or with which status
    it was refused.
    """
    gate = RequestGate()
    out = b""
    places = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(places):
        admitted, refusal = gate.admit(data[start:end])
        out += admitted
        if refusal is not None:
            assert refusal.fault.status in (400, 414, 417, 431, 501, 505)
            return out, list(gate.heads), False, refusal.fault.status
    return out, list(gate.heads), gate.between, None


def bodies(data: bytes) -> list[bytes]:
    """What aiohttp's parser reads: the body of each request."""
    loop = mock.Mock(spec=asyncio.AbstractEventLoop)
    protocol = BaseProtocol(loop)
    parser = HttpRequestParser(protocol, loop, 2**20, max_line_size=MAX_HEAD, max_field_size=MAX_HEAD,
                               max_headers=MAX_FIELDS + 1, auto_decompress=False)  # fmt: skip
    protocol._parser = parser
    messages, _, _ = parser.feed_data(data)
    return [content.read_nowait() if content.is_eof() else b"" for _, content in messages]


requests = st.lists(
    st.one_of(st.just(GET), st.just(CHUNKED), st.just(b"\r\n" + GET), st.binary(max_size=30).map(sized)),
    min_size=1,
    max_size=4,
).map(b"".join)
cuts = st.lists(st.integers(0, 400), max_size=6)


@st.composite
def changed(draw) -> bytes:
    """Good requests with a few bytes changed, taken out or put in, most of them such as matter."""
    data = bytearray(draw(requests))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        new = draw(st.one_of(st.sampled_from([bytes([byte]) for byte in ODD]), st.binary(max_size=2)))
        data[place : place + draw(st.integers(0, 2))] = new
    return bytes(data)


@given(requests, cuts)
def test_good_requests_pass_however_they_are_cut(data: bytes, places: list[int]):
    whole = passed(data)
    assert whole[2:] == (True, None)
    _, heads, between, status = passed(data, *places)
    assert (heads, between, status) == (whole[1], True, None)


@given(changed(), cuts)
@example(b"GET / HTTP/1.1\nHost: h\r\n\r\n", [15])
@example(b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", [24, 25])
@example(CHUNKED.replace(b"0\r\n", b"0\r\r\n"), [90, 100])
def test_whether_it_passes_does_not_depend_on_how_it_is_cut(data: bytes, places: list[int]):
    whole, cut = passed(data), passed(data, *places)
    assert (whole[3] is None) == (cut[3] is None)
    if whole[3] is None:
        assert whole[1:3] == cut[1:3]


@given(changed())
def test_what_passes_is_read_by_another_parser_as_the_same_requests(data: bytes):
    out, heads, between, status = passed(data)
    if status is None and between:
        read = bodies(out)
        assert len(read) == len(heads)
        assert sum(map(len, read)) <= len(data)


def test_the_body_of_chunks_is_handed_on_without_what_stood_between_them():
    out, (head,), _, _ = passed(CHUNKED)
    assert out == head + b"5\r\nabcde\r\n0\r\n\r\n"
    assert bodies(out) == [b"abcde"]


def test_requests_behind_one_another_are_told_apart():
    out, heads, between, _ = passed(sized(b"GET / HTTP/1.1\r\n\r\n") + GET + CHUNKED + GET)
    assert [head[:4] for head in heads] == [b"POST", b"GET ", b"POST", b"GET "]
    assert bodies(out) == [b"GET / HTTP/1.1\r\n\r\n", b"", b"abcde", b""]
    assert between


def test_what_came_before_a_fault_passes():
    out, heads, _, status = passed(GET + b"\0")
    assert (out, heads, status) == (GET, [GET], 400)


def test_the_state_between_pieces_is_told():
    gate = RequestGate()
    assert (gate.between, gate.in_head) == (True, False)
    gate.admit(b"P")
    assert (gate.between, gate.in_head) == (False, True)
    gate.admit(sized(b"abc")[1:-1])
    assert (gate.between, gate.in_head) == (False, False)
    gate.admit(b"c")
    assert (gate.between, gate.in_head) == (True, False)


@pytest.mark.parametrize("begun", [b"\n", b"\x16", b" ", b"GET /\r\n", b"GET / HTTP/2.0\r\n", b"GET /" + b"a" * 9_000,
                                   b"GET / HTTP/1.1\r\nA: b\rc", b"GET / HTTP/1.1\nH", b"x" * 17_000])  # fmt: skip
def test_what_can_become_no_head_is_refused_before_it_is_whole(begun: bytes):
    with pytest.raises(Refusal):
        check_beginning(begun)


@given(st.integers(0, len(sized(b""))))
def test_the_beginning_of_a_good_head_is_waited_on(end: int):
    check_beginning(sized(b"")[:end])


@given(st.binary(max_size=60))
def test_no_bytes_are_a_head_but_those_of_one(data: bytes):
    with pytest.raises(Refusal):
        check_head(data)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.binary(max_size=10), cuts)
def test_chunks_give_back_what_was_put_into_them(parts: list[bytes], rest: bytes, places: list[int]):
    data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    gate, out = ChunkGate(), b""
    places = [0, *sorted(place for place in places if place < len(data)), len(data)]
    for start, end in pairwise(places):
        assert not gate.ended
        admitted, left = gate.admit(data[start:end] + (rest if end == len(data) else b""))
        out += admitted
    assert (gate.ended, left) == (True, rest)
    assert bodies(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + out) == [b"".join(parts)]
