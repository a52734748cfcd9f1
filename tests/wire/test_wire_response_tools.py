"""Functions reach the model under their own names; a tool that cannot is named, and nobody is made to call it."""

import json
from typing import Any

import pytest
from asking import FUNCTION, body, chat, ignored, refused, sent, sent_fields, understood
from hypothesis import given
from hypothesis import strategies as st

SEARCH = {"type": "web_search", "filters": None}
G = {"type": "function", "name": "g", "parameters": {"type": "object"}}
IN_CHAT = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
G_IN_CHAT = {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}
EMPTY = {"type": "object", "properties": {}}


def offered(*tools: dict, **fields: object) -> Any:
    return sent_fields(tools=list(tools), **fields).get("tools")


@pytest.mark.parametrize(
    ("tool", "function"),
    [
        ({}, {}),
        ({"description": "d", "strict": True}, {"description": "d", "strict": True}),
        ({"description": "", "strict": False}, {"description": "", "strict": False}),
        ({"description": None, "strict": None}, {}),
        ({"parameters": None}, {"parameters": EMPTY}),
        ({"parameters": {}}, {"parameters": {}}),
        ({"function": None}, {}),
    ],
    ids=json.dumps,
)
def test_f3_1_a_function_takes_the_form_that_chat_has_for_it(tool: dict, function: dict):
    assert offered(FUNCTION | tool) == [{"type": "function", "function": IN_CHAT["function"] | function}]


def test_f3_1_a_function_without_parameters_takes_none():
    assert offered({"type": "function", "name": "f"})[0]["function"]["parameters"] == EMPTY


def test_f3_1_a_schema_leaves_as_the_bytes_that_came():
    schema = rb'{ "b":123456789012345678901234567890, "a":1.0, "\u00e9\ud83d":"\ud83d" }'
    request = body()[:-1] + b',"tools":[{"type":"function","name":"f","parameters":' + schema + b"}]}"
    assert b'"parameters":' + schema in sent(request)


def test_f3_1_a_tool_in_chat_s_own_form_is_taken():
    tool = IN_CHAT | {"cache_control": {"type": "x"}}
    assert offered(FUNCTION, tool) == [IN_CHAT, tool]
    assert ignored(tools=[tool]) == ()


def test_f3_1_what_chat_has_no_field_for_is_named():
    tool = FUNCTION | {"defer_loading": True, "x\r\nSet-Cookie: a": 1, "output_schema": None}
    assert offered(tool) == [IN_CHAT]
    assert ignored(tools=[SEARCH, tool]) == ("tools[0]", "tools[1].defer_loading", "tools[1]")


@pytest.mark.parametrize(
    "kind",
    ["web_search", "web_search_preview", "file_search", "mcp", "image_generation", "custom", "namespace", "local_shell",
     "shell", "computer_use_preview", "code_interpreter", "whatever"],
)  # fmt: skip
def test_f3_2_tools_of_other_types_are_left_out_and_named(kind: str):
    other = {"type": kind, "name": "f", "function": 5}
    assert offered(other, FUNCTION, other) == [IN_CHAT]
    assert ignored(tools=[other, FUNCTION, other]) == ("tools[0]", "tools[2]")


def test_g66_a_function_beside_a_search():
    fields = sent_fields(tools=[FUNCTION, SEARCH])
    assert fields["tools"] == [IN_CHAT]
    assert ignored(tools=[FUNCTION, SEARCH]) == ("tools[1]",)


@pytest.mark.parametrize("tools", [None, [], [SEARCH]])
@pytest.mark.parametrize("choice", [None, "auto", "none", "required"])
def test_f3_3_without_a_tool_there_is_no_choice_either(tools: object, choice: str | None):
    fields = sent_fields(tools=tools, tool_choice=choice, parallel_tool_calls=True)
    assert fields.keys() == {"model", "messages"}


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        *((choice, choice) for choice in ("auto", "none", "required")),
        ({"type": "function", "name": "g"}, {"type": "function", "function": {"name": "g"}}),
        ({"type": "function", "function": {"name": "g"}}, {"type": "function", "function": {"name": "g"}}),
    ],
    ids=json.dumps,
)
def test_f3_3_a_choice_means_the_same_to_chat(choice: object, wanted: object):
    fields = sent_fields(tools=[FUNCTION, SEARCH, G], tool_choice=choice, parallel_tool_calls=False)
    assert fields["tools"] == [IN_CHAT, G_IN_CHAT]
    assert (fields["tool_choice"], fields["parallel_tool_calls"]) == (wanted, False)


def test_f3_3_no_choice_is_sent_where_none_was_made():
    assert sent_fields(tools=[FUNCTION], tool_choice=None).keys() == {"model", "messages", "tools"}


def allowed(*tools: object, mode: object = "auto") -> dict:
    return {"type": "allowed_tools", "mode": mode, "tools": list(tools)}


@pytest.mark.parametrize("mode", ["auto", "required"])
@pytest.mark.parametrize("name", [{"type": "function", "name": "g"}, {"type": "function", "function": {"name": "g"}}])
def test_f3_3_allowed_tools_are_the_only_ones_offered(mode: str, name: dict):
    fields = sent_fields(tools=[FUNCTION, G, SEARCH], tool_choice=allowed(name, SEARCH, mode=mode))
    assert (fields["tools"], fields["tool_choice"]) == ([G_IN_CHAT], mode)


