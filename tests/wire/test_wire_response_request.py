"""What one client sends arrives whole, whichever API the provider speaks, and what is refused is named by its place in
the request as it was written.
"""

import json
import re

import pytest
from asking import FUNCTION, body, chat, passed_on, provider, refused, sent
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from proxy.errors import Refusal
from proxy.wire import json as wire_json
from proxy.wire.chat_request import MAX_METADATA, dialect_of, upstream_body
from proxy.wire.response_echo import ResponseEcho
from proxy.wire.response_request import (
    as_chat,
    dropped_natively,
    native_body,
    native_stand_in,
    read_response_request,
)

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.mark.parametrize(
    "request_body",
    [b"", b"{", b"[]", b"null", b'"x"', b'{"model":"m",}', b'{"model":NaN}', b'{"model":"m","x":Infinity}',
     b'{"model":"\xff"}', b'{"model":"m","input":"\xc3"}',
     b"{} {}", b'{"a":' + b"[" * 99 + b"[]" + b"]" * 99 + b"}", b"[" * 100_000,
     body().decode().encode("utf-16")],
    ids=lambda given: repr(given[:24]),
)  # fmt: skip
def test_d1_1_a_body_that_is_no_json_object_is_refused_as_such(request_body: bytes):
    with pytest.raises(Refusal) as refusal:
        read_response_request(request_body)
    assert (refusal.value.fault.param, refusal.value.fault.code) == (None, "invalid_json")


def test_d1_1_a_hundred_levels_are_taken_and_no_more():
    def nested(levels: int) -> bytes:
        return body()[:-1] + b',"x":' + b"[" * levels + b"]" * levels + b"}"

    assert chat(nested(99))
    assert passed_on(nested(99))
    assert refused(nested(100)) == (None, "invalid_json")


def test_d1_1_a_byte_order_mark_is_tolerated():
    assert read_response_request(b"\xef\xbb\xbf" + body()).model == "m"


def test_d1_1_of_two_fields_with_one_name_the_last_counts():
    twice = b'{"model":5,"input":[5],"max_output_tokens":"x","stream":1,'
    twice += b'"model":"n","input":"a","max_output_tokens":2,"stream":true}'
    request = read_response_request(twice)
    assert (request.model, request.stream, as_chat(request).max_tokens) == ("n", True, 2)


@pytest.mark.parametrize(
    ("request_body", "param", "code"),
    [
        (b'{"input":"x"}', "model", "missing_parameter"),
        (body(model=None), "model", "missing_parameter"),
        *((body(model=wrong), "model", "invalid_value") for wrong in ("", 5, ["m"])),
        *((body(stream=wrong), "stream", "invalid_value") for wrong in ("true", 1, [])),
        *((body(reasoning_split=wrong), "reasoning_split", "invalid_value") for wrong in ("true", 0)),
        *((body(metadata=wrong), "metadata", "invalid_value") for wrong in (5, [], {"a": "x" * MAX_METADATA})),
        *((body(max_output_tokens=wrong), "max_output_tokens", "invalid_value") for wrong in (0, 1.0, True, "5")),
        (body()[:-1] + b',"max_output_tokens":' + b"9" * 5000 + b"}", "max_output_tokens", "invalid_value"),
    ],
    ids=lambda given: given[:60].decode() if isinstance(given, bytes) else str(given),
)  # fmt: skip
def test_f2_what_matters_to_every_way_of_serving_it_is_checked_first(request_body: bytes, param: str, code: str):
    with pytest.raises(Refusal) as refusal:
        read_response_request(request_body)
    assert (refusal.value.fault.param, refusal.value.fault.code) == (param, code)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"messages": HELLO}, "invalid_value"),
        ({"messages": []}, "invalid_value"),
        ({"input": None}, "missing_parameter"),
        ({"input": None, "messages": None}, "missing_parameter"),
    ],
)
def test_g65_exactly_one_of_input_and_messages(fields: dict, code: str):
    with pytest.raises(Refusal) as refusal:
        read_response_request(body(**fields))
    assert (refusal.value.fault.param, refusal.value.fault.code) == ("input", code)


def test_a_model_s_name_stream_and_split_are_told():
    request = read_response_request(body(stream=True, reasoning_split=False))
    assert (request.model, request.stream, request.reasoning_split) == ("m", True, False)
    request = read_response_request(body(reasoning_split=True))
    assert (request.stream, request.reasoning_split) == (False, True)
    assert read_response_request(body(reasoning_split=None)).reasoning_split is None


