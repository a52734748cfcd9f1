"""Each setting of a Responses request means the same in chat, passes as it came, or is named."""

import json

import pytest
from asking import FUNCTION, body, chat, ignored, sent, sent_fields, understood

from proxy.wire.chat_request import DROPPED

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FORMAT = {"type": "json_schema", "name": "city", "schema": SCHEMA}
IN_CHAT = {"name": "city", "schema": SCHEMA}


def settings(**fields: object) -> dict:
    sent_on = sent_fields(**fields)
    return {name: value for name, value in sent_on.items() if name not in {"model", "messages"}}


@pytest.mark.parametrize(
    "field",
    [b'"temperature":0.10', b'"top_p":1', b'"user":"x"', b'"stop":["a"]', b'"seed":123456789012345678901234567890',
     b'"top_k": 4', b'"chat_template_kwargs":{ "enable_thinking":false}', rb'"odd":"\ud83d"',
     b'"frequency_penalty":null', b'"reasoning_effort":"low"', b'"response_format":{"type":"text"}',
     b'"max_tokens":7', b'"max_completion_tokens":7',
     b'"logit_bias":{"1":1E2}', b'"stream":false'],
)  # fmt: skip
def test_f2_what_chat_knows_and_what_nobody_knows_passes_as_the_bytes_that_came(field: bytes):
    name, _, value = field.partition(b":")
    assert name + b":" + value.strip() in sent(body()[:-1] + b"," + field + b"}")
    assert chat(body()[:-1] + b"," + field + b"}").ignored == ()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"max_output_tokens": 7}, {"max_tokens": 7}),
        ({"max_output_tokens": None}, {}),
        ({"max_output_tokens": 7, "max_tokens": 7}, {"max_tokens": 7}),
        ({"max_output_tokens": 7, "max_completion_tokens": 7}, {"max_tokens": 7, "max_completion_tokens": 7}),
        ({"text": None}, {}),
        ({"text": {}}, {}),
        ({"text": {"format": None}}, {}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ({"text": {"format": FORMAT}}, {"response_format": {"type": "json_schema", "json_schema": IN_CHAT}}),
        (
            {"text": {"format": FORMAT | {"strict": True, "description": "d"}}},
            {"response_format": {"type": "json_schema", "json_schema": IN_CHAT | {"strict": True, "description": "d"}}},
        ),
        (
            {"text": {"format": FORMAT | {"strict": None, "description": None}}},
            {"response_format": {"type": "json_schema", "json_schema": IN_CHAT}},
        ),
        ({"reasoning": None}, {}),
        ({"reasoning": {}}, {}),
        ({"reasoning": {"effort": None, "summary": "auto"}}, {}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"effort": "none"}, "reasoning_effort": "high"}, {"reasoning_effort": "none"}),
        ({"include": None}, {}),
        ({"include": []}, {}),
        ({"include": ["reasoning.encrypted_content", "web_search_call.action.sources", 5]}, {}),
        ({"include": ["x", "message.output_text.logprobs"]}, {"logprobs": True}),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"include": ["message.output_text.logprobs"], "logprobs": None}, {"logprobs": True}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"top_logprobs": None, "truncation": "auto"}, {}),
        ({"previous_response_id": None, "conversation": None, "prompt": None}, {}),
        ({"instructions": None, "messages": None, "tools": None, "tool_choice": None}, {}),
    ],
    ids=json.dumps,
)  # fmt: skip
def test_f2_a_setting_under_the_name_that_chat_has_for_it(given: dict, wanted: dict):
    assert settings(**given) == wanted
    assert ignored(**given) == ()


def test_f2_an_effort_and_a_schema_leave_as_the_bytes_that_came():
    schema = rb'{ "b":123456789012345678901234567890, "a":1.0, "\u00e9\ud83d":"\ud83d" }'
    text = (
        b'"text":{"format":{"schema":'
        + schema
        + rb',"type":"json_schema","name":"\u00e9"}},"reasoning":{"effort":"\/"}'
    )
    out = sent(body()[:-1] + b"," + text + b"}")
    assert b'"schema":' + schema in out
    assert rb'"name":"\u00e9"' in out
    assert rb'"reasoning_effort":"\/"' in out


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 2), ("stream_options", {"include_obfuscation": False}), ("max_tool_calls", 1), ("service_tier", "flex"),
     ("prompt_cache_key", "x"), ("prompt_cache_retention", "24h"), ("prompt_cache_options", {}),
     ("safety_identifier", "x"),
     ("context_management", []), ("moderation", {}), ("background", False), ("top_logprobs", 3)],
)  # fmt: skip
def test_f2_what_chat_cannot_hold_is_left_out_and_named(name: str, value: object):
    assert settings(**{name: value}) == {}
    assert ignored(**{name: value}) == (name,)
    assert name in DROPPED or ignored(**{name: None}) == ()


