"""A stream says of reasoning what the whole answer says, and is parsed no more than that needs.

For every message, every server's way to write it and every way to cut the bytes: the chunks joined are the message of
the whole answer, and the bytes that come out are the same.
"""

import json
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import (
    CATALOG,
    NEW_ID,
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
from provider_events import (
    COMPLETION,
    DONE,
    ROLE,
    deepseek,
    lines,
    mistral,
    openai,
    openrouter,
    same_model,
    sglang,
    spaced,
    vllm,
    vllm_usage,
)
from streams import RECORDED

from proxy.errors import ErrorType, Fault
from proxy.providers import ReasoningStyle
from proxy.wire.chat_answer import read_answer
from proxy.wire.chat_frames import Frames
from proxy.wire.chat_stream import ChatStream
from proxy.wire.large_json import LARGE
from proxy.wire.reasoning import ReasoningMode, ReasoningPlan

PLANS = [split(style, mode) for mode in ("split", "inline") for style in ReasoningStyle]
FAULT = Fault(502, ErrorType.PROVIDER, "upstream_error", "The provider failed.")
CALL = '"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]'


def stream_of(planned: ReasoningPlan, *events: str, **asked: bool) -> ChatStream:
    stream = ChatStream(plan(reasoning=planned, **asked))
    for event in events:
        stream.feed(lines(event))
    return stream


def texts(out: bytes) -> tuple[str, str]:
    """What a client joins of the first choice: its reasoning and its content."""
    chunks = chunks_in(out)
    assert not any("reasoning_content" in choice["delta"] for choice in choices_in(chunks))
    return joined(chunks, "reasoning").get(0, ""), joined(chunks, "content").get(0, "")


# ---- the same as the whole answer


def delta(**fields: object) -> str:
    written = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return written.replace("\ud83d", r"\ud83d")


WRITERS: list[Callable[[str], str]] = [vllm, same_model, deepseek, openrouter, openai, sglang, mistral, spaced]


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def events_of(write, name: str, reasoning: list[str], content: list[str], shape: str) -> list[str]:
    """The deltas of one message: `shape` says what stands beside each text."""
    nulls = {"content": None, name: None} if shape == "nulls" else {}
    empty = {"content": ""} if shape == "empty content" else {}
    roles = {"role": "assistant"} if shape == "roles" else {}
    thought = [{**roles, **nulls, **empty, name: text} for text in reasoning]
    said = [{**roles, **nulls, "content": text} for text in content]
    if shape == "together":
        thought, said = [one | other for one, other in zip(thought, said, strict=False)], said[len(thought) :]
    first = [{"role": "assistant", "content": "", **({name: None} if shape == "nulls" else {})}]
    return [write(delta(**fields)) for fields in [*first, *thought, *said]] + [write("{}", '"stop"'), DONE]


TEXT = ["<think>", "</think>", "<thi", "</", " ", "\n", "a", "é", '"', "\\", "x" * 30]
TEXTS = st.lists(st.sampled_from(TEXT), max_size=8).map("".join)
CUTS = st.lists(st.integers(0, 1000), max_size=6)


@settings(max_examples=400)
@given(
    write=st.sampled_from(WRITERS), name=st.sampled_from(["reasoning", "reasoning_content"]), reasoning=TEXTS,
    content=TEXTS, cuts=st.tuples(CUTS, CUTS, st.lists(st.integers(0, 1 << 16), max_size=30)),
    shape=st.sampled_from(["plain", "nulls", "empty content", "roles", "together"]), planned=st.sampled_from(PLANS),
    every_event=st.booleans(),
)  # fmt: skip
def test_d4_7_the_chunks_joined_are_the_message(write, name, reasoning, content, cuts, shape, planned, every_event):
    pieces = cut(reasoning, cuts[0]), cut(content, cuts[1])
    if not pieces[0][0] or len(pieces[0]) > len(pieces[1]) or planned.mode is ReasoningMode.INLINE:
        shape = shape.replace("together", "plain")  # of texts that take turns a message does not tell the order
    sent = lines(*events_of(write, name, *pieces, shape))
    asked = plan(reasoning=planned, every_event=every_event)
    whole = play([sent], asked)
    assert play(cut_at(cuts[2], sent), asked) == whole
    assert play(event_by_event(sent), asked) == whole
    message = {"role": "assistant", "content": content, name: reasoning}
    body = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    answer = read_answer(json.dumps(body).encode(), new_id=lambda: NEW_ID, reasoning=planned)
    expected = json.loads(bytes(answer.choices))[0]["message"]
    chunks = chunks_in(whole.out)
    for key in ("reasoning", "reasoning_content", "content"):
        assert joined(chunks, key).get(0, "") == (expected.get(key) or ""), key
    assert whole.stray == answer.stray_close_tags
    assert whole.ended


@pytest.mark.parametrize("recorded", RECORDED, ids=str)
@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: f"{planned.mode} {planned.style}")
def test_nothing_depends_on_how_many_events_come_at_once_or_where_they_are_cut(
    recorded: Recorded, planned: ReasoningPlan
):
    events = event_by_event(recorded.sent)
    asked = {"reasoning": planned, "include_usage": True}
    whole = play_recorded(recorded, **asked)
    for pieces in (
        events,
        [b"".join(events[start : start + 2]) for start in range(0, len(events), 2)],
        *(in_pieces_of(size, recorded.sent) for size in (1, 3, 64)),
    ):
        assert play_recorded(recorded, pieces, **asked) == whole
    assert (whole.usage, whole.source) == ((plain := play_recorded(recorded)).usage, plain.source)
    assert (whole.ended, whole.error) == (plain.ended, plain.error)


