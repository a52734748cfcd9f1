"""What a provider says when it fails, read in all its shapes and turned into what a client is told.

The provider's own words reach a client only where they can help it to correct its request, and then without keys,
hosts and addresses; every other failure is a fixed sentence. Pure.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from msgspec import Raw

from proxy.errors import ErrorType, Fault
from proxy.wire import json
from proxy.wire.json import Malformed, RawObject

MAX_MESSAGE: Final = 2_000
MAX_RETRY_AFTER_MS: Final = 60_000
MAX_COMPARED: Final = 256 * 1024
"""Bytes of a request in which the words of an error are looked for; a larger one would hold up everybody else."""
_COMPARED_WORDS: Final = 500
_TOO_LONG: Final = ("maximum context length", "context length is only", "context size")
_MODERATION: Final = (b"moderation", b"flagged", b"content_filter")
# Keys, e-mail addresses, URLs. A name before an @ is tried at its first character alone, so that the time grows with
# the size of a text and not with its square.
_SECRETS: Final = re.compile(
    r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_\-*.]+|(?<![\w.+-])[\w.+-]++@[\w-]++\.[\w.-]+|https?://[^\s\"'<>]+"
)
_TROUBLE: Final = frozenset({"error", "message", "detail"})
"""An error has at least one of these keys."""
_WORDS: Final = re.compile(r"\w+", re.ASCII)
_NO_WORDS: Final = re.compile(r"[^\x20-\x7e]+")
_MASK: Final = "*"
_MASKS: Final = re.compile(r"\*(?:\W*\*)+", re.ASCII)
_ESCAPED_LETTER: Final = b"\\u00"
_STATUS_CODE: Final = re.compile(r"[1-5][0-9]{2}")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """A provider's error as it was read; `message` is its own text and must not be shown before `client_fault`
    cleaned it.
    """

    message: str = ""
    code: str | None = None
    kind: str | None = None
    """Its `type`, which is the provider's own word and not one of ours."""
    param: str | None = None
    status: int | None = None
    """The status that the error itself names, where it came inside a 200."""
    moderated: bool = False
    """Its body speaks of moderation somewhere."""


class UpstreamError(Exception):
    """An attempt at one target failed; `status` is what the provider answered, None where nothing usable came.

    `kind` names the failure in our words (the `code` a client sees); `detail` is for the log alone.
    """

    def __init__(
        self,
        body: ErrorBody | None = None,
        *,
        status: int | None = None,
        kind: str = "upstream_error",
        retry_after_ms: int | None = None,
        detail: str = "",
    ) -> None:
        """Keep the facts; the message is the detail, for a traceback."""
        super().__init__(detail or kind)
        self.body = body or ErrorBody()
        self.status = status if status is not None else self.body.status
        self.kind = kind
        self.retry_after_ms = retry_after_ms
        self.detail = detail
        self.sent = False
        """The request had gone out to the target."""
        self.begun = False
        """The client had got some of the answer, which the error may quote."""


def bad_answer(why: str) -> UpstreamError:
    """Build the failure for a 2xx whose body cannot be served."""
    return UpstreamError(kind="upstream_bad_response", detail=f"the provider's answer cannot be served: {why}")


def failed_ending(reason: str) -> UpstreamError:
    """Build the failure for an answer whose finish reason says that the provider failed."""
    return UpstreamError(detail=f"the answer ended with finish_reason {reason}")


def error_in(body: bytes | RawObject) -> ErrorBody | None:
    """Find an error inside an answer: a truthy `error`, or `object: "error"`; a list of one is looked into. None: no
    error.
    """
    try:
        if isinstance(body, bytes):
            body = json.split_list(body)[0] if body.lstrip().startswith(b"[") else json.split_object(body)
    except (Malformed, IndexError):
        return None
    raw = body.get("error")
    if raw is None and "message" not in body:
        return None  # nearly every answer
    if raw is not None and (value := _decoded(raw)):
        return _read(value)
    if json.text_of(body.get("object")) == "error":
        return _read({name: _decoded(value) for name, value in body.items()})
    return None


def error_in_chunk(fields: RawObject) -> ErrorBody | None:
    """Find an error in an event of a stream: as in an answer, or a `message` or `detail` in the place of choices."""
    if _TROUBLE.isdisjoint(fields):
        return None
    if (found := error_in(fields)) is not None:
        return found
    if bytes(fields.get("choices", b"null")) not in {b"null", b"[]"} or not ("message" in fields or "detail" in fields):
        return None
    return _read({name: _decoded(value) for name, value in fields.items()})


def read_error(body: bytes) -> ErrorBody:
    """Read the body of a failed answer, whatever its shape; plain text becomes the message."""
    found = error_in(body)
    if found is None:
        try:
            value = json.decode(body)
            found = _read(value[0] if isinstance(value, list) and value else value)
        except Malformed:
            found = ErrorBody(message=body.decode(errors="replace").strip())
    words = body.lower()
    return replace(found, moderated=any(word in words for word in _MODERATION))


def client_fault(error: UpstreamError, secrets: Collection[str] = ()) -> Fault:
    """Turn a failure before the first byte into what the client is told; `secrets` never appear in it."""
    status, body = error.status, error.body
    if status is None:
        return _provider_fault(error.kind, error.retry_after_ms)
    if status in {400, 413, 422} or (status == 404 and _names_a_parameter(body)):  # noqa: PLR2004
        param = None if body.param is None else scrub(body.param, secrets)
        return Fault(400, ErrorType.INVALID_REQUEST, _validation_code(body), _shown(body.message, secrets), param)
    if status == 403 and _names_moderation(body):  # noqa: PLR2004
        return Fault(400, ErrorType.INVALID_REQUEST, "content_policy_violation", _shown(body.message, secrets))
    if status in _MISCONFIGURED or 300 <= status < 400:  # noqa: PLR2004
        code, sentence = _MISCONFIGURED.get(
            status, ("provider_auth", "The provider of this model is not configured correctly")
        )
        return Fault(400, ErrorType.CONFIGURATION, code, f"{sentence}; the operator of this gateway has to correct it.")
    return _provider_fault(_KINDS.get(status, error.kind), error.retry_after_ms)


