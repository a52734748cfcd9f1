"""How a refusal looks on the wire: the one error envelope, as a body and as an event of a stream. Pure."""

from typing import Final

from proxy.errors import ErrorType, Fault
from proxy.wire import json

DONE: Final = b"data: [DONE]\n\n"
_SERVER_SIDE: Final = frozenset({ErrorType.PROVIDER, ErrorType.INTERNAL})


def error_body(fault: Fault, request_id: str) -> bytes:
    """Write `{"error": {message, type, param, code}}`; failures that are not the client's name the request to ask
    about.
    """
    message = f"{fault.message} (request {request_id})" if fault.type in _SERVER_SIDE else fault.message
    return json.encode(
        {"error": {"message": message, "type": fault.type.value, "param": fault.param, "code": fault.code}}
    )


def error_event(fault: Fault, request_id: str) -> bytes:
    """Write the error as the last events of a chat stream: without `choices`, which some clients take for an answer."""
    return b"data: " + error_body(fault, request_id) + b"\n\n" + DONE
