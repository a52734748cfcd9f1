"""Checks of credentials (A1) and of the order in which a request is looked at (A2)."""

from http import HTTPStatus
from typing import Final

from proxy.conformance.asks import BEARER, JSON, NO_MODEL, USUAL, bad_key, encoded, get, no_key, no_url, probe
from proxy.conformance.check import Passed, Verdict, check
from proxy.conformance.exchange import CHAT, KEY, MODELS, RESPONSES, SWAPPED_KEY, Reply, Violation
from proxy.conformance.refusals import INVALID, each_refused, error_of, reached_the_model, refused, refused_at

_AUTHENTICATION: Final = "authentication_error"
_PLAIN: Final = ("Content-Type", "text/plain")
_WRONG: Final = ("Authorization", "Bearer conformance-no-such-key")


_two_keys: Final = probe("two Authorization headers", (BEARER, BEARER, JSON))
_other_scheme: Final = probe("the scheme Basic", (("Authorization", f"Basic {KEY}"), JSON))
_no_scheme: Final = probe("a key without a scheme", (("Authorization", KEY), JSON))
_empty: Final = probe("the scheme alone", (("Authorization", "Bearer"), JSON))
_two_words: Final = probe("two words behind the scheme", (("Authorization", f"Bearer {KEY} {KEY}"), JSON))
_too_long: Final = probe("a key of 513 characters", (("Authorization", f"Bearer {'x' * 513}"), JSON))
_INVALID_KEYS: Final = (_two_keys, _other_scheme, _no_scheme, _empty, _two_words, _too_long, bad_key)


@check("A1.1", no_key, probe("no key for responses", (JSON,), path=RESPONSES))
def a_key_is_required(chat: Reply, responses: Reply) -> Verdict:
    """Chat completions and responses without a key are refused with 401."""
    return each_refused((chat, responses), 401, _AUTHENTICATION)


@check(
    "A1.2", probe("Bearer KEY"), probe("Api-Key KEY", (("Authorization", f"Api-Key {KEY}"), JSON))
)  # fmt: skip
def both_schemes(*replies: Reply) -> Verdict:
    """The key is taken as `Authorization: Bearer KEY` and as `Authorization: Api-Key KEY`."""
    return reached_the_model(*replies)


@check(
    "A1.2",
    probe("the key in x-api-key", (("x-api-key", KEY), JSON)),
    probe("the key in api-key", (("api-key", KEY), JSON)),
    probe("a key in the URL", (JSON,), path=f"{CHAT}?api_key=conformance&key=conformance"),
)
def no_other_place(*replies: Reply) -> Verdict:
    """No other header and no part of the URL is read as a key: 401 `missing_api_key`."""
    return each_refused(replies, 401, _AUTHENTICATION, "missing_api_key")


@check(
    "A1.3",
    probe("bEaReR and three spaces", (("Authorization", f"bEaReR   {KEY}"), JSON)),
    probe("API-KEY, a tab and blanks behind", (("Authorization", f"API-KEY\t{KEY}  \t"), JSON)),
)
def loose_scheme(*replies: Reply) -> Verdict:
    """The scheme is taken in any case of letters, with any number of blanks before and after the key."""
    return reached_the_model(*replies)


@check("A1.3", probe("the key in the other case", (("Authorization", f"Bearer {SWAPPED_KEY}"), JSON)))
def strict_key(reply: Reply) -> Verdict:
    """The key itself is case-sensitive: with its letters in the other case it is refused with 401."""
    return refused(reply, 401, _AUTHENTICATION, "invalid_api_key")


@check("A1.4", no_key)
def a_missing_key(reply: Reply) -> Verdict:
    """A request without a key gets 401, `authentication_error` and the code `missing_api_key`."""
    return refused(reply, 401, _AUTHENTICATION, "missing_api_key")


