"""What a client gets of reasoning: apart from the answer, in one text with it, or as the provider sent it.

For every message and every way to cut its texts into deltas: the parts of the deltas, joined, are those of the whole.
"""

import json
from collections.abc import Iterable
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.providers import Provider, ReasoningStyle
from proxy.wire.json import Disguise, split_object
from proxy.wire.reasoning import (
    Passing,
    ReasoningMode,
    ReasoningPlan,
    Splitter,
    reasoning_plan,
    turns_thinking_off,
)

SPLIT, INLINE, RAW = ReasoningMode
AUTO, FIELD, TAGS, PREFILLED, NONE = ReasoningStyle
CALL = "call"
"""In the place of a delta: a tool is called."""

Step = dict | str


def plan(mode: ReasoningMode = SPLIT, style: ReasoningStyle = AUTO) -> ReasoningPlan:
    return ReasoningPlan(mode, style, "<think>", "</think>")


def provider(**profile: object) -> Provider:
    return Provider(base_url="http://127.0.0.1:1/v1", **profile)


def parts(steps: Iterable[Step], planned: ReasoningPlan) -> list[tuple[str, object]]:
    """What comes out of the deltas of one choice, in order."""
    splitter = Splitter(planned)
    found = []
    for step in steps:
        taken = splitter.call() if step == CALL else splitter.take(split_object(json.dumps(step).encode()))
        found += [(name, json.loads(bytes(text))) for name, text in taken]
    return found + [(name, json.loads(bytes(text))) for name, text in splitter.end()]


def split(*steps: Step, mode: ReasoningMode = SPLIT, style: ReasoningStyle = AUTO) -> tuple[str, str]:
    """The reasoning and the content that come out, joined."""
    found = parts(steps, plan(mode, style))
    assert {name for name, _ in found} <= {"reasoning", "content"}
    assert all(text for _, text in found)
    return tuple("".join(text for name, text in found if name == key) for key in ("reasoning", "content"))


@pytest.mark.parametrize(
    ("wanted", "reasons", "mode"),
    [(True, True, SPLIT), (True, False, SPLIT), (False, True, INLINE), (False, False, INLINE), (None, True, SPLIT),
     (None, False, RAW)],
)  # fmt: skip
def test_d4_1_what_is_done_follows_from_the_request_and_else_from_the_model(wanted, reasons, mode):
    made = reasoning_plan(wanted, reasons=reasons, provider=provider(), thinking_off=False)
    assert made == ReasoningPlan(mode, AUTO, "<think>", "</think>")


def test_the_style_and_the_tags_are_the_providers():
    profile = provider(reasoning_style="prefilled", reasoning_tags=["[T]", "[/T]"])
    made = reasoning_plan(True, reasons=False, provider=profile, thinking_off=False)
    assert made == ReasoningPlan(SPLIT, PREFILLED, "[T]", "[/T]")


@pytest.mark.parametrize("style", ReasoningStyle)
def test_d4_9_no_tag_is_taken_for_granted_when_thinking_is_off(style: ReasoningStyle):
    made = reasoning_plan(True, reasons=True, provider=provider(reasoning_style=style), thinking_off=True)
    assert made.style is (TAGS if style is PREFILLED else style)


def test_g29_an_answer_without_thinking_is_no_reasoning():
    made = reasoning_plan(True, reasons=True, provider=provider(reasoning_style="prefilled"), thinking_off=True)
    assert parts([{"content": "no close"}], made) == [("content", "no close")]


@pytest.mark.parametrize(
    ("fields", "off"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, True),
        ({"chat_template_kwargs": {"thinking": False}}, True),
        ({"thinking": {"type": "disabled"}}, True),
        ({"reasoning_effort": "none"}, True),
        ({"reasoning": {"enabled": False}}, True),
        ({"reasoning": {"effort": "none"}}, True),
        ({"reasoning": {"enabled": True}, "reasoning_effort": "none"}, True),
        ({}, False),
        ({"chat_template_kwargs": {"enable_thinking": True, "thinking": None}}, False),
        ({"chat_template_kwargs": {"enable_thinking": 0}}, False),
        ({"chat_template_kwargs": None, "thinking": "disabled", "reasoning": []}, False),
        ({"thinking": {"type": "enabled"}}, False),
        ({"reasoning_effort": "low"}, False),
        ({"reasoning": {"effort": "low"}, "enable_thinking": False}, False),
    ],
)
def test_d4_9_thinking_is_turned_off_in_any_way_that_a_server_knows(fields: dict, off: bool):
    assert turns_thinking_off(split_object(json.dumps(fields).encode())) is off


