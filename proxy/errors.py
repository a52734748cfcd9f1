"""The words every floor shares: what can go wrong, as facts.

An error carries facts (status, type, code, which parameter, when to retry), never a rendered answer; `refuse.py` is
the one place that turns them into HTTP. No other exception tree exists: a step raises `Refusal`, and everything else
is a bug.
"""

from dataclasses import dataclass
from enum import StrEnum


class ErrorType(StrEnum):
    """The closed set of `error.type` values that a client can see."""

    INVALID_REQUEST = "invalid_request_error"
    CONFIGURATION = "configuration_error"
    AUTHENTICATION = "authentication_error"
    PERMISSION = "permission_error"
    RATE_LIMIT = "rate_limit_error"
    PROVIDER = "provider_error"
    INTERNAL = "internal_error"


@dataclass(frozen=True, slots=True)
class Fault:
    """What a client is told: `message` is one sentence of at most 2,000 characters that says what to do next."""

    status: int
    type: ErrorType
    code: str | None
    message: str
    param: str | None = None
    retry_after_ms: int | None = None
    should_retry: bool | None = None
    reason: str | None = None
    """The label of `aion_refused_total`, where the refusal is one that operators count."""


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a malfunction
    """Raised by a step to end the request with `fault`; nothing has been sent to the client yet."""

    def __init__(self, fault: Fault) -> None:
        """Keep the facts; the message is for a traceback in a test."""
        super().__init__(f"{fault.status} {fault.code}: {fault.message}")
        self.fault = fault
        self.stream = False
        """A stream was asked for, as far as that is known; for the log."""


class StoreUnavailable(Exception):  # noqa: N818 - the name of a state
    """The store did not answer in time or refused the connection; `detail` is for the log, without credentials."""

    def __init__(self, detail: str, *, may_have_run: bool = False) -> None:
        """Keep the reason for the operator's log; `may_have_run`: only the reply of the call may be missing."""
        super().__init__(detail)
        self.detail = detail
        self.may_have_run = may_have_run


def invalid_request(message: str, *, param: str | None = None, code: str = "invalid_value") -> Refusal:
    """Build the 400 for a request that is malformed at `param` (a JSON path such as `messages[2].content`)."""
    return Refusal(Fault(400, ErrorType.INVALID_REQUEST, code, message, param))
