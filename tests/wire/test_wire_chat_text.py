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
    written_out,
)
from proxy.wire.json import Disguise, split_object

ANY_TEXT = st.text(st.characters(codec=None), max_size=20)
HALVES = st.text(st.characters(categories=["Cs", "Co"]) | st.sampled_from("\ud83d\ue000\uf8ff\ue001\\u"), max_size=12)


def written(text: str, spelling: str) -> bytes:
    """The JSON of a text: with every character escaped, in capitals or not, or with none that need not be."""
    if spelling == "bare":
        pieces = [json.dumps(one, ensure_ascii="\ud800" <= one <= "\udfff")[1:-1] for one in text]
        return f'"{"".join(pieces)}"'.encode()
    units = text.encode("utf-16-be", "surrogatepass").hex()
    units = units.upper() if spelling == "capitals" else units
    return f'"{"".join(chr(92) + "u" + units[at : at + 4] for at in range(0, len(units), 4))}"'.encode()


SPELLINGS = st.sampled_from(["bare", "escapes", "capitals"])


@given(ANY_TEXT)
def test_a_text_that_is_written_is_the_text(text: str):
    assert json.loads(bytes(encode_text(text)).decode()) == json.loads(json.dumps(text))


@given(st.lists(st.tuples(ANY_TEXT | HALVES, SPELLINGS), min_size=1, max_size=4))
def test_texts_in_one_disguise_are_read_and_written_to_the_last_code_point(texts: list[tuple[str, str]]):
    """Lone surrogates among them, and the characters that could be taken for what stands in their place."""
    body = b"{%b}" % b",".join(b'"%d":%b' % (at, written(*one)) for at, one in enumerate(texts))
    disguise = Disguise(body)
    worn = split_object(disguise.put_on(body))
    for at, one in enumerate(texts):
        value = worn[str(at)]
        text = decode_text(value, disguise)
        assert text == json.loads(written(*one))
        assert disguise.take_off(bytes(value)) == written(*one)
        assert json.loads(disguise.take_off(bytes(encode_text(text, disguise)))) == json.loads(json.dumps(text))
        assert split_object(b'{"a":%b}' % bytes(encode_text(text, disguise)))


@given(ANY_TEXT | HALVES, SPELLINGS)
def test_a_value_that_becomes_a_text_is_said_in_it_to_the_last_code_point(text: str, spelling: str):
    body = b'{"a":{"b": %b}}' % written(text, spelling)
    disguise = Disguise(body)
    inner = split_object(disguise.put_on(body))["a"]
    outer = disguise.take_off(bytes(encode_text(written_out(inner, disguise), disguise)))
    assert json.loads(json.loads(outer)) == json.loads(body)["a"]


def test_null_is_no_text():
    assert written_out(Raw(b"null"), None) == ""


@pytest.mark.parametrize("escape", ["\\ud83d", "\\uD83D", "\\uD83d", "\\udC00"])
def test_a_text_that_is_written_in_disguise_can_be_read_and_revealed(escape: str):
    body = f'"a{escape}"'.encode()
    disguise = Disguise(body)
    found = bytes(encode_text(json.loads(body), disguise))
    assert found == disguise.put_on(body)
    assert disguise.take_off(found) == body


def test_half_a_pair_that_the_disguise_does_not_know_is_written_as_its_escape():
    assert bytes(encode_text("\ud83d", Disguise(rb'"\udc00"'))) == rb'"\ud83d"'


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
     ([{"text": 5}, {"summary": [1]}], ""), ([{"text": 5, "summary": "a"}], "a"), ({"text": "a"}, ""), ("a", ""),
     (None, "")],
)  # fmt: skip
def test_the_text_of_reasoning_details(entries: object, text: str):
    assert text_of_details(entries) == text