@pytest.mark.parametrize(
    ("fields", "may_pass"),
    [
        ({}, True),
        ({"reasoning_split": None, "messages": None}, True),
        ({"reasoning_split": True}, False),
        ({"reasoning_split": False}, False),
        ({"messages": HELLO, "input": None}, False),
        ({"previous_response_id": "resp_1", "input": None}, True),
        ({"prompt": {"id": "x"}, "input": None, "conversation": "c", "background": True}, True),
        ({"input": [{"type": "item_reference", "id": "x"}], "tools": [{"type": "mcp"}], "tool_choice": 5}, True),
    ],
    ids=json.dumps,
)
def test_f1_2_only_what_this_gateway_added_has_to_be_translated(fields: dict, may_pass: bool):
    assert read_response_request(body(**fields)).may_pass is may_pass


def test_g72_metadata_is_kept_and_echoed_and_not_sent():
    metadata = rb'{"b": 1.0, "a":"\ud83d"}'
    request_body = body()[:-1] + b',"metadata":' + metadata + b"}"
    request = read_response_request(request_body)
    assert (request.metadata, as_chat(request).metadata) == (metadata, metadata)
    assert bytes(request.echo.metadata) == metadata
    assert b"metadata" not in sent(request_body) + passed_on(request_body)
    assert (read_response_request(body()).metadata, read_response_request(body(metadata=None)).metadata) == (None, None)


EVERYWHERE = rb"""{"model":"m","instructions":"i\ud83d","seed":123456789012345678901234567890,"stop":"\uDC00","input":[
{"role":"user","content":"a\ud83d"},{"type":"reasoning","content":[{"type":"reasoning_text","text":"b\ud83d"},
{"type":"reasoning_text","text":"c\ud83d"}]},{"role":"assistant","content":[{"type":"output_text","text":"d\ud83d"}]},
{"type":"function_call","call_id":"e\ud83d","name":"f\ud83d","arguments":"g\ud83d"},
{"type":"custom_tool_call","call_id":"h\ud83d","name":"n","input":"j\ud83d \ue000 \\ud83d"},
{"type":"function_call_output","call_id":"e\ud83d","output":[{"type":"input_text","text":"k\ud83d"},
{"type":"input_text","text":"\udc00l"}]}],"tools":[{"type":"function","name":"o\ud83d","parameters":{"p\ud83d":1}}],
"tool_choice":{"type":"function","name":"o\ud83d"},"reasoning":{"effort":"q\ud83d"},"metadata":{"r":"\ud83d"}}"""


def test_g73_lone_surrogates_and_huge_numbers_arrive_unchanged():
    out = sent(EVERYWHERE)
    for text in (rb"i\ud83d", rb"a\ud83d", rb"b\ud83d\n\nc\ud83d", rb"d\ud83d", rb"e\ud83d", rb"f\ud83d", rb"g\ud83d",
                 rb"h\ud83d", rb"k\ud83d\n\udc00l", rb"o\ud83d", rb"q\ud83d", rb"\uDC00"):  # fmt: skip
        assert b'"' + text + b'"' in out
    assert rb'"parameters":{"p\ud83d":1}' in out
    assert rb'"tool_choice":{"type":"function","function":{"name":"o\ud83d"}}' in out
    assert b'"seed":123456789012345678901234567890' in out
    custom = json.loads(out)["messages"][2]["tool_calls"][1]["function"]["arguments"]
    assert json.loads(custom) == {"input": "j\ud83d \ue000 \\ud83d"}
    assert passed_on(EVERYWHERE).replace(b'"vendor/name"', b'"m"') == compact_but_for_metadata(EVERYWHERE)


def compact_but_for_metadata(request: bytes) -> bytes:
    """The request with no blanks between its fields; those inside their values stay."""
    return request.replace(b',\n"tool_choice"', b',"tool_choice"').replace(rb',"metadata":{"r":"\ud83d"}', b"")


def test_f5_1_lone_surrogates_are_echoed_as_they_came():
    echo = read_response_request(EVERYWHERE).echo
    assert bytes(echo.instructions) == rb'"i\ud83d"'
    assert bytes(echo.tools) == rb'[{"type":"function","name":"o\ud83d","parameters":{"p\ud83d":1}}]'
    assert bytes(echo.tool_choice) == rb'{"type":"function","name":"o\ud83d"}'
    assert bytes(echo.metadata) == rb'{"r":"\ud83d"}'
    assert echo.reasoning_effort == "q\N{REPLACEMENT CHARACTER}"


