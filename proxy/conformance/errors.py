"""Checks of errors: their statuses (A3), their one envelope (B1), and bodies that are no request (D1)."""

import re
from http import HTTPStatus
from typing import Final

from proxy.conformance.asks import (
    BEARER,
    bad_key,
    broken_json,
    get,
    no_key,
    no_messages,
    no_url,
    plain_text,
    probe,
    unknown_model,
)
from proxy.conformance.check import Passed, Verdict, check
from proxy.conformance.exchange import CHAT, MODELS, RESPONSES, Reply, Violation
from proxy.conformance.refusals import INVALID, each_refused, refused, refused_at
from proxy.conformance.shapes import ErrorBody

_get_chat: Final = get("GET of chat completions", CHAT, BEARER)
_get_responses: Final = get("GET of responses", RESPONSES, BEARER)
_delete_models: Final = get("DELETE of the models", MODELS, BEARER, method="DELETE")
_no_model: Final = get("an unknown model by its URL", f"{MODELS}/conformance/no-such-model")
_ERRORS: Final = (
    *(no_url, _get_chat, no_key, bad_key, plain_text, broken_json, no_messages, unknown_model, _no_model),
)
_not_http: Final = get("a header without a colon", MODELS, raw_lines=b"this is no header\r\n")
_BEGUN: Final = b'{"model":"conformance/no-such-model","messages":[{"role":"user","content":"Hi."}]'
_CODE: Final = re.compile(r"[a-z0-9_]+")


_not_json: Final = tuple(
    probe(what, body=body)
    for what, body in (
        ("an empty body", b""),
        ("half an object", b'{"model":"a","messages":['),
        ("a list", b"[]"),
        ("a text", b'"model"'),
        ("NaN", _BEGUN + b',"temperature":NaN}'),
        ("Infinity", _BEGUN + b',"x":Infinity}'),
        ("bytes that are not UTF-8", _BEGUN + b',"user":"\xff"}'),
        ("150 lists in one another", _BEGUN + b',"x":%b%b}' % (b"[" * 150, b"]" * 150)),
        ("two objects", _BEGUN + b"}{}"),
    )
)  # fmt: skip


@check("A3", no_url)
def unknown_url(reply: Reply) -> Verdict:
    """An unknown URL gets 404 `unknown_url`."""
    return refused(reply, 404, INVALID, "unknown_url")


@check("A3", _get_chat, _get_responses, _delete_models)
def wrong_method(chat: Reply, responses: Reply, models: Reply) -> Verdict:
    """A method that a URL does not take gets 405 `method_not_allowed`, with those that it takes in `Allow`."""
    for reply, method in ((responses, "POST"), (models, "GET"), (chat, "POST")):
        refused(reply, 405, INVALID, "method_not_allowed")
        allowed = reply.header("allow") or ""
        if method not in {word.strip() for word in allowed.split(",")}:
            raise Violation(f"{reply.asked.what}: Allow is {allowed!r}; expected {method}")
    return Passed("405 with Allow on three URLs")


@check("A3.2", unknown_model)
def a_model_that_nobody_has(reply: Reply) -> Verdict:
    """An unknown model in a request gets 400 `model_not_found` about `model`."""
    return refused_at(reply, "model", "model_not_found")


@check("B1.1", *_ERRORS)
def envelope(*replies: Reply) -> Verdict:
    """Every error is `{"error": {"message", "type", "param", "code"}}`, all four always there, texts or null."""
    for reply in replies:
        if reply.status < HTTPStatus.BAD_REQUEST:
            raise Violation(f"{reply.asked.what}: {reply.summary}; expected an error")
        code = reply.read(ErrorBody).error.code
        if code is not None and not _CODE.fullmatch(code):
            raise Violation(f"{reply.asked.what}: the code is {code!r}, which is no word")
    return Passed(f"on {len(replies)} errors")


@check("B1.2", *_ERRORS)
def messages(*replies: Reply) -> Verdict:
    """An error's message is one readable sentence of at most 2,000 characters, without line breaks."""
    longest = 0
    for reply in replies:
        text = str((reply.document.get("error") or {}).get("message", ""))
        if not 0 < len(text) <= 2_000 or not text.isprintable() or " " not in text:  # noqa: PLR2004 - the rule
            raise Violation(f"{reply.asked.what}: the message has {len(text)} characters, or is no sentence")
        longest = max(longest, len(text))
    return Passed(f"{len(replies)} messages of at most {longest} characters")


@check("B1.3", _not_http)
def bad_http(reply: Reply) -> Verdict:
    """Bytes that are not HTTP get 400 in the same envelope, with a request id."""
    passed = refused(reply, 400, INVALID)
    reply.read(ErrorBody)
    if reply.header("x-request-id") is None:
        raise Violation("bytes that are not HTTP: no x-request-id")
    return passed


@check("D1.1", *_not_json)
def not_an_object(*replies: Reply) -> Verdict:
    """A body that is not one JSON object in UTF-8 gets 400 `invalid_json`: `NaN`, bad UTF-8 and 150 levels too."""
    return each_refused(replies, 400, INVALID, "invalid_json")


CHECKS: Final = (unknown_url, wrong_method, a_model_that_nobody_has, envelope, messages, bad_http, not_an_object)
