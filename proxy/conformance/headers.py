"""Checks of the headers of answers (A5): request ids, types, limits, what was dropped."""

import re
from collections.abc import Mapping
from typing import Final

from proxy.conformance.asks import (
    JSON,
    broken_json,
    dropping,
    models,
    no_key,
    no_messages,
    no_url,
    one_model,
    plain,
    plain_text,
    probe,
    squeezed,
    streamed,
    unknown_model,
)
from proxy.conformance.check import Passed, Skipped, Verdict, check
from proxy.conformance.exchange import Reply, Violation
from proxy.conformance.refusals import answered

_REQUEST_ID: Final = re.compile(r"req_[!-~]{26}")
_GO_DURATION: Final = re.compile(r"0s|([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?|[0-9]+(\.[0-9]+)?ms")
_NUMBER: Final = re.compile(r"[0-9]+")
_FORGED: Final = "req_00000000000000000000000000"
_forged_id: Final = probe(
    "ids of the client's own", (("X-Request-Id", _FORGED), ("X-Client-Request-Id", _FORGED), JSON)
)
_MANY: Final = (models, one_model, no_url, no_key, plain_text, broken_json, no_messages, unknown_model, plain, streamed)
_FOREIGN: Final = ("set-cookie", "openai-", "x-groq-", "anthropic-", "x-powered-by")


@check("A5.1", *_MANY, _forged_id)
def request_ids(*replies: Reply) -> Verdict:
    """Every answer, errors too, has `x-request-id`: `req_` and 26 characters, never twice the same."""
    found: set[str] = set()
    for reply in replies:
        value = reply.header("x-request-id")
        if value is None or not _REQUEST_ID.fullmatch(value):
            raise Violation(f"{reply.asked.what}: x-request-id is {value!r}")
        if value in found:
            raise Violation(f"{reply.asked.what}: x-request-id is the same as that of another answer")
        found.add(value)
    return Passed(f"{len(found)} different ones on {len(replies)} answers")


@check("A5.1", _forged_id)
def no_copied_id(reply: Reply) -> Verdict:
    """An id that the client sends in `X-Request-Id` does not come back as the answer's own."""
    value = reply.header("x-request-id")
    if value is None or value == _FORGED:
        raise Violation(f"{reply.asked.what}: x-request-id is {value!r}")
    return Passed("another id")


@check("A5.2", *_MANY)
def no_foreign_header(*replies: Reply) -> Verdict:
    """No header of the provider behind comes through, such as `set-cookie` or `openai-organization`."""
    for reply in replies:
        for name, _ in reply.headers:
            if name.startswith(_FOREIGN):
                raise Violation(f"{reply.asked.what}: has the header {name}")
    return Passed(f"none on {len(replies)} answers")


@check("A5.3", models, one_model, no_url, no_key, plain_text, broken_json, no_messages, unknown_model, plain)
def type_of_json(*replies: Reply) -> Verdict:
    """JSON, errors too, says `Content-Type: application/json`."""
    for reply in replies:
        if (reply.header("content-type") or "").lower() not in {"application/json", "application/json; charset=utf-8"}:
            raise Violation(f"{reply.asked.what}: Content-Type is {reply.header('content-type')!r}")
    return Passed(f"on {len(replies)} answers")


@check("A5.3", streamed, squeezed)
def headers_of_a_stream(*replies: Reply) -> Verdict:
    """A stream is `text/event-stream; charset=utf-8` with `Cache-Control: no-cache` and `X-Accel-Buffering: no`."""
    wanted = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
    }
    for reply in map(answered, replies):
        for name, value in wanted.items():
            if (reply.header(name) or "").lower() != value:
                raise Violation(f"{reply.asked.what}: {name} is {reply.header(name)!r}; expected {value!r}")
    return Passed("all three")


@check("A5.3", streamed, squeezed)
def a_stream_has_no_length(*replies: Reply) -> Verdict:
    """A stream has no Content-Length and is not compressed, whatever the client takes."""
    for reply in map(answered, replies):
        for name in ("content-length", "content-encoding"):
            if reply.header(name) is not None:
                raise Violation(f"{reply.asked.what}: has {name}: {reply.header(name)}")
    return Passed("neither")


@check("A5.4", unknown_model, plain, streamed, no_messages, plain_text)
def limits(*replies: Reply) -> Verdict:
    """With a key that has limits per minute, every answer tells `x-ratelimit-limit-requests`, what remains and when it
    is reset, as `1.2s` or `6m0s`; the same for tokens.
    """
    told = {reply.asked.what: _kinds(reply) for reply in replies}
    kinds = set().union(*told.values())
    if not kinds:
        return Skipped("no x-ratelimit headers: this key has no limits per minute")
    for what, found in told.items():
        if found != kinds:
            raise Violation(f"{what}: does not tell the limits of {', '.join(sorted(kinds - found))}, other answers do")
    return Passed(f"limits of {' and '.join(sorted(kinds))} on {len(replies)} answers")


def _kinds(reply: Reply) -> set[str]:
    """Return what is limited, of an answer whose headers say so in the right form."""
    headers = {name: reply.header(name) or "" for name, _ in reply.headers if name.startswith("x-ratelimit-")}
    kinds = {kind for kind in ("requests", "tokens") if any(name.endswith(f"-{kind}") for name in headers)}
    for kind in kinds:
        _well_formed(headers, kind, reply.asked.what)
    return kinds


def _well_formed(headers: Mapping[str, str], kind: str, what: str) -> None:
    limit, left, reset = (headers.get(f"x-ratelimit-{part}-{kind}", "") for part in ("limit", "remaining", "reset"))
    if not (_NUMBER.fullmatch(limit) and _NUMBER.fullmatch(left) and int(left) <= int(limit)):
        raise Violation(f"{what}: of {limit!r} {kind} {left!r} remain")
    if not reset or not _GO_DURATION.fullmatch(reset):
        raise Violation(f"{what}: x-ratelimit-reset-{kind} is {reset!r}, which is no duration such as 1.2s or 6m0s")


@check("A5.8", dropping)
def what_was_dropped(reply: Reply) -> Verdict:
    """Fields that are not sent on are named in `x-gateway-ignored-params`: here `store` and `service_tier`, and
    neither `metadata` nor a field that is null.
    """
    value = answered(reply).header("x-gateway-ignored-params")
    if value is None or {name.strip() for name in value.split(",")} != {"store", "service_tier"}:
        raise Violation(f"x-gateway-ignored-params is {value!r}")
    return Passed(value)


CHECKS: Final = (
    request_ids, no_copied_id, no_foreign_header, type_of_json, headers_of_a_stream, a_stream_has_no_length, limits,
    what_was_dropped,
)  # fmt: skip
