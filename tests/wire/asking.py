"""Requests to the Responses API, and what becomes of them; read by every test of that side."""

import json
from typing import Any

import pytest

from proxy.errors import ErrorType, Refusal
from proxy.providers import Provider
from proxy.wire.chat_request import ChatRequest, dialect_of, upstream_body
from proxy.wire.response_request import as_chat, native_body, read_response_request

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def body(**fields: object) -> bytes:
    return json.dumps({"model": "m", "input": "Say hello.", **fields}).encode()


def provider(**profile: object) -> Provider:
    return Provider(
        base_url="http://127.0.0.1:1/v1", api_key="provider-key", **({"reasoning_history": "pass"} | profile)
    )


def chat(request: bytes) -> ChatRequest:
    return as_chat(read_response_request(request))


def sent(request: bytes, **profile: object) -> bytes:
    """What a provider of chat completions is sent."""
    return upstream_body(chat(request), "vendor/name", dialect_of(provider(**profile)))


def sent_fields(**fields: object) -> dict[str, Any]:
    return dict(json.loads(sent(body(**fields))))


def messages(*items: object, **fields: object) -> list[dict[str, Any]]:
    return list(sent_fields(input=list(items), **fields)["messages"])


def ignored(**fields: object) -> tuple[str, ...]:
    return chat(body(**fields)).ignored


def passed_on(request: bytes, **profile: object) -> bytes:
    """What a provider is sent that speaks the Responses API."""
    return native_body(read_response_request(request), "vendor/name", dialect_of(provider(**profile)))


def refused(request: bytes) -> tuple[str | None, str | None]:
    """The place and the code of the refusal, wherever it comes from."""
    with pytest.raises(Refusal) as refusal:
        chat(request)
    fault = refusal.value.fault
    assert (fault.status, fault.type) == (400, ErrorType.INVALID_REQUEST)
    assert 0 < len(fault.message) <= 2000
    assert fault.message.endswith((".", "`input`."))
    assert fault.param is None or f"`{fault.param}`" in fault.message or fault.code == "unsupported_parameter"
    return fault.param, fault.code


def understood(**fields: object) -> tuple[str | None, str | None]:
    return refused(body(**fields))
