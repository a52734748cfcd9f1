"""What a chunk says is taken out of it as it came, and a form that was learnt from one chunk misreads no other."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.wire.json import Malformed
from proxy.wire.response_source import Said, TextChunk, said_in_chunk

LETTERS = 'ab "\\\n{}:,é😀\ud83d'
NAMES = ["content", "reasoning", "reasoning_content", "refusal", "role"]


def chunk(choice: dict, **rest: object) -> bytes:
    written = {"id": "c", "choices": [{"index": 0, **choice, "finish_reason": None}], **rest}
    return json.dumps(written, separators=(",", ":")).encode()


def said(body: bytes) -> Said:
    (one,) = said_in_chunk(body)
    return one


def learnt(body: bytes) -> TextChunk | None:
    return TextChunk.like(body, said(body))


def test_texts_stay_as_they_were_written():
    one = said(rb'{"choices":[{"delta":{"content":"caf\u00e9 \ud83d \n","refusal":"\/"}}]}')
    assert (one.text, one.refusal) == (rb"caf\u00e9 \ud83d \n", rb"\/")


@pytest.mark.parametrize("body", [b"[]", b'{"choices":[1]}', b'{"choices":[{"delta":"x"}]}', b"{", b"\xff"])
def test_what_is_no_chunk_is_malformed(body: bytes):
    with pytest.raises(Malformed):
        said_in_chunk(body)


@pytest.mark.parametrize("body", [b"{}", b'{"choices":null}', b'{"choices":[]}'])
def test_a_chunk_without_choices_says_nothing(body: bytes):
    assert said_in_chunk(body) == []


@pytest.mark.parametrize("choice", [{}, {"delta": None}, {"delta": {}}, {"delta": {"content": 1, "reasoning": {}}}])
def test_a_choice_without_words_says_nothing(choice: dict):
    assert said(chunk(choice)) == Said(0, [], b"", b"", [], [], None)


@pytest.mark.parametrize(("written", "read"), [("0", 0), ("7", 7), ('"1"', 0), ("null", 0), ("true", 1)], ids=str)
def test_an_index_that_is_no_number_is_the_first(written: str, read: int):
    assert said(f'{{"choices":[{{"index":{written}}}]}}'.encode()).choice == read


def test_of_the_texts_of_one_detail_the_first_counts():
    details = [{"text": "a", "summary": "x"}, {"summary": "b"}, *({"text": no, "summary": "c"} for no in ("", 5, None))]
    assert said(chunk({"delta": {"reasoning_details": details}})).reasoning == [("reasoning_details", b"abccc")]


def test_text_in_parts_deeper_than_any_provider_s_says_nothing():
    deep = '[{"text":' * 400 + '"a"' + "}]" * 400
    assert said(f'{{"choices":[{{"delta":{{"content":{deep}}}}}]}}'.encode()).text == b""


@pytest.mark.parametrize("name", ["content", "reasoning", "reasoning_content"])
def test_a_form_reads_the_chunks_that_differ_only_in_their_text(name: str):
    form = learnt(chunk({"delta": {name: "Hi"}}))
    assert form is not None
    for text in ("there", "é\n", 'a "b" \\n', "\\\\", "😀", "Hi"):
        body = chunk({"delta": {name: text}})
        assert form.read(body) == said(body)


def test_a_chunk_with_half_a_surrogate_pair_is_left_to_the_full_reading():
    form = learnt(chunk({"delta": {"content": "Hi"}}))
    assert form is not None
    assert form.read(chunk({"delta": {"content": "\ud83d"}})) is None


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"content": ""}},
        {"delta": {"content": "a", "refusal": "b"}},
        {"delta": {"content": "a", "reasoning": "b"}},
        {"delta": {"content": "a", "tool_calls": [{"index": 0, "id": "c"}]}},
        {"delta": {"content": "a"}, "note": {"content": "a"}},
        {"delta": {"content": "a"}, "logprobs": {"content": [1]}},
        {"delta": {"content": [{"type": "text", "text": "a"}]}},
        {"delta": {"content": [{"type": "thinking", "thinking": "a"}]}},
    ],
    ids=str,
)
def test_no_form_is_learnt_from_a_chunk_that_says_more_than_one_text(choice: dict):
    assert learnt(chunk(choice)) is None


def test_no_form_is_learnt_from_a_chunk_that_ends_its_choice():
    assert learnt(b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}') is None


words = st.fixed_dictionaries({}, optional={name: st.text(LETTERS, max_size=3) for name in NAMES})
rest = st.fixed_dictionaries({}, optional={"content": st.text(LETTERS, max_size=2), "x": st.text(LETTERS, max_size=2)})


@settings(deadline=None)
@given(first=words, second=words, kept=rest, other=st.none() | rest)
@example(first={"content": "a"}, second={"content": '"},"finish_reason":"stop","x":{"y":"'}, kept={}, other=None)
@example(first={"content": "a"}, second={"content": "\\"}, kept={}, other=None)
def test_what_a_form_reads_is_what_the_chunk_says(first: dict, second: dict, kept: dict, other: dict | None):
    form = learnt(chunk({"delta": first}, **kept))
    body = chunk({"delta": second}, **(kept if other is None else other))
    read = None if form is None else form.read(body)
    assert read is None or read == said(body)