@pytest.mark.parametrize("recorded", [one for one in RECORDED if one.error is None], ids=str)
def test_reasoning_of_a_recorded_stream_stands_in_one_field_and_the_text_beside_it(recorded: Recorded):
    chunks = chunks_in(play_recorded(recorded, reasoning=split()).out)
    assert {index: text for index, text in joined(chunks, "reasoning").items() if text} == recorded.reasoning
    said = {index: text for index, text in recorded.text.items() if text}
    assert {index: text for index, text in joined(chunks, "content").items() if text} == said
    assert arguments_in(chunks) == recorded.arguments
    assert not any("reasoning_content" in choice["delta"] for choice in choices_in(chunks))


@settings(max_examples=200)
@given(
    write=st.sampled_from(WRITERS), cuts=CUTS,
    content=st.lists(st.sampled_from([*TEXT, "\ud83d", "\u2028"]), max_size=8).map("".join),
    planned=st.sampled_from(PLANS), every_event=st.booleans(),
    name=st.sampled_from(["content", "reasoning_content", "arguments"]),
)  # fmt: skip
def test_chunks_that_were_written_without_parsing_are_those_that_parsing_writes(
    write, content, cuts, planned, every_event, name
):
    def one(text: str) -> dict:
        call = {"index": 0, "function": {"arguments": text}}
        return {"tool_calls": [call]} if name == "arguments" else {name: text}

    begin = [write(ROLE), write(f"{{{CALL}}}" if name == "arguments" else delta(**{name: "<think>"}))]
    sent = lines(*begin, *(write(delta(**one(text))) for text in cut(content * 3, cuts * 2)), write("{}", '"stop"'))
    asked = plan(reasoning=planned, every_event=every_event)
    usual = play([sent], asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Frames, "write", lambda *_, **__: None)
        assert play([sent], asked) == usual


