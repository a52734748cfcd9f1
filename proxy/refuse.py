"""The one place where a refusal becomes an HTTP answer: status, envelope, and the lines that say when to try again."""

from aiohttp.http_exceptions import ContentEncodingError

from proxy.client_request import ClientRequest
from proxy.errors import ErrorType, Fault, Refusal
from proxy.wire.headers import fault_lines
from proxy.wire.refusal import error_body


def refuse(client: ClientRequest, fault: Fault, request_id: str, lines: bytes = b"") -> None:
    """Answer with the error envelope; `lines` are header lines besides those that belong to the fault."""
    if fault.status == 401:  # noqa: PLR2004
        lines += b"WWW-Authenticate: Bearer\r\n"
    client.answer(fault.status, error_body(fault, request_id), lines + fault_lines(fault))


def unknown_url() -> Fault:
    """Build the answer for a path that is none of ours."""
    message = "There is no such URL; see the API reference for those there are."
    return Fault(404, ErrorType.INVALID_REQUEST, "unknown_url", message)


def wrong_method(allowed: str) -> Fault:
    """Build the answer for a method that this path does not take."""
    return Fault(405, ErrorType.INVALID_REQUEST, "method_not_allowed", f"Use {allowed} on this URL.")


def unknown_model() -> Fault:
    """Build the answer for a model that GET /v1/models does not list."""
    message = "There is no such model; GET /v1/models lists those there are."
    return Fault(404, ErrorType.INVALID_REQUEST, "model_not_found", message, "model")


def unknown_response() -> Fault:
    """Build the answer for the id of a response: none is kept."""
    message = "This gateway does not store responses; send the whole conversation in `input` of POST /v1/responses."
    return Fault(404, ErrorType.INVALID_REQUEST, "response_not_found", message)


def our_bug() -> Fault:
    """Build the answer for a request that met a bug of the gateway."""
    message = "The gateway failed to handle this request; report it to its operator."
    return Fault(500, ErrorType.INTERNAL, "internal_error", message)


def overloaded() -> Fault:
    """Build the answer for a request that there is no memory for."""
    message = "The gateway has no room for more requests at the moment; try again in a few seconds."
    return Fault(503, ErrorType.INTERNAL, "overloaded", message, retry_after_ms=2_000, reason="overloaded")


def no_plan() -> Fault:
    """Build the answer for an account whose plan or own limits the configuration cannot tell: nothing may be admitted
    then.
    """
    message = "The limits of this account cannot be determined; the operator of this gateway has to correct its plan."
    return Fault(400, ErrorType.CONFIGURATION, "unknown_plan", message)


def refuse_bug(client: ClientRequest, request_id: str) -> Fault | None:
    """Answer a request that met a bug of ours; None if its answer had begun, which is then cut off, not left open."""
    if client.answered is not None:
        client.drop()
        return None
    fault = our_bug()
    refuse(client, fault, request_id)
    return fault


def malformed(error: BaseException) -> Fault:
    """Build the answer for bytes that are not an HTTP request; none of them is repeated."""
    if isinstance(error, Refusal):
        return error.fault
    if isinstance(error, ContentEncodingError):
        message = "The body is in a coding that cannot be read here; send it as it is or with gzip."
        return Fault(415, ErrorType.INVALID_REQUEST, "unsupported_media_type", message)
    return Fault(
        400, ErrorType.INVALID_REQUEST, "invalid_http", "This is not a valid HTTP/1.1 request; correct its head."
    )
