"""What a judge says of refusals: that this one came, that its fields point at the right place, that none came.

Whether the envelope itself is right is a check of its own; here only what it says is read, so that one broken rule
does not fail every line of the table.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from proxy.conformance.check import Passed, Skipped
from proxy.conformance.exchange import Reply, Violation

INVALID: Final = "invalid_request_error"
_MODEL_STATUSES: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})


def error_of(reply: Reply) -> dict[str, Any]:
    """Return the object under `error`; raises `Violation` if there is none."""
    error = reply.document.get("error")
    if not isinstance(error, dict):
        raise Violation(f"{reply.asked.what}: {reply.summary}: there is no object under `error`")
    return error


def refused(reply: Reply, status: int, kind: str, *codes: str) -> Passed:
    """Say that it was refused so; raises `Violation` for another status, type or code (none given: any code)."""
    if reply.status != status:
        raise Violation(f"{reply.asked.what}: {reply.summary}; expected {status}")
    error = error_of(reply)
    if error.get("type") != kind or (codes and error.get("code") not in codes):
        raise Violation(f"{reply.asked.what}: {reply.summary}; expected {kind}, {' or '.join(codes) or 'any code'}")
    return Passed(f"{status} {kind}, {error.get('code')}")


def each_refused(replies: Sequence[Reply], status: int, kind: str, *codes: str) -> Passed:
    """Say that each was refused so, as `refused` does of one."""
    found = [refused(reply, status, kind, *codes).seen for reply in replies]
    return Passed(f"{len(found)} times {found[0]}" if len(found) > 1 else found[0])


def refused_at(reply: Reply, param: str, *codes: str) -> Passed:
    """Say that it is a 400 about this place of the body or one inside it; raises `Violation` otherwise."""
    passed = refused(reply, HTTPStatus.BAD_REQUEST, INVALID, *codes)
    found = error_of(reply).get("param")
    inside = isinstance(found, str) and (found == param or found.startswith((f"{param}.", f"{param}[")))
    if not inside:
        raise Violation(f"{reply.asked.what}: param is {found!r}; expected {param!r}")
    return Passed(f"{passed.seen}, param {found}")


def each_refused_at(replies: Sequence[Reply], param: str, *codes: str) -> Passed:
    """Say that each is a 400 about this place, as `refused_at` does of one."""
    return [refused_at(reply, param, *codes) for reply in replies][-1]


def reached_the_model(*replies: Reply) -> Passed:
    """Say that each probe was refused for its model alone, so that everything before was accepted; raises
    `Violation`.
    """
    for reply in replies:
        if reply.status not in _MODEL_STATUSES:
            raise Violation(f"{reply.asked.what}: {reply.summary}; expected to be taken up to the unknown model")
        error = error_of(reply)
        if error.get("param") != "model" and error.get("code") != "model_not_found":
            raise Violation(f"{reply.asked.what}: {reply.summary}; expected to be taken up to the unknown model")
    return Passed(f"taken: {', '.join(reply.asked.what for reply in replies)}")


def answered(reply: Reply) -> Reply:
    """Return the answer of the model; raises `Violation` if the request was refused or failed."""
    if reply.status != HTTPStatus.OK:
        raise Violation(f"{reply.asked.what}: {reply.summary}; expected an answer")
    return reply


def not_offered(reply: Reply) -> Skipped | None:
    """Say that the provider refused something that not every model can do; None if it did not."""
    if reply.status == HTTPStatus.BAD_REQUEST:
        return Skipped(f"{reply.asked.what}: the provider does not take it: {reply.summary}")
    return None