# ---- no more than must be


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize("style", ["auto", "field", "tags", "prefilled"])
def test_e3_0_reasoning_that_has_its_right_name_is_handed_on_as_the_very_objects_that_came(at_once: int, style: str):
    stream = stream_of(split(style), same_model(ROLE), same_model('{"reasoning":"a"}'))
    for text in ("b", r"\"content\":\n", "é"):
        piece = lines(*[same_model(f'{{"reasoning":"{text}"}}')] * at_once)
        assert stream.feed(piece) is piece
    stream.feed(lines(same_model('{"content":"x"}')))
    for text in ("y", r"\"reasoning\":\n", "<think>é</think>"):
        piece = lines(*[same_model(f'{{"content":"{text}"}}')] * at_once)
        assert stream.feed(piece) is piece


BEGINNINGS = {
    "without reasoning": [same_model('{"content":"Hi"}')],
    "behind tags": [same_model('{"content":"<think>a"}'), same_model('{"content":"</think>b"}')],
    "behind `reasoning_content`": [same_model('{"reasoning_content":"a"}'), same_model('{"content":"b"}')],
    "behind `reasoning`": [same_model('{"reasoning":"a"}'), same_model('{"content":"b"}')],
}


@pytest.mark.parametrize("mode", ["split", "inline"])
@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
@pytest.mark.parametrize("at_once", [1, 4])
def test_e3_0_content_is_handed_on_as_the_very_objects_that_came(mode: str, begin: list[str], at_once: int):
    stream = stream_of(split(mode=mode), same_model(ROLE), *begin)
    piece = lines(*[same_model('{"content":" and <think>"}')] * at_once)
    assert stream.feed(piece) is piece
    assert stream.feed(piece) is piece


@pytest.mark.parametrize("begin", ['{"reasoning":"a"}', '{"content":"a"}'])
def test_e3_0_arguments_in_their_right_form_are_handed_on_as_the_very_objects_that_came(begin: str):
    stream = stream_of(split(), same_model(ROLE), same_model(begin), same_model(f"{{{CALL}}}"))
    for text in ('{\\"a\\":', "1}", r"\"\\\\\""):
        piece = lines(same_model(f'{{"tool_calls":[{{"index":0,"function":{{"arguments":"{text}"}}}}]}}'))
        assert stream.feed(piece) is piece


ARGUMENTS = '{"tool_calls":[{"index":0,"function":{"arguments":"1"}}]}'


@pytest.mark.parametrize(
    ("calls", "number"),
    [
        (['{"index":0,"id":"a","function":{"name":"f"}}', '{"index":0,"id":"b","function":{"name":"g"}}'], 1),
        (['{"id":"a","function":{"name":"f"}}'], 0),
    ],
)
def test_f6_8_arguments_of_a_call_that_got_another_number_are_not_handed_on(calls: list[str], number: int):
    begin = [f'{{"tool_calls":[{call}]}}' for call in calls]
    stream = stream_of(split(), same_model(ROLE), same_model('{"reasoning":"a"}'), *map(same_model, begin))
    assert arguments_in(chunks_in(stream.feed(lines(same_model(ARGUMENTS))))) == {(0, number): "1"}


def test_arguments_of_a_call_that_waits_for_its_name_wait_too():
    begin = '{"tool_calls":[{"index":0,"id":"a","function":{"arguments":""}}]}'
    stream = stream_of(split(), same_model(ROLE), same_model('{"content":"a"}'), same_model(begin))
    assert stream.feed(lines(same_model(ARGUMENTS))) == b""
    named = '{"tool_calls":[{"index":0,"function":{"name":"f"}}]}'
    first, arguments = choices_in(chunks_in(stream.feed(lines(same_model(named)))))
    assert first["delta"]["tool_calls"][0]["function"] == {"name": "f", "arguments": ""}
    assert arguments["delta"] == json.loads(ARGUMENTS)
    piece = lines(same_model(ARGUMENTS))
    assert stream.feed(piece) is piece


def test_e3_1_the_model_is_all_that_changes_in_reasoning_that_has_its_right_name():
    stream = stream_of(split(), vllm(ROLE), vllm('{"reasoning":"a"}'))
    piece = lines(vllm('{"reasoning":"b"}'), vllm('{"reasoning":"\\"model\\""}'))
    assert stream.feed(piece) == piece.replace(b"Qwen/Qwen3-8B", CATALOG.encode())