def test_f5_1_what_was_not_said_is_echoed_as_its_default():
    assert read_response_request(body()).echo == ResponseEcho()
    nulls = dict.fromkeys(("instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "reasoning",
                           "temperature", "text", "tool_choice", "tools", "top_p"))  # fmt: skip
    assert read_response_request(body(**nulls)).echo == ResponseEcho()
    assert read_response_request(body(text={"verbosity": "low"}, reasoning={"effort": None})).echo == ResponseEcho()


def test_f5_1_what_was_said_is_echoed_as_it_came():
    request = read_response_request(
        b'{"model":"m","input":"x","instructions":[ {"role":"system","content":"s"}],"max_output_tokens":7,'
        b'"metadata":{"a":1},"parallel_tool_calls":false,"reasoning":{"effort":"low","summary":"auto"},"temperature":0.10,'
        b'"text":{"format":{ "type":"json_object"}},"tool_choice":"required","top_p":1,'
        b'"tools":[ {"type":"function", "name":"f"},{"type":"mcp"},{"type":"function","name":"g" }]}'
    )
    as_chat(request)
    echo = request.echo
    assert bytes(echo.instructions) == b'[ {"role":"system","content":"s"}]'
    assert (echo.max_output_tokens, echo.parallel_tool_calls, echo.reasoning_effort) == (7, False, "low")
    assert bytes(echo.metadata) == b'{"a":1}'
    assert (bytes(echo.temperature), bytes(echo.top_p)) == (b"0.10", b"1")
    assert bytes(echo.text_format) == b'{ "type":"json_object"}'
    assert bytes(echo.tool_choice) == b'"required"'
    assert bytes(echo.tools) == b'[{"type":"function", "name":"f"},{"type":"function","name":"g" }]'


@pytest.mark.parametrize("field", [{"tools": [5]}, {"tools": "x"}, {"text": 5}, {"reasoning": []}], ids=str)
def test_of_what_only_its_provider_can_read_no_more_than_metadata_is_echoed(field: dict):
    echo = read_response_request(body(metadata={"a": 1}, temperature=1, **field)).echo
    assert echo == ResponseEcho(metadata=Raw(b'{"a": 1}'))
    assert read_response_request(body(**field)).echo == ResponseEcho()


def test_f5_1_tools_that_were_all_taken_are_echoed_as_they_came():
    tools = b'[ {"type":"function", "name":"f"} , {"type":"function","function":{"name":"g"}}]'
    assert bytes(read_response_request(body()[:-1] + b',"tools":' + tools + b"}").echo.tools) == tools


NATIVE = (
    b'{"input":[{"type":"item_reference","id":"x"}, 5],"tools":[ {"type":"mcp"}],"store":true,"stream_options":{"a":1},'
    b'"previous_response_id":"r","prompt":{"id":"p"},"conversation":"c","n":2,"background":null,"model":"m","include":["x"],'
    b'"text":{"verbosity":"low"},"tool_choice":{"type":"mcp"},"truncation":"auto","prompt_cache_key":"k","odd":1.0}'
)


def test_f1_2_a_provider_that_speaks_the_same_api_is_sent_the_same_bytes_in_the_same_order():
    assert passed_on(NATIVE) == NATIVE.replace(b'"m"', b'"vendor/name"').replace(b'"background":null,', b"")


def test_f1_2_even_there_a_client_decides_on_no_price_route_or_credentials():
    left_out = body(
        service_tier="x", api_base="x", metadata={"a": 1}, reasoning_split=None, messages=None, fallbacks=[]
    )
    assert passed_on(left_out) == b'{"model":"vendor/name","input":"Say hello."}'
    request = read_response_request(body(service_tier="x", store=True, api_base="x", n=2, background=None))
    assert dropped_natively(request) == ("service_tier", "api_base")


def test_f1_2_a_provider_s_own_wishes_hold_there_too():
    out = json.loads(passed_on(body(top_k=4, a=1), drop_params=["top_k"], extra_body={"a": 2, "b": 3}))
    assert out == {"model": "vendor/name", "input": "Say hello.", "a": 2, "b": 3}


