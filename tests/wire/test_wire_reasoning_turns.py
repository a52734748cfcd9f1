"""Reasoning in a field and reasoning in tags may take turns in one answer, in any order and any cut.

What delivers first is believed, because what was sent cannot be taken back. Whatever that is, the stream says what the
whole answer says of what is believed.
"""

import json
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from playing import NEW_ID, chunks_in, joined, plan, play, split
from provider_events import DONE, ROLE, lines, openrouter, same_model, vllm

from proxy.wire.chat_answer import read_answer
from proxy.wire.chat_stream import ChatStream
from proxy.wire.reasoning import ReasoningMode, ReasoningPlan

Step = tuple[bool, str]
"""Whether it is the field, and what it says."""

PLANS = [split(style, mode) for mode in ("split", "inline") for style in ("auto", "field", "tags", "prefilled", "none")]
TEXT = st.lists(
    st.sampled_from(["<think>", "</think>", "<thi", "nk>", "</", " ", "\n", "a", "é", "x" * 30]), min_size=1, max_size=4
).map("".join)
STEPS = st.lists(st.tuples(st.booleans(), TEXT), max_size=8)
NAMES = st.sampled_from(["reasoning", "reasoning_content"])
WRITERS = st.sampled_from([same_model, vllm, openrouter])


def deltas_of(steps: list[Step], name: str) -> list[dict[str, str]]:
    return [{name if field else "content": text} for field, text in steps]


def streamed(deltas: list[dict[str, str]], planned: ReasoningPlan, write=same_model, **asked: bool) -> tuple[str, str]:
    """The reasoning and the content that a client joins."""
    events = [write(json.dumps(delta)) for delta in deltas]
    played = play([lines(write(ROLE), *events, write("{}", '"stop"'), DONE)], plan(reasoning=planned, **asked))
    assert played.ended
    chunks = chunks_in(played.out)
    assert joined(chunks, "reasoning_content").get(0, "") == ""
    return joined(chunks, "reasoning").get(0, ""), joined(chunks, "content").get(0, "")


def sent_so_far(steps: list[Step], planned: ReasoningPlan) -> tuple[str, str]:
    """What has left although more may come."""
    events = [same_model(json.dumps(delta)) for delta in deltas_of(steps, "reasoning")]
    stream = ChatStream(plan(reasoning=planned))
    chunks = chunks_in(b"".join(stream.feed(lines(event)) for event in [same_model(ROLE), *events]))
    return joined(chunks, "reasoning").get(0, ""), joined(chunks, "content").get(0, "")


def whole(planned: ReasoningPlan, **message: str) -> tuple[str, str]:
    body = {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}]}
    answer = read_answer(json.dumps(body).encode(), new_id=lambda: NEW_ID, reasoning=planned)
    found = json.loads(bytes(answer.choices))[0]["message"]
    return found.get("reasoning", ""), found["content"]


def all_of(steps: list[Step], *, field: bool) -> str:
    return "".join(text for is_field, text in steps if is_field is field)


def cut(steps: list[Step], places: list[int]) -> list[Step]:
    """The same said in more steps."""
    out = []
    for number, (field, text) in enumerate(steps):
        chosen = {place // len(steps) % (len(text) + 1) for place in places if place % len(steps) == number}
        out += [(field, text[start:end]) for start, end in pairwise(sorted({0, *chosen, len(text)}))]
    return out


def together(deltas: list[dict[str, str]]) -> list[dict[str, str]]:
    """The same said in fewer deltas: what the field says and the content behind it come at once."""
    out: list[dict[str, str]] = []
    for delta in deltas:
        if out and "content" in delta and "content" not in out[-1]:
            out[-1] = {**out[-1], **delta}
        else:
            out.append(delta)
    return out


@settings(max_examples=200)
@given(
    steps=STEPS, places=st.lists(st.integers(0, 1 << 16), max_size=12), planned=st.sampled_from(PLANS), name=NAMES,
    write=WRITERS, every_event=st.booleans(),
)  # fmt: skip
def test_d4_7_how_what_is_said_in_turns_is_cut_changes_nothing(steps, places, planned, name, write, every_event):
    expected = streamed(deltas_of(steps, name), planned)
    for pieces in (cut(steps, places), [(field, one) for field, text in steps for one in text]):
        for deltas in (deltas_of(pieces, name), together(deltas_of(pieces, name))):
            assert streamed(deltas, planned, write, every_event=every_event) == expected


@settings(max_examples=200)
@given(steps=STEPS, planned=st.sampled_from([one for one in PLANS if one.mode is ReasoningMode.SPLIT]), name=NAMES)
@example(steps=[(False, "<think>"), (True, "a"), (False, "</think>x")], planned=split(), name="reasoning")
@example(steps=[(False, "</think>"), (True, "a"), (False, "x")], planned=split("prefilled"), name="reasoning")
@example(steps=[(False, "<think>t</think>"), (True, "a"), (False, "x")], planned=split("field"), name="reasoning")
def test_d4_7_a_split_stream_says_in_turns_what_the_whole_answer_says(steps, planned, name):
    first = next((at for at, (field, _) in enumerate(steps) if field), len(steps))
    field, content = all_of(steps, field=True), all_of(steps, field=False)
    thought, said = sent_so_far(steps[:first], planned)
    alone = whole(planned, content=content)
    if thought:  # the tags have delivered, and the field only repeats
        expected = alone
    elif planned.style in {"field", "prefilled"} and said:  # what its blocks are was decided without the field
        expected = field, alone[1]
    else:
        expected = whole(planned, content=content, **({name: field} if field else {}))
    assert streamed(deltas_of(steps, name), planned) == expected


@settings(max_examples=200)
@given(steps=STEPS, planned=st.sampled_from([one for one in PLANS if one.mode is ReasoningMode.INLINE]), name=NAMES)
@example(steps=[(False, "<think>"), (True, "a"), (False, "</think>x")], planned=split(mode="inline"), name="reasoning")
@example(
    steps=[(False, "<think></think>\n"), (True, "a"), (False, "x")], planned=split(mode="inline"), name="reasoning"
)
def test_d4_7_a_folded_stream_says_in_turns_what_the_whole_answer_says(steps, planned, name):
    """The order of an inline text is the one in which it came: equal to the whole as long as reasoning comes first."""
    content, thought, allowed = all_of(steps, field=False), "", True
    for at, (field, text) in enumerate(steps):
        if field:
            _, said = sent_so_far(steps[:at], planned)
            allowed = allowed and said == (f"<think>{thought}" if thought else "")
            thought += text
    found = streamed(deltas_of(steps, name), planned)
    if allowed:
        assert found == whole(planned, content=content, **({name: thought} if thought else {}))
    else:
        assert found[0] == ""


@pytest.mark.parametrize("planned", PLANS, ids=lambda planned: f"{planned.mode} {planned.style}")
def test_nothing_that_is_no_repetition_is_lost_when_field_and_text_take_turns(planned: ReasoningPlan):
    steps = [(True, "a"), (False, "b"), (True, "c"), (False, "d"), (True, "e")]
    folded = "<think>a</think>b<think>c</think>d<think>e</think>"
    expected = ("ace", "bd") if planned.mode is ReasoningMode.SPLIT else ("", folded)
    assert streamed(deltas_of(steps, "reasoning"), planned) == expected
