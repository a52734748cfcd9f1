"""What is handed on unread really holds nothing to act upon, and what is counted later is all that was said."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_events import ROLE, lines, same_model, spaced

from proxy.wire import scan
from proxy.wire.scan import FOLD_AT, OutputCounter, TextEvent, is_plain, is_quiet
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


TEXTS = st.lists(
    st.sampled_from([b"a", b"\xc3\xa9", b"\\", b'"', b'\\"', b"\n", b"\r", b"}", b"}\n\n", b"[DONE]", b'"usage":{',
                     b"null"]),
    max_size=5,
).map(b"".join)  # fmt: skip
FRAMES = st.sampled_from(
    [
        (b'data: {"choices":[{"delta":{"content":"', b'"},"finish_reason":null}]}\n\n'),
        (b'data: {"content":"', b'"}\n\n'),
        (b'data: {"content":"', b"}\n\n"),
        (b'data: {"x":"\\"content\\":","content":"', b'"}\n\n'),
        (b'data: {"a":{"content":"x"},"b":{"content":"', b'"}}\n\n'),
        (b'data: {"reasoning":"', b'"}\n\n'),
    ]
)


@given(frame=FRAMES, learned=TEXTS, other=TEXTS, frames=FRAMES)
def test_what_has_the_form_of_a_plain_text_event_is_plain(frame, learned, other, frames):
    """The quick look and the full one never disagree about an event that the quick one takes."""
    event = frame[0] + learned + frame[1]
    form = TextEvent.like(event) if is_plain(event) else None
    for piece in (event, frame[0] + other + frame[1], frames[0] + other + frames[1], event + event):
        if form is not None and form.fits(piece):
            assert is_plain(piece)


def test_the_text_alone_may_differ_in_events_of_one_form():
    form = TextEvent.like(lines(PLAIN))
    assert form is not None
    assert form.fits(lines(PLAIN))
    assert form.fits(lines(same_model('{"content":"other, longer \\n text"}')))
    for other in (same_model(ROLE), same_model('{"content":"a"}', '"stop"'), same_model('{"content":"a\\"b"}'),
                  spaced('{"content": "a"}')):  # fmt: skip
        assert not form.fits(lines(other))
    assert not form.fits(lines(PLAIN, PLAIN))


@pytest.mark.parametrize("event", [same_model('{"reasoning":"a"}'), same_model('{"content":"\\n"}'),
                                   same_model('{"content":"a","x":{"content":"b"}}')])  # fmt: skip
def test_no_form_is_learned_from_an_event_whose_text_cannot_be_told_apart(event: str):
    assert TextEvent.like(lines(event)) is None


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
        ({"refusal": "no"}, 2),
        ({"tool_calls": [{"index": 0, "function": {"name": "fn", "arguments": '{"a"'}}, {"function": {}}]}, 6),
        ({"content": "a", "tool_calls": [{"function": {"arguments": None}}]}, 1),
        ({"content": ["x", {"type": "text", "text": "ab"}, {"thinking": [{"text": "cde"}]}, {"text": 5}]}, 5),
        ({"content": 5, "reasoning": {"a": 1}, "tool_calls": "x"}, 0),
        ({"tool_calls": [1, None, {"function": "x"}, {"function": {"name": 7, "arguments": "abc"}}]}, 3),
        ({"content": "a\ud83d"}, 4),
        ({}, 0),
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


def test_a_tool_call_is_noticed_wherever_it_came():
    call = same_model('{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}')
    assert not counted(
        [lines(PLAIN), lines(same_model('{"tool_calls":[]}')), lines(same_model('{"tool_calls":null}'))]
    ).has_tool_calls()
    assert counted([lines(PLAIN), lines(PLAIN, call), lines(PLAIN)]).has_tool_calls()