PROMPTS = [
    {},
    {"input": HELLO, "instructions": "Be brief."},
    {"input": [*HELLO, {"role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}]},
    {"input": [*HELLO, {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
               {"type": "function_call_output", "call_id": "c", "output": "long " * 100}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:" + "x" * 999}]}]},
    {"instructions": [{"role": "developer", "content": "Be brief."}]},
    {"max_output_tokens": 7, "stream": True},
    {"input": [{"role": "user", "content": "\ud83d"}]},
]  # fmt: skip


@pytest.mark.parametrize("fields", PROMPTS, ids=lambda fields: json.dumps(fields)[:80])
def test_the_same_prompt_weighs_the_same_on_both_ways(fields: dict):
    request = read_response_request(body(**fields))
    stand_in, translated = native_stand_in(request), as_chat(request)
    assert stand_in.estimate_prompt() == translated.estimate_prompt()
    assert stand_in.estimate_prompt((5, 2)) == translated.estimate_prompt((5, 2))
    assert (stand_in.prompt_bytes, stand_in.max_tokens) == (translated.prompt_bytes, translated.max_tokens)
    assert (stand_in.model, stand_in.stream, stand_in.choices) == (translated.model, translated.stream, 1)


def test_tools_weigh_as_they_were_sent():
    tools = [FUNCTION, {"type": "mcp", "server_label": "x" * 400}]
    with_tools = native_stand_in(read_response_request(body(tools=tools)))
    without = native_stand_in(read_response_request(body(tools=None)))
    compact = len(json.dumps(tools, separators=(",", ":")))
    assert with_tools.estimate_prompt() - without.estimate_prompt() == -(-compact // 4)
    assert with_tools.prompt_bytes - without.prompt_bytes == len(json.dumps(tools)) - len("null")


def test_a_schema_weighs_on_both_ways():
    wide = {"format": {"type": "json_schema", "name": "a", "schema": {"title": "x" * 999}}}
    request, plain = read_response_request(body(text=wide)), read_response_request(body())
    for way in (native_stand_in, as_chat):
        assert way(request).prompt_bytes - way(plain).prompt_bytes > 999


UNREADABLE = [
    {"type": "web_search_call", "action": "x" * 999},
    {"type": "reasoning", "summary": [], "encrypted_content": "x" * 999},
    {"role": "user", "content": [{"type": "input_image", "file_id": "x" * 999}]},
    {"role": "tool", "content": "x" * 999},
    {"type": 5, "x": "x" * 999},
    "x" * 999,
]


@pytest.mark.parametrize("item", UNREADABLE, ids=lambda item: json.dumps(item)[:60])
def test_what_chat_could_not_read_weighs_its_size(item: object):
    stand_in = native_stand_in(read_response_request(body(input=[*HELLO, item], instructions="Be brief.")))
    assert stand_in.prompt_bytes > 999
    assert stand_in.estimate_prompt() >= 4


@pytest.mark.parametrize("wrong", [5, {}, [], True])
def test_a_malformed_prompt_is_the_provider_s_to_refuse(wrong: object):
    request = read_response_request(body(input=wrong, instructions=wrong, tools=wrong))
    assert native_stand_in(request).estimate_prompt() >= 0
    assert json.loads(native_body(request, "up", dialect_of(provider())))["input"] == wrong


def test_a_request_without_a_prompt_of_its_own_weighs_nothing():
    assert native_stand_in(read_response_request(body(input=None, prompt={"id": "x"}))).estimate_prompt() == 0


KINDS = (
    *("message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning"),
    *("item_reference", "web_search_call", "input_text", "output_text", "text", "refusal", "input_image", "input_file"),
    *("input_audio", "reasoning_text", "function", "allowed_tools", "json_schema", "json_object", "mcp"),
)
KEYS = (
    *("type", "role", "content", "call_id", "name", "arguments", "input", "output", "text", "refusal", "mode", "x"),
    *("summary", "image_url", "file_data", "file_id", "function", "tools", "schema", "detail", "format", "effort"),
)
LEAVES = st.sampled_from(
    [None, True, False, 0, 7, -1, 1.5, 10**30, "", "x", "\ud83d", "user", "assistant", "tool", "auto", *KINDS]
)
SMALL = LEAVES | st.dictionaries(st.sampled_from(KEYS), LEAVES, max_size=4)
VALUES = SMALL | st.lists(SMALL, max_size=3) | st.dictionaries(st.sampled_from(KEYS), SMALL, max_size=3)
OBJECTS = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5),
)
NAMES = st.sampled_from(
    ["model", "input", "messages", "instructions", "tools", "tool_choice", "text", "reasoning", "include", "stream",
     "max_output_tokens", "max_tokens", "max_completion_tokens", "metadata", "reasoning_split", "background", "prompt",
     "top_logprobs", "parallel_tool_calls", "store", "n", "stop", "temperature", "x"]
)  # fmt: skip
FIELDS = st.dictionaries(NAMES, VALUES | OBJECTS | st.lists(OBJECTS, max_size=4), max_size=5)
REQUIRED = {"model", "input", "messages"}


def place(param: str) -> list[str | int]:
    """A path taken apart: `input[2].content` is `["input", 2, "content"]`."""
    return [int(word) if word.isdigit() else word for word in re.findall(r"\w+", param)]


def is_place_in(request: dict, param: str) -> bool:
    """Whether the client wrote something there, or only the last step is what is missing."""
    value: object = request
    *steps, _ = place(param)
    for step in steps:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return False
            value = value[step]
        elif not isinstance(value, dict) or step not in value:
            return False
        else:
            value = value[step]
    return True


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda junk: body()[:-1] + b',"x":' + junk + b"}"))
def test_no_bytes_lead_to_anything_but_a_request_or_a_refusal(request_body: bytes):
    try:
        chat(request_body)
    except Refusal as refusal:
        assert refusal.fault.status == 400


@settings(max_examples=400)
@given(FIELDS, st.just("Hello") | st.lists(OBJECTS, max_size=4))
def test_no_json_leads_to_anything_but_a_request_that_can_be_sent_or_a_refusal_at_a_place_in_it(
    fields: dict, said: object
):
    whole = {"model": "m", "input": said, **fields}
    try:
        request = read_response_request(json.dumps(whole).encode())
    except Refusal as refusal:
        fault = refusal.fault
        assert fault.status == 400
        assert fault.param is None or place(fault.param)[0] in {*whole, *REQUIRED}
        return
    assert native_stand_in(request).estimate_prompt() >= 0
    assert json.loads(native_body(request, "up", dialect_of(provider())))["model"] == "up"
    try:
        translated = as_chat(request)
    except Refusal as refusal:
        fault = refusal.fault
        assert fault.status == 400
        assert fault.param is not None
        assert place(fault.param)[0] in whole
        assert is_place_in(whole, fault.param)
        return
    assert translated.estimate_prompt() > 0
    assert all(name.isprintable() for name in translated.ignored)
    assert json.loads(upstream_body(translated, "up", dialect_of(provider())))["model"] == "up"
    echo = request.echo
    for name in ("instructions", "metadata", "temperature", "text_format", "tool_choice", "tools", "top_p"):
        wire_json.decode(getattr(echo, name))


TEXTS = st.sampled_from(["", "x", "Say hello.", "\ud83d", 'é😀 \n\t\x00"\\', "\\ud83d"])
VALID = st.fixed_dictionaries(
    {"model": st.just("m"), "input": TEXTS},
    optional={
        "instructions": st.none() | TEXTS,
        "temperature": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "max_output_tokens": st.none() | st.integers(min_value=1),
        "stream": st.none() | st.booleans(),
        "reasoning_split": st.none() | st.booleans(),
        "metadata": st.none() | st.dictionaries(TEXTS, LEAVES, max_size=2),
        "tools": st.lists(st.sampled_from([FUNCTION, {"type": "mcp"}]), max_size=3),
        "tool_choice": st.sampled_from(["auto", "none", "required", None]),
        "text": st.sampled_from([None, {}, {"format": {"type": "json_object"}, "verbosity": "low"}]),
        "reasoning": st.sampled_from([None, {}, {"effort": "high", "summary": None}]),
        "include": st.none() | st.lists(TEXTS, max_size=2),
        "background": st.sampled_from([None, False]),
        "store": st.booleans(),
        "n": st.integers(),
        "stream_options": VALUES,
    },
)


@given(VALID)
def test_what_is_right_is_taken(request_fields: dict):
    request = chat(json.dumps(request_fields).encode())
    assert json.loads(upstream_body(request, "up", dialect_of(provider())))["model"] == "up"