def stream_fault(error: UpstreamError) -> Fault:
    """Turn a failure after the first byte into what the error event says."""
    if error.status is not None and error.status in _KINDS:
        return _provider_fault(_KINDS[error.status], None)
    return _provider_fault(error.kind, None)


def may_try_next(error: UpstreamError) -> bool:
    """Tell whether another target may do better; a request that the provider found wrong is wrong everywhere."""
    return error.status is None or error.status not in {400, 413, 422}


def scrub(message: str, secrets: Collection[str]) -> str:
    """Return a provider's text without keys, addresses, hosts and the given secrets, at most 2,000 characters of it."""
    for secret in secrets:
        if secret:
            message = message.replace(secret, "[removed]")
    return _SECRETS.sub("[removed]", message).strip()[:MAX_MESSAGE]


def apart_from(message: str, request: RawObject) -> str:
    """Return the beginning of a provider's text with a `*` for every word that is anywhere in the request: it may be a
    quotation, and this is for the log.

    Nothing remains of it if the request is too large to look through, or spells letters in another way.
    """
    if sum(map(len, request.values())) > MAX_COMPARED:
        return ""
    asked = b" ".join(map(bytes, request.values())).lower()
    if _ESCAPED_LETTER in asked:
        return ""

    def masked(word: re.Match[str]) -> str:
        return _MASK if word[0].lower().encode() in asked else word[0]

    return _MASKS.sub(_MASK, _WORDS.sub(masked, _NO_WORDS.sub(_MASK, message[:_COMPARED_WORDS])))


_MISCONFIGURED: Final = {
    401: ("provider_auth", "The provider of this model did not accept the gateway's credentials"),
    402: ("provider_quota", "The gateway's quota at the provider of this model is used up"),
    403: ("provider_auth", "The provider of this model refused the gateway's credentials"),
    404: ("provider_model_missing", "The provider does not know this model or route"),
    407: ("provider_auth", "A proxy before the provider of this model asks for credentials"),
}
_KINDS: Final = {
    408: "upstream_timeout",
    504: "upstream_timeout",
    429: "upstream_rate_limited",
    503: "upstream_overloaded",
    529: "upstream_overloaded",
}
_SENTENCES: Final = {
    "upstream_timeout": "The model's provider did not answer in time; try again.",
    "upstream_rate_limited": "The model's provider is limiting this gateway's requests; try again later.",
    "upstream_overloaded": "The model's provider is overloaded; try again later.",
    "upstream_unavailable": "The model's provider cannot be reached; try again later.",
    "upstream_truncated": "The model's provider ended the answer before it was complete; try again.",
    "upstream_bad_response": "The model's provider sent an answer that cannot be used; try again.",
    "upstream_error": "The model's provider failed to answer; try again.",
}


def _provider_fault(kind: str, retry_after_ms: int | None) -> Fault:
    wait = None if retry_after_ms is None else min(retry_after_ms, MAX_RETRY_AFTER_MS)
    return Fault(502, ErrorType.PROVIDER, kind, _SENTENCES.get(kind, _SENTENCES["upstream_error"]), retry_after_ms=wait)


def _names_a_parameter(body: ErrorBody) -> bool:
    """Tell whether a 404 is about a parameter; the model's name is the gateway's own choice."""
    return body.param is not None and body.param != "model" and body.code != "model_not_found"


def _names_moderation(body: ErrorBody) -> bool:
    said = f"{body.message} {body.code} {body.kind}".lower().encode()
    return body.moderated or any(word in said for word in _MODERATION)


def _validation_code(body: ErrorBody) -> str:
    too_long = body.code == "context_length_exceeded" or any(text in body.message for text in _TOO_LONG)
    return "context_length_exceeded" if too_long else "provider_validation"


def _shown(message: str, secrets: Collection[str]) -> str:
    return scrub(message, secrets) or "The model's provider found the request invalid; check its parameters."


def _decoded(raw: Raw) -> object:
    """Decode a value; one that is out of every range is a text."""
    try:
        return json.decode(raw)
    except Malformed:
        return bytes(raw).decode(errors="replace")


def _read(value: object) -> ErrorBody:
    while isinstance(value, dict) and isinstance(value.get("error"), dict | str):
        value = value["error"]
    if isinstance(value, str):
        return ErrorBody(message=value)
    if not isinstance(value, dict):
        return ErrorBody()
    message = next((text for name in ("message", "detail", "msg") if isinstance(text := value.get(name), str)), "")
    if not message and isinstance(value.get("detail"), list | dict):
        message = json.encode(value["detail"]).decode()
    code, param = value.get("code"), value.get("param")
    kind = value["type"] if isinstance(value.get("type"), str) else None
    number = (
        code if isinstance(code, int) else int(code) if isinstance(code, str) and _STATUS_CODE.fullmatch(code) else None
    )
    names_length = kind is not None and "exceed_context_size" in kind
    return ErrorBody(
        message=message,
        code="context_length_exceeded" if names_length else code if isinstance(code, str) else None,
        kind=kind,
        param=param if isinstance(param, str) else None,
        status=number if number is not None and 400 <= number < 600 else None,  # noqa: PLR2004
    )
