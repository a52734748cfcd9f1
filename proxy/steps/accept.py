"""Bytes → call: a bounded body, JSON, the fields that matter, and a model that exists and that this key may ask for."""

from typing import Final, Protocol

from proxy.accounts import Identity
from proxy.call import Call, Endpoint
from proxy.catalog import Catalog
from proxy.errors import ErrorType, Fault, Refusal, invalid_request
from proxy.wire.chat_request import read_chat_request

_JSON: Final = "application/json"


class Body(Protocol):
    """What a request offers to this step."""

    def header(self, name: str) -> str | None:
        """Return a header's value."""

    async def body(self, limit: int) -> bytes:
        """Return the decoded body; raises `Refusal` if it cannot be had."""


async def accept(
    request: Body, request_id: str, identity: Identity, catalog: Catalog, *, max_body: int, now: int
) -> Call:
    """Return the call that a chat completion request makes. Raises `Refusal` (400, 403, 408, 413, 415)."""
    _check_media_type(request.header("Content-Type"))
    chat = read_chat_request(await request.body(max_body))
    model = catalog.find(chat.model)
    if model is None:
        message = "There is no such model; GET /v1/models lists those there are."
        raise invalid_request(message, param="model", code="model_not_found")
    allowed = identity.key.models
    if allowed is not None and model.id not in allowed:
        message = "This API key may not use this model; ask for another model or another key."
        raise Refusal(Fault(403, ErrorType.PERMISSION, "model_not_allowed", message, "model", reason="permission"))
    return Call(request_id, Endpoint.CHAT, chat, model, now)


def _check_media_type(value: str | None) -> None:
    """Take JSON under any of its names, and a missing header; a charset must be UTF-8 (RFC 8259, 8.1)."""
    if value is None or value == _JSON:
        return
    name, *parameters = (part.strip().lower() for part in value.split(";"))
    charsets = [text.partition("=")[2].strip('"') for text in parameters if text.startswith("charset=")]
    if (name != _JSON and not name.endswith("+json")) or any(charset not in {"utf-8", "utf8"} for charset in charsets):
        message = "Send the request as `Content-Type: application/json` in UTF-8."
        raise Refusal(Fault(415, ErrorType.INVALID_REQUEST, "unsupported_media_type", message))