@pytest.mark.parametrize(
    ("begin", "then"),
    [
        ('{"reasoning":"a"}', '{"reasoning":"b","content":"c"}'),
        ('{"reasoning":"a"}', '{"reasoning":"b","reasoning_content":"b"}'),
        ('{"reasoning":"a"}', '{"reasoning":"b","reasoning_details":[{"text":"b"}]}'),
        ('{"reasoning":"a"}', '{"content":"<think>a</think>c"}'),
        ('{"reasoning":"a"}', '{"content":[{"type":"text","text":"c"}]}'),
        ('{"reasoning":"a"}', '{"reasoning":"b","role":"assistant"}'),
        ('{"content":"a"}', '{"content":"b","reasoning":"c"}'),
        ('{"content":"a"}', '{"content":"b","reasoning_content":null}'),
        ('{"content":"a"}', '{"content":[{"type":"text","text":"c"}]}'),
        ('{"content":"<think>a"}', '{"content":"b"}'),
        ('{"reasoning_content":"a"}', '{"reasoning_content":"b"}'),
    ],
)
def test_what_has_to_change_is_not_handed_on(begin: str, then: str):
    stream = stream_of(split(), same_model(ROLE), same_model(begin))
    piece = lines(same_model(then))
    assert stream.feed(piece) != piece


def test_nothing_is_handed_on_where_every_event_is_to_be_written_anew():
    stream = stream_of(split(), same_model(ROLE), same_model('{"content":"a"}'), every_event=True)
    piece = lines(same_model('{"content":"b"}'))
    out = stream.feed(piece)
    assert (out == piece, out is piece) == (True, False)


# ---- the form of the chunks


def test_e1_8_reasoning_and_content_of_one_delta_are_two_chunks():
    out = stream_of(split(), same_model(ROLE), same_model('{"content":"a"}')).feed(
        lines(same_model('{"content":"c","reasoning_content":"b"}'))
    )
    assert [choice["delta"] for choice in choices_in(chunks_in(out))] == [{"reasoning": "b"}, {"content": "c"}]


def test_e1_8_choices_of_one_event_are_a_chunk_each():
    choices = ",".join(f'{{"index":{index},"delta":{{"content":"{index}"}},"finish_reason":null}}' for index in (1, 0))
    event = f'data: {{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{choices}]}}'
    chunks = chunks_in(play([lines(event, event, DONE)], plan(choices=2)).out)
    assert [[choice["index"] for choice in chunk["choices"]] for chunk in chunks] == [[1], [0], [1], [0], [0], [1]]
    assert [choice["delta"].get("role") for choice in choices_in(chunks)] == ["assistant"] * 2 + [None] * 4


def test_e1_5_g64_a_role_in_every_delta_reaches_the_client_once():
    sent = [openrouter('{"role":"assistant","content":"a"}')] * 3 + [openrouter("{}", '"stop"'), DONE]
    for planned in (split(), split(mode="inline"), split("none")):
        choices = list(choices_in(chunks_in(play([lines(*sent)], plan(reasoning=planned)).out)))
        assert [choice["delta"].get("role") for choice in choices] == ["assistant", None, None, None]


def test_e1_4_every_chunk_of_one_event_has_the_events_other_keys():
    out = stream_of(split(), openai(ROLE), openai('{"content":"a"}')).feed(
        lines(openai('{"content":"c","reasoning_content":"b"}', '"stop"'))
    )
    chunks = chunks_in(out)
    assert len(chunks) == 3
    assert {json.dumps({**chunk, "choices": 0}) for chunk in chunks} == {json.dumps({**chunks[0], "choices": 0})}
    assert (chunks[0]["model"], chunks[0]["service_tier"], chunks[0]["obfuscation"]) == (CATALOG, "default", "q8")


