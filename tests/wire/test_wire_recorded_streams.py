"""A stream means the same however its bytes were cut, and a client never sees what it must not.

The streams of `streams.py` are played whole, in pieces of every size, and with damage.
"""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import (
    CATALOG,
    Recorded,
    arguments_in,
    choices_in,
    chunks_in,
    cut_at,
    event_by_event,
    in_pieces_of,
    joined,
    plan,
    play,
    play_recorded,
    split,
)
from provider_events import DONE, lines, same_model
from streams import RECORDED

COMPLETE = [recorded for recorded in RECORDED if recorded.error is None]
FAILED = [recorded for recorded in RECORDED if recorded.error is not None]
USAGE = re.compile(rb'"usage"\s*:\s*\{')

every = pytest.mark.parametrize("recorded", RECORDED, ids=str)
complete = pytest.mark.parametrize("recorded", COMPLETE, ids=str)
failed = pytest.mark.parametrize("recorded", FAILED, ids=str)


@complete
@pytest.mark.parametrize("include_usage", [False, True], ids=["usage not asked", "usage asked"])
def test_a_client_gets_all_that_the_provider_said(recorded: Recorded, include_usage: bool):
    played = play_recorded(recorded, include_usage=include_usage)
    assert played.out.endswith(b"data: [DONE]\n\n")
    assert played.out.count(b"data: [DONE]") == 1
    chunks = chunks_in(played.out)
    said = {index: text for index, text in recorded.text.items() if text}
    assert {index: text for index, text in joined(chunks, "content").items() if text} == said
    thought = joined(chunks, "reasoning", "reasoning_content")
    assert {index: text for index, text in thought.items() if text} == recorded.reasoning
    assert arguments_in(chunks) == recorded.arguments


@complete
def test_every_chunk_is_whole_and_names_the_model_of_the_catalog(recorded: Recorded):
    chunks = chunks_in(play_recorded(recorded, include_usage=True).out)
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["model"] == CATALOG
        assert isinstance(chunk["created"], int)
        assert chunk["created"] > 0
        assert chunk["id"]
        assert isinstance(chunk["choices"], list)
        assert "provider" not in chunk
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks if chunk["choices"]}) == 1


@complete
def test_each_choice_has_its_role_once_and_first_and_its_ending_once_and_last(recorded: Recorded):
    by_choice: dict[int, list[dict]] = {}
    for choice in choices_in(chunks_in(play_recorded(recorded).out)):
        by_choice.setdefault(choice.get("index", 0), []).append(choice)
    for choices in by_choice.values():
        roles = [choice["delta"].get("role") for choice in choices if "role" in choice["delta"]]
        assert roles == ["assistant"]
        assert choices[0]["delta"]["role"] == "assistant"
        assert [choice.get("finish_reason") for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert {index: choices[-1]["finish_reason"] for index, choices in by_choice.items()} == recorded.finish


@every
def test_no_usage_reaches_a_client_that_did_not_ask(recorded: Recorded):
    assert not USAGE.search(play_recorded(recorded).out)


@complete
def test_usage_that_was_asked_for_is_the_last_chunk_before_the_end(recorded: Recorded):
    chunks = chunks_in(play_recorded(recorded, include_usage=True).out)
    assert [bool(chunk.get("usage")) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    prompt, completion, cached = recorded.usage
    last = chunks[-1]
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == prompt
    assert last["usage"]["completion_tokens"] == completion
    assert last["usage"]["total_tokens"] == prompt + completion
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == cached
    assert not {"cost", "cost_details", "is_byok"} & last["usage"].keys()


@every
def test_what_is_billed(recorded: Recorded):
    played = play_recorded(recorded)
    usage = played.usage
    assert ((usage.prompt, usage.completion, usage.cached), played.source) == (recorded.usage, recorded.source)


@failed
def test_a_stream_that_fails_never_looks_complete(recorded: Recorded):
    played = play_recorded(recorded, include_usage=True)
    assert played.error is not None
    assert (played.error[0], played.ended) == (recorded.error, False)
    assert b"[DONE]" not in played.out
    assert not USAGE.search(played.out)


@failed
def test_text_before_a_failure_was_delivered_and_nothing_at_all_before_the_first_text(recorded: Recorded):
    played = play_recorded(recorded)
    assert played.committed == bool(recorded.text)
    assert bool(played.out) == bool(recorded.text)
    if recorded.text:
        assert joined(chunks_in(played.out), "content") == recorded.text


@every
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 13, 64])
def test_nothing_depends_on_the_size_of_the_pieces(recorded: Recorded, size: int):
    whole = play_recorded(recorded, include_usage=True)
    assert play_recorded(recorded, in_pieces_of(size, recorded.sent), include_usage=True) == whole


@every
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_nothing_depends_on_how_many_events_come_at_once(recorded: Recorded, at_once: int):
    """Whole events are what a piece usually holds, and what is handed on unread."""
    events = event_by_event(recorded.sent)
    pieces = [b"".join(events[start : start + at_once]) for start in range(0, len(events), at_once)]
    for asked in ({}, {"include_usage": True}, {"every_event": True}, {"continuous_usage": True}):
        assert play_recorded(recorded, pieces, **asked) == play_recorded(recorded, **asked)


@given(recorded=st.sampled_from(RECORDED), places=st.lists(st.integers(0, 1 << 16), max_size=40), asks=st.booleans())
def test_nothing_depends_on_where_the_bytes_are_cut(recorded: Recorded, places: list[int], asks: bool):
    whole = play_recorded(recorded, include_usage=asks)
    assert play_recorded(recorded, cut_at(places, recorded.sent), include_usage=asks) == whole


