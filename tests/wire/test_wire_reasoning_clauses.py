"""What becomes of reasoning, clause by clause: in every style and mode, in a whole answer and in a stream of it.

A row says what one message becomes. The stream says the same message, each text cut into pieces; what a client joins of
it has to be what stands in the row.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from playing import NEW_ID, NOW, arguments_in, choices_in, chunks_in, joined, plan, play, split
from provider_events import DONE, ROLE, lines, same_model

from proxy.providers import Provider
from proxy.usage import Usage
from proxy.wire.chat_answer import read_answer, write_answer
from proxy.wire.reasoning import ReasoningPlan, reasoning_plan

ALL = ("auto", "field", "tags", "prefilled", "none")
ORDER = ("role", "reasoning", "content", "tool_calls")
FIELDS = ("reasoning", "reasoning_content", "reasoning_details")
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
NUMBERED = [{"index": 0, "type": "reasoning.text", "text": "a"}, {"index": 1, "data": "sealed"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


def thinking(thought: object) -> dict[str, object]:
    return {"type": "thinking", "thinking": thought}


def text(said: str) -> dict[str, object]:
    return {"type": "text", "text": said}


@dataclass(frozen=True)
class Row:
    """What a message becomes in some styles; what is not in `becomes` is not in the message."""

    clause: str
    styles: tuple[str, ...]
    message: dict[str, Any]
    becomes: dict[str, Any]
    stray: int = 0

    def __str__(self) -> str:
        return f"{self.clause} {' '.join(self.styles)} {json.dumps(self.message)}"


BLOCK = "<think>t</think>x"
TAKEN = ("auto", "tags", "prefilled")
"""Styles in which blocks are reasoning."""
MIRRORED = ("auto", "field", "tags", "prefilled")
"""Styles in which a block beside a field only repeats it."""
LEFT = ("field", "none")
"""Styles in which blocks are text."""
SPLIT_ROWS = (
    Row("D4.2", ALL, {"reasoning": "r", "content": "x"}, {"reasoning": "r", "content": "x"}),
    Row("D4.2", ALL, {"reasoning": "r", "content": None, "tool_calls": [CALL]},
        {"reasoning": "r", "content": None, "tool_calls": [CALL]}),
    *(Row("D4.2", ("auto", "field", "tags", "none"), {**nothing, "content": "x"}, {"content": "x"})
      for nothing in ({}, *({name: empty} for name in FIELDS for empty in (None, "", [])))),
    Row("D4.2", TAKEN, {"content": "<think> \n</think>x"}, {"content": "x"}),
    Row("D4.3", ALL, {"reasoning_content": "r", "content": "x"}, {"reasoning": "r", "content": "x"}),
    Row("D4.3", ALL, {"reasoning": "a", "reasoning_content": "b", "content": "x"}, {"reasoning": "a", "content": "x"}),
    Row("D4.3", ALL, {"reasoning": "", "reasoning_content": "b", "content": "x"}, {"reasoning": "b", "content": "x"}),
    Row("D4.3", ALL, {"reasoning_content": "b", "reasoning_details": [text("c")], "content": "x"},
        {"reasoning": "b", "content": "x"}),
    Row("D4.3", ALL, {"reasoning_details": [text("c"), {"summary": "d"}, {"data": "sealed"}], "content": "x"},
        {"reasoning": "cd", "content": "x"}),
    Row("D4.3", ALL, {"content": [thinking([text("a"), text("b")]), text("x"), text("y")]},
        {"reasoning": "ab", "content": "xy"}),
    Row("D4.3", ALL, {"reasoning": "r", "content": [thinking("t"), text("x")]}, {"reasoning": "r", "content": "x"}),
    Row("D4.3", ALL, {"content": [thinking("t"), text("x"), IMAGE]},
        {"reasoning": "t", "content": [text("x"), IMAGE]}),
    *(Row("D4.3", ALL, {"reasoning_content": "r", "reasoning": wrong, "content": "x"},
          {"reasoning": "r", "content": "x"}) for wrong in (5, 0, True, False, ["a"], [text("a")], {"text": "a"})),
    *(Row("D4.3", ("auto", "field", "tags", "none"), {name: wrong, "content": "x"}, {"content": "x"})
      for name in FIELDS for wrong in (5, True, {"text": "a"})),
    Row("D4.4", ALL, {"reasoning": "a", "reasoning_details": NUMBERED, "content": "x"},
        {"reasoning": "a", "content": "x", "reasoning_details": NUMBERED}),
    Row("D4.4", ALL, {"reasoning_details": NUMBERED, "content": "x"},
        {"reasoning": "a", "content": "x", "reasoning_details": NUMBERED}),
    *(Row("D4.4", ALL, {"reasoning": "a", "reasoning_details": [*NUMBERED, odd], "content": "x"},
          {"reasoning": "a", "content": "x"})
      for odd in ({"text": "b"}, {"index": "2"}, {"index": None}, {"index": True}, {"index": 2.0}, "b", 2)),
    Row("D4.4", ALL, {"reasoning": "a", "reasoning_details": "a", "content": "x"}, {"reasoning": "a", "content": "x"}),
    *(Row("D4.5", ALL, {name: "\n r \n", "content": " x "}, {"reasoning": "\n r \n", "content": " x "})
      for name in ("reasoning", "reasoning_content")),
    Row("D4.5", MIRRORED, {"reasoning": "r", "content": " <think>\nr\n</think>\n\nx"},
        {"reasoning": "r", "content": "x"}),
    Row("D4.5", MIRRORED, {"reasoning_content": "r", "content": "<think>r</think> <think>r</think>x</think>"},
        {"reasoning": "r", "content": "x</think>"}),
    Row("D4.5", MIRRORED, {"reasoning": "r", "content": "<think>r"}, {"reasoning": "r", "content": ""}),
    Row("D4.5", ("none",), {"reasoning": "r", "content": BLOCK}, {"reasoning": "r", "content": BLOCK}),
    Row("D4.5", ("prefilled",), {"reasoning": "r", "content": "the answer"},
        {"reasoning": "r", "content": "the answer"}),
    Row("D4.6", TAKEN, {"content": BLOCK}, {"reasoning": "t", "content": "x"}),
    Row("D4.6", TAKEN, {"content": " \n<think>\n a\n\n\nb </th> \n</think>\r\n\t x  "},
        {"reasoning": "a\n\n\nb </th>", "content": "x  "}),
    Row("D4.6", TAKEN, {"content": "<think>a</think>\n<think></think><think>b</think>\n\nc<think>d</think>"},
        {"reasoning": "a\n\nb", "content": "c<think>d</think>"}),
    Row("D4.6", TAKEN, {"content": "<think>x <think>y</think> z</think>w"},
        {"reasoning": "x <think>y", "content": "z</think>w"}),
    Row("D4.6", TAKEN, {"content": "<think>plan", "tool_calls": [CALL]},
        {"reasoning": "plan", "content": None, "tool_calls": [CALL]}),
    Row("D4.6", ("auto", "tags"), {"content": "a<think>b</think>"}, {"content": "a<think>b</think>"}, stray=1),
    Row("D4.6", ("auto", "field", "tags", "none"), {"content": "<thinking>no"}, {"content": "<thinking>no"}),
    Row("D4.6", ("auto", "field", "tags", "none"), {"content": " \n "}, {"content": " \n "}),
    Row("D4.6", ("auto", "field", "tags", "none"), {"content": "<thi"}, {"content": "<thi"}),
    Row("D4.6", LEFT, {"content": BLOCK}, {"content": BLOCK}),
    Row("D4.6", LEFT, {"content": " <think>a"}, {"content": " <think>a"}),
    Row("D4.6", ("prefilled",), {"content": " I reason\n</think>\nAns"}, {"reasoning": "I reason", "content": "Ans"}),
    Row("D4.6", ("prefilled",), {"content": "\n<think>\nI reason</think>\nAns"},
        {"reasoning": "I reason", "content": "Ans"}),
    Row("D4.8", TAKEN, {"content": "<think>\na </th"}, {"reasoning": "a </th", "content": ""}),
    Row("D4.8", ("prefilled",), {"content": "no close"}, {"reasoning": "no close", "content": ""}),
    Row("D4.10", ("auto", "field", "tags"), {"content": "r</think>x"}, {"content": "r</think>x"}, stray=1),
    Row("D4.10", ("none",), {"content": "r</think>x"}, {"content": "r</think>x"}),
    Row("D4.10", MIRRORED, {"reasoning": "r", "content": "a</think>x"}, {"reasoning": "r", "content": "a</think>x"}),
    Row("D4.10", TAKEN, {"content": "<think></think>a</think>"}, {"content": "a</think>"}),
)  # fmt: skip
INLINE_ROWS = (
    *(Row("D4.11", ALL, {name: "\n r ", "content": " x"}, {"content": "<think>\n r </think> x"})
      for name in ("reasoning", "reasoning_content")),
    Row("D4.11", ALL, {"reasoning": "a", "reasoning_content": "b", "reasoning_details": NUMBERED, "content": "x"},
        {"content": "<think>a</think>x"}),
    Row("D4.11", ALL, {"reasoning_details": NUMBERED, "content": "x"}, {"content": "<think>a</think>x"}),
    Row("D4.11", ALL, {"content": [thinking("t"), text("x")]}, {"content": "<think>t</think>x"}),
    Row("D4.11", ALL, {"reasoning": "r"}, {"content": "<think>r</think>"}),
    Row("D4.11", ALL, {"reasoning": "r", "content": None, "tool_calls": [CALL]},
        {"content": "<think>r</think>", "tool_calls": [CALL]}),
    *(Row("D4.11", ("auto", "field", "tags", "none"), {name: wrong, "content": "x"}, {"content": "x"})
      for name in FIELDS for wrong in (5, True, {"text": "a"}, None, "", [])),
    Row("D4.11", ("auto", "field", "tags", "none"), {"content": " <think>\na</think>\n\nb"},
        {"content": " <think>\na</think>\n\nb"}),
    Row("D4.11", ("auto", "field", "tags", "none"), {"content": "<think>a"}, {"content": "<think>a"}),
    Row("D4.11", ("auto", "field", "tags", "none"), {"content": " <thi"}, {"content": " <thi"}),
    Row("D4.11", MIRRORED, {"reasoning": "r", "content": "<think>r</think>\nx"}, {"content": "<think>r</think>x"}),
    Row("D4.11", ("none",), {"reasoning": "r", "content": BLOCK}, {"content": f"<think>r</think>{BLOCK}"}),
    Row("D4.11", ("prefilled",), {"content": "a</think>\nb"}, {"content": "<think>a</think>\nb"}),
    Row("D4.11", ("prefilled",), {"content": " <think>a</think>b"}, {"content": " <think>a</think>b"}),
    Row("D4.11", ("prefilled",), {"content": "", "tool_calls": [CALL]}, {"content": "", "tool_calls": [CALL]}),
    Row("D4.10", ("auto", "field", "tags"), {"content": "r</think>x"}, {"content": "r</think>x"}, stray=1),
    Row("D4.10", ("none",), {"content": "r</think>x"}, {"content": "r</think>x"}),
)  # fmt: skip
RAW_ROWS = tuple(
    Row("D4.1", ALL, message, message)
    for message in (
        {"content": BLOCK},
        {"reasoning": "r", "content": BLOCK},
        {"reasoning_content": " r", "content": "x"},
        {"reasoning": "a", "reasoning_content": "b", "content": "x"},
        {"content": "x", "reasoning_details": [text("a")]},
        {"content": [thinking("t"), text("x")]},
        {"content": "r</think>x"},
    )
)
CASES = [
    pytest.param(mode, style, row, id=f"{row.clause} {mode} {style} {json.dumps(row.message)}")
    for mode, rows in (("split", SPLIT_ROWS), ("inline", INLINE_ROWS), ("raw", RAW_ROWS))
    for row in rows
    for style in row.styles
]


def answered(message: dict[str, Any], planned: ReasoningPlan, finish: str = "stop", **fields: Any) -> dict[str, Any]:
    """The document that a client gets of a whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    body = {"id": "x", "choices": [choice], **fields}
    answer = read_answer(json.dumps(body).encode(), new_id=lambda: NEW_ID, reasoning=planned)
    written = write_answer(answer, model="m", usage=Usage(), now=NOW, new_id=lambda: NEW_ID)
    return {**json.loads(written), "stray": answer.stray_close_tags}