LOGPROBS = '"logprobs":{"content":[{"token":"\\u003c","logprob":-1e-05,"bytes":[60]}],"refusal":null}'


def with_logprobs(delta: str, finish: str = "null") -> str:
    return vllm(delta, finish, ',"stop_reason":7').replace('"logprobs":null', LOGPROBS)


@pytest.mark.parametrize(
    ("event", "logprobs", "reasons"),
    [
        (with_logprobs('{"content":"</think>x"}'), [True], [7]),
        (with_logprobs('{"content":"b</think>x"}'), [True, False], [None, 7]),
        (with_logprobs('{"content":"</think>x"}', '"stop"'), [True, False], [None, 7]),
        (with_logprobs('{"content":""}', '"stop"'), [True], [7]),
        (with_logprobs('{"content":"</th"}'), [True], [7]),
    ],
)
def test_d4_12_log_probabilities_go_with_the_text_once_and_the_rest_of_a_choice_goes_last(event, logprobs, reasons):
    """Even where their text is held back: they cover the tokens of the tags."""
    out = stream_of(split(), vllm(ROLE), vllm('{"content":"<think>a"}')).feed(lines(event))
    choices = list(choices_in(chunks_in(out)))
    assert [choice["logprobs"] is not None for choice in choices] == logprobs
    assert [choice.get("stop_reason") for choice in choices] == reasons
    assert out.count(LOGPROBS.encode()) == 1


def test_what_is_not_known_of_a_delta_goes_with_its_first_text_and_is_not_lost_without_one():
    stream = stream_of(split(), same_model(ROLE), same_model('{"content":"<think>a"}'))
    out = stream.feed(lines(same_model('{"content":"b</think>c","annotations":[1.50],"audio":null}')))
    assert b'"annotations":[1.50]' in out
    deltas = [choice["delta"] for choice in choices_in(chunks_in(out))]
    assert deltas == [{"reasoning": "b", "annotations": [1.5]}, {"content": "c"}]
    stream = stream_of(split(), same_model(ROLE), same_model('{"content":"<think>a"}'))
    out = stream.feed(lines(same_model('{"content":"</th","images":["i"]}')))
    assert [choice["delta"] for choice in choices_in(chunks_in(out))] == [{"images": ["i"]}]


def test_a_finish_reason_has_a_chunk_of_its_own_and_comes_once():
    sent = [same_model('{"content":"a","reasoning_content":null}', '"length"')] * 2
    chunks = chunks_in(play([lines(*sent, DONE)], plan(reasoning=split())).out)
    assert [(choice["delta"].get("content"), choice["finish_reason"]) for choice in choices_in(chunks)] == [
        ("a", None), (None, "length"), ("a", None),
    ]  # fmt: skip


def test_e4_4_running_usage_stands_in_every_chunk_of_its_event():
    usage = ',"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'
    event = same_model('{"content":"c","reasoning_content":"b"}')[:-1] + usage
    asked = {"include_usage": True, "continuous_usage": True}
    chunks = chunks_in(play([lines(same_model(ROLE), event, DONE)], plan(reasoning=split(), **asked)).out)
    assert [chunk.get("usage", {}).get("completion_tokens") for chunk in chunks] == [None, 2, 2, None, 2]


# ---- what is held back


def test_e2_5_text_that_is_held_back_does_not_begin_the_answer():
    """It may still be another target's answer."""
    stream = stream_of(split())
    for held in (ROLE, '{"content":"\\n"}', '{"content":"<thi"}', '{"content":"nk>"}', '{"content":"\\n"}'):
        assert stream.feed(lines(same_model(held))) == b""
        assert not stream.committed
    assert texts(stream.feed(lines(same_model('{"content":"Well"}')))) == ("Well", "")
    assert stream.committed