def test_f3_3_a_tool_that_is_not_allowed_was_not_left_out_by_the_gateway():
    assert ignored(tools=[FUNCTION, G], tool_choice=allowed(G)) == ()


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "web_search"},
        {"type": "custom", "name": "f"},
        {"type": "mcp", "server_label": "x"},
        {"type": "whatever"},
        {"type": "function", "name": "shell"},
        {"type": "function", "name": "nobody"},
        {"type": "function", "function": {"name": "shell"}},
        allowed({"type": "web_search"}),
        allowed({"type": "function", "name": "shell"}),
        allowed(),
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("tools", [[FUNCTION, SEARCH, {"type": "custom", "name": "shell"}], [SEARCH], None])
def test_f3_3_a_choice_that_cannot_be_met_is_refused(choice: dict, tools: object):
    assert understood(tools=tools, tool_choice=choice) == ("tool_choice", "invalid_value")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        *(({"tools": wrong}, "tools", "invalid_value") for wrong in ({}, "x", 5, False)),
        ({"tools": [FUNCTION, 5]}, "tools[1]", "invalid_value"),
        ({"tools": [None]}, "tools[0]", "invalid_value"),
        ({"tools": [{}]}, "tools[0].type", "missing_parameter"),
        ({"tools": [SEARCH, {"type": None}]}, "tools[1].type", "missing_parameter"),
        ({"tools": [{"type": 5}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_parameter"),
        ({"tools": [SEARCH, FUNCTION | {"name": 5}]}, "tools[1].name", "invalid_value"),
        ({"tools": [SEARCH, {"type": "function", "function": {}}]}, "tools[1].function.name", "missing_parameter"),
        ({"tools": [SEARCH, {"type": "function", "function": "f"}]}, "tools[1].function", "invalid_value"),
        *(({"tool_choice": wrong}, "tool_choice", "invalid_value") for wrong in ("any", "", 5, [], True)),
        ({"tool_choice": {}}, "tool_choice.type", "missing_parameter"),
        ({"tool_choice": {"type": 5}}, "tool_choice.type", "invalid_value"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name", "missing_parameter"),
        ({"tool_choice": {"type": "function", "name": 5}}, "tool_choice.name", "invalid_value"),
        ({"tool_choice": {"type": "function", "function": "f"}}, "tool_choice.function", "invalid_value"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.mode", "missing_parameter"),
        ({"tool_choice": allowed(FUNCTION, mode="none")}, "tool_choice.mode", "invalid_value"),
        ({"tool_choice": allowed(FUNCTION, mode=5)}, "tool_choice.mode", "invalid_value"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice.tools", "missing_parameter"),
        ({"tool_choice": allowed() | {"tools": "f"}}, "tool_choice.tools", "invalid_value"),
        ({"tool_choice": allowed(5)}, "tool_choice.tools[0]", "invalid_value"),
        ({"tool_choice": allowed({})}, "tool_choice.tools[0].type", "missing_parameter"),
        ({"tool_choice": allowed(FUNCTION, {"type": "function"})}, "tool_choice.tools[1].name", "missing_parameter"),
    ],
    ids=json.dumps,
)
def test_f3_what_is_wrong_is_named_by_its_place(fields: dict, param: str, code: str):
    assert understood(**{"tools": [FUNCTION], **fields}) == (param, code)


def test_a_name_is_the_same_however_it_is_written():
    request = body(tools=[FUNCTION | {"name": "é"}])[:-1] + rb',"tool_choice":{"type":"function","name":"\u00E9"}}'
    assert json.loads(sent(request))["tool_choice"] == {"type": "function", "function": {"name": "é"}}


def test_of_two_fields_with_one_name_the_last_counts_in_a_tool_as_well():
    tool = b'{"type":"function","function":5,"function":{"name":5,"name":"f"}}'
    out = json.loads(sent(body()[:-1] + b',"tools":[{"type":"mcp"},' + tool + b"]}"))
    assert out["tools"] == [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize("schema_levels", [95, 96, 97])
def test_a_schema_that_chat_s_form_nests_too_deep_is_refused_as_such(schema_levels: int):
    schema = b'{"a":' * schema_levels + b"1" + b"}" * schema_levels
    request = body()[:-1] + b',"tools":[{"type":"function","name":"f","parameters":' + schema + b"}]}"
    if schema_levels == 97:
        assert refused(request) == ("tools", "invalid_value")
    else:
        assert chat(request).fields["tools"]


TOOLS = st.lists(
    st.sampled_from([SEARCH, FUNCTION, IN_CHAT, {"type": "custom", "name": "c"}])
    | st.integers(0, 99).map(lambda number: {"type": "function", "name": f"n{number}"}),
    max_size=6,
)


@given(TOOLS)
def test_each_tool_is_offered_in_its_place_or_named(tools: list[dict]):
    left_out = ignored(tools=tools)
    kept = [tool for index, tool in enumerate(tools) if f"tools[{index}]" not in left_out]
    names = [tool.get("function", tool)["name"] for tool in kept]
    assert [tool["function"]["name"] for tool in offered(*tools) or []] == names
    assert all(tool["type"] == "function" for tool in kept)
