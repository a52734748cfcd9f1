"""Endpoints that break one rule of sections A, B or C each."""

import msgspec
from broken import Broken, body, broken, drop, each, edited, header, instead, put, status, twice

from proxy.conformance import asks, credentials, errors, headers, models, requests

COOKIE = header("set-cookie", "a=b")


def _without_limits(_, reply):
    kept = tuple(pair for pair in reply.headers if not pair[0].startswith("x-ratelimit"))
    return msgspec.structs.replace(reply, headers=kept)


def _swapped(document):
    document["data"].reverse()


def _id_last(document):
    entry = document["data"][0]
    entry["id"] = entry.pop("id")


def _doubled(document):
    document["data"] *= 2
    document["models"] *= 2


BROKEN: list[Broken] = [
    *each(credentials.a_key_is_required, "taken without a key", instead(asks.unknown_model)),
    *each(credentials.both_schemes, "refused", instead(asks.bad_key)),
    *each(credentials.no_other_place, "read as a key", instead(asks.unknown_model)),
    *each(credentials.no_other_place, "read as a wrong key", instead(asks.bad_key)),
    *each(credentials.loose_scheme, "refused", instead(asks.bad_key)),
    *each(credentials.strict_key, "taken", instead(asks.unknown_model)),
    *broken(
        credentials.a_missing_key,
        ("called invalid", instead(asks.bad_key)),
        ("403", status(403)),
        ("another type", put("error.type", "invalid_request_error")),
    ),
    *broken(credentials.an_unknown_key, ("called missing", instead(asks.no_key)), ("taken", instead(asks.plain))),
    *broken(
        credentials.two_headers, ("the first counts", instead(asks.unknown_model)), ("missing", instead(asks.no_key))
    ),
    *each(credentials.malformed_credentials, "taken", instead(asks.unknown_model)),
    *broken(
        credentials.one_text,
        ("another message", put("error.message", "This key is unknown."), asks.bad_key),
        ("no message to compare", body(b"{}"), asks.bad_key),
    ),
    *broken(
        credentials.the_scheme_is_named,
        ("no header", header("www-authenticate", None), asks.no_key),
        ("another scheme", header("www-authenticate", "Basic"), asks.bad_key),
        ("twice", twice("www-authenticate")),
    ),
    *each(credentials.models_are_public, "asks for a key", instead(asks.no_key)),
    *each(credentials.url_before_key, "asks for a key first", instead(asks.no_key)),
    *each(credentials.key_before_body, "the type first", instead(asks.plain_text)),
    *each(credentials.type_before_json, "the body first", instead(asks.broken_json)),
    *each(credentials.fields_before_model, "the model first", instead(asks.unknown_model)),
    *each(requests.accept_of_a_stream, "JSON instead of a stream", instead(asks.plain)),
    *broken(
        requests.accept_of_json,
        ("406", status(406)),
        ("a page", header("content-type", "text/html")),
    ),
    *each(requests.taken_types, "refused", instead(asks.plain_text)),
    *each(requests.refused_types, "taken", instead(asks.unknown_model)),
    *each(requests.taken_codings, "read as JSON", instead(asks.broken_json)),
    *broken(
        requests.unknown_coding, ("taken", instead(asks.unknown_model)), ("read as JSON", instead(asks.broken_json))
    ),
    *broken(
        requests.size_after_decompression,
        ("a crash", status(500)),
        ("bad JSON", instead(asks.broken_json)),
        ("another code", put("error.code", "too_large")),
    ),
    *broken(requests.unknown_query, ("unknown", instead(asks.no_url)), ("a redirect", status(307))),
    *each(requests.one_slash_more, "unknown", instead(asks.no_url)),
    *each(requests.one_slash_more, "a redirect", status(308)),
    *each(headers.request_ids, "no id", header("x-request-id", None)),
    *broken(
        headers.request_ids,
        ("a short id", header("x-request-id", "req_1")),
        ("always the same", header("x-request-id", "req_" + "a" * 26)),
        ("twice", twice("x-request-id")),
        ("not ours", header("x-request-id", "chatcmpl_01234567890123456789012")),
    ),
    *broken(
        headers.no_copied_id,
        ("none", header("x-request-id", None)),
        ("the client's", header("x-request-id", "req_00000000000000000000000000")),
    ),
    *each(headers.no_foreign_header, "a cookie", COOKIE),
    *broken(headers.no_foreign_header, ("OpenAI's", header("openai-processing-ms", "5"), asks.streamed)),
    *each(headers.type_of_json, "text", header("content-type", "text/plain")),
    *broken(
        headers.type_of_json,
        ("Latin-1", header("content-type", "application/json; charset=iso-8859-1")),
        ("none", header("content-type", None)),
    ),
    *broken(
        headers.headers_of_a_stream,
        ("without charset", header("content-type", "text/event-stream")),
        ("cached", header("cache-control", None), asks.streamed),
        ("cached for long", header("cache-control", "max-age=9")),
        ("buffered", header("x-accel-buffering", None), asks.squeezed),
        ("refused", instead(asks.unknown_model)),
    ),
    *broken(
        headers.a_stream_has_no_length,
        ("a length", header("content-length", "5"), asks.streamed),
        ("compressed", header("content-encoding", "gzip"), asks.squeezed),
    ),
    *each(headers.limits, "not on every answer", _without_limits),
    *broken(
        headers.limits,
        ("nothing remains to be told", header("x-ratelimit-remaining-tokens", None)),
        ("no limit", header("x-ratelimit-limit-requests", None)),
        ("no reset", header("x-ratelimit-reset-requests", None), asks.plain),
        ("a bare number", header("x-ratelimit-reset-tokens", "60")),
        ("a date", header("x-ratelimit-reset-requests", "2026-01-31T00:00:00Z")),
        ("more than there is", header("x-ratelimit-remaining-requests", "601")),
        ("not a number", header("x-ratelimit-limit-tokens", "many")),
        ("twice", twice("x-ratelimit-limit-tokens")),
    ),
    *broken(
        headers.what_was_dropped,
        ("in silence", header("x-gateway-ignored-params", None)),
        ("one of two", header("x-gateway-ignored-params", "store")),
        ("metadata too", header("x-gateway-ignored-params", "store,service_tier,metadata")),
        ("refused", instead(asks.unknown_model)),
    ),
    *broken(
        errors.unknown_url,
        ("another code", put("error.code", "not_found")),
        ("400", status(400)),
        ("a list", body(b"[]")),
    ),
    *each(errors.wrong_method, "unknown", instead(asks.no_url)),
    *each(errors.wrong_method, "404 with Allow", status(404)),
    *each(errors.wrong_method, "no Allow", header("allow", None)),
    *broken(errors.wrong_method, ("another Allow", header("allow", "PUT"))),
    *broken(
        errors.a_model_that_nobody_has,
        ("404", status(404)),
        ("another code", put("error.code", "invalid_value")),
        ("about nothing", put("error.param", None)),
        ("taken", instead(asks.plain)),
    ),
    *each(errors.envelope, "no param", drop("error.param")),
    *each(errors.envelope, "no code", drop("error.code")),
    *each(errors.envelope, "one key more", put("error.status", 400)),
    *each(errors.envelope, "a key beside it", put("detail", "x")),
    *each(errors.envelope, "a number as code", put("error.code", 400)),
    *each(errors.envelope, "a page", body(b"<html>404</html>")),
    *broken(
        errors.envelope,
        ("a sentence as code", put("error.code", "No such model")),
        ("no type", drop("error.type")),
        ("an empty type", put("error.type", "")),
        ("a number as param", put("error.param", 5)),
        ("no message", drop("error.message")),
        ("only detail", edited(lambda _: {"detail": "x"})),
        ("no error", instead(asks.models)),
        ("200", status(200)),
    ),
    *broken(
        errors.messages,
        ("empty", put("error.message", "")),
        ("long", put("error.message", "a b" * 700)),
        ("two lines", put("error.message", "This is\nno line.")),
        ("one word", put("error.message", "invalid")),
        ("none", edited(lambda _: {"error": None})),
    ),
    *broken(
        errors.bad_http,
        ("plain text", body(b"Bad Request")),
        ("no id", header("x-request-id", None)),
        ("taken", instead(asks.models)),
        ("two keys only", drop("error.code")),
        ("500", status(500)),
    ),
    *each(errors.not_an_object, "taken", instead(asks.unknown_model)),
    *broken(errors.not_an_object, ("another code", put("error.code", "invalid_value")), ("500", status(500))),
    *broken(
        models.both_lists,
        ("no models", drop("models")),
        ("no data", drop("data")),
        ("no object", drop("object")),
        ("empty", edited(lambda _: {"object": "list", "data": [], "models": []})),
        ("500", status(500)),
        ("a list", body(b"[]")),
    ),
    *broken(
        models.exact_entries,
        ("one key more", put("models.0.owner", "x")),
        ("one key less", drop("models.1.description")),
        ("a float", put("models.0.pricing.prompt", 8e-7)),
        ("an exponent", put("models.0.pricing.prompt", "8e-7")),
        ("a price more", put("models.0.pricing.image", "0")),
        ("a time", put("models.0.date", "2026-01-31T00:00:00Z")),
        ("no length", put("models.0.context_length", 0)),
        ("a number as text", put("models.0.context_length", "9")),
        ("a key of architecture", put("models.0.architecture.x", "y")),
        ("no text", put("models.0.is_moderated", None)),
    ),
    *broken(models.cache_price, ("null", put("models.0.pricing.input_cache_read", None))),
    *broken(
        models.openai_entries,
        ("no owner", drop("data.0.owned_by")),
        ("another object", put("data.0.object", "llm")),
        ("a float as time", put("data.0.created", 1.5)),
        ("another price", put("data.1.pricing.prompt", "1")),
        ("less in data", drop("data.1.pricing")),
        ("another order", edited(_id_last)),
    ),
    *broken(
        models.made_up_values,
        ("the time of the start", put("data.0.created", 1_769_846_400)),
        ("another owner", put("data.1.owned_by", "system")),
        ("the whole id", put("data.0.owned_by", "fake/model")),
        ("no date", drop("data.0.date")),
    ),
    *broken(models.one_order, ("another order", edited(_swapped)), ("one twice", edited(_doubled))),
    *each(models.one_by_its_url, "unknown", status(404)),
    *broken(
        models.one_by_its_url,
        ("another entry", put("name", "x"), asks.one_model),
        ("as in models", drop("object"), asks.one_model),
    ),
    *broken(
        models.none_by_its_url,
        ("400", status(400)),
        ("another code", put("error.code", "unknown_url")),
        ("some model", instead(asks.one_model)),
    ),
]