def test_a_setting_that_no_number_can_hold_turns_nothing_off():
    assert not turns_thinking_off({"thinking": Raw(b'{"budget":1e999}')})


@pytest.mark.parametrize("style", [AUTO, FIELD, TAGS])
def test_g39_a_block_that_repeats_the_field_is_dropped(style: ReasoningStyle):
    assert split({"reasoning": "r", "content": "<think>r</think>x"}, style=style) == ("r", "x")
    assert split({"reasoning": "r"}, {"content": "<think>r</think>x"}, style=style) == ("r", "x")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("style", [AUTO, FIELD, TAGS])
@pytest.mark.parametrize("content_first", [False, True])
def test_g39_it_does_not_matter_which_of_the_two_comes_first(name: str, style: ReasoningStyle, content_first: bool):
    """Providers that send both send them token by token, one beside the other."""
    texts = [("<think>", ""), ("Let me", "Let me"), (" see", " see"), (".</think>", "."), ("\n\nx", ""), ("y", "")]
    steps = []
    for content, reasoning in texts:
        both = [{"content": content}, {name: reasoning}]
        steps += both if content_first else reversed(both)
    assert split(*steps, style=style) == ("Let me see.", "xy")


def test_g40_a_tool_call_ends_the_reasoning():
    assert split({"content": "<think>plan"}, CALL) == ("plan", "")
    assert split({"content": "<think>plan"}, CALL, {"content": "more"}) == ("plan", "more")


def test_text_that_is_kept_back_comes_before_a_tool_call():
    assert parts([{"content": "\n"}, CALL, {"content": "x"}], plan()) == [("content", "\n"), ("content", "x")]


@pytest.mark.parametrize(
    ("message", "reasoning", "content"),
    [
        ({"reasoning": "a", "reasoning_content": "b", "content": "x"}, "a", "x"),
        ({"reasoning": "", "reasoning_content": "b", "content": "x"}, "b", "x"),
        ({"reasoning": None, "reasoning_content": "b"}, "b", ""),
        ({"reasoning_content": "b", "reasoning_details": [{"text": "c"}]}, "b", ""),
        ({"reasoning_details": [{"text": "c"}, {"summary": "d"}, {"data": "secret"}, {"text": None}, 5]}, "cd", ""),
        ({"reasoning_details": [], "content": "x"}, "", "x"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}, {"type": "text", "text": "u"}]},
                      {"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}, "tu", "xy"),
        ({"content": [{"type": "thinking", "thinking": "t"}]}, "t", ""),
        ({"content": [{"type": "text", "text": "<think>t</think>x"}]}, "t", "x"),
        ({"reasoning": "a", "content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "x"}]},
         "a", "x"),
    ],
)  # fmt: skip
def test_d4_3_of_several_fields_the_first_that_says_something_is_believed(message: dict, reasoning: str, content: str):
    assert split(message) == (reasoning, content)


def test_d4_3_what_is_believed_once_is_believed_to_the_end():
    assert split({"reasoning_content": "a"}, {"reasoning": "a"}, {"reasoning_content": "b"}) == ("ab", "")


@pytest.mark.parametrize(
    ("details", "kept"),
    [
        ([{"index": 0, "text": "a"}, {"index": 1, "data": "sealed"}], True),
        ([{"text": "a"}], False),
        ([{"index": 0}, {"text": "a"}], False),
        ([{"index": "0"}], False),
        ([{"index": None}], False),
        ([{"index": True}], False),
        ([{"index": 0.0}], False),
        ([0], False),
        ("text", False),
        ({"index": 0}, False),
    ],
)
def test_d4_4_details_are_kept_only_if_every_entry_is_numbered(details: object, kept: bool):
    delta = split_object(json.dumps({"reasoning": "a", "reasoning_details": details}).encode())
    came = delta["reasoning_details"]
    Splitter(plan()).take(delta)
    assert delta.get("reasoning_details") == (came if kept else None)