def deltas_of(message: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """The deltas that say a message: reasoning first, then the content, then calls; texts in pieces of a size."""
    calls = [{"index": at, **call} for at, call in enumerate(message.get("tool_calls", ()))]
    said = []
    for name in (*FIELDS, "content"):
        value = message.get(name)
        pieces = [value[at : at + size] for at in range(0, len(value), size)] if isinstance(value, str) else [value]
        said += [{name: piece} for piece in pieces] if name in message else []
    return said + ([{"tool_calls": calls}] if calls else [])


def streamed(message: dict[str, Any], planned: ReasoningPlan, size: int, **asked: bool) -> tuple[dict[str, Any], int]:
    """What a client joins of a stream, and the stray closing tags that were counted."""
    events = [same_model(json.dumps(delta)) for delta in deltas_of(message, size)]
    played = play(
        [lines(same_model(ROLE), *events, same_model("{}", '"stop"'), DONE)], plan(reasoning=planned, **asked)
    )
    assert played.ended
    chunks = chunks_in(played.out)
    found: dict[str, Any] = {}
    for delta in (choice["delta"] for choice in choices_in(chunks)):
        for name, value in delta.items():
            if name not in {"role", "tool_calls"} and value not in (None, ""):
                found[name] = found.get(name, type(value)()) + value
    if arguments := arguments_in(chunks):
        found["tool_calls"] = list(arguments.values())
    return found, played.stray


@pytest.mark.parametrize(("mode", "style", "row"), CASES)
def test_a_whole_message(mode: str, style: str, row: Row):
    found = answered(row.message, split(style, mode))
    message = found["choices"][0]["message"]
    assert {name: value for name, value in message.items() if name != "role"} == row.becomes
    assert found["stray"] == row.stray
    if mode != "raw":
        assert [key for key in message if key in ORDER] == [key for key in ORDER if key in message]


@pytest.mark.parametrize(("mode", "style", "row"), CASES)
def test_d4_7_the_stream_of_a_message(mode: str, style: str, row: Row):
    expected = {name: value for name, value in row.becomes.items() if value not in (None, "")}
    if calls := expected.get("tool_calls"):
        expected["tool_calls"] = [call["function"]["arguments"] for call in calls]
    for size in (1, 2, 5, 1000):
        for every_event in (False, True):
            found = streamed(row.message, split(style, mode), size, every_event=every_event)
            assert found == (expected, row.stray)


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", None])
@pytest.mark.parametrize("style", TAKEN)
def test_d4_8_an_open_block_is_reasoning_however_the_answer_ended(finish: str, style: str):
    message = answered({"content": "<think>a"}, split(style), finish)["choices"][0]["message"]
    assert message == {"role": "assistant", "reasoning": "a", "content": ""}


@pytest.mark.parametrize(
    ("wanted", "reasons", "becomes"),
    [
        pytest.param(True, False, {"reasoning": "r", "content": "x"}, id="D4.1 true"),
        pytest.param(True, True, {"reasoning": "r", "content": "x"}, id="D4.1 true on a model that reasons"),
        pytest.param(False, False, {"content": "<think>r</think>x"}, id="D4.1 false"),
        pytest.param(False, True, {"content": "<think>r</think>x"}, id="D4.1 false on a model that reasons"),
        pytest.param(None, True, {"reasoning": "r", "content": "x"}, id="D4.1 absent on a model that reasons"),
        pytest.param(None, False, {"reasoning_content": "r", "content": "x"}, id="D4.1 absent"),
    ],
)
@pytest.mark.parametrize("style", ALL)
def test_what_is_asked_for_decides_and_the_style_does_not(
    style: str, wanted: bool | None, reasons: bool, becomes: dict
):
    profile = Provider(base_url="http://127.0.0.1:1/v1", reasoning_style=style)
    planned = reasoning_plan(wanted, reasons=reasons, provider=profile, thinking_off=False)
    message = {"reasoning_content": "r", "content": "x"}
    whole = answered(message, planned)["choices"][0]["message"]
    assert {name: value for name, value in whole.items() if name != "role"} == becomes
    assert streamed(message, planned, 1)[0] == becomes


LOGPROBS = {"content": [{"token": "<think>", "logprob": -1e-05, "bytes": [60]}, {"token": "x", "logprob": -0.1}]}


@pytest.mark.parametrize("mode", ["split", "inline", "raw"])
@pytest.mark.parametrize("style", ALL)
def test_d4_12_log_probabilities_are_passed_on_in_every_mode(mode: str, style: str):
    choice = {"index": 0, "finish_reason": "stop", "logprobs": LOGPROBS}
    whole = answered({}, split(style, mode), choices=[{**choice, "message": {"role": "assistant", "content": BLOCK}}])
    assert whole["choices"][0]["logprobs"] == LOGPROBS
    event = {"id": "x", "choices": [{**choice, "delta": {"role": "assistant", "content": BLOCK}}]}
    chunks = chunks_in(play([lines(f"data: {json.dumps(event)}", DONE)], plan(reasoning=split(style, mode))).out)
    assert [choice["logprobs"] for choice in choices_in(chunks) if choice.get("logprobs")] == [LOGPROBS]
    assert joined(chunks, "content")[0].endswith("x")
