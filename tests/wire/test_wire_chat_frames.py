"""An event that repeats a form becomes the chunks that it would become if it were parsed.

Here are the cases in which a frame must know better than to write, and streams in which all that may vary does.
"""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import CATALOG, arguments_in, chunks_in, cut_at, event_by_event, joined, plan, play, split
from provider_events import DONE, ROLE, lines, openai, same_model, spaced

from proxy.usage import tokens_of
from proxy.wire import chat_frames
from proxy.wire.chat_frames import Framed, Frames
from proxy.wire.chat_stream import ChatStream
from proxy.wire.reasoning import Passing
from proxy.wire.text_event import TextEvent


def begun(*deltas: str, **asked: object) -> ChatStream:
    """A stream that has seen these deltas, the last of them often enough to be known by its form."""
    stream = ChatStream(plan(**asked))
    for delta in (ROLE, *deltas, deltas[-1], deltas[-1]):
        stream.feed(lines(same_model(delta)))
    return stream


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each event, whether a frame has written it."""
    found: list[bool] = []
    write = Frames.write

    def watched(frames: Frames, piece: bytes, passing: Passing, *, refused: bool = False) -> Framed | None:
        out = write(frames, piece, passing, refused=refused)
        found.append(out is not None)
        return out

    monkeypatch.setattr(Frames, "write", watched)
    return found


@pytest.mark.parametrize(
    ("first", "again", "out"),
    [
        ('{"content":"<think>a"}', '{"content":" b"}', '{"reasoning":" b"}'),
        ('{"reasoning_content":"a"}', '{"reasoning_content":"b","content":null}', '{"reasoning":"b"}'),
        ('{"content":"<think>a"}', '{"content":"b","role":"assistant"}', '{"reasoning":"b"}'),
    ],
)
def test_an_event_of_a_known_form_is_not_parsed(written: list[bool], first: str, again: str, out: str):
    stream = begun(first, again, reasoning=split())
    assert stream.feed(lines(same_model(again))) == lines(same_model(out))
    assert written[-1]


def test_a_block_may_end_in_an_event_of_a_known_form(written: list[bool]):
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    out = stream.feed(lines(same_model('{"content":" c</think>\\n\\nd"}')))
    assert out == lines(same_model('{"reasoning":" c"}'), same_model('{"content":"d"}'))
    assert written[-1]
    piece = lines(same_model('{"content":" b"}'))
    assert stream.feed(piece) is piece


def test_several_events_of_one_form_are_written_together(written: list[bool]):
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    count = len(written)
    out = stream.feed(lines(*(same_model(f'{{"content":" {text}"}}') for text in "cde")))
    assert joined(chunks_in(out), "reasoning") == {0: " c d e"}
    assert written[count:] == [True]


@pytest.mark.parametrize(
    "again",
    [r'{"content":"\ud83d"}', '{"content":"a\tb"}', '{"content":"a","x":1}',
     '{"content":"a","reasoning":"b"}', '{"content":[]}'],
)  # fmt: skip
def test_an_event_that_needs_more_care_is_parsed(written: list[bool], again: str):
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    stream.feed(lines(same_model(again)))
    assert not written[-1]


def test_half_a_surrogate_pair_in_a_known_form_survives():
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    assert rb'"reasoning":"\ud83d"' in stream.feed(lines(same_model(r'{"content":"\ud83d"}')))


@pytest.mark.parametrize(
    "event",
    [
        openai('{"content":"b"}', '"stop"'),
        openai('{"content":"b","x":[1]}'),
        openai('{"content":"b"}').replace('"logprobs":null', '"probabilities":{"content":[]}'),
        openai('{"content":"b"}').replace('"usage":null', '"usage":{"prompt_tokens":1}'),
    ],
)
def test_an_event_that_says_more_than_a_text_leaves_no_frame(written: list[bool], event: str):
    stream = ChatStream(plan(reasoning=split()))
    for _ in range(3):
        stream.feed(lines(openai('{"content":"<think>a"}')))
    count = len(written)
    for _ in range(3):
        stream.feed(lines(event))
    assert not any(written[count:])


def probable(delta: str, logprobs: str) -> str:
    return same_model(delta).replace('"finish_reason"', f'"logprobs":{logprobs},"finish_reason"')


def with_probabilities(*events: tuple[str, str], at_first: str = '{"content":[1]}') -> ChatStream:
    """A stream inside of a block of reasoning, that has seen events with log probabilities and then these."""
    stream = begun('{"content":"<think>a"}', reasoning=split())
    for content, logprobs in (("b", at_first), ("b", at_first), *events):
        stream.feed(lines(probable(f'{{"content":"{content}"}}', logprobs)))
    return stream


@pytest.mark.parametrize("logprobs", ['{"content":[{"token":"c","logprob":-0.5}]}', "null", '{ "content": [] }', "7"])
def test_log_probabilities_go_with_their_text_unparsed(written: list[bool], logprobs: str):
    stream = with_probabilities()
    out = stream.feed(lines(probable('{"content":" c"}', logprobs)))
    assert out == lines(probable('{"reasoning":" c"}', logprobs))
    assert written[-1]


def test_of_several_texts_the_first_has_the_log_probabilities(written: list[bool]):
    out = with_probabilities().feed(lines(probable('{"content":" c</think>d"}', '{"content":[2]}')))
    assert out == lines(probable('{"reasoning":" c"}', '{"content":[2]}'), probable('{"content":"d"}', "null"))
    assert written[-1]


def test_log_probabilities_of_a_text_that_is_held_back_go_alone(written: list[bool]):
    out = with_probabilities().feed(lines(probable('{"content":"</thi"}', '{"content":[2]}')))
    assert out == lines(probable("{}", '{"content":[2]}'))
    assert written[-1]


def test_null_log_probabilities_of_a_text_that_is_held_back_are_nothing(written: list[bool]):
    assert with_probabilities().feed(lines(probable('{"content":"</thi"}', "null"))) == b""
    assert written[-1]


@pytest.mark.parametrize(
    "logprobs",
    ['null,"finish_reason":"stop"', '{"content":[}', '{"a":1}}', "", ' {"content":[1]}', r'{"a":"\ud83d"}',
     '{"a":1},"logprobs":5'],
)  # fmt: skip
def test_what_is_no_single_value_in_place_of_log_probabilities_is_parsed(written: list[bool], logprobs: str):
    with_probabilities(("c", logprobs))
    assert not written[-1]


@pytest.mark.parametrize("twin", [r',"logpro\u0062s":5', ',"logprobs":{"content":[1]}', r',"x":"\u0061"'])
def test_log_probabilities_that_may_be_there_twice_leave_no_frame(written: list[bool], twin: str):
    stream = with_probabilities(at_first='{"content":[1]}' + twin)
    stream.feed(lines(probable('{"content":"c"}', '{"content":[1]}' + twin)))
    assert not written[-1]


@settings(deadline=None)
@given(events=st.lists(st.tuples(st.sampled_from(["a", "</", "think>", "\\n", "é"]), st.integers(0, 9)), max_size=12))
def test_events_with_log_probabilities_say_the_same_however_they_come(events: list[tuple[str, int]]):
    sent = [
        lines(probable(f'{{"content":"{text}"}}', "null" if number > 7 else f'{{"content":[{number}]}}'))
        for text, number in [("<think>x", 1), ("y", 2), ("y", 3), *events]
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Frames, "write", lambda *_, **__: None)
        parsed = play(sent, plan(reasoning=split()))
    assert play(sent, plan(reasoning=split())) == parsed
    assert play([b"".join(sent[:4]), b"".join(sent[4:])], plan(reasoning=split())) == parsed


ARGUMENTS = '{"tool_calls":[{"index":0,"function":{"arguments":"1"}}]}'


def call(number: int, call_id: str) -> str:
    return f'{{"tool_calls":[{{"index":{number},"id":"{call_id}","function":{{"name":"f"}}}}]}}'


def test_arguments_of_a_known_form_belong_to_the_call_that_has_their_number_now(written: list[bool]):
    stream = begun(call(0, "a"), ARGUMENTS, every_event=True)
    assert arguments_in(chunks_in(stream.feed(lines(same_model(ARGUMENTS))))) == {(0, 0): "1"}
    assert written[-1]
    stream.feed(lines(same_model(call(0, "b"))))
    assert arguments_in(chunks_in(stream.feed(lines(same_model(ARGUMENTS))))) == {(0, 1): "1"}
    assert not written[-1]


def test_arguments_without_a_number_belong_to_the_last_call(written: list[bool]):
    bare = '{"tool_calls":[{"function":{"arguments":"1"}}]}'
    stream = begun(call(0, "a"), bare, every_event=True)
    stream.feed(lines(same_model(call(1, "b"))))
    assert arguments_in(chunks_in(stream.feed(lines(same_model(bare))))) == {(0, 1): "1"}
    stream.feed(lines(same_model(ARGUMENTS)))
    assert arguments_in(chunks_in(stream.feed(lines(same_model(bare))))) == {(0, 0): "1"}


def test_a_call_ends_a_block_however_it_was_written(written: list[bool]):
    stream = begun(call(0, "a"), ARGUMENTS, every_event=True, reasoning=split())
    stream.feed(lines(same_model('{"content":"<think>b"}')))
    assert not joined(chunks_in(stream.feed(lines(same_model(ARGUMENTS)))), "content").get(0)
    assert written[-1]
    assert joined(chunks_in(stream.feed(lines(same_model('{"content":"c"}')))), "content") == {0: "c"}


def test_a_new_frame_takes_the_place_of_the_oldest(monkeypatch: pytest.MonkeyPatch, written: list[bool]):
    monkeypatch.setattr(chat_frames, "_MOST_FRAMES", 2)
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    stream.feed(lines(same_model('{"content":" c","x":null}')))
    stream.feed(lines(same_model('{"content":" b"}')))
    assert written[-1]
    stream.feed(lines(same_model('{"content":" c","y":null}')))
    stream.feed(lines(same_model('{"content":" b"}')))
    assert not written[-1]


def test_no_more_frames_are_looked_for_than_may_be_worth_it(monkeypatch: pytest.MonkeyPatch, written: list[bool]):
    monkeypatch.setattr(chat_frames, "_MOST_LOOKS", 0)
    begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    assert not any(written)


# ---- what differs beside the text


@pytest.mark.parametrize(
    ("field", "values"),
    [("obfuscation", ['"a"', '"bcd"', '""', r'"\u00e9\""']), ("p", ["1", "23", "0", "456"])],
)
def test_a_field_that_differs_each_time_does_not_keep_an_event_from_being_written(
    written: list[bool], field: str, values: list[str]
):
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    for at, value in enumerate(values):
        event = same_model('{"content":" c"}')[:-1] + f',"{field}":{value}}}'
        changed = event.replace("content", "reasoning")
        assert stream.feed(lines(event)) == lines(changed)
        assert written[-1] is (at > 1)
    assert stream.feed(lines(event, event)) == lines(changed, changed)


@pytest.mark.parametrize(
    ("name", "was"), [("id", '"chatcmpl-77"'), ("created", "1790000002"), ("model", f'"{CATALOG}"')]
)
def test_what_clients_see_the_same_in_all_chunks_may_differ(written: list[bool], name: str, was: str):
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    same = lines(same_model('{"reasoning":" c"}'))
    for number in range(4):
        value = was.replace("7", str(number)).replace("1", "2").replace("lab", f"l{number}")
        assert stream.feed(lines(same_model('{"content":" c"}').replace(was, value))) == same
    assert written[-1]


def test_a_field_that_clients_must_not_see_stays_unseen(written: list[bool]):
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split(), strip=("provider",))
    for provider in ("One", "Two", "Three", "Four"):
        event = same_model('{"content":" c"}')[:-1] + f',"provider":"{provider}","n":"{provider}"}}'
        assert stream.feed(lines(event)) == lines(same_model('{"reasoning":" c"}')[:-1] + f',"n":"{provider}"}}')
    assert written[-1]


def test_text_that_is_a_template_is_none():
    """A percent sign in what stands around a text means nothing."""
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    for number in range(4):
        event = same_model('{"content":"%b %% %"}')[:-1] + f',"%b":"%d","n":"{number}%s"}}'
        assert stream.feed(lines(event)) == lines(event.replace("content", "reasoning"))


def test_events_that_may_leave_as_they_came_are_not_written_with_others(written: list[bool]):
    """Of a text that says nothing, a chunk would be left out; an event that is handed on is not."""
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    events = [same_model(f'{{"content":"{text}"}}') for text in (" c</think>", "d", "", "e")]
    handed = lines(*events[1:])
    assert stream.feed(lines(*events)) == lines(same_model('{"reasoning":" c"}')) + handed
    assert stream.feed(handed) is handed
    assert stream.usage()[0].completion == tokens_of(len("<think>a b b b c</think>dede"))


def test_events_of_which_one_may_not_leave_as_it_came_are_written_together(written: list[bool]):
    delta = '{"content":"a","reasoning_content":null}'
    stream = begun('{"content":"a"}', delta, delta, reasoning=split())
    count = len(written)
    assert stream.feed(lines(*[same_model(delta)] * 3)) == lines(*[same_model('{"content":"a"}')] * 3)
    assert written[count:] == [True]


@pytest.mark.parametrize("every_event", [False, True])
def test_an_event_that_would_differ_in_blanks_alone_leaves_as_parsing_would_leave_it(
    written: list[bool], every_event: bool
):
    """A first chunk that is unlike the others keeps them from being handed on."""
    stream = ChatStream(plan(every_event=every_event))
    stream.feed(lines(spaced(ROLE).replace('"object": "chat.completion.chunk", ', "")))
    stream.commit()
    event = lines(spaced('{"content": "a"}').replace("yi-34b", CATALOG))
    compact = event.replace(b'": ', b'":').replace(b", ", b",")
    assert [stream.feed(event) for _ in range(3)] == [compact if every_event else event] * 3
    assert stream.feed(event * 2) == (compact if every_event else event) * 2
    assert written[-1]


def test_an_event_that_may_leave_as_it_came_does_so_although_its_like_may_not():
    """Of a form in which the time differs, an event may have the time that clients have seen."""
    stream = ChatStream(plan(reasoning=split()))
    stream.feed(lines(same_model(ROLE)))
    for number in range(3, 8):
        stream.feed(lines(same_model('{"content":"a"}').replace("1790000002", f"179000000{number}")))
    for text in ("a", ""):
        piece = lines(same_model(f'{{"content":"{text}"}}'))
        assert stream.feed(piece) is piece


def test_arguments_that_say_nothing_end_what_a_call_ends():
    stream = begun(call(0, "a"), ARGUMENTS, reasoning=split(mode="inline"))
    stream.feed(lines(same_model('{"reasoning":"b"}')))
    out = stream.feed(lines(same_model(ARGUMENTS.replace("1", ""))))
    assert joined(chunks_in(out), "content") == {0: "</think>"}


KEYS = ["content", "reasoning", "reasoning_content", "arguments"]
WORDS = ["", "a", " b", "é", r"\n", r"\"", r"\\", r"\u00e9", r"\ud83d\ude00", r"\ud83d", "<think>", "</th", "ink>",
         "</think>", "usage", "content", "reasoning", "role", "%b", "}"]  # fmt: skip
PLANS = [split(style, mode) for mode in ("split", "inline") for style in ("auto", "field", "tags", "prefilled")]


def chaotic(write, said: list[tuple[str, str]], varies: str) -> bytes:
    """A stream of these texts, in events that differ beside them in a way."""
    begin = '{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}'
    events = [write(ROLE), write(begin)]
    for number, (key, text) in enumerate(said):
        call = f'{{"tool_calls":[{{"index":0,"function":{{"arguments":"{text}"}}}}]}}'
        event = write(call if key == "arguments" else f'{{"{key}":"{text}"}}')
        if "clock" in varies:
            event = re.sub(r"17900000\d\d", str(1790000000 + number), event)
        if "padding" in varies:
            event = f'{event[:-1]},"p":"{"x" * (number % 5)}"}}'
        events.append(event)
    return lines(*events, write("{}", '"stop"'), DONE)


@settings(max_examples=300)
@given(
    write=st.sampled_from([same_model, openai, spaced]), keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3),
    said=st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.sampled_from(WORDS), max_size=2).map("".join)), max_size=24
    ),
    varies=st.sampled_from(["", "clock", "padding", "clock and padding"]),
    planned=st.sampled_from([split("none"), *PLANS]), cuts=st.lists(st.integers(0, 1 << 16), max_size=8),
    at_once=st.integers(2, 5), every_event=st.booleans(),
)  # fmt: skip
def test_what_is_known_of_forms_changes_nothing_wherever_the_bytes_were_cut(
    write, keys, said, varies, planned, cuts, at_once, every_event
):
    named, key = [], keys[0]
    for number, text in said:
        key = keys[number] if number < len(keys) else key
        named.append((key, text))
    sent = chaotic(write, named, varies)
    asked = plan(reasoning=planned, every_event=every_event)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextEvent, "like", lambda *_, **__: None)
        unknown = play([sent], asked)
    events = event_by_event(sent)
    rows = [b"".join(events[start : start + at_once]) for start in range(0, len(events), at_once)]
    for pieces in ([sent], events, rows, cut_at(cuts, sent)):
        assert play(pieces, asked) == unknown