@pytest.mark.parametrize("delta", ["{}", '{"content":"a"}', '{"reasoning_content":"a"}'])
@pytest.mark.parametrize("planned", [split(), split("none")], ids=str)
def test_e5_5_an_answer_that_fails_with_its_first_event_has_not_begun(delta: str, planned: ReasoningPlan):
    stream = stream_of(planned, same_model(ROLE))
    assert stream.feed(lines(same_model(delta, '"error"'))) == b""
    assert not stream.committed
    assert stream.error is not None


def test_e5_5_text_beside_a_failure_is_delivered_if_the_answer_has_begun():
    stream = stream_of(split(), same_model(ROLE), same_model('{"content":"a"}'))
    assert texts(stream.feed(lines(same_model('{"content":"b"}', '"abort"')))) == ("", "b")
    assert stream.error is not None


@pytest.mark.parametrize("choices", ['"choices":[]', '"choices":null', '"x":1'])
def test_an_event_without_choices_keeps_what_it_says(choices: str):
    event = f'data: {{"id":"chatcmpl-77","timings":{{"x":1.50,"y":"\\ud83d"}},{choices}}}'
    out = stream_of(split(), same_model(ROLE), same_model('{"content":"<think>a"}')).feed(lines(event))
    assert rb'"timings":{"x":1.50,"y":"\ud83d"}' in out
    assert json.loads(out[6:])["choices"] == []


