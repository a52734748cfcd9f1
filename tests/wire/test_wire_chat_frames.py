"""An event that repeats a form becomes the chunks that it would become if it were parsed.

That the two ways agree on streams of every kind is tested in `test_wire_stream_reasoning.py`; here are the cases in
which a frame must know better than to write.
"""

import pytest
from playing import arguments_in, chunks_in, joined, plan, split
from provider_events import ROLE, lines, openai, same_model

from proxy.wire import chat_frames
from proxy.wire.chat_frames import Frames
from proxy.wire.chat_stream import ChatStream


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

    def watched(frames: Frames, piece: bytes) -> bytes | None:
        out = write(frames, piece)
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
    [r'{"content":"\ud83d"}', r'{"content":"\ud83d\ude00"}', '{"content":"a\tb"}', '{"content":"a","x":1}',
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
        openai('{"content":"b"}').replace('"logprobs":null', '"logprobs":{"content":[]}'),
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


def test_frames_that_fit_nothing_any_more_are_let_go(monkeypatch: pytest.MonkeyPatch, written: list[bool]):
    monkeypatch.setattr(chat_frames, "_MOST_MISSES", 2)
    stream = begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    for number in range(4):
        stream.feed(lines(same_model(f'{{"content":" c","x":{number}}}')))
    stream.feed(lines(same_model('{"content":" b"}')))
    assert not written[-1]
    stream.feed(lines(same_model('{"content":" b"}')))
    assert written[-1]


def test_no_more_frames_are_looked_for_than_may_be_worth_it(monkeypatch: pytest.MonkeyPatch, written: list[bool]):
    monkeypatch.setattr(chat_frames, "_MOST_LOOKS", 0)
    begun('{"content":"<think>a"}', '{"content":" b"}', reasoning=split())
    assert not any(written)
