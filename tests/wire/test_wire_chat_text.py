"""Texts come out of JSON and go back into it without the loss of a single code point."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.wire.chat_text import (
    decode_text,
    encode_text,
    is_text,
    joined,
    says,
    text_in,
    text_of_details,
    unmasked,
)
from proxy.wire.json import Disguise

ANY_TEXT = st.text(st.characters(codec=None), max_size=20)


@given(ANY_TEXT)
def test_a_text_that_is_written_is_the_text(text: str):
    assert json.loads(bytes(encode_text(text)).decode()) == json.loads(json.dumps(text))


@given(ANY_TEXT, st.booleans())
def test_a_text_that_is_read_is_the_text(text: str, escaped: bool):
    written = json.dumps(text, ensure_ascii=escaped or not text.isascii()).encode()
    disguise = Disguise(written)
    assert decode_text(Raw(disguise.put_on(written)), disguise or None) == json.loads(written)


@pytest.mark.parametrize("escape", ["\\ud83d", "\\uD83D", "\\uD83d", "\\udC00"])
def test_a_text_that_is_written_in_disguise_can_be_read_and_revealed(escape: str):
    body = f'"a{escape}"'.encode()
    disguise = Disguise(body)
    written = bytes(encode_text(json.loads(body), disguise))
    assert written == disguise.put_on(body)
    assert disguise.take_off(written) == body


def test_half_a_pair_that_the_disguise_does_not_know_is_written_as_its_escape():
    assert bytes(encode_text("\ud83d", Disguise(rb'"\udc00"'))) == rb'"\ud83d"'


def test_a_text_without_disguise_is_left():
    assert unmasked("a\ue000", None) == "a\ue000"


@given(st.lists(ANY_TEXT, min_size=1, max_size=4))
def test_joined_texts_are_one_text(texts: list[str]):
    assert json.loads(bytes(joined([encode_text(text) for text in texts]))) == json.loads(json.dumps("".join(texts)))


def test_a_single_text_is_joined_as_it_is():
    text = Raw(b'"a"')
    assert joined([text]) is text


@pytest.mark.parametrize("value", ['""', "null", "[]", "{}", None])
def test_what_holds_nothing_says_nothing(value: str | None):
    assert not says(None if value is None else Raw(value.encode()))


@pytest.mark.parametrize("value", ['" "', "0", "false", "[0]", '{"a":0}'])
def test_anything_else_says_something(value: str):
    assert says(Raw(value.encode()))


@pytest.mark.parametrize(("value", "text"), [('"a"', True), ('""', True), ("null", False), ("[]", False), ("5", False)])
def test_a_text_is_known_from_its_first_character(value: str, text: bool):
    assert is_text(Raw(value.encode())) is text
    assert decode_text(Raw(value.encode())) == (json.loads(value) if text else "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        ([{"text": "a"}, {"thinking": [{"text": "b"}]}, {"thinking": "c"}, "d", {"text": 5}], "abc"),
        ([], None),
        (5, None),
        (None, None),
    ],
)
def test_the_text_of_parts(value: object, text: str | None):
    assert text_in(value) == text


@pytest.mark.parametrize(
    ("entries", "text"),
    [([{"text": "a", "summary": "x"}, {"summary": "b"}, {"text": "", "summary": "c"}, {"data": "d"}, 5], "abc"),
     ([{"text": 5}, {"summary": [1]}], ""), ({"text": "a"}, ""), ("a", ""), (None, "")],
)  # fmt: skip
def test_the_text_of_reasoning_details(entries: object, text: str):
    assert text_of_details(entries) == text