ENDINGS = {
    "a finish reason": lambda stream: stream.feed(lines(same_model("{}", '"stop"'))),
    "[DONE]": lambda stream: stream.feed(lines(DONE)),
    "an error": lambda stream: stream.feed(lines('data: {"error":{"message":"no"}}')),
    "the end of the bytes": lambda stream: stream.end(),
    "a failure elsewhere": lambda stream: stream.fail(FAULT, "req_1"),
    "a finish reason that is a failure": lambda stream: stream.feed(lines(same_model("{}", '"abort"'))),
    "events that are no JSON": lambda stream: stream.feed(lines(*["data: {oops"] * 3)),
    "a question": lambda stream: stream.flush(),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("every_event", [False, True])
def test_what_is_held_back_is_sent_before_the_end_whatever_the_end(end, every_event: bool):
    stream = stream_of(split(), same_model(ROLE), same_model('{"content":"<think>a </th"}'), every_event=every_event)
    out = end(stream)
    error, _, _ = out.partition(b'data: {"error"')
    choices = list(choices_in(chunks_in(error)))
    assert choices[0]["delta"] == {"reasoning": " </th"}
    assert len(choices) == 1 or choices[1]["finish_reason"]
    assert stream.flush() == b""


@pytest.mark.parametrize("end", ["an error", "the end of the bytes"])
def test_nothing_that_is_held_back_is_sent_if_nothing_was(end: str):
    stream = stream_of(split(), same_model(ROLE), same_model('{"content":"<th"}'))
    assert ENDINGS[end](stream) == b""
    assert not stream.committed
    assert stream.error is not None


def test_a_failure_is_the_last_event_and_the_end():
    out = stream_of(split(), same_model(ROLE), same_model('{"reasoning":"a"}')).fail(FAULT, "req_1")
    assert out.startswith(b'data: {"error":{"message":"The provider failed. (request req_1)"')
    assert out.endswith(b"}}\n\ndata: [DONE]\n\n")


def test_reasoning_that_was_folded_in_is_closed_before_the_end():
    stream = stream_of(split(mode="inline"), same_model(ROLE), same_model('{"reasoning":"a"}'))
    assert texts(stream.feed(lines(same_model("{}", '"stop"')))) == ("", "</think>")


def test_g40_what_is_held_back_is_sent_before_a_tool_call():
    stream = stream_of(split(), same_model(ROLE), same_model('{"content":"<think>plan </th"}'))
    out = stream.feed(lines(same_model(f'{{"content":null,{CALL}}}')))
    first, second = [choice["delta"] for choice in choices_in(chunks_in(out))]
    assert first == {"reasoning": " </th"}
    assert second["tool_calls"][0]["id"] == "c"
    assert texts(stream.feed(lines(same_model('{"content":"b</think>"}')))) == ("", "b</think>")


def test_a_call_whose_name_never_came_is_sent_before_the_finish_reason():
    call = '{"tool_calls":[{"index":0,"id":"c","function":{"arguments":"{}"}}]}'
    chunks = chunks_in(play([lines(same_model(ROLE), same_model(call), DONE)], plan(reasoning=split())).out)
    assert arguments_in(chunks) == {(0, 0): "{}"}
    assert [choice["finish_reason"] for choice in choices_in(chunks)] == [None, None, None, "tool_calls"]


def test_choices_are_held_back_and_split_each_on_its_own():
    sent = lines(
        openai(ROLE), openai(ROLE, index=1), openai('{"content":"<think>a"}'), openai('{"reasoning":"r"}', index=1),
        openai('{"content":"</think>b"}', index=1), openai('{"content":"</think>c"}'), openai("{}", '"stop"'),
        openai("{}", '"stop"', index=1), DONE,
    )  # fmt: skip
    chunks = chunks_in(play([sent], plan(choices=2, reasoning=split())).out)
    assert joined(chunks, "reasoning") == {0: "a", 1: "r"}
    assert joined(chunks, "content") == {0: "c", 1: "</think>b"}


# ---- what is counted


def test_d4_10_a_closing_tag_without_a_block_is_counted_however_it_came():
    sent = lines(vllm(ROLE), *(vllm(f'{{"content":"{text}"}}') for text in ("I rea", "son</th", "ink>", "c")), DONE)
    for pieces in ([sent], event_by_event(sent), in_pieces_of(7, sent)):
        assert play(pieces, plan(reasoning=split())).stray == 1
    assert play([sent], plan()).stray == 0
    assert play([sent], plan(reasoning=split("prefilled"))).stray == 0


@pytest.mark.parametrize("texts", [("I rea", "son</th", "ink>" + "c" * LARGE), ("c" * LARGE + "</th", "ink>")])
def test_d4_10_a_closing_tag_in_a_large_event_is_counted_too(texts: tuple[str, ...]):
    sent = lines(vllm(ROLE), *(vllm(f'{{"content":"{text}"}}') for text in texts), DONE)
    assert play([sent], plan(reasoning=split())).stray == 1


def test_a_call_in_a_large_event_is_the_finish_reason_that_is_missing():
    call = '{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"%s"}}]}'
    for size in (1, LARGE):
        sent = lines(openai(ROLE), openai(call % (" " * size)), DONE)
        finish = [choice["finish_reason"] for choice in choices_in(chunks_in(play([sent], plan()).out))][-1]
        assert finish == "tool_calls"


@pytest.mark.parametrize("first", ['{"reasoning":"a"}', '{"content":"<think>a</think>b"}', '{"reasoning_content":"a"}'])
def test_d4_10_a_closing_tag_in_an_answer_that_had_reasoning_is_not_counted(first: str):
    sent = lines(vllm(ROLE), vllm(first), vllm('{"content":"a"}'), vllm('{"content":"</think>"}'), DONE)
    assert play(event_by_event(sent), plan(reasoning=split())).stray == 0


def test_d4_10_each_choice_counts_for_itself():
    sent = lines(
        openai('{"content":"<think>a</think>b"}'), openai('{"content":"r"}', index=1), openai('{"content":"c"}'),
        openai('{"content":"</think>d"}', index=1), DONE,
    )  # fmt: skip
    assert play(event_by_event(sent), plan(choices=2, reasoning=split())).stray == 1


def test_d4_10_a_closing_tag_in_a_whole_body_is_counted():
    body = COMPLETION.replace("All at", "reason</think>").encode()
    assert play([body], plan(reasoning=split())).stray == 1


def test_e3_4_events_that_were_dropped_are_counted():
    stream = stream_of(split(), same_model(ROLE), same_model('{"content":"<think>a"}'), "data: {oops")
    assert stream.dropped == 1
    assert texts(stream.feed(lines("data: {", same_model('{"content":"b"}'), 'data: {"choices":[5]}'))) == ("b", "")
    assert stream.dropped == 3
    assert stream.error is None
    stream.feed(lines("data: {", "data: {oops"))
    assert stream.error is not None
    assert stream.error.kind == "upstream_bad_response"


@pytest.mark.parametrize(
    ("deltas", "field"),
    [
        (['{"reasoning":"a"}'], "reasoning"),
        (['{"reasoning_content":"a"}'], "reasoning_content"),
        (['{"reasoning_content":null}', '{"reasoning":"a"}'], "reasoning"),
        (['{"content":"<think>a"}'], None),
        (['{"reasoning_details":[{"text":"a"}]}'], None),
    ],
)
@pytest.mark.parametrize("planned", [split(), split(mode="inline"), split("none"), split(mode="raw")], ids=str)
def test_it_says_in_which_field_the_provider_sent_reasoning(deltas: list[str], field: str | None, planned):
    stream = stream_of(planned, same_model(ROLE), *map(same_model, deltas))
    assert stream.reasoning_field == field


def test_a_whole_body_says_in_which_field_its_reasoning_was():
    stream = ChatStream(plan(reasoning=split()))
    stream.feed(COMPLETION.replace('"content"', '"reasoning_content":"a","content"').encode())
    stream.end()
    assert stream.reasoning_field == "reasoning_content"


def test_usage_is_estimated_from_all_that_came_before_it_was_split():
    content = "<think>\n\n" + "a" * 7 + "\n\n</think>\n\n"
    assert len(content) == 28
    for sent in (
        lines(vllm(ROLE), vllm(delta(content=content)), vllm(delta(content="four")), DONE),
        COMPLETION.replace('"All at once"', json.dumps(content + "four")).partition(',"usage"')[0].encode() + b"}",
    ):
        assert play([sent], plan(reasoning=split())).usage.completion == 32 / 4


# ---- a whole body in place of a stream


@pytest.mark.parametrize(
    ("message", "planned", "deltas"),
    [
        ('"content":"a"', split(), [{"role": "assistant", "content": "a"}, {}]),
        ('"content":"<think>a</think>b"', split(), [{"role": "assistant", "reasoning": "a"}, {"content": "b"}, {}]),
        ('"content":"b","reasoning_content":"a"', split(),
         [{"role": "assistant", "reasoning": "a"}, {"content": "b"}, {}]),
        ('"content":"b","reasoning_content":"a"', split(mode="inline"),
         [{"role": "assistant", "content": "<think>a</think>b"}, {}]),
    ],
)  # fmt: skip
def test_e2_3_g74_a_whole_body_in_place_of_a_stream_is_split_too(message: str, planned: ReasoningPlan, deltas):
    body = COMPLETION.replace('"content":"All at once"', message).encode()
    played = play([body], plan(reasoning=planned))
    assert [choice["delta"] for choice in choices_in(chunks_in(played.out))] == deltas
    assert played.out.endswith(b"data: [DONE]\n\n")


def test_g62_usage_that_was_not_asked_for_stays_with_the_record():
    sent = lines(vllm(ROLE), vllm('{"reasoning_content":"a"}'), vllm("{}", '"stop"'),
                 vllm_usage('{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}'), DONE)  # fmt: skip
    played = play([sent], plan(reasoning=split()))
    assert b'"usage"' not in played.out
    assert (played.usage.prompt, played.usage.completion) == (3, 2)


def test_g63_lines_that_are_no_data_do_not_disturb_the_split():
    sent = b"\xef\xbb\xbf" + lines(
        "retry: 3000", "event: ping\ndata:", "id: 1\n" + vllm(ROLE), ": x", vllm('{"content":"<think>a"}'),
        "event: ping", vllm('{"content":"</think>b"}'), vllm("{}", '"stop"'), DONE,
    )  # fmt: skip
    assert texts(play([sent], plan(reasoning=split())).out) == ("a", "b")