@pytest.mark.parametrize("name", sorted(DROPPED))
def test_g71_what_would_change_price_route_or_credentials_is_left_out_and_named(name: str):
    value = False if name == "background" else "x"
    assert settings(**{name: value}) == {}
    assert ignored(**{name: value}) == (name,)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, ("text.verbosity",)),
        ({"text": {"verbosity": None}}, ()),
        ({"reasoning": {"effort": "low", "context": "auto", "mode": None}}, ("reasoning.context",)),
        ({"reasoning": {"x\r\nSet-Cookie: a": 1}}, ("reasoning",)),
        ({"reasoning": {"é": 1}}, ("reasoning",)),
        ({"top_logprobs": 3, "logprobs": None}, ("top_logprobs",)),
        ({"prompt_cache_x\r\nSet-Cookie: a": 1}, ("prompt_cache_*",)),
    ],
)
def test_f2_a_part_of_a_setting_is_named_by_its_place(given: dict, names: tuple[str, ...]):
    """Whatever a client calls it, a name that ends up in a header cannot end the header's line."""
    assert ignored(**given) == names


def test_a5_8_everything_left_out_is_named():
    tools = [FUNCTION, {"type": "mcp"}]
    items = [{"role": "user", "content": "x"}, {"type": "mcp_call"}]
    assert ignored(store=False, n=1, text={"verbosity": "low"}, tools=tools, input=items) == (
        *("store", "n", "text.verbosity", "tools[1]", "input[1]"),
    )


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt"])
@pytest.mark.parametrize("value", ["resp_1", {"id": "x"}, 5, ""])
def test_g67_what_would_have_to_be_stored_is_refused(name: str, value: object):
    assert understood(**{name: value}) == (name, "unsupported_parameter")
    assert understood(**{name: value, "input": None}) == (name, "unsupported_parameter")


def test_f2_nobody_comes_back_for_an_answer():
    assert understood(background=True) == ("background", "unsupported_parameter")


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        *(({"max_output_tokens": wrong}, "max_output_tokens", "invalid_value")
          for wrong in (0, -1, 1.0, 1.5, True, "5", [5], {})),
        ({"max_output_tokens": 5, "max_tokens": 6}, "max_output_tokens", "invalid_value"),
        ({"max_output_tokens": 5, "max_completion_tokens": 6}, "max_output_tokens", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"temperature": True}, "temperature", "invalid_value"),
        ({"stop": [1]}, "stop[0]", "invalid_value"),
        *(({"text": wrong}, "text", "invalid_value") for wrong in (5, "x", [])),
        *(({"text": {"format": wrong}}, "text.format", "invalid_value") for wrong in (5, "text", [])),
        ({"text": {"format": {}}}, "text.format.type", "missing_parameter"),
        ({"text": {"format": {"type": 5}}}, "text.format.type", "invalid_value"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "invalid_value"),
        ({"text": {"format": FORMAT | {"name": None}}}, "text.format.name", "missing_parameter"),
        ({"text": {"format": FORMAT | {"name": 5}}}, "text.format.name", "invalid_value"),
        ({"text": {"format": FORMAT | {"schema": None}}}, "text.format.schema", "missing_parameter"),
        ({"text": {"format": FORMAT | {"schema": "x"}}}, "text.format.schema", "invalid_value"),
        *(({"reasoning": wrong}, "reasoning", "invalid_value") for wrong in (5, "low", [])),
        ({"reasoning": {"effort": 5}}, "reasoning.effort", "invalid_value"),
        *(({"include": wrong}, "include", "invalid_value") for wrong in (5, "x", {})),
    ],
    ids=json.dumps,
)  # fmt: skip
def test_f2_what_is_wrong_is_named_by_its_place(given: dict, param: str, code: str):
    assert understood(**given) == (param, code)