def test_d4_5_the_text_of_a_field_is_not_changed():
    assert split({"reasoning_content": "\n a \n"}, {"reasoning_content": " "}, {"content": " x "}) == (
        "\n a \n ",
        " x ",
    )


def test_d4_8_without_a_closing_tag_all_of_it_is_reasoning():
    assert split({"content": "<think>a\n"}, {"content": "b </th"}) == ("a\nb </th", "")


@pytest.mark.parametrize("message", [{"content": "<think>a</think>b"}, {"content": "</think>b"}])
def test_of_a_provider_that_reasons_in_a_field_tags_are_text(message: dict):
    assert split(message, style=FIELD) == ("", message["content"])


def test_of_a_provider_that_reasons_in_a_field_text_waits_for_it_no_longer_than_a_block():
    steps = [{"content": "<think>a"}, {"content": "</think>b"}, {"reasoning": "c"}]
    assert parts(steps, plan(style=FIELD)) == [("content", "<think>a</think>b"), ("reasoning", "c")]


def test_an_answer_is_not_taken_for_reasoning_because_a_field_had_the_reasoning():
    assert split({"reasoning": "r"}, {"content": "the answer"}, style=PREFILLED) == ("r", "the answer")
    assert split({"reasoning": "r", "content": "<think>r</think>x"}, style=PREFILLED) == ("r", "x")


