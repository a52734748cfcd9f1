"""What is handed on unread really holds nothing to act upon, and what is counted later is all that was said."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_events import ROLE, lines, openai, same_model, spaced

from proxy.wire import scan
from proxy.wire.scan import (
    FOLD_AT,
    OutputCounter,
    clean_event,
    holds_no_reasoning,
    holds_only_reasoning,
    is_plain,
    is_quiet,
)
from proxy.wire.sse import EventReader

PLAIN = same_model('{"content":"a"}')


@pytest.mark.parametrize(
    "event",
    [
        PLAIN,
        same_model('{"content":"the \\"role\\": \\"usage\\":{}, \\"error\\":1, \\"finish_reason\\":\\"stop\\""}'),
        same_model('{"content":""}').replace('"finish_reason":null', '"finish_reason": null'),
        same_model('{"content":"a"},"usage":null,"error":null,"x":1'),
        'data: {"choices":[{"delta":{"content":"a"}}]}',
        spaced('{"content": "a"}'),
    ],
)
def test_an_event_with_nothing_to_act_upon_is_plain(event: str):
    assert is_plain(lines(event))
    assert is_plain(lines(event, event, event))


@pytest.mark.parametrize(
    "event",
    [
        same_model(ROLE),
        same_model("{}", '"stop"'),
        same_model("{}", ' "stop"'),
        same_model("{}", '""'),
        same_model('{"content":"a"},"usage":{"prompt_tokens":1}'),
        same_model('{"content":"a"},"usage": {"prompt_tokens":1}'),
        same_model('{"content":"a"},"usage" :{"prompt_tokens":1}'),
        same_model('{"content":"a"},"x":{"usage":null},"usage":{}'),
        'data: {"error":{"message":"x"}}',
        'data: {"error" : "x"}',
        'data: {"error":true}',
        "data: [DONE]",
        "data: {}\ndata: {}",
        "data: {}\r",
        PLAIN.replace(",", ",\r", 1),
        "data: {",
        "data:{}",
        ": hello",
        "id: 1\ndata: {}",
        "data: <html>",
    ],
)
def test_an_event_that_may_mean_something_is_not_plain(event: str):
    assert not is_plain(lines(event))
    assert not is_plain(lines(PLAIN, event))
    assert not is_plain(lines(event, PLAIN))
    assert not is_plain(lines(PLAIN, event, PLAIN))


@pytest.mark.parametrize("piece", [b"", b"\n\n", lines(PLAIN)[:-1], lines(PLAIN)[1:], lines(PLAIN) + b"\n",
                                   b"\n" + lines(PLAIN), lines(PLAIN, eol="\r\n")])  # fmt: skip
def test_a_piece_that_is_not_whole_events_is_not_plain(piece: bytes):
    assert not is_plain(piece)


@given(
    st.lists(
        st.sampled_from([b"data: {", b"data: ", b"}", b"}\n\n", b"\n", b"\n\n", b"\r", b'"usage":', b"null", b"{", b"a",
                         b'"finish_reason":', b'"role":', b'"stop"', b'"error":', b"[DONE]", b'"x":1,']),
        max_size=14,
    ).map(b"".join)
)  # fmt: skip
def test_a_plain_piece_is_a_row_of_events_each_of_them_plain_and_clean(piece: bytes):
    """So that it makes no difference whether events come together or alone."""
    reader = EventReader()
    events = reader.feed(piece)
    alone = not reader.end() and bool(events) and all(event.clean and is_plain(event.raw) for event in events)
    assert is_plain(piece) is (alone and b"".join(event.raw for event in events) == piece)


def test_quiet_is_asked_of_every_event_of_a_row():
    assert is_quiet(lines(PLAIN, PLAIN))
    assert not is_quiet(lines(PLAIN, same_model("{}", '"stop"'), PLAIN))


@pytest.mark.parametrize(
    ("delta", "none", "only"),
    [
        ('{"content":"a"}', True, False),
        ('{"content":null}', True, True),
        ('{"content": "a"}', True, False),
        ('{"content":""}', True, True),
        ('{"content":"a","reasoning":null}', True, False),
        ('{"content":"a","reasoning":"b"}', False, False),
        ('{"reasoning":"a"}', False, True),
        ('{"reasoning": "a","content": ""}', False, True),
        ('{"reasoning":"a","content":null,"tool_calls":[]}', False, True),
        ('{"reasoning":["a"]}', False, False),
        ('{"content":"a","reasoning_content":null}', False, False),
        ('{"reasoning_content":"a"}', False, False),
        ('{"reasoning":"a","reasoning_details":[]}', False, False),
        ('{"content":[{"type":"text","text":"a"}]}', False, False),
        ('{"content":{"a":1}}', False, False),
        (r'{"content":"\"reasoning\":1 \"tool_calls\":[]"}', True, False),
        ('{"content":"a","tool_calls":null}', True, False),
        (r'{"tool_calls":[{"index":0,"function":{"arguments":"\"name\":"}}]}', True, True),
        ('{"tool_calls":[{"index":0,"function":{"arguments":"a"}},{"index":1,"function":{"arguments":"b"}}]}', False,
         False),
        ('{"tool_calls":[{"index":0,"id":"c","function":{"arguments":"a"}}]}', False, False),
        ('{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"a"}}]}', False, False),
        ('{"tool_calls":[{"index":0,"type":"function","function":{"arguments":"a"}}]}', False, False),
        ('{"tool_calls":[{"function":{"arguments":"a"}}]}', False, False),
        ('{"tool_calls":[{"index":0,"function":{"arguments":{}}}]}', False, False),
        ('{"tool_calls":[{"index":0}]}', False, False),
    ],
)  # fmt: skip
def test_what_plain_events_say_is_told_by_their_keys(delta: str, none: bool, only: bool):
    event, calls = lines(same_model(delta)), '"tool_calls":[{' in delta
    assert (holds_no_reasoning(event), holds_only_reasoning(event)) == (none, only)
    assert holds_no_reasoning(event + lines(PLAIN)) is (none and not calls)
    assert holds_only_reasoning(event + lines(same_model('{"reasoning":"a"}'))) is (only and not calls)


@pytest.mark.parametrize(
    ("piece", "clean"),
    [
        (lines(PLAIN), True),
        (lines(same_model(ROLE)), True),
        (lines("data: {oops}"), True),
        (lines(PLAIN, PLAIN), False),
        (lines(PLAIN)[:-1], False),
        (lines(PLAIN) + b"\n", False),
        (lines(PLAIN).replace(b",", b",\r", 1), False),
        (lines(PLAIN, eol="\r\n"), False),
        (lines("data: [DONE]"), False),
        (lines("data:{}"), False),
        (lines("data: {}\ndata: {}"), False),
        (b"", False),
    ],
)
def test_a_piece_that_is_one_clean_event_is_known_without_the_reader(piece: bytes, clean: bool):
    assert clean_event(piece) == (EventReader().feed(piece)[0] if clean else None)


def test_an_event_that_is_too_large_is_left_to_the_reader(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan, "LARGE", len(lines(PLAIN)) - 1)
    assert clean_event(lines(PLAIN)) is None


def counted(events: list[bytes]) -> OutputCounter:
    counter = OutputCounter()
    for event in events:
        counter.add(event)
    return counter


@pytest.mark.parametrize(
    ("delta", "size"),
    [
        ({"content": "four"}, 4),
        ({"content": "é世😀"}, 9),
        ({"content": None, "reasoning": "abc"}, 3),
        ({"reasoning": "abc", "reasoning_content": "abcdef"}, 3),
        ({"reasoning": "", "reasoning_content": "abcdef"}, 6),
        ({"reasoning_details": [{"text": "ab", "index": 0}, {"summary": "c"}, {"data": "x"}]}, 3),
        ({"reasoning": "abcd", "reasoning_details": [{"text": "ab"}]}, 4),
        ({"content": ["x"], "reasoning_details": [{"text": "ab"}, 5]}, 2),
        ({"refusal": "no"}, 2),
        ({"tool_calls": [{"index": 0, "function": {"name": "fn", "arguments": '{"a"'}}, {"function": {}}]}, 6),
        ({"content": "a", "tool_calls": [{"function": {"arguments": None}}]}, 1),
        ({"content": ["x", {"type": "text", "text": "ab"}, {"thinking": [{"text": "cde"}]}, {"text": 5}]}, 5),
        ({"content": 5, "reasoning": {"a": 1}, "tool_calls": "x"}, 0),
        ({"tool_calls": [1, None, {"function": "x"}, {"function": {"name": 7, "arguments": "abc"}}]}, 3),
        ({"content": "a\ud83d"}, 4),
        ({}, 0),
        ({"function_call": {"name": "fn", "arguments": "{}"}}, 4),
        ({"function_call": {"arguments": "é", "name": None}, "content": 5}, 2),
        ({"function_call": None}, 0),
        ({"function_call": "fn"}, 0),
    ],
)
def test_what_counts_as_output(delta: dict, size: int):
    event = f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode()
    assert counted([event]).total() == size
    assert counted([event, event]).total() == 2 * size


@pytest.mark.parametrize(
    "data", [b"", b"oops", b"{", b"[]", b'{"choices":5}', b'{"choices":[5,{"delta":[]}]}', b"\xff"]
)
def test_what_is_no_chunk_counts_nothing_and_hides_nothing(data: bytes):
    event = lines(same_model('{"content":"four"}'))
    assert counted([event, b"data: " + data + b"\n\n", event]).total() == 8


def test_a_text_with_characters_that_it_must_not_hold_counts_as_it_does_where_nobody_reads_it():
    event = lines(same_model('{"content":"a\tb\x01"}'))
    assert counted([event, event]).total() == 2 * 4


def test_texts_count_as_the_characters_that_they_stand_for():
    counter = OutputCounter()
    for text in (rb"\n\\", rb"\"", rb"\u00e9", rb"\ud83d\ude00", "é".encode(), b""):
        counter.say(text)
    assert counter.total() == 2 + 1 + 2 + 4 + 2


def test_all_choices_of_all_events_count():
    event = b'data: {"choices":[{"delta":{"content":"ab"}},{"delta":{"content":"c"}}]}\n\n'
    assert counted([event + event, event]).total() == 9


@given(texts=st.lists(st.text(max_size=30), max_size=30), at_once=st.integers(1, 7), fold_at=st.integers(0, 2000))
def test_the_count_does_not_depend_on_how_events_come_or_when_they_are_counted(texts, at_once, fold_at):
    events = [f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n".encode() for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "FOLD_AT", fold_at)
        rows = [b"".join(events[start : start + at_once]) for start in range(0, len(events), at_once)]
        assert counted(rows).total() == sum(len(text.encode()) for text in texts)


def test_no_more_than_a_bounded_part_of_a_stream_is_kept():
    counter = OutputCounter()
    event = lines(same_model(f'{{"content":"{"x" * 1000}"}}'))
    for _ in range(200):
        counter.add(event)
        assert sum(map(len, counter._kept)) <= FOLD_AT + len(event)
    assert counter.total() == 200_000


@pytest.mark.parametrize(
    ("texts", "closed"),
    [
        (["a</think>b"], {0}),
        (["</th", "ink>"], {0}),
        (["</th", "", "ink>"], {0}),
        (["</th", "x", "ink>"], set()),
        ([], set()),
    ],
)
@pytest.mark.parametrize("fold_at", [0, 10_000])
def test_a_closing_tag_is_found_however_the_text_was_cut(
    monkeypatch: pytest.MonkeyPatch, texts: list[str], closed: set[int], fold_at: int
):
    monkeypatch.setattr(scan, "FOLD_AT", fold_at)
    counter = OutputCounter("</think>")
    for text in texts:
        counter.add(lines(same_model(f'{{"content":"{text}"}}'), openai('{"content":"</"}', index=1)))
    assert counter.closed() == closed


def test_a_closing_tag_of_one_character_is_found():
    counter = OutputCounter(">")
    counter.add(lines(same_model('{"content":"a"}'), same_model('{"content":"b"}')))
    assert not counter.closed()
    counter.add(lines(same_model('{"content":">"}')))
    assert counter.closed() == {0}


def test_no_tag_is_found_where_none_is_looked_for():
    for counter in (OutputCounter(), OutputCounter("</think>")):
        counter.look_no_more()
        counter.add(lines(same_model('{"content":"</think>"}')))
        assert not counter.closed()
        assert counter.total() == 8


def test_output_of_a_known_size_is_added():
    counter = counted([lines(PLAIN)])
    counter.known += 5
    assert counter.total() == 6


def test_a_tool_call_is_noticed_wherever_it_came_and_belongs_to_its_choice():
    call = '{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}'
    nothing = [lines(PLAIN), lines(same_model('{"tool_calls":[]}')), lines(same_model('{"tool_calls":null}'))]
    assert not counted(nothing).called()
    assert counted([lines(PLAIN), lines(PLAIN, same_model(call)), lines(PLAIN)]).called() == {0}
    assert counted([lines(openai('{"content":"a"}'), openai(call, index=2))]).called() == {2}


@pytest.mark.parametrize("index", ["null", "true", '"1"', "-1", "1.0"])
def test_a_tool_call_of_a_choice_whose_number_is_none_is_the_first_ones(index: str):
    call = '{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}'
    event = lines(openai(call)).replace(b'"choices":[{"index":0', b'"choices":[{"index":%b' % index.encode())
    assert index.encode() in event
    assert counted([event]).called() == {0}


@given(
    stories=st.lists(st.tuples(st.sampled_from(["events", "known", "mark", "count"]), st.integers(0, 40)), max_size=30),
    fold_at=st.sampled_from([0, 300, FOLD_AT]),
)
def test_what_came_after_the_last_mark_is_known_however_it_was_counted(stories: list[tuple[str, int]], fold_at: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "FOLD_AT", fold_at)
        counter, total, marked = OutputCounter(), 0, 0
        for what, size in stories:
            if what == "events":
                counter.add(lines(same_model(f'{{"content":"{"x" * size}"}}')))
                total += size
            elif what == "known":
                counter.known += size
                total += size
            elif what == "mark":
                counter.mark()
                marked = total
            else:
                assert counter.total() == total
            assert what == "events" or counter.since_mark() == total - marked
        assert (counter.since_mark(), counter.total()) == (total - marked, total)
