"""Bytes → call: a bounded body, JSON, the fields that matter, and a model that exists and that this key may ask for."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from proxy.accounts import Identity
from proxy.call import Call, Endpoint, Target
from proxy.catalog import Catalog, Model
from proxy.errors import ErrorType, Fault, Refusal, invalid_request
from proxy.trace import Trace
from proxy.wire.chat_request import read_chat_request
from proxy.wire.response_request import ResponseRequest, as_chat, native_stand_in, read_response_request

_JSON: Final = "application/json"
_CHAT: Final = Endpoint.CHAT


class Body(Protocol):
    """What a request offers to this step."""

    def header(self, name: str) -> str | None:
        """Return a header's value; `name` in lower case."""

    def whole_body(self, limit: int) -> bytes | None:
        """Return the body if it has come already; raises `Refusal` if it is larger than `limit`."""

    async def body(self, limit: int) -> bytes:
        """Return the decoded body; raises `Refusal` if it cannot be had."""


async def take_body(request: Body, max_body: int) -> bytes:
    """Return the body of a request that says it is JSON. Raises `Refusal` (400, 408, 413, 415)."""
    _check_media_type(request.header("content-type"))
    body = request.whole_body(max_body)
    return await request.body(max_body) if body is None else body


def accept(
    body: bytes,
    endpoint: Endpoint,
    request_id: str,
    identity: Identity,
    catalog: Catalog,
    targets: Mapping[str, Sequence[Target]],
    now: int,
    trace: Trace | None = None,
) -> Call:
    """Return the call that a body makes; `targets` are those of every model, by its id. Raises `Refusal` (400, 403).

    Takes as long as the body is large: above `LARGE` it is to be called beside the loop.
    """
    response = None if endpoint is _CHAT else read_response_request(body)
    asked = read_chat_request(body) if response is None else response.shared
    try:
        model = _model(asked.model, identity, catalog)
        call = Call(request_id, endpoint, asked, model, now, len(body), response, trace=trace)
        return call if response is None else _response_call(call, response, targets[call.model.id])
    except Refusal as refusal:
        refusal.stream = asked.stream
        raise


def _model(name: str, identity: Identity, catalog: Catalog) -> Model:
    model = catalog.find(name)
    if model is None:
        message = "There is no such model; GET /v1/models lists those there are."
        raise invalid_request(message, param="model", code="model_not_found")
    allowed = identity.key.models
    if allowed is not None and model.id not in allowed:
        message = "This API key may not use this model; ask for another model or another key."
        raise Refusal(Fault(403, ErrorType.PERMISSION, "model_not_allowed", message, "model", reason="permission"))
    return model


def _response_call(call: Call, response: ResponseRequest, targets: Sequence[Target]) -> Call:
    """Translate for providers that speak chat completions alone; what cannot be translated goes only to the others."""
    natives = [target.provider.native_responses for target in targets] if response.may_pass else []
    if natives and all(natives):
        return replace(call, request=native_stand_in(response))
    try:
        return replace(call, request=as_chat(response))
    except Refusal as refusal:
        if any(natives) and refusal.fault.code == "unsupported_parameter":
            return replace(call, request=native_stand_in(response), native_only=True)
        raise


def _check_media_type(value: str | None) -> None:
    """Take JSON under any of its names, and a missing header; a charset must be UTF-8 (RFC 8259, 8.1)."""
    if value is None or value == _JSON:
        return
    name, *parameters = (part.strip().lower() for part in value.split(";"))
    charsets = [text.partition("=")[2].strip('"') for text in parameters if text.startswith("charset=")]
    if (name != _JSON and not name.endswith("+json")) or any(charset not in {"utf-8", "utf8"} for charset in charsets):
        message = "Send the request as `Content-Type: application/json` in UTF-8."
        raise Refusal(Fault(415, ErrorType.INVALID_REQUEST, "unsupported_media_type", message))