@pytest.mark.parametrize(
    ("steps", "content"),
    [
        ([{"reasoning": "a", "content": "b"}], "<think>a</think>b"),
        ([{"reasoning_content": "\n"}, {"reasoning_content": "a"}, {"content": "b"}], "<think>\na</think>b"),
        ([{"reasoning_details": [{"text": "a", "index": 0}]}, {"content": "b"}], "<think>a</think>b"),
        ([{"content": [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "b"}]}], "<think>a</think>b"),
        ([{"reasoning": "a"}, CALL], "<think>a</think>"),
        ([{"reasoning": "a"}], "<think>a</think>"),
        ([{"content": "<think>\na</think>\n\nb"}], "<think>\na</think>\n\nb"),
        ([{"content": " <th"}, {"content": "ink>\na"}], " <think>\na"),
        ([{"content": "b"}], "b"),
        ([{"content": " \n"}], " \n"),
        ([{"reasoning": "a"}, {"content": "<think>a</think>b"}], "<think>a</think>b"),
        ([{"content": "<think>a"}, {"reasoning": "a"}, {"content": "</think>b"}], "<think>a</think>b"),
        ([{"content": " "}, {"reasoning": "a"}, {"content": "b"}], "<think>a</think> b"),
        ([{"reasoning": "a"}, {"content": "b"}, {"reasoning": "c"}, {"content": "d"}],
         "<think>a</think>b<think>c</think>d"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("style", [AUTO, FIELD, TAGS])
def test_d4_11_reasoning_is_folded_into_the_text(steps: list[Step], content: str, style: ReasoningStyle):
    assert split(*steps, mode=INLINE, style=style) == ("", content)


@pytest.mark.parametrize(
    ("steps", "content"),
    [
        ([{"content": "a</think>b"}], "<think>a</think>b"),
        ([{"content": "<th"}, {"content": "ink>a</think>b"}], "<think>a</think>b"),
        ([{"reasoning": "r"}, {"content": "b"}], "<think>r</think>b"),
        ([CALL], ""),
        ([], ""),
    ],
)
def test_d4_11_the_opening_tag_that_the_template_wrote_is_put_in_front(steps: list[Step], content: str):
    assert split(*steps, mode=INLINE, style=PREFILLED) == ("", content)


def test_d4_11_details_do_not_stand_beside_what_was_folded():
    delta = split_object(b'{"reasoning":"a","reasoning_content":"a","reasoning_details":[{"index":0,"text":"a"}]}')
    Splitter(plan(INLINE)).take(delta)
    assert not delta


@pytest.mark.parametrize("planned", [plan(RAW, style) for style in ReasoningStyle], ids=str)
def test_texts_and_fields_leave_as_they_came_where_nothing_is_asked_for(planned: ReasoningPlan):
    message = {"reasoning": " r", "reasoning_content": "r", "content": "<think>r</think> x"}
    assert parts([message], planned) == list(message.items())
    delta = split_object(b'{"reasoning_details":[{"text":"a"}]}')
    assert Splitter(planned).take(delta) == []
    assert bytes(delta["reasoning_details"]) == b'[{"text":"a"}]'


def test_content_in_parts_of_another_kind_stays_as_it_came():
    content = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert parts([{"content": content}], plan()) == [("content", content)]
    assert parts([{"reasoning": "a"}, {"content": content}], plan(INLINE)) == [
        ("content", "<think>a"), ("content", "</think>"), ("content", content),
    ]  # fmt: skip


def test_what_is_not_known_here_stays_in_the_delta():
    delta = split_object(b'{"role":"assistant","content":"a","annotations":[1.50],"thoughts":{"odd":1}}')
    Splitter(plan()).take(delta)
    assert delta == {"role": Raw(b'"assistant"'), "annotations": Raw(b"[1.50]"), "thoughts": Raw(b'{"odd":1}')}


@pytest.mark.parametrize("text", [r'"\u00e9\/"', '"é/"', r'"\ud83d\ude00"'])
def test_text_that_is_not_parted_keeps_its_bytes(text: str):
    for name in ("content", "reasoning", "reasoning_content"):
        [(_, value)] = Splitter(plan()).take({name: Raw(text.encode())})
        assert bytes(value) == text.encode()


@pytest.mark.parametrize("mode", [SPLIT, INLINE])
def test_half_a_surrogate_pair_survives(mode: ReasoningMode):
    body = rb'{"content":" <think>a\ud83d</think>\udE00 b\ue000"}'
    disguise = Disguise(body)
    delta = split_object(disguise.put_on(body))
    splitter = Splitter(plan(mode))
    found = [*splitter.take(delta, disguise), *splitter.end()]
    texts = [json.loads(disguise.take_off(bytes(text))) for _, text in found]
    expected = ["a\ud83d", "\ude00 b\ue000"] if mode is SPLIT else [" <think>a\ud83d</think>\ude00 b\ue000"]
    assert texts == expected


@pytest.mark.parametrize(
    ("steps", "mode", "style", "passing"),
    [
        ([], SPLIT, AUTO, Passing.NOTHING),
        ([{"reasoning": "a"}], SPLIT, AUTO, Passing.REASONING),
        ([{"reasoning": "a"}], SPLIT, FIELD, Passing.REASONING),
        ([{"reasoning": "a"}, {"content": "\n"}], SPLIT, AUTO, Passing.NOTHING),
        ([{"reasoning": "a"}, {"content": "<think>"}], SPLIT, AUTO, Passing.NOTHING),
        ([{"reasoning": "a"}, {"content": "b"}], SPLIT, AUTO, Passing.CONTENT),
        ([{"reasoning_content": "a"}], SPLIT, AUTO, Passing.NOTHING),
        ([{"reasoning_content": "a"}, {"content": "b"}], SPLIT, AUTO, Passing.CONTENT),
        ([{"content": "<think>a"}], SPLIT, AUTO, Passing.NOTHING),
        ([{"content": "<think>a</think>"}], SPLIT, AUTO, Passing.NOTHING),
        ([{"content": "<think>a</think>b"}], SPLIT, AUTO, Passing.CONTENT),
        ([{"content": "b"}], SPLIT, PREFILLED, Passing.NOTHING),
        ([{"reasoning": "a"}], INLINE, AUTO, Passing.NOTHING),
        ([{"reasoning": "a"}, {"content": "b"}], INLINE, AUTO, Passing.CONTENT),
        ([{"reasoning": "a"}, {"content": "b"}, {"reasoning": "c"}], INLINE, AUTO, Passing.NOTHING),
        ([{"content": "<think>"}], INLINE, AUTO, Passing.NOTHING),
        ([{"content": "<think>a"}], INLINE, AUTO, Passing.CONTENT),
        ([{"content": "a"}], INLINE, PREFILLED, Passing.CONTENT),
        ([], RAW, AUTO, Passing.ALL),
        ([], SPLIT, NONE, Passing.NOTHING),
        ([{"reasoning": "a"}], SPLIT, NONE, Passing.REASONING),
        ([{"content": "<think>a"}], SPLIT, NONE, Passing.CONTENT),
        ([{"reasoning_content": "a"}, {"content": "b"}], SPLIT, NONE, Passing.CONTENT),
        ([{"reasoning": "a"}], INLINE, NONE, Passing.NOTHING),
        ([{"reasoning": "a"}, {"content": "b"}], INLINE, NONE, Passing.CONTENT),
    ],
)
def test_what_may_leave_unread(steps: list[Step], mode: ReasoningMode, style: ReasoningStyle, passing: Passing):
    splitter = Splitter(plan(mode, style))
    for step in steps:
        splitter.take(split_object(json.dumps(step).encode()))
    assert splitter.passing is passing


@pytest.mark.parametrize(
    ("steps", "style", "none"),
    [
        ([{"content": "r</think>c"}], TAGS, True),
        ([{"content": "r</think>c"}], FIELD, True),
        ([{"content": "r</think>c"}], PREFILLED, False),
        ([{"content": "<think></think>c</think>"}], TAGS, False),
        ([{"reasoning": "r"}, {"content": "c</think>"}], AUTO, False),
        ([{"content": "r</think>c"}], NONE, False),
    ],
)
@pytest.mark.parametrize("mode", [SPLIT, INLINE])
def test_d4_10_it_says_where_a_closing_tag_would_belong_to_no_block(steps, style, none, mode):
    splitter = Splitter(plan(mode, style))
    for step in steps:
        splitter.take(split_object(json.dumps(step).encode()))
    assert splitter.saw_no_block is none


def cut(text: str, places: Iterable[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


TEXTS = st.lists(st.sampled_from(["<think>", "</think>", "<thi", "</", " ", "\n", "a", "é"]), max_size=8).map("".join)
CUTS = st.lists(st.integers(0, 100), max_size=5)


@given(
    reasoning=TEXTS, content=TEXTS, name=st.sampled_from(["reasoning", "reasoning_content"]),
    cuts=st.tuples(CUTS, CUTS), mode=st.sampled_from(ReasoningMode), style=st.sampled_from(ReasoningStyle),
    calls=st.booleans(),
)  # fmt: skip
def test_d4_7_the_deltas_joined_say_what_the_message_says(reasoning, content, name, cuts, mode, style, calls):
    planned = plan(mode, style)
    end = [CALL] if calls else []
    deltas = [{name: text} for text in cut(reasoning, cuts[0])] + [{"content": text} for text in cut(content, cuts[1])]

    def joined(steps: list[Step]) -> dict[str, str]:
        texts: dict[str, str] = {}
        for key, text in parts(steps, planned):
            texts[key] = texts.get(key, "") + text
        return texts

    assert joined([*deltas, *end]) == joined([{name: reasoning, "content": content}, *end])


@pytest.mark.parametrize("style", [AUTO, FIELD, TAGS, PREFILLED])
@pytest.mark.parametrize("mode", [SPLIT, INLINE])
def test_d4_7_a_field_and_a_text_may_be_cut_anywhere(mode: ReasoningMode, style: ReasoningStyle):
    reasoning, content = " r\n", " <think>r</think>\nx</think>"
    whole = split({"reasoning": reasoning, "content": content}, mode=mode, style=style)
    for one, two in combinations(range(len(content) + 1), 2):
        steps = [{"reasoning": text} for text in reasoning] + [{"content": text} for text in cut(content, (one, two))]
        assert split(*steps, mode=mode, style=style) == whole
