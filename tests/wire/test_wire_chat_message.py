"""The reasoning of a whole answer stands where the client wants it, and an answer without any stays as it came."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import NEW_ID, NOW, plan, split
from provider_events import lines, same_model
from test_wire_tag_scanner import PREFILLED, TAGS

from proxy.providers import ReasoningStyle
from proxy.usage import Usage
from proxy.wire.chat_answer import ChatAnswer, read_answer, write_answer
from proxy.wire.chat_message import leaves_as_it_came
from proxy.wire.chat_stream import ChatStream
from proxy.wire.json import split_list
from proxy.wire.reasoning import UNTOUCHED, ReasoningPlan

CALL = '{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}'


def body(*messages: str) -> bytes:
    choices = [f'{{"index":{at},"message":{one},"finish_reason":"stop"}}' for at, one in enumerate(messages)]
    return f'{{"id":"x","choices":[{",".join(choices)}]}}'.encode()


def read(sent: bytes, planned: ReasoningPlan) -> ChatAnswer:
    return read_answer(sent, new_id=lambda: NEW_ID, reasoning=planned)


def messages(sent: bytes, planned: ReasoningPlan) -> list[dict]:
    answer = read(sent, planned)
    written = write_answer(answer, model="m", usage=Usage(), now=NOW, new_id=lambda: NEW_ID)
    return [choice["message"] for choice in json.loads(written)["choices"]]


def message(fields: str, planned: ReasoningPlan | None = None) -> dict:
    [found] = messages(body(f'{{"role":"assistant",{fields}}}'), planned or split())
    return found


@pytest.mark.parametrize(
    ("style", "text", "reasoning", "content"),
    [pytest.param("tags", *case.values, id=f"tags {case.id}") for case in TAGS]
    + [pytest.param("prefilled", *case.values, id=f"prefilled {case.id}") for case in PREFILLED],
)
def test_tags_part_a_whole_answer_too(style: str, text: str, reasoning: str, content: str):
    expected = {"role": "assistant", "reasoning": reasoning, "content": content}
    if not reasoning:
        del expected["reasoning"]
    assert message(f'"content":{json.dumps(text)}', split(style)) == expected


def test_d4_2_the_keys_stand_in_their_order():
    fields = f'"tool_calls":[{CALL}],"refusal":null,"reasoning_content":"r","content":"x","annotations":[]'
    assert list(message(fields)) == ["role", "reasoning", "content", "tool_calls", "refusal", "annotations"]
    assert list(message('"content":"<think>a</think>b","x":1')) == ["role", "reasoning", "content", "x"]
    assert list(message('"content":"x","reasoning":"r"')) == ["role", "reasoning", "content"]


@pytest.mark.parametrize("nothing", ['"reasoning":null', '"reasoning":""', '"reasoning_content":null',
                                     '"reasoning_details":[]'])  # fmt: skip
@pytest.mark.parametrize("mode", ["split", "inline"])
def test_d4_2_reasoning_is_left_out_where_there_is_none(nothing: str, mode: str):
    assert message(f'"content":"x",{nothing}', split(mode=mode)) == {"role": "assistant", "content": "x"}


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ('"content":"<think>a"', ""),
        (f'"content":"<think>a","tool_calls":[{CALL}]', None),
        (f'"content":null,"reasoning":"a","tool_calls":[{CALL}]', None),
        (f'"content":"","reasoning":"a","tool_calls":[{CALL}]', ""),
        ('"content":"<think>a</think>","refusal":"no"', None),
        ('"reasoning":"a"', ""),
    ],
)
def test_d5_5_content_is_always_there(fields: str, content: str | None):
    found = message(fields)
    assert found["content"] == content
    assert found["reasoning"] == "a"


def test_g40_a_tool_call_stays_beside_the_reasoning():
    found = message(f'"content":"<think>plan","tool_calls":[{CALL}]')
    assert (found["reasoning"], found["content"], found["tool_calls"]) == ("plan", None, [json.loads(CALL)])


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ('"content":"b","reasoning":"a"', "<think>a</think>b"),
        ('"content":"b","reasoning_content":"\\n"', "<think>\n</think>b"),
        (f'"content":null,"reasoning":"a","tool_calls":[{CALL}]', "<think>a</think>"),
        ('"content":"<think>a</think>b"', "<think>a</think>b"),
        ('"content":"<think>r</think>b","reasoning":"a"', "<think>a</think>b"),
    ],
)
def test_d4_11_reasoning_is_folded_into_the_text(fields: str, content: str):
    found = message(fields, split(mode="inline"))
    assert found["content"] == content
    assert "reasoning" not in found


def test_d4_11_content_in_parts_gets_the_reasoning_as_another():
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    found = message(f'"content":{json.dumps([image])},"reasoning":"a"', split(mode="inline"))
    assert found["content"] == [{"type": "text", "text": "<think>a</think>"}, image]
    assert message(f'"content":{json.dumps([image])},"reasoning":"a"')["content"] == [image]


def test_each_choice_is_split_on_its_own():
    sent = body('{"role":"assistant","content":"<think>a</think>b"}', '{"role":"assistant","content":"c"}',
                '{"role":"assistant","content":"e","reasoning":"d"}')  # fmt: skip
    assert [(one.get("reasoning"), one["content"]) for one in messages(sent, split())] == [
        ("a", "b"), (None, "c"), ("d", "e"),
    ]  # fmt: skip


@pytest.mark.parametrize("planned", [UNTOUCHED, split("none"), split(mode="raw"), split(), split("field"),
                                     split(mode="inline")], ids=str)  # fmt: skip
@pytest.mark.parametrize("content", ["Hi.", "", "a < b\n", "é <think>", '\\ "'])
def test_an_answer_without_reasoning_stays_the_bytes_that_came(planned: ReasoningPlan, content: str):
    sent = body(f'{{"content": {json.dumps(content, ensure_ascii=False)} ,"role":"assistant","x":1.0}}')
    if planned == split() and "<think>" in content:
        assert messages(sent, planned)[0]["content"] == content
    else:
        assert bytes(read(sent, planned).choices) in sent


@pytest.mark.parametrize("style", ReasoningStyle)
@pytest.mark.parametrize("mode", ["split", "inline", "raw"])
@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<thi", r"\u003cthink>", r"<\/think>", r"\u003c/think\u003e", " ",
                         r"\n", "a", r"\"", r"\\"]),
        max_size=6,
    ).map("".join)
)  # fmt: skip
def test_what_is_said_to_leave_as_it_came_does(style: ReasoningStyle, mode: str, text: str):
    content, planned = f'"{text}"'.encode(), split(style, mode)
    if leaves_as_it_came(content, planned):
        # One choice more that has to be read, so that the others are too.
        sent = body(f'{{"content":{content.decode()},"role":"assistant"}}', '{"role":null,"content":""}')
        answer = read(sent, planned)
        assert json.loads(bytes(answer.choices))[0]["message"] == {"role": "assistant", "content": json.loads(content)}
        assert answer.stray_close_tags == 0


@pytest.mark.parametrize("planned", [split(), split("field"), split(mode="inline"), split("prefilled", "inline")],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize("text", [r"a\uD83D", r"<think>a\ud83d", r"<think>\udc00</think>b"])
def test_what_was_split_can_be_read_again_with_half_a_surrogate_pair_in_it(planned: ReasoningPlan, text: str):
    answer = read(body(f'{{"role":"assistant","content":"{text}"}}'), planned)
    [choice] = split_list(answer.choices)
    assert answer.disguise is not None
    assert answer.disguise.take_off(bytes(choice["message"]))
    assert answer.output_bytes() > 0


def test_texts_that_are_split_keep_half_a_surrogate_pair():
    answer = read(body(r'{"role":"assistant","content":"<think>a\ud83d</think>b\udc00"}'), split())
    out = write_answer(answer, model="m", usage=Usage(), now=NOW, new_id=lambda: NEW_ID)
    assert rb'"reasoning":"a\ud83d","content":"b\udc00"' in out


@pytest.mark.parametrize(
    ("sent", "planned", "stray"),
    [
        (body('{"role":"assistant","content":"a</think>b"}'), split(), 1),
        (body('{"role":"assistant","content":"a\\u003c/think>b"}'), split(), 1),
        (body('{"role":"assistant","content":"a</think>b"}'), split("field"), 1),
        (body('{"role":"assistant","content":"a</think>b"}'), split(mode="inline"), 1),
        (body('{"role":"assistant","content":"a</think>b"}'), split("prefilled"), 0),
        (body('{"role":"assistant","content":"a</think>b"}'), UNTOUCHED, 0),
        (body('{"role":"assistant","content":"a</think>b","reasoning":"r"}'), split(), 0),
        (body('{"role":"assistant","content":"<think></think>b</think>"}'), split(), 0),
        (body(*['{"role":"assistant","content":"a</think>b"}'] * 2), split(), 2),
    ],
)
def test_d4_10_closing_tags_of_no_block_are_counted_and_stay(sent: bytes, planned: ReasoningPlan, stray: int):
    assert read(sent, planned).stray_close_tags == stray


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ('"content":"x"', None),
        ('"content":"x","reasoning":"r"', "reasoning"),
        ('"content":"x","reasoning_content":"r"', "reasoning_content"),
        ('"content":null,"reasoning_content":"r"', "reasoning_content"),
        ('"content":"x","reasoning":null,"reasoning_content":""', None),
        ('"content":"<think>r</think>x"', None),
        ('"content":"x","reasoning":5,"reasoning_content":["r"]', None),
        ('"content":"x","reasoning":{"a":1},"reasoning_content":"r"', "reasoning_content"),
    ],
)
@pytest.mark.parametrize("planned", [UNTOUCHED, split(), split(mode="inline")], ids=str)
def test_it_says_in_which_field_the_reasoning_came(fields: str, name: str | None, planned: ReasoningPlan):
    assert read(body(f'{{"role":"assistant",{fields}}}'), planned).reasoning_field == name
    stream = ChatStream(plan(reasoning=planned, every_event=True))
    stream.feed(lines(same_model(f'{{"role":"assistant",{fields}}}')))
    assert stream.reasoning_field == name


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ('"content":"<think> a </think> b"', 20),
        ('"content":"b","reasoning":" a "', 4),
        ('"content":"b","reasoning_details":[{"text":"abc"},{"summary":"d"}]', 5),
        ('"content":"<think>r</think>b","reasoning":"r"', 18),
    ],
)
@pytest.mark.parametrize("planned", [UNTOUCHED, split(), split(mode="inline")], ids=str)
def test_what_counts_as_output_is_what_the_provider_sent(fields: str, size: int, planned: ReasoningPlan):
    assert read(body(f'{{"role":"assistant",{fields}}}'), planned).output_bytes() == size
