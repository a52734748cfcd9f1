"""Large bodies: read in windows that never take a character apart, and bounded before the decoder sees them."""

import json as standard
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import json, json_windows, large_json
from proxy.wire.json import Malformed
from proxy.wire.json_windows import WINDOW, windows
from proxy.wire.large_json import LARGE, MAX_AROUND, MAX_CODES, MAX_ESCAPES, MAX_FIELDS, MAX_VALUES, check_body

PARTS = ["a", "\u00e9", "\u6f22", "\U0001f600", "\\n", '\\"', "\\\\", "\\u6f22", "\\ud83d\\ude00", "\\ud83d", "\\udc00"]
texts = st.lists(st.sampled_from(PARTS), max_size=60).map(lambda parts: "".join(parts).encode())
small = mock.patch.object(json_windows, "WINDOW", 32)


def why(body: bytes) -> str:
    with pytest.raises(Malformed) as refused:
        check_body(body)
    return str(refused.value)


def large(inside: bytes) -> bytes:
    return b'{"a":[' + inside + b'],"b":"' + b"x" * LARGE + b'"}'


@given(texts)
def test_windows_are_the_whole_text_in_its_order_and_none_is_large(text: bytes):
    with small:
        parts = list(windows(text))
    assert b"".join(parts) == text
    assert max(map(len, parts)) <= 32
    assert all(parts[:-1])


@given(texts)
def test_each_window_is_a_text_of_its_own_and_together_they_say_the_same(text: bytes):
    with small:
        parts = list(windows(text))
    assert "".join(standard.loads(b'"%b"' % part) for part in parts) == standard.loads(b'"%b"' % text)


@given(texts)
def test_the_size_of_a_text_is_that_of_the_text_decoded_in_one_go(text: bytes):
    with small:
        counted = json.text_size(b'"%b"' % text)
    assert counted == len(str(json.decode(b'"%b"' % text)).encode())


@given(
    st.recursive(
        st.integers() | texts.map(bytes.decode), lambda kind: st.lists(kind) | st.dictionaries(st.text(), kind)
    )
)
def test_a_document_is_judged_the_same_in_windows_and_in_one_go(value: object):
    body = standard.dumps({"a": value, "b": []}).encode()
    with small, mock.patch.object(large_json, "LARGE", 0):
        check_body(body)


def test_no_step_of_the_check_handles_more_than_a_window():
    seen: list[int] = []
    body = b'{"a":"' + "word\\n\u6f22".encode() * 300_000 + b'"}'

    def is_utf8(window: bytes) -> bool:
        seen.append(len(window))
        return True

    with mock.patch.object(large_json, "is_utf8", is_utf8):
        check_body(body)
    assert sum(seen) == len(body)
    assert max(seen) <= WINDOW


@pytest.mark.parametrize(
    ("most", "piece", "said"),
    [
        (MAX_VALUES, b"1", "values"),
        (MAX_ESCAPES, b"\\n", "escaped characters"),
        (MAX_CODES, b"\\u6f22", "escaped characters"),
        (MAX_AROUND, b" ", "blanks"),
    ],
)
def test_what_the_decoder_would_be_long_about_is_bounded(most: int, piece: bytes, said: str):
    def body(count: int) -> bytes:
        if piece == b"1":
            return large(b",".join([piece] * count))
        return large(b'"' + piece * count + b'"' if piece != b" " else piece * count)

    check_body(body(most - 100))
    assert said in why(body(most + 100))


def test_a_body_has_no_more_fields_than_the_bound_however_many_values_lie_deeper():
    def body(count: int) -> bytes:
        fields = b",".join(b'"%d":[1,2,{"x":1,"y":2}]' % number for number in range(count))
        return b"{" + fields + b',"text":"' + b"x" * LARGE + b'"}'

    check_body(body(MAX_FIELDS - 1))
    assert "fields" in why(body(MAX_FIELDS))


def test_depth_and_bytes_that_are_no_utf8_are_found_in_large_bodies_too():
    check_body(large(b"[" * 98 + b"]" * 98))
    assert "nested" in why(large(b"[" * 99 + b"]" * 99))
    assert "UTF-8" in why(large(b'"\xff"'))
    assert "UTF-8" in why(b'{"a":"' + b"x" * (WINDOW - 7) + b"\xe6\xbc" + b"x" * WINDOW + b'"}')
