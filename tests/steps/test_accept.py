"""What makes a request a call, and which refusal anything else gets."""

import json

import pytest

from proxy.call import Call, Endpoint
from proxy.errors import ErrorType, Fault, Refusal
from proxy.steps.accept import accept, take_body
from specimens import NOW, api_key, body, catalog, identity, provider, target

TARGETS = {"lab/model": (target(),)}


class FakeBody:
    """A request with one header and a body; notes the limit it was read with."""

    def __init__(self, data: bytes, content_type: str | None = "application/json") -> None:
        self.data = data
        self.content_type = content_type
        self.limit: int | None = None

    def header(self, name: str) -> str | None:
        assert name == "content-type"
        return self.content_type

    def whole_body(self, limit: int) -> bytes | None:
        self.limit = limit
        return None

    async def body(self, limit: int) -> bytes:
        assert limit == self.limit
        if len(self.data) > limit:
            raise Refusal(Fault(413, ErrorType.INVALID_REQUEST, "request_too_large", "too large"))
        return self.data


async def take_and_accept(request: FakeBody, *facts: object, max_body: int) -> Call:
    return accept(await take_body(request, max_body), *facts, NOW)


async def accepted(data: bytes = b"", content_type: str | None = "application/json", *, models=None, limit=10_000):
    request = FakeBody(data or body(), content_type)
    who = identity(key=api_key(models=models))
    return await take_and_accept(request, Endpoint.CHAT, "req_1", who, catalog(), TARGETS, max_body=limit)


async def fault_of(*args, **options) -> Fault:
    with pytest.raises(Refusal) as refused:
        await accepted(*args, **options)
    return refused.value.fault


async def test_a_call_carries_its_id_its_model_its_request_and_its_time():
    call = await accepted(body(stream=True))
    assert (call.request_id, call.endpoint, call.model.id, call.accepted_at) == ("req_1", "chat", "lab/model", NOW)
    assert call.request.stream


async def test_an_alias_stands_for_its_model():
    assert (await accepted(body(model="short"))).model.id == "lab/model"


@pytest.mark.parametrize(
    "content_type",
    [
        None, "application/json", "Application/JSON", " application/json ", "application/vnd.api+json",
        "application/json; charset=utf-8", "application/json;charset=UTF8", 'application/json; charset="utf-8"',
        "application/json; profile=x",
    ],
)  # fmt: skip
async def test_json_is_taken_under_all_its_names(content_type):
    assert (await accepted(content_type=content_type)).model.id == "lab/model"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json",
        "application/jsonp", "application/json; charset=latin-1", "text/json",
    ],
)  # fmt: skip
async def test_anything_else_is_refused_before_its_body_is_read(content_type):
    request = FakeBody(body(), content_type)
    with pytest.raises(Refusal) as refused:
        await take_and_accept(request, Endpoint.CHAT, "req_1", identity(), catalog(), TARGETS, max_body=10)
    assert (refused.value.fault.status, refused.value.fault.code) == (415, "unsupported_media_type")
    assert request.limit is None


async def test_the_body_is_read_up_to_the_limit_of_the_configuration():
    assert (await fault_of(limit=10)).status == 413


async def test_what_is_no_json_is_refused():
    fault = await fault_of(b"{")
    assert (fault.status, fault.code) == (400, "invalid_json")


async def test_what_is_no_chat_completion_is_refused_with_its_place():
    fault = await fault_of(body(messages=[]))
    assert (fault.status, fault.param) == (400, "messages")


@pytest.mark.parametrize("name", ["nope", "lab/gone", "LAB/MODEL"])
async def test_a_model_that_is_not_there_is_a_bad_request_that_names_none(name):
    fault = await fault_of(body(model=name))
    assert (fault.status, fault.type, fault.code, fault.param) == (
        400,
        ErrorType.INVALID_REQUEST,
        "model_not_found",
        "model",
    )
    assert name not in fault.message


async def test_a_model_that_the_key_may_not_use_is_forbidden():
    fault = await fault_of(models=frozenset({"lab/other"}))
    assert (fault.status, fault.type, fault.code, fault.reason) == (
        403,
        ErrorType.PERMISSION,
        "model_not_allowed",
        "permission",
    )


async def test_a_model_that_the_key_may_use_is_let_through_under_its_alias_too():
    assert (await accepted(body(model="short"), models=frozenset({"lab/model"}))).model.id == "lab/model"


async def test_a_model_that_does_not_exist_is_not_found_rather_than_forbidden():
    assert (await fault_of(body(model="nope"), models=frozenset())).code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_remembers_whether_a_stream_was_asked_for(stream):
    with pytest.raises(Refusal) as refused:
        await accepted(body(model="nope", stream=stream))
    assert refused.value.stream is stream
    with pytest.raises(Refusal) as refused:
        await asked(DOES_NOT, previous_response_id="resp_1", stream=stream)
    assert refused.value.stream is stream


# the Responses API

SPEAKS = target("native", provider(native_responses=True))
DOES_NOT = target("chat")


async def asked(*targets, **fields) -> Call:
    """The call that a request to the Responses API makes of a model with such targets."""
    data = json.dumps({"model": "short", "input": "Say hello.", **fields}).encode()
    return await take_and_accept(
        FakeBody(data),
        Endpoint.RESPONSES,
        "req_1",
        identity(),
        catalog(),
        {"lab/model": targets},
        max_body=9999,
    )


async def test_a_response_is_a_chat_request_to_providers_that_know_no_other():
    call = await asked(DOES_NOT, stream=True)
    assert (call.endpoint, call.model.id, call.request.stream) == ("responses", "lab/model", True)
    assert bytes(call.request.fields["messages"]) == b'[{"role":"user","content":"Say hello."}]'
    assert call.response is not None


@pytest.mark.parametrize("targets", [(DOES_NOT,), ()])
async def test_what_only_a_server_that_stores_responses_can_serve_is_refused(targets):
    with pytest.raises(Refusal) as refused:
        await asked(*targets, previous_response_id="resp_1")
    assert (refused.value.fault.code, refused.value.fault.param) == ("unsupported_parameter", "previous_response_id")


async def test_it_is_taken_where_every_provider_speaks_the_api_itself():
    call = await asked(SPEAKS, previous_response_id="resp_1")
    assert not call.native_only


async def test_it_goes_to_those_alone_where_some_do():
    call = await asked(DOES_NOT, SPEAKS, previous_response_id="resp_1")
    assert call.native_only


@pytest.mark.parametrize(
    "own", [{"reasoning_split": False}, {"messages": [{"role": "user", "content": "x"}], "input": None}]
)
async def test_what_is_this_gateway_s_own_is_translated_for_all(own):
    call = await asked(DOES_NOT, SPEAKS, **own)
    assert "messages" in call.request.fields
    assert not call.native_only


async def test_what_is_wrong_in_itself_goes_to_no_provider():
    with pytest.raises(Refusal) as refused:
        await asked(DOES_NOT, SPEAKS, input=5)
    assert refused.value.fault.param == "input"
