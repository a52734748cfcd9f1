"""Whatever items are sent, their texts, calls and results reach the model: all of them, once each, in their order."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from asking import body, chat, ignored, messages, refused, sent
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.chat_request import read_chat_request

USER = {"role": "user", "content": "Weather?"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"}
CALL2 = CALL | {"id": "fc_2", "call_id": "c2", "arguments": '{"b": 1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "7"}
RESULT2 = RESULT | {"call_id": "c2", "output": "8"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
CALLED = {"type": "function", "id": "c1", "function": {"name": "f", "arguments": "{}"}}
CALLED2 = {"type": "function", "id": "c2", "function": {"name": "f", "arguments": '{"b": 1}'}}
ANSWERED = {"role": "tool", "content": "7", "tool_call_id": "c1"}
ANSWERED2 = {"role": "tool", "content": "8", "tool_call_id": "c2"}
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
SHOWN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def said(text: str, *parts: dict) -> dict:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [*parts, part]}


def with_content(content: object, role: str = "user") -> Any:
    [message] = messages({"role": role, "content": content})
    return message["content"]


def test_f2_a_string_is_a_message_of_the_user():
    assert json.loads(sent(body(input="Hello")))["messages"] == [{"role": "user", "content": "Hello"}]
    assert json.loads(sent(body(input="")))["messages"] == [{"role": "user", "content": ""}]


@pytest.mark.parametrize("role", ["user", "system", "developer", "assistant"])
@pytest.mark.parametrize("kind", [{}, {"type": "message"}, {"type": None}])
def test_f2_1_a_message_keeps_its_role_with_or_without_a_type(role: str, kind: dict):
    item = {"role": role, "content": "x", "id": "msg_1", "status": "completed", **kind}
    assert messages(USER, item)[-1] == {"role": role, "content": "x"}


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("x", "x"),
        ("", ""),
        ([], ""),
        ([{"type": "input_text", "text": "x"}], "x"),
        ([{"type": "output_text", "text": "x", "annotations": [{}], "logprobs": [{}]}], "x"),
        ([{"type": "text", "text": "x"}], "x"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
        (
            [{"type": "input_text", "text": "x"}, {"type": "refusal", "refusal": ""}, {"type": "text", "text": "z"}],
            [{"type": "text", "text": "x"}, {"type": "text", "text": ""}, {"type": "text", "text": "z"}],
        ),
        ([PICTURE], [SHOWN]),
        ([PICTURE | {"detail": None, "file_id": None}], [SHOWN]),
        ([PICTURE | {"file_id": "file_1"}], [SHOWN]),
        (
            [PICTURE | {"detail": "low"}, {"type": "input_text", "text": "x"}],
            [
                {"type": "image_url", "image_url": {**SHOWN["image_url"], "detail": "low"}},
                {"type": "text", "text": "x"},
            ],
        ),
        (
            [{"type": "input_file", "file_data": "data:,x", "filename": "a.txt", "file_id": None}],
            [{"type": "file", "file": {"file_data": "data:,x", "filename": "a.txt"}}],
        ),
        ([{"type": "input_file", "file_data": "x"}], [{"type": "file", "file": {"file_data": "x"}}]),
        *(
            ([part], [part])
            for part in (
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                {"type": "video_url", "video_url": {"url": "x"}, "text": 5},
            )
        ),
    ],
    ids=json.dumps,
)
def test_f2_1_content_takes_the_form_that_chat_has_for_it(content: object, wanted: object):
    assert with_content(content) == wanted
    assert with_content(content, "assistant") == wanted


def test_f2_1_calls_join_the_text_before_them_and_one_another():
    assert messages(USER, said("Let me see."), CALL, CALL2, RESULT, RESULT2, said("7 and 8.")) == [
        USER,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALLED, CALLED2]},
        ANSWERED,
        ANSWERED2,
        {"role": "assistant", "content": "7 and 8."},
    ]


def test_f2_1_calls_without_text_make_a_message_without_content():
    assert messages(USER, CALL, RESULT, CALL2, RESULT2) == [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        ANSWERED,
        {"role": "assistant", "content": None, "tool_calls": [CALLED2]},
        ANSWERED2,
    ]


def test_f2_1_text_between_calls_and_their_results_joins_the_calls():
    """A provider refuses a result that does not follow the message with its call."""
    text = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    assert messages(USER, said("One."), CALL, said("Two."), CALL2, RESULT, RESULT2) == [
        USER,
        {"role": "assistant", "content": text, "tool_calls": [CALLED, CALLED2]},
        ANSWERED,
        ANSWERED2,
    ]


def test_f2_1_two_answers_in_a_row_stay_two_messages():
    assert [message["content"] for message in messages(said("a"), said("b"))] == ["a", "b"]


def test_f2_1_what_is_left_out_between_two_calls_does_not_part_them():
    _, turn, _, _ = messages(USER, CALL, {"type": "web_search_call", "id": "ws"}, CALL2, RESULT, RESULT2)
    assert turn["tool_calls"] == [CALLED, CALLED2]


@pytest.mark.parametrize(
    "arguments", [r'"{\"a\":  1.0, \"b\":\"\\u00e9\\ud83d\"}"', '"not json"', '""', r'"\u00e9é\/"']
)
def test_f2_1_arguments_leave_as_the_bytes_that_came(arguments: str):
    field = f'"arguments":{arguments}'
    item = '{"type":"function_call","call_id":"c","name":"f",' + field + "}"
    assert field.encode() in sent(('{"model":"m","input":[' + item + "]}").encode())


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("7", "7"),
        ("", ""),
        ([], ""),
        ([{"type": "input_text", "text": "a"}], "a"),
        (
            [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": ""}, {"type": "text", "text": "c"}],
            "a\n\nc",
        ),
        ([PICTURE], [SHOWN]),
        (
            [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}, PICTURE],
            [{"type": "text", "text": "a\nb"}, SHOWN],
        ),
        (
            [{"type": "input_text", "text": "a"}, PICTURE, PICTURE, {"type": "input_text", "text": "b"}],
            [{"type": "text", "text": "a"}, SHOWN, SHOWN, {"type": "text", "text": "b"}],
        ),
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("kind", ["function_call_output", "custom_tool_call_output"])
def test_f2_1_a_result_is_a_message_of_the_tool(kind: str, output: object, wanted: object):
    items = messages(USER, CALL, {"type": kind, "call_id": "c1", "output": output})
    assert items[-1] == {"role": "tool", "content": wanted, "tool_call_id": "c1"}


@pytest.mark.parametrize("text", ["", "ls -l", 'a"b\\c\n\u00e9\u2028😀', '{"input": 1}', "\ud83d", "\\ud83d"])
def test_f2_1_a_custom_tool_s_call_has_its_input_as_the_one_argument(text: str):
    item = {"type": "custom_tool_call", "call_id": "c1", "name": "shell", "input": text}
    [_, turn] = messages(USER, item)
    [call] = turn["tool_calls"]
    assert (call["id"], call["function"]["name"]) == ("c1", "shell")
    assert json.loads(call["function"]["arguments"]) == {"input": text}


def thought(content: object = None, summary: object = None, **fields: object) -> dict:
    def parts(kind: str, texts: object) -> object:
        return [{"type": kind, "text": text} for text in texts] if isinstance(texts, tuple) else texts

    return {
        "type": "reasoning",
        "content": parts("reasoning_text", content),
        "summary": parts("summary_text", summary),
        **fields,
    }


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        (THOUGHT, "Hm."),
        (thought(summary=("Hm.",)), "Hm."),
        (thought(("Hm.",), ("Summed up.",)), "Hm."),
        (thought(("Hm.", "", "So.")), "Hm.\n\nSo."),
        (thought(("",), ("Hm.", "So."), encrypted_content="x"), "Hm.\n\nSo."),
        (thought([{"type": "odd"}, *THOUGHT["content"]]), "Hm."),
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("answer", [said("7."), CALL])
def test_f2_1_reasoning_goes_to_the_answer_that_follows_it(item: dict, wanted: str, answer: dict):
    first, turn = messages(USER, item, answer)
    assert (first, turn["role"], turn["reasoning"]) == (USER, "assistant", wanted)
    assert ignored(input=[USER, item, answer]) == ()


def test_f2_1_the_reasoning_of_one_turn_is_one_string():
    """A model that thinks between its parallel calls still made one message."""
    again = THOUGHT | {"content": [{"type": "reasoning_text", "text": "And?"}]}
    assert messages(USER, THOUGHT, said("Wait."), again, CALL, THOUGHT, CALL2, RESULT, RESULT2)[1] == {
        "role": "assistant",
        "reasoning": "Hm.\n\nAnd?\n\nHm.",
        "content": "Wait.",
        "tool_calls": [CALLED, CALLED2],
    }


@pytest.mark.parametrize("kind", ["reasoning", "reasoning_text"])
def test_f2_1_reasoning_in_an_answer_s_content_is_never_content(kind: str):
    part = {"type": kind, "text": "Hm."}
    assert messages(USER, said("7.", part))[1] == {"role": "assistant", "reasoning": "Hm.", "content": "7."}
    assert messages(USER, {"role": "assistant", "content": [part]})[1]["content"] == ""
    assert messages(USER, {"role": "assistant", "content": [part]}, CALL)[1]["content"] is None


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "summary": [], "encrypted_content": "x"},
        {"type": "reasoning", "summary": []},
        {"type": "reasoning"},
        {"type": "reasoning", "content": None, "summary": None},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": ""}]},
    ],
)
def test_f2_1_reasoning_that_nobody_can_read_is_left_out_and_named(item: dict):
    assert messages(USER, item, CALL)[1] == {"role": "assistant", "content": None, "tool_calls": [CALLED]}
    assert ignored(input=[USER, item, CALL]) == ("input[1]",)


@pytest.mark.parametrize("after", [USER, RESULT, {"role": "developer", "content": "x"}, None])
def test_f2_1_reasoning_whose_answer_never_came_is_not_given_to_another(after: dict | None):
    items = [USER, THOUGHT, *([] if after is None else [after]), said("7.")][: 2 if after is None else 4]
    assert not any("reasoning" in message for message in messages(*items))
    assert ignored(input=items) == ("input[1]",)


def test_f2_1_a_thought_in_what_the_model_is_told_is_left_out_and_named():
    part = {"type": "reasoning", "text": "Hm."}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "x"}, part]},
        CALL,
        RESULT | {"output": [part]},
    ]
    assert [message["content"] for message in messages(*items)] == ["x", None, ""]
    assert ignored(input=items) == ("input[0].content[1]", "input[2].output[0]")


HOSTED = [
    "web_search_call", "file_search_call", "computer_call", "computer_call_output", "code_interpreter_call",
    "image_generation_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "mcp_call",
    "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call",
    "apply_patch_call_output", "tool_search_call", "tool_search_output", "compaction", "additional_tools", "whatever",
]  # fmt: skip


@pytest.mark.parametrize("kind", HOSTED)
def test_f2_1_items_of_a_provider_s_own_tools_and_unknown_ones_are_left_out_and_named(kind: str):
    item = {"type": kind, "role": "user", "content": "x", "output": [5], "arguments": {}}
    assert messages(item, USER, item) == [USER]
    assert ignored(input=[item, USER, item], instructions=[item]) == ("instructions[0]", "input[0]", "input[2]")


def test_f2_instructions_come_first():
    assert messages(USER, instructions="Be brief.") == [{"role": "system", "content": "Be brief."}, USER]
    assert messages(USER, instructions=None) == [USER]
    assert messages(USER, instructions=[]) == [USER]


def test_f2_instructions_of_several_items_come_first_in_their_order():
    items = [{"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]}, said("Yes.")]
    roles = [message["role"] for message in messages(USER, instructions=items)]
    assert roles == ["developer", "assistant", "user"]


@pytest.mark.parametrize("instructions", ["Be brief.", [{"role": "system", "content": "Be brief."}]])
def test_f2_instructions_come_before_messages_too(instructions: object):
    own = b'[ {"content":"x", "role":"user","odd":1.0} ]'
    head = json.dumps({"model": "m", "instructions": instructions}).encode()[:-1]
    out = sent(head + b',"messages":' + own + b"}")
    assert b'"messages":[{"role":"system","content":"Be brief."},{"content":"x", "role":"user","odd":1.0}]' in out


def test_f2_messages_leave_as_the_bytes_that_came():
    own = rb'[ {"content": "caf\u00e9 \ud83d", "role":"user","x":1.0, "reasoning":5} ]'
    assert b'"messages":' + own in sent(b'{"model":"m","messages":' + own + b"}")


@pytest.mark.parametrize(
    ("items", "param", "code"),
    [
        (5, "input", "invalid_value"),
        (True, "input", "invalid_value"),
        ({}, "input", "invalid_value"),
        ([], "input", "invalid_value"),
        ([{"type": "web_search_call"}], "input", "invalid_value"),
        ([THOUGHT], "input", "invalid_value"),
        (["x"], "input[0]", "invalid_value"),
        ([USER, None], "input[1]", "invalid_value"),
        ([USER, [USER]], "input[1]", "invalid_value"),
        ([{}], "input[0].role", "missing_parameter"),
        ([{"id": "msg_1"}], "input[0].role", "missing_parameter"),
        ([{"type": 5}], "input[0].type", "invalid_value"),
        ([{"content": "x"}], "input[0].role", "missing_parameter"),
        ([USER | {"role": None}], "input[0].role", "missing_parameter"),
        *(([USER, USER | {"role": role}], "input[1].role", "invalid_value") for role in ("tool", "function", "", 5)),
        ([{"role": "user"}], "input[0].content", "missing_parameter"),
        ([{"role": "assistant", "content": None}], "input[0].content", "missing_parameter"),
        *(([USER | {"content": content}], "input[0].content", "invalid_value") for content in (5, {}, False)),
        ([USER | {"content": ["x"]}], "input[0].content[0]", "invalid_value"),
        ([USER | {"content": [{}]}], "input[0].content[0].type", "missing_parameter"),
        ([USER | {"content": [PICTURE, {"type": 5}]}], "input[0].content[1].type", "invalid_value"),
        ([USER | {"content": [{"type": "input_text"}]}], "input[0].content[0].text", "missing_parameter"),
        ([USER | {"content": [{"type": "output_text", "text": 5}]}], "input[0].content[0].text", "invalid_value"),
        ([USER | {"content": [{"type": "refusal"}]}], "input[0].content[0].refusal", "missing_parameter"),
        ([USER | {"content": [{"type": "reasoning"}]}], "input[0].content[0].text", "missing_parameter"),
        ([USER | {"content": [{"type": "input_image"}]}], "input[0].content[0].image_url", "missing_parameter"),
        ([USER | {"content": [{"type": "input_image", "image_url": {"url": "x"}}]}], "input[0].content[0].image_url",
         "invalid_value"),
        ([USER | {"content": [PICTURE | {"detail": {}}]}], "input[0].content[0].detail", "invalid_value"),
        ([USER | {"content": [{"type": "input_image", "file_id": "file_1"}]}], "input[0].content[0].file_id",
         "unsupported_parameter"),
        ([USER | {"content": [{"type": "input_file"}]}], "input[0].content[0].file_data", "missing_parameter"),
        ([USER | {"content": [{"type": "input_file", "file_data": 5}]}], "input[0].content[0].file_data",
         "invalid_value"),
        ([USER | {"content": [{"type": "input_file", "file_data": "x", "filename": 5}]}],
         "input[0].content[0].filename", "invalid_value"),
        ([USER | {"content": [{"type": "input_file", "file_id": "x"}]}], "input[0].content[0].file_id",
         "unsupported_parameter"),
        ([USER | {"content": [{"type": "input_file", "file_url": "x"}]}], "input[0].content[0].file_url",
         "unsupported_parameter"),
        ([USER | {"role": "assistant", "tool_calls": [CALLED]}], "input[0].tool_calls", "invalid_value"),
        ([CALL | {"call_id": None}], "input[0].call_id", "missing_parameter"),
        ([CALL | {"call_id": 5}], "input[0].call_id", "invalid_value"),
        ([CALL | {"name": None}], "input[0].name", "missing_parameter"),
        ([CALL | {"name": []}], "input[0].name", "invalid_value"),
        ([CALL | {"arguments": None}], "input[0].arguments", "missing_parameter"),
        ([CALL | {"arguments": {}}], "input[0].arguments", "invalid_value"),
        ([{"type": "custom_tool_call", "call_id": "c", "name": "f"}], "input[0].input", "missing_parameter"),
        ([{"type": "custom_tool_call", "call_id": "c", "name": "f", "input": {}}], "input[0].input", "invalid_value"),
        ([RESULT | {"call_id": None}], "input[0].call_id", "missing_parameter"),
        ([RESULT | {"call_id": ""}], "input[0].call_id", "missing_parameter"),
        ([RESULT | {"call_id": 5}], "input[0].call_id", "invalid_value"),
        ([RESULT | {"output": None}], "input[0].output", "missing_parameter"),
        ([RESULT | {"output": {"x": 1}}], "input[0].output", "invalid_value"),
        ([RESULT | {"output": [{"type": "input_image"}]}], "input[0].output[0].image_url", "missing_parameter"),
        ([RESULT | {"type": "custom_tool_call_output", "output": [5]}], "input[0].output[0]", "invalid_value"),
        ([THOUGHT | {"content": "x"}], "input[0].content", "invalid_value"),
        ([THOUGHT | {"content": [5]}], "input[0].content[0]", "invalid_value"),
        ([THOUGHT | {"content": [{}]}], "input[0].content[0].type", "missing_parameter"),
        ([THOUGHT | {"content": [{"type": "reasoning_text"}]}], "input[0].content[0].text", "missing_parameter"),
        ([THOUGHT | {"content": None, "summary": {}}], "input[0].summary", "invalid_value"),
        ([THOUGHT | {"content": [], "summary": [{"type": "summary_text", "text": 5}]}], "input[0].summary[0].text",
         "invalid_value"),
        ([USER, {"type": "item_reference", "id": "msg_1"}], "input[1].type", "unsupported_parameter"),
    ],
    ids=json.dumps,
)  # fmt: skip
def test_f2_1_what_is_wrong_is_named_by_its_place(items: object, param: str, code: str):
    assert refused(body(input=items)) == (param, code)
    if param != "input":
        in_instructions = param.replace("input", "instructions", 1)
        assert refused(body(instructions=items)) == (in_instructions, code)


@pytest.mark.parametrize("instructions", [5, {}, True])
def test_f2_instructions_are_a_string_or_items(instructions: object):
    assert refused(body(instructions=instructions)) == ("instructions", "invalid_value")


@pytest.mark.parametrize("instructions", ["Be brief.", [USER, USER], None])
@pytest.mark.parametrize(
    ("own", "param"),
    [
        *(([], "messages"), ({}, "messages"), ("x", "messages"), ([5], "messages[0]")),
        ([USER, {"role": "x"}], "messages[1].role"),
        ([USER, {"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
    ],
)
def test_f2_a_place_in_messages_is_counted_as_the_client_counts(own: object, param: str, instructions: object):
    request = json.dumps({"model": "m", "messages": own, "instructions": instructions}).encode()
    assert refused(request)[0] == param


TOKEN = re.compile(r"<\d+>")

PARTS = st.lists(
    st.one_of(
        st.sampled_from(["input_text", "output_text", "text"]).map(lambda kind: {"type": kind, "text": "#"}),
        st.just({"type": "refusal", "refusal": "#"}),
        st.just(PICTURE),
        st.just({"type": "reasoning", "text": "thought"}),
        st.just({"type": "whatever", "text": "#"}),
    ),
    max_size=3,
)
CONTENT = st.just("#") | PARTS
ITEMS = st.lists(
    st.one_of(
        st.builds(lambda role, content: {"role": role, "content": content},
                  st.sampled_from(["user", "system", "developer", "assistant", "assistant"]), CONTENT),
        st.just({"type": "function_call", "call_id": "#", "name": "f", "arguments": "{}"}),
        st.just({"type": "custom_tool_call", "call_id": "#", "name": "f", "input": "x"}),
        st.builds(lambda kind, output: {"type": kind, "call_id": "c", "output": output},
                  st.sampled_from(["function_call_output", "custom_tool_call_output"]), CONTENT),
        st.sampled_from([THOUGHT, {"type": "web_search_call"}, {"type": "reasoning", "summary": []}]),
    ),
    max_size=8,
).map(lambda items: [USER, *items])  # fmt: skip


def numbered(items: list) -> list:
    """Make each text and each call's id one that occurs once."""
    count = iter(range(10**6))
    return list(json.loads(re.sub("#", lambda _: f"<{next(count)}>", json.dumps(items))))


def names_in(values: object) -> list[str]:
    return TOKEN.findall(json.dumps(values))


@given(ITEMS.map(numbered))
def test_no_text_and_no_call_is_lost_doubled_or_moved(items: list):
    out = messages(*items)
    texts = [item.get("content", item.get("output")) for item in items]
    calls = [item["call_id"] for item in items if item.get("type") in {"function_call", "custom_tool_call"}]
    assert names_in([message["content"] for message in out]) == names_in(texts)
    assert [call["id"] for message in out for call in message.get("tool_calls", ())] == calls
    for before, after in pairwise(out):
        assert not (before.get("tool_calls") and after["role"] == "assistant"), "calls are parted from their results"


@given(ITEMS.map(numbered), st.none() | st.just("Be brief.") | ITEMS.map(numbered))
def test_what_is_made_of_items_is_a_chat_request_that_can_be_sent(items: list, instructions: object):
    request = chat(body(input=items, instructions=instructions))
    assert request.estimate_prompt() > 0
    again = json.loads(sent(body(input=items, instructions=instructions)))
    assert read_chat_request(json.dumps(again).encode()).fields.keys() == again.keys()
