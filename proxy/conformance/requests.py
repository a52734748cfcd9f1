"""Checks of what a request may look like before its fields matter (A4): types, codings, URLs."""

import gzip
import zlib
from http import HTTPStatus
from typing import Final

from proxy.conformance.asks import (
    ACCEPT,
    BEARER,
    NO_MODEL,
    USUAL,
    encoded,
    get,
    plain_text,
    probe,
    streamed,
    user,
)
from proxy.conformance.check import Passed, Skipped, Verdict, check
from proxy.conformance.exchange import CHAT, MODELS, Ask, Reply, Violation
from proxy.conformance.refusals import INVALID, answered, each_refused, reached_the_model, refused

_BODY: Final = encoded({"model": NO_MODEL, "messages": user("Hi.")})
_LARGEST: Final = 20 * 1024 * 1024
"""Bytes of a body that are taken unless an operator has said otherwise."""


def _typed(kind: str) -> tuple[tuple[str, str], ...]:
    return (BEARER, ("Content-Type", kind))


def _coded(coding: str) -> tuple[tuple[str, str], ...]:
    return (*USUAL, ("Content-Encoding", coding))


def _too_large(_: str) -> Ask:
    """Write a body that is too large and small enough to send: a text of blanks, compressed."""
    body = encoded({"model": NO_MODEL, "messages": user("Hi." + " " * _LARGEST)})
    return Ask("20 MiB in gzip", "POST", CHAT, _coded("gzip"), gzip.compress(body, compresslevel=1, mtime=0))


@check("A4.1", streamed)
def accept_of_a_stream(reply: Reply) -> Verdict:
    """`Accept: application/json`, which OpenAI's libraries always send, does not keep a stream from being one."""
    answered(reply)
    if reply.media_type != "text/event-stream":
        raise Violation(f"{reply.asked.what} with {ACCEPT[0]}: {ACCEPT[1]}: the answer is {reply.media_type}")
    return Passed(reply.media_type)


@check("A4.1", get("the listing for text/html", MODELS, ("Accept", "text/html")))
def accept_of_json(reply: Reply) -> Verdict:
    """An `Accept` that asks for HTML gets the same JSON."""
    if reply.status != HTTPStatus.OK or reply.media_type != "application/json":
        raise Violation(f"{reply.asked.what}: {reply.summary}; expected 200 application/json")
    return Passed("200 application/json")


@check(
    "A4.2",
    probe("no Content-Type", (BEARER,)),
    probe("application/json with a charset", _typed('application/JSON; charset="UTF-8"')),
    probe("application/vnd.conformance+json", _typed("application/vnd.conformance+json")),
)
def taken_types(*replies: Reply) -> Verdict:
    """A body without a type, as JSON with `charset=utf-8`, and as any `+json` is taken."""
    return reached_the_model(*replies)


@check(
    "A4.2",
    plain_text,
    probe("a form", _typed("application/x-www-form-urlencoded")),
    probe("JSON in Latin-1", _typed("application/json; charset=iso-8859-1")),
)
def refused_types(*replies: Reply) -> Verdict:
    """Another type, such as that of `curl -d`, and another charset than UTF-8 get 415 `unsupported_media_type`."""
    return each_refused(replies, 415, INVALID, "unsupported_media_type")


@check(
    "A4.3",
    probe("a body in gzip", _coded("gzip"), body=gzip.compress(_BODY, mtime=0)),
    probe("a body in deflate", _coded("deflate"), body=zlib.compress(_BODY)),
)
def taken_codings(*replies: Reply) -> Verdict:
    """A body that is compressed with gzip or deflate is taken."""
    return reached_the_model(*replies)


@check("A4.3", probe("a body in an unknown coding", _coded("conformance")))
def unknown_coding(reply: Reply) -> Verdict:
    """An unknown Content-Encoding gets 415 `unsupported_media_type`."""
    return refused(reply, 415, INVALID, "unsupported_media_type")


@check("A4.3", _too_large)
def size_after_decompression(reply: Reply) -> Verdict:
    """A body of more than 20 MiB after decompression gets 413 `request_too_large`."""
    if reply.status == HTTPStatus.BAD_REQUEST:
        reached_the_model(reply)
        return Skipped("20 MiB are taken: the limit of this endpoint is higher")
    return refused(reply, 413, INVALID, "request_too_large")


@check("A4.4", probe("an unknown query", path=f"{CHAT}?beta=true&conformance"))
def unknown_query(reply: Reply) -> Verdict:
    """Unknown parameters in the URL are ignored."""
    return reached_the_model(reply)


@check(
    "A4.5",
    probe("a slash behind the URL", path=f"{CHAT}/"),
    get("a slash behind the listing", f"{MODELS}/"),
)
def one_slash_more(chat: Reply, listing: Reply) -> Verdict:
    """A URL with one slash behind it is the same URL, without a redirect."""
    if listing.status != HTTPStatus.OK or "data" not in listing.document:
        raise Violation(f"{listing.asked.what}: {listing.summary}; expected the listing")
    return reached_the_model(chat)


CHECKS: Final = (
    accept_of_a_stream, accept_of_json, taken_types, refused_types, taken_codings, unknown_coding,
    size_after_decompression, unknown_query, one_slash_more,
)  # fmt: skip
