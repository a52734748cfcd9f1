"""A chat request is refused for what the gateway needs and lacks, and for nothing else.

What of it reaches a provider is the matter of `test_wire_upstream_body.py`.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ErrorType, Refusal
from proxy.providers import Provider
from proxy.wire.chat_request import (
    MAX_CHOICES,
    MAX_METADATA,
    ChatRequest,
    dialect_of,
    read_chat_request,
    upstream_body,
)

HELLO = [{"role": "user", "content": "Say hello."}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def body(**fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": HELLO, **fields}).encode()


def with_message(**fields: object) -> bytes:
    return body(messages=[*HELLO, {"role": "user", "content": "x"} | fields])


def label(given: object) -> str:
    """Name a case after what is odd about it."""
    if not isinstance(given, bytes):
        return str(given)
    odd = given.replace(body()[1:-1], b"").decode(errors="replace")
    return odd if len(odd) < 200 else f"{odd[:60]}…{odd[-60:]}"


def refused(request: bytes) -> tuple[str | None, str | None]:
    with pytest.raises(Refusal) as refusal:
        read_chat_request(request)
    fault = refusal.value.fault
    assert (fault.status, fault.type) == (400, ErrorType.INVALID_REQUEST)
    assert 0 < len(fault.message) <= 2000
    assert fault.message.endswith(".")
    return fault.param, fault.code


@pytest.mark.parametrize(
    "request_body",
    [b"", b"{", b"[]", b"null", b'"x"', b"5", b'{"model":"m",}', b'{"model":NaN}', b'{"model":"m","x":Infinity}',
     b'{"model":"\xff"}', b'{"model":"m","x":"\xc3"}', b"{} {}", b'{"a":' + b"[" * 99 + b"[]" + b"]" * 99 + b"}",
     b"[" * 100_000, '{"model":"m"}'.encode("utf-16")],
    ids=lambda given: repr(given[:24]),
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused_as_such(request_body: bytes):
    assert refused(request_body) == (None, "invalid_json")


def test_why_it_cannot_be_read_is_told_without_quoting_it():
    with pytest.raises(Refusal) as refusal:
        read_chat_request(b'{"model":"hunter2" "x"}')
    assert "hunter2" not in refusal.value.fault.message


def test_a_byte_order_mark_is_tolerated():
    assert read_chat_request(b"\xef\xbb\xbf" + body()).model == "m"


def test_of_two_fields_with_one_name_the_last_counts():
    twice = b'{"model":5,"model":"first","n":"x","messages":[{"role":"user","content":"a"}],"model":"last","n":2}'
    request = read_chat_request(twice)
    assert (request.model, request.choices) == ("last", 2)
    assert bytes(request.fields["n"]) == b"2"


def test_a_hundred_levels_are_taken_and_no_more():
    levels = 100 - 1
    assert read_chat_request(body()[:-1] + b',"x":' + b"[" * levels + b"]" * levels + b"}")
    levels += 1
    assert refused(body()[:-1] + b',"x":' + b"[" * levels + b"]" * levels + b"}") == (None, "invalid_json")


@pytest.mark.parametrize(
    ("request_body", "param", "code"),
    [
        (json.dumps({"messages": HELLO}).encode(), "model", "missing_parameter"),
        (body(model=None), "model", "missing_parameter"),
        (body(model=""), "model", "invalid_value"),
        (body(model=5), "model", "invalid_value"),
        (body(model=["m"]), "model", "invalid_value"),
        (b'{"model":"m"}', "messages", "missing_parameter"),
        (body(messages=None), "messages", "missing_parameter"),
        (body(messages=[]), "messages", "invalid_value"),
        (body(messages="hello"), "messages", "invalid_value"),
        (body(messages={}), "messages", "invalid_value"),
        (body(messages=[*HELLO, 5]), "messages[1]", "invalid_value"),
        (body(messages=[*HELLO, None]), "messages[1]", "invalid_value"),
        (body(messages=[{"content": "x"}]), "messages[0].role", "missing_parameter"),
        (with_message(role=None), "messages[1].role", "invalid_value"),
        (with_message(role="bot"), "messages[1].role", "invalid_value"),
        (with_message(role=5), "messages[1].role", "invalid_value"),
        (with_message(content=5), "messages[1].content", "invalid_value"),
        (with_message(content=True), "messages[1].content", "invalid_value"),
        (with_message(content={"text": "x"}), "messages[1].content", "invalid_value"),
        (with_message(content=None), "messages[1].content", "missing_parameter"),
        (body(messages=[{"role": "user"}]), "messages[0].content", "missing_parameter"),
        (with_message(role="assistant", content=None), "messages[1].content", "missing_parameter"),
        (with_message(role="assistant", content=None, tool_calls=[]), "messages[1].content", "missing_parameter"),
        (with_message(role="tool", content=None, tool_call_id="c"), "messages[1].content", "missing_parameter"),
        (with_message(role="user", content=None, tool_calls=[CALL]), "messages[1].content", "missing_parameter"),
        (with_message(content=["x"]), "messages[1].content[0]", "invalid_value"),
        (with_message(content=[{}]), "messages[1].content[0].type", "missing_parameter"),
        (with_message(content=[{"type": 5}]), "messages[1].content[0].type", "invalid_value"),
        (with_message(content=[{"type": "x"}, {"type": "text"}]), "messages[1].content[1].text", "invalid_value"),
        (with_message(content=[{"type": "text", "text": 5}]), "messages[1].content[0].text", "invalid_value"),
        (with_message(tool_calls="x"), "messages[1].tool_calls", "invalid_value"),
        (with_message(tool_calls=[5]), "messages[1].tool_calls[0]", "invalid_value"),
        (with_message(tool_calls=[CALL | {"id": 5}]), "messages[1].tool_calls[0].id", "invalid_value"),
        (with_message(tool_calls=[CALL, {"function": CALL["function"]}]), "messages[1].tool_calls[1].id",
         "missing_parameter"),
        (with_message(tool_calls=[{"id": "c"}]), "messages[1].tool_calls[0].function", "missing_parameter"),
        (with_message(tool_calls=[CALL | {"function": "f"}]), "messages[1].tool_calls[0].function", "invalid_value"),
        (with_message(tool_calls=[CALL | {"function": {"arguments": "{}"}}]),
         "messages[1].tool_calls[0].function.name", "missing_parameter"),
        (with_message(tool_calls=[CALL | {"function": {"name": "f", "arguments": {}}}]),
         "messages[1].tool_calls[0].function.arguments", "invalid_value"),
        (with_message(tool_calls=[CALL | {"function": {"name": "f"}}]),
         "messages[1].tool_calls[0].function.arguments", "invalid_value"),
        (with_message(role="tool"), "messages[1].tool_call_id", "missing_parameter"),
        (with_message(role="tool", tool_call_id=None), "messages[1].tool_call_id", "missing_parameter"),
        (with_message(role="tool", tool_call_id=""), "messages[1].tool_call_id", "missing_parameter"),
        (with_message(role="tool", tool_call_id=5), "messages[1].tool_call_id", "invalid_value"),
        (body(temperature=True), "temperature", "invalid_value"),
        (body(temperature="1"), "temperature", "invalid_value"),
        (body(temperature=[]), "temperature", "invalid_value"),
        (body()[:-1] + b',"temperature":1e999}', "temperature", "invalid_value"),
        *((body(**{name: wrong}), name, "invalid_value")
          for name in ("max_tokens", "max_completion_tokens") for wrong in (0, -1, 1.0, 1.5, True, "5", [5])),
        (body(max_tokens=5, max_completion_tokens=6), "max_tokens", "invalid_value"),
        *((body(stop=wrong), "stop", "invalid_value") for wrong in (5, True, {})),
        (body(stop=["a", 1]), "stop[1]", "invalid_value"),
        (body(stop=[None]), "stop[0]", "invalid_value"),
        *((body(stream=wrong), "stream", "invalid_value") for wrong in ("true", 1, 0, [], {})),
        *((body(stream_options=wrong), "stream_options", "invalid_value") for wrong in (5, True, "x", [])),
        *((body(tools=wrong), "tools", "invalid_value") for wrong in ({}, "x", 5)),
        (body(tools=[5]), "tools[0]", "invalid_value"),
        (body(tools=[{}]), "tools[0].type", "missing_parameter"),
        (body(tools=[{"type": None}]), "tools[0].type", "invalid_value"),
        (body(tools=[{"type": "function"}]), "tools[0].function.name", "missing_parameter"),
        (body(tools=[{"type": "function", "function": {}}]), "tools[0].function.name", "missing_parameter"),
        (body(tools=[{"type": "function", "function": {"name": 5}}]), "tools[0].function.name", "invalid_value"),
        (body(tools=[{"type": "function", "function": "f"}]), "tools[0].function", "invalid_value"),
        *((body(reasoning_split=wrong), "reasoning_split", "invalid_value") for wrong in (1, "true", {})),
        *((body(metadata=wrong), "metadata", "invalid_value") for wrong in (5, "x", [], True)),
        (body(metadata={"a": "x" * MAX_METADATA}), "metadata", "invalid_value"),
        *((body(n=wrong), "n", "invalid_value") for wrong in (0, -1, MAX_CHOICES + 1, 1.0, True, "1", 10**30)),
    ],
    ids=label,
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place(request_body: bytes, param: str, code: str):
    assert refused(request_body) == (param, code)


@pytest.mark.parametrize(
    "request_body",
    [
        body(),
        *(with_message(role=role) for role in ("system", "user", "assistant", "developer", "function")),
        with_message(role="tool", tool_call_id="call_1"),
        with_message(content=""),
        with_message(content=[]),
        with_message(content=[{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:,"}}]),
        with_message(content=[{"type": "input_audio", "input_audio": {}}, {"type": "whatever", "text": 5}]),
        with_message(role="assistant", content=None, tool_calls=[CALL]),
        with_message(role="assistant", content=None, refusal="no"),
        with_message(role="assistant", content=None, audio={"id": "a"}),
        with_message(role="assistant", content=None, function_call={"name": "f", "arguments": ""}),
        with_message(role="assistant", tool_calls=None, tool_call_id=None, refusal=None, name="x", unknown=[1]),
        body(messages=[*HELLO, {"role": "assistant", "tool_calls": [CALL]}]),
        *(body(temperature=fine) for fine in (0, -5, 2.5, 100, None)),
        *(body(max_tokens=fine) for fine in (1, 10**9, None)),
        body(max_tokens=7, max_completion_tokens=7),
        body(max_tokens=None, max_completion_tokens=7),
        *(body(stop=fine) for fine in ("x", "", [], ["x", "y"], ["x"] * 50, None)),
        *(body(stream=fine) for fine in (True, False, None)),
        *(body(stream_options=fine) for fine in ({}, {"include_usage": "odd", "x": 1}, None)),
        body(tools=[{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}]),
        *(body(tools=fine) for fine in ([], [{"type": "web_search"}], [{"type": "custom", "custom": {}}], None)),
        *(body(reasoning_split=fine) for fine in (True, False, None)),
        *(body(metadata=fine) for fine in ({}, {"a": 1, "b": [None, {"c": "d"}]}, None)),
        *(body(n=fine) for fine in (1, MAX_CHOICES, None)),
        body(top_p="odd", seed=10**30, user=5, tool_choice={"x": 1}, response_format=[], logit_bias="?", unknown=None),
    ],
    ids=label,
)  # fmt: skip
def test_what_is_right_or_the_providers_business_is_taken(request_body: bytes):
    assert isinstance(read_chat_request(request_body), ChatRequest)


def test_metadata_of_exactly_the_bound_is_taken():
    metadata = {"a": "x" * (MAX_METADATA - len('{"a": ""}'))}
    assert len(read_chat_request(body(metadata=metadata)).metadata or b"") == MAX_METADATA


def test_the_first_thing_that_is_wrong_is_the_same_at_every_try():
    wrong = body(temperature="x", stop=5, tools={}, metadata=5, n=0)
    assert {refused(wrong) for _ in range(5)} == {("temperature", "invalid_value")}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8)
    | st.sampled_from(["text", "user", "tool", "assistant", "function", 10**30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "text", "role", "content", "id", "function", "name", "arguments", "include_usage"]),
        inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = st.sampled_from(
    ["model", "messages", "temperature", "max_tokens", "max_completion_tokens", "stop", "stream", "stream_options",
     "tools", "reasoning_split", "metadata", "n", "seed", "store", "x"]
)  # fmt: skip
MESSAGES = st.lists(
    st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "tool_call_id", "refusal", "name"]),
        VALUES,
        max_size=4,
    ).map(lambda message: {"role": "user", "content": "x"} | message),
    max_size=3,
)


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda junk: body()[:-1] + b',"x":' + junk + b"}"))
def test_no_bytes_lead_to_anything_but_a_request_or_a_refusal(request_body: bytes):
    try:
        read_chat_request(request_body)
    except Refusal as refusal:
        assert refusal.fault.status == 400


@settings(max_examples=200)
@given(fields=st.dictionaries(NAMES, VALUES, max_size=4), messages=st.just(HELLO) | MESSAGES)
def test_no_json_leads_to_anything_but_a_request_that_can_be_sent_or_a_refusal(fields: dict, messages: list):
    """What is taken can be sent to every kind of provider, and estimated."""
    request_body = json.dumps({"model": "m", "messages": messages, **fields}).encode()
    try:
        request = read_chat_request(request_body)
    except Refusal as refusal:
        assert refusal.fault.status == 400
        return
    assert request.estimate_prompt() > 0
    for profile in ({}, {"developer_role": "system", "max_tokens_param": "max_tokens", "stream_usage": "none"}):
        provider = Provider(base_url="http://127.0.0.1:1/v1", **profile)
        assert json.loads(upstream_body(request, "up", dialect_of(provider)))["model"] == "up"


@pytest.mark.parametrize(
    ("options", "stream", "asks"),
    [
        ({"include_usage": True}, True, (True, False)),
        ({"include_usage": True, "continuous_usage_stats": True}, True, (True, True)),
        ({"continuous_usage_stats": True}, True, (False, False)),
        ({"include_usage": False}, True, (False, False)),
        ({"include_usage": "yes"}, True, (False, False)),
        ({"include_usage": True}, False, (False, False)),
        (None, True, (False, False)),
    ],
)
def test_what_the_client_wants_to_know_of_usage(options: dict | None, stream: bool, asks: tuple[bool, bool]):
    request = read_chat_request(body(stream=stream, stream_options=options))
    assert (request.include_usage, request.continuous_usage) == asks


@pytest.mark.parametrize(
    ("messages", "tokens"),
    [
        (HELLO, 7),
        ([*HELLO, *HELLO], 14),
        ([{"role": "user", "content": ""}], 4),
        ([{"role": "user", "content": "é世😀"}], 4 + 3),
        ([{"role": "user", "content": [{"type": "text", "text": "abc"}, {"type": "text", "text": "de"}]}], 4 + 2),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:" + "x" * 999}}]}], 4),
        ([{"role": "assistant", "content": "ab", "tool_calls": [CALL]}], 4 + 2),
        ([{"role": "user", "content": "\ud83d"}], 4 + 1),
    ],
)
def test_a_prompt_is_estimated_as_four_tokens_a_message_and_one_for_each_four_bytes(messages: list, tokens: int):
    assert read_chat_request(body(messages=messages)).estimate_prompt() == tokens


@pytest.mark.parametrize("indent", [None, 4])
def test_tools_are_estimated_as_compact_json(indent: int | None):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"a": 10**30}}}]
    request = json.dumps({"model": "m", "messages": HELLO, "tools": tools}, indent=indent).encode()
    compact = len(json.dumps(tools, separators=(",", ":")))
    assert read_chat_request(request).estimate_prompt() == 7 + -(-compact // 4)


@pytest.mark.parametrize("tools", [[], None])
def test_no_tools_cost_nothing(tools: list | None):
    assert read_chat_request(body(tools=tools)).estimate_prompt() == 7


def test_the_divisor_of_an_estimate_may_be_a_fraction():
    assert read_chat_request(body()).estimate_prompt((5, 2)) == 4 + 4  # ten bytes, two and a half a token


@pytest.mark.parametrize("name", ["tools", "functions", "response_format", "documents", "chat_template", "of_tomorrow"])
def test_whatever_a_model_may_read_is_within_the_bound_of_a_prompt(name: str):
    given = [{"type": "x", "text": "y" * 999}] if name != "response_format" else {"json_schema": {"title": "y" * 999}}
    bound = read_chat_request(body(**{name: given})).prompt_bytes
    assert bound == read_chat_request(body()).prompt_bytes + len(json.dumps(given))


@pytest.mark.parametrize("field", [{"metadata": {"a": "y" * 999}}, {"stop": "y" * 999}, {"max_tokens": 5}, {"n": 2}])
def test_what_no_model_reads_is_not(field: dict):
    assert read_chat_request(body(**field)).prompt_bytes == read_chat_request(body()).prompt_bytes


@given(st.lists(st.text(st.characters(codec=None), max_size=40), min_size=1, max_size=4))
def test_the_bound_of_a_prompt_is_no_less_than_its_text(texts: list[str]):
    """What is held before the call covers what an estimate would bill."""
    request = read_chat_request(body(messages=[{"role": "user", "content": text} for text in texts]))
    assert request.prompt_bytes >= sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
