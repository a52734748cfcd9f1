"""JSON that is small on the wire and large where it is read (C-09, C-10): it is refused, or what it takes is bounded.

What a body may hold is asserted, and the memory it takes; how long that is follows from the two.
"""

import tracemalloc

import pytest
from json_bombs import CHAT_BOMBS, RESPONSE_BOMBS

from proxy.errors import Refusal
from proxy.wire.chat_request import read_chat_request
from proxy.wire.large_json import MAX_CONTAINERS, MAX_STRINGS
from proxy.wire.response_request import as_chat, read_response_request

MOST_TIMES = 10
"""How many times its size a body may take."""
ALWAYS_ALLOWED = 16 * 2**20
"""And what one of any size may take, so that a small one may be made of many parts."""
SIZES = (300_000, 2 * 2**20)
CHAT = b'{"model":"same","messages":[{"role":"user","content":"Hi."}],"x":%b}'


def read_response(body: bytes) -> None:
    as_chat(read_response_request(body))


def refusal(read, body: bytes) -> str | None:
    """The message with which a body is refused, if it is."""
    try:
        read(body)
    except Refusal as why:
        assert why.fault.status == 400
        assert len(why.fault.message) <= 2_000
        return why.fault.message
    return None


def cases():
    for read, bombs in ((read_chat_request, CHAT_BOMBS), (read_response, RESPONSE_BOMBS)):
        for name, make in bombs.items():
            yield pytest.param(read, make, id=f"{read.__name__}: {name}")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("read", "make"), list(cases()))
def test_no_body_takes_many_times_its_size(read, make, size):
    body = make(size)
    assert 0.9 * size < len(body) <= size
    tracemalloc.start()
    try:
        refusal(read, body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= max(MOST_TIMES * len(body), ALWAYS_ALLOWED)


@pytest.mark.parametrize("piece", [b"{}", b"[]", b'{"a":[]}', b'"\\"[{\\\\",[]', b'{"\\u005b":{}}'])
def test_a_body_has_no_more_lists_and_objects_than_the_bound(piece):
    each = 2 if piece.count(b"{") + piece.count(b"[") > 1 and not piece.startswith(b'"') else 1
    most = (MAX_CONTAINERS - 4) // each
    for count, refused in ((most, False), (most + 3, True)):
        why = refusal(read_chat_request, CHAT % (b"[" + b",".join([piece] * count) + b"]"))
        assert (why is not None and f"{MAX_CONTAINERS:,} lists and objects" in why) is refused


def test_a_body_has_no_more_strings_than_the_bound():
    for count, refused in ((MAX_STRINGS - 20, False), (MAX_STRINGS, True)):
        why = refusal(read_chat_request, CHAT % (b"[" + b",".join([b'"abc"'] * count) + b"]"))
        assert (why is not None and f"{MAX_STRINGS:,} strings" in why) is refused


@pytest.mark.parametrize("text", [b"[{" * 500_000, b'\\"' * 500_000, b'{\\"a\\":[' * 100_000, b"\\\\" * 500_000])
def test_what_stands_within_a_string_is_not_counted(text):
    body = b'{"model":"same","messages":[{"role":"user","content":"%b"}]}' % text
    assert refusal(read_chat_request, body) is None


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"null", b"[]", b'""', b"1", b"{", b"}", b"{}}", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{a:1}",
        b"{'a':1}", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":01}', b'{"a":1.}', b'{"a":.5}',
        b'{"a":+1}', b'{"a":0x1}', b'{"a":1e}', b'{"a":tru}', b'{"a":True}', b'{"a":"\x01"}', b'{"a":"\n"}',
        b'{"a":"\\x"}', b'{"a":"\\u12"}', b'{"a":"\xff"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xed\xa0\x80"}',
        b'{"\xff":1}', b'{"a":1}{"b":2}', b'{"a":1} x', b'/**/{"a":1}', b'{"a":1/**/}', b'\0{"a":1}', b'{"a":1}\0',
        '{"a":1}'.encode("utf-16"), b'{"a":[1,]}', b'{"a":[1 2]}', b'{"a" 1}', b'{"a":"b}', b'{"a":undefined}',
        b'{"a":' + b"[" * 101 + b"]" * 101 + b"}", b'{"a":' * 101 + b"1" + b"}" * 101,
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused_as_such_and_not_quoted(text):
    for read in (read_chat_request, read_response):
        with pytest.raises(Refusal) as refused:
            read(text)
        assert (refused.value.fault.status, refused.value.fault.code) == (400, "invalid_json")
        if len(text) > 4:
            assert text.decode("latin-1") not in refused.value.fault.message


def test_of_a_key_that_comes_twice_the_last_counts():
    body = b'{"model":"first","model":"same","messages":[],"messages":[{"role":"user","content":"Hi."}]}'
    assert read_chat_request(body).model == "same"