@complete
def test_parsing_every_event_changes_no_meaning(recorded: Recorded):
    """A provider whose deltas need repair is read event by event; clients join the same texts and calls."""
    read = play_recorded(recorded, every_event=True)
    handed = play_recorded(recorded)
    for joined_text in (
        lambda chunks: joined(chunks, "content"),
        lambda chunks: joined(chunks, "reasoning", "reasoning_content"),
        arguments_in,
    ):
        assert joined_text(chunks_in(read.out)) == joined_text(chunks_in(handed.out))
    assert (read.usage, read.source) == (handed.usage, handed.source)


@every
def test_every_chunk_that_is_written_anew_is_in_the_one_form(recorded: Recorded):
    begun: dict[int, set[int]] = {}
    for chunk in chunks_in(play_recorded(recorded, every_event=True, include_usage=True).out):
        if not chunk["choices"]:
            continue
        [choice] = chunk["choices"]
        delta, index = choice["delta"], choice["index"]
        assert ("role" in delta) is (index not in begun)
        known = begun.setdefault(index, set())
        assert len(delta.keys() & {"reasoning", "reasoning_content", "content", "refusal", "tool_calls"}) <= 1
        assert not (choice["finish_reason"] and delta)
        for call in delta.get("tool_calls", ()):
            assert len(delta["tool_calls"]) == 1
            first = call["index"] not in known
            assert set(call) == ({"index", "id", "type", "function"} if first else {"index", "function"})
            assert set(call["function"]) == ({"name", "arguments"} if first else {"arguments"})
            assert not (first and call["function"]["arguments"])
            known.add(call["index"])


ASKED = [
    {},
    {"include_usage": True},
    {"continuous_usage": True},
    {"every_event": True},
    {"reasoning": split()},
    {"reasoning": split("field")},
    {"reasoning": split("prefilled", "inline"), "every_event": True},
]
DAMAGE = st.tuples(
    st.integers(0, 1 << 16), st.sampled_from(["insert", "delete", "flip", "double"]), st.binary(min_size=1, max_size=6)
)


def damaged(sent: bytes, damage: list[tuple[int, str, bytes]]) -> bytes:
    for place, kind, junk in damage:
        at = place % (len(sent) + 1)
        if kind == "insert":
            sent = sent[:at] + junk + sent[at:]
        elif kind == "delete":
            sent = sent[:at] + sent[at + len(junk) :]
        elif kind == "double":
            sent = sent[:at] + sent[max(0, at - 50) :]
        else:
            sent = sent[:at] + bytes(byte ^ junk[0] for byte in sent[at : at + 1]) + sent[at + 1 :]
    return sent


@settings(max_examples=300)
@given(
    recorded=st.sampled_from(RECORDED),
    damage=st.lists(DAMAGE, min_size=1, max_size=5),
    places=st.lists(st.integers(0, 1 << 16), max_size=10),
    asked=st.sampled_from(ASKED),
)
def test_no_damage_raises_or_leaves_a_stream_without_an_ending(recorded: Recorded, damage, places, asked):
    sent = damaged(recorded.sent, damage)
    played = play_recorded(recorded, cut_at(places, sent), **asked)
    assert played.ended != (played.error is not None)
    assert played.usage.prompt >= 0
    assert played == play_recorded(recorded, [sent], **asked)


FRAGMENT = st.sampled_from(
    ["null", "true", "0", "-1", "1.5", "1e999", "9" * 60, '""', '"a"', '"stop"', '"\\ud800"', '"assistant"', "[]", "{}",
     "[1]", "[[]]", '[{"type":"text","text":"a"}]', '[{"type":"thinking","thinking":1}]', '"<think>a"',
     '[{"index":0,"text":"a"}]', '[{"index":0,"function":null}]', '[{"function":{"name":1,"arguments":{}}}]',
     '{"prompt_tokens":1}', '{"prompt_tokens":1,"completion_tokens":2}',
     '{"message":{"a":1}}', '{"usage":{"prompt_tokens":"x"}}'],
)  # fmt: skip


def object_of(*names: str, values: st.SearchStrategy[str] = FRAGMENT) -> st.SearchStrategy[str]:
    fields = st.dictionaries(st.sampled_from(names), values, max_size=4)
    return fields.map(lambda fields: "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}")


DELTA = object_of(
    *("role", "content", "reasoning", "reasoning_content", "reasoning_details", "refusal", "tool_calls", "usage")
)
CHOICE = object_of("index", "delta", "finish_reason", "usage", "logprobs", values=FRAGMENT | DELTA)
CHOICES = st.lists(CHOICE, max_size=2).map(lambda choices: f"[{','.join(choices)}]")
CHUNK = object_of("id", "object", "created", "model", "choices", "usage", "x_groq", "error", values=FRAGMENT | CHOICES)


@given(
    chunks=st.lists(CHUNK, max_size=4),
    asked=st.sampled_from(ASKED),
)
def test_no_json_whatever_raises_or_leaves_a_stream_without_an_ending(chunks: list[str], asked):
    events = lines(same_model('{"content":"x"}'), *(f"data: {chunk}" for chunk in chunks), DONE)
    played = play([events], plan(**asked))
    assert played.ended != (played.error is not None)
    chunks_in(played.out)
    assert play(event_by_event(events), plan(**asked)) == played


MESSAGE = DELTA.map(lambda message: f'{{"index":0,"message":{message},"finish_reason":"stop"}}')
BODY = CHUNK | st.lists(MESSAGE, max_size=2).map(lambda choices: f'{{"id":"x","choices":[{",".join(choices)}]}}')


@given(body=BODY, asked=st.sampled_from(ASKED))
def test_no_whole_body_whatever_raises_or_leaves_a_stream_without_an_ending(body: str, asked):
    played = play([body.encode()], plan(**asked))
    assert played.ended != (played.error is not None)
    chunks_in(played.out)
