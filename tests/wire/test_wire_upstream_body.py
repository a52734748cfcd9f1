"""What a provider is sent: the client's own bytes, less what it may not decide, plus what the provider needs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.providers import Provider
from proxy.wire.chat_request import DROPPED, dialect_of, read_chat_request, upstream_body

HELLO = [{"role": "user", "content": "Say hello."}]


def body(**fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": HELLO, **fields}).encode()


def provider(**profile: object) -> Provider:
    return Provider(base_url="http://127.0.0.1:1/v1", api_key="provider-key", **profile)


def sent(request: bytes, **profile: object) -> bytes:
    return upstream_body(read_chat_request(request), "vendor/name", dialect_of(provider(**profile)))


def sent_fields(request: bytes, **profile: object) -> dict:
    return json.loads(sent(request, **profile))


@given(
    fields=st.dictionaries(
        st.text(min_size=1, max_size=6).filter(lambda name: name not in DROPPED),
        st.sampled_from([b"123456789012345678901234567890", b"1.10", b"-0", b"1E-7", rb'"\ud83d"', rb'"\/ \u00e9 \n"',
                         '"é😀"'.encode(), rb'{"b":1,"a":[1, 2],"\udc00":"\\ud83d"}', b"[ ]", b"true", b"null"]),
        max_size=6,
    )
)  # fmt: skip
def test_fields_that_are_not_the_gateways_business_leave_as_the_bytes_that_came(fields: dict[str, bytes]):
    kept = {"model", "messages", *("n", "stop", "tools", "stream", "temperature", "metadata")}
    fields = {json.dumps(name): value for name, value in fields.items() if name not in kept}
    written = b", ".join(name.encode() + b": " + value for name, value in fields.items())
    request_body = body()[:-1] + (b"," + written if written else b"") + b"}"
    out = sent(request_body)
    for value in fields.values():
        assert b":" + value in out
    assert list(json.loads(out)) == list(json.loads(request_body))


def test_messages_and_tools_leave_as_the_bytes_that_came():
    messages = rb'[ {"content": "caf\u00e9 \ud83d", "role":"user","x":1.0} ]'
    tools = b'[{"function":{"name":"f","parameters":{"b":1e2,"a":2}},"type":"function"}]'
    out = sent(b'{"messages":' + messages + b',"tools":' + tools + b',"model":"m"}')
    assert b'"messages":' + messages in out
    assert b'"tools":' + tools in out
    assert out.endswith(b'"model":"vendor/name"}')


def test_a_lone_surrogate_and_a_huge_seed_arrive_unchanged():
    out = sent(rb'{"model":"m","messages":[{"role":"user","content":"\ud83d"}],"seed":123456789012345678901234567890}')
    assert rb'"content":"\ud83d"' in out
    assert b'"seed":123456789012345678901234567890' in out


def test_the_providers_name_takes_the_place_of_the_models():
    assert sent_fields(body())["model"] == "vendor/name"


def test_fields_of_the_gateway_are_not_sent():
    assert sent_fields(body(reasoning_split=True, metadata={"a": 1})).keys() == {"model", "messages"}


def test_metadata_is_kept_as_the_bytes_that_came():
    metadata = rb'{"b": 1.0, "a":"\ud83d"}'
    assert read_chat_request(body()[:-1] + b',"metadata":' + metadata + b"}").metadata == metadata
    assert read_chat_request(body()).metadata is None


@pytest.mark.parametrize("name", sorted(DROPPED))
def test_what_would_change_price_route_or_credentials_is_dropped_and_named(name: str):
    request_body = body(**{name: "x"})
    assert name not in sent_fields(request_body)
    assert read_chat_request(request_body).ignored == (name,)


def test_dropped_fields_are_named_in_the_order_in_which_they_came():
    assert read_chat_request(body(store=False, top_p=1, api_base="x", user="u")).ignored == ("store", "api_base")
    assert read_chat_request(body(top_p=1)).ignored == ()


def test_a_provider_may_be_spared_further_fields_and_given_others():
    fields = sent_fields(
        body(logit_bias={}, top_k=5), drop_params=("logit_bias",), extra_body={"reasoning_split": True, "top_k": 9}
    )
    assert fields == {"model": "vendor/name", "messages": HELLO, "top_k": 9, "reasoning_split": True}


@pytest.mark.parametrize(
    ("asked", "profile", "expected"),
    [
        ({"stream": True}, "include_usage", {"include_usage": True}),
        ({"stream": True, "stream_options": None}, "include_usage", {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": False, "x": 1}}, "include_usage",
         {"include_usage": True, "x": 1}),
        ({"stream": True, "stream_options": {"x": 1}}, "always", {"x": 1}),
        ({"stream": True}, "always", None),
        ({"stream": True, "stream_options": {"x": 1}}, "none", None),
        ({"stream": False, "stream_options": {"include_usage": True}}, "include_usage", None),
        ({"stream_options": {"include_usage": True}}, "include_usage", None),
    ],
)  # fmt: skip
def test_usage_is_asked_of_the_provider_in_streams_and_only_there(asked: dict, profile: str, expected: dict | None):
    assert sent_fields(body(**asked), stream_usage=profile).get("stream_options") == expected


@pytest.mark.parametrize(
    ("given_fields", "param", "expected"),
    [
        ({"max_tokens": 5}, "as_sent", {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, "as_sent", {"max_completion_tokens": 5}),
        ({"max_completion_tokens": 5}, "max_tokens", {"max_tokens": 5}),
        ({"max_tokens": 5}, "max_completion_tokens", {"max_completion_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", {"max_tokens": 5}),
        ({"max_tokens": None, "max_completion_tokens": 5}, "max_tokens", {"max_tokens": 5}),
        ({"max_tokens": None}, "max_completion_tokens", {}),
        ({}, "max_tokens", {}),
    ],
)
def test_the_limit_on_output_goes_by_the_name_the_provider_knows(given_fields: dict, param: str, expected: dict):
    request = body(**given_fields)
    fields = sent_fields(request, max_tokens_param=param)
    assert {name: value for name, value in fields.items() if name.startswith("max_")} == expected
    assert read_chat_request(request).max_tokens == next(iter(expected.values()), None)


def test_the_role_developer_is_renamed_where_the_provider_does_not_know_it_and_nothing_else_is():
    messages = (
        rb'[{"role":"developer","content":"about \"developer\" \ud83d","x":1.0},{"role":"user","content":"developer"}]'
    )
    request_body = b'{"model":"m","messages":' + messages + b"}"
    assert messages in sent(request_body)
    assert messages.replace(b'"role":"developer"', b'"role":"system"') in sent(request_body, developer_role="system")