@check("A1.4", bad_key)
def an_unknown_key(reply: Reply) -> Verdict:
    """An unknown key gets 401, `authentication_error` and the code `invalid_api_key`."""
    return refused(reply, 401, _AUTHENTICATION, "invalid_api_key")


@check("A1.4", _two_keys)
def two_headers(reply: Reply) -> Verdict:
    """Two Authorization headers get 401 `invalid_api_key`, even if each holds the same good key."""
    return refused(reply, 401, _AUTHENTICATION, "invalid_api_key")


@check("A1.4", _other_scheme, _no_scheme, _empty, _two_words, _too_long)
def malformed_credentials(*replies: Reply) -> Verdict:
    """Another scheme, none, a scheme without a key, two words and a key of 513 characters get 401 `invalid_api_key`."""
    return each_refused(replies, 401, _AUTHENTICATION, "invalid_api_key")


@check("A1.4", *_INVALID_KEYS)
def one_text(*replies: Reply) -> Verdict:
    """Whatever is wrong with a key, the message is the same, so that it tells nothing about keys."""
    texts = {str(error_of(reply).get("message")): reply.asked.what for reply in replies}
    if len(texts) > 1:
        raise Violation(f"the messages differ: {' | '.join(texts.values())}")
    return Passed(f"{len(replies)} times the same message")


@check("A1.4", no_key, *_INVALID_KEYS)
def the_scheme_is_named(*replies: Reply) -> Verdict:
    """Every 401 has the header `WWW-Authenticate: Bearer`."""
    for reply in replies:
        if reply.header("www-authenticate") != "Bearer":
            raise Violation(f"{reply.asked.what}: WWW-Authenticate is {reply.header('www-authenticate')!r}")
    return Passed(f"on {len(replies)} answers")


@check(
    "A1.6",
    get("the listing without a key", MODELS),
    get("the listing with an unknown key", MODELS, _WRONG),
    get("the listing with the scheme Basic", MODELS, ("Authorization", "Basic eDp5")),
    get("the model with an unknown key", MODELS + "/{model}", _WRONG),
)
def models_are_public(*replies: Reply) -> Verdict:
    """The listing of models and a single model need no key, and do not mind a wrong one."""
    for reply in replies:
        if reply.status != HTTPStatus.OK:
            raise Violation(f"{reply.asked.what}: {reply.summary}; expected 200")
    return Passed(f"{len(replies)} times 200")


@check("A2.1", no_url, get("a wrong method without a key", CHAT))
def url_before_key(unknown: Reply, method: Reply) -> Verdict:
    """The URL and the method are looked at before the key: 404 and 405 without any key."""
    refused(unknown, 404, INVALID)
    refused(method, 405, INVALID)
    return Passed("404 and 405 without a key")


@check("A2.1", probe("an unknown key and a body of text/plain", (_WRONG, _PLAIN), body=b"{"))
def key_before_body(reply: Reply) -> Verdict:
    """The key is looked at before the body and its type: a wrong key, type and body together get 401."""
    return refused(reply, 401, _AUTHENTICATION)


@check("A2.1", probe("broken JSON of text/plain", (BEARER, _PLAIN), body=b"{"))
def type_before_json(reply: Reply) -> Verdict:
    """The type of the body is looked at before the body: a wrong type and broken JSON together get 415."""
    return refused(reply, 415, INVALID)


@check("A2.1", probe("an unknown model and no messages", USUAL, body=encoded({"model": NO_MODEL, "messages": []})))
def fields_before_model(reply: Reply) -> Verdict:
    """Fields are checked before the model is looked up: an unknown model and no messages get a 400 about `messages`."""
    return refused_at(reply, "messages")


CHECKS: Final = (
    a_key_is_required, both_schemes, no_other_place, loose_scheme, strict_key, a_missing_key, an_unknown_key,
    two_headers, malformed_credentials, one_text, the_scheme_is_named, models_are_public, url_before_key,
    key_before_body, type_before_json, fields_before_model,
)  # fmt: skip
