"""A check that cannot fail is no check: each is shown an endpoint that breaks its rule, and has to find it.

Every endpoint here is right but for one thing. What is broken, and how, is in the tables of the `broken_…` files; the
rows of the tables of refused fields are broken in the same ways, all of them.
"""

import pytest
from broken import Broken, Change, broken, gone, instead, put, status
from broken_basics import BROKEN as BASICS
from broken_chat import BROKEN as CHAT
from broken_chat_streams import BROKEN as CHAT_STREAMS
from broken_response_streams import BROKEN as RESPONSE_STREAMS
from broken_responses import BROKEN as RESPONSES
from fake_answers import MODEL
from fake_endpoint import FakeEndpoint

from proxy.conformance import asks, chat_requests, response_requests
from proxy.conformance.catalogue import all_checks
from proxy.conformance.check import Check, Failed, Passed, Verdict

CHECKS = all_checks()
BROKEN = (*BASICS, *CHAT, *CHAT_STREAMS, *RESPONSES, *RESPONSE_STREAMS)
REFUSED_FIELDS = [one for one in (*chat_requests.CHECKS, *response_requests.CHECKS) if "; else 400" in one.sentence]
WRONG_REFUSALS: tuple[tuple[str, Change], ...] = (
    ("takes it", instead(asks.plain)),
    ("crashes", status(500)),
    ("says 422", status(422)),
    ("points nowhere", put("error.param", None)),
    ("points elsewhere", put("error.param", "elsewhere")),
    ("blames the operator", put("error.type", "configuration_error")),
)


def verdict(check: Check, endpoint: Broken | None) -> Verdict:
    """What a check says of an endpoint, the right one or a broken one."""
    right = FakeEndpoint()
    needed = [asking(MODEL) for asking in check.asks]
    return check.verdict([right.respond(ask) if endpoint is None else endpoint.respond(right, ask) for ask in needed])


def named(one: Broken) -> str:
    return f"{one.breaks.clause} {one.breaks.judge.__name__}: {one.what}"


def test_an_endpoint_that_does_everything_right_passes_every_check():
    assert [one.clause for one in CHECKS if not isinstance(verdict(one, None), Passed)] == []


@pytest.mark.parametrize("endpoint", BROKEN, ids=named)
def test_a_broken_rule_is_found(endpoint):
    found = verdict(endpoint.breaks, endpoint)
    assert isinstance(found, Failed)
    assert "cannot be judged" not in found.seen


@pytest.mark.parametrize(("way", "change"), WRONG_REFUSALS, ids=[way for way, _ in WRONG_REFUSALS])
@pytest.mark.parametrize("check", REFUSED_FIELDS, ids=lambda one: f"{one.clause} {one.sentence}")
def test_a_field_that_is_not_refused_as_it_should_be_is_found(check, way, change):
    for asking in check.asks:
        (endpoint,) = broken(check, (way, change, asking))
        assert isinstance(verdict(check, endpoint), Failed), asking(MODEL).what


@pytest.mark.parametrize("check", REFUSED_FIELDS, ids=lambda one: f"{one.clause} {one.sentence}")
def test_a_place_that_only_begins_like_the_right_one_is_found(check):
    place = check.sentence.split("`")[-2]
    (endpoint,) = broken(check, ("points beside it", put("error.param", f"{place}x")))
    assert isinstance(verdict(check, endpoint), Failed)


@pytest.mark.parametrize("check", CHECKS, ids=lambda one: f"{one.clause} {one.sentence}")
def test_no_answer_at_all_fails_every_check_that_needs_it(check):
    for asking in check.asks:
        (endpoint,) = broken(check, ("silent", gone, asking))
        found = verdict(check, endpoint)
        assert isinstance(found, Failed)
        assert "there was no answer" in found.seen


def test_every_check_has_been_shown_an_endpoint_that_breaks_it():
    shown = {id(one.breaks) for one in BROKEN} | {id(one) for one in REFUSED_FIELDS}
    assert [f"{one.clause} {one.sentence}" for one in CHECKS if id(one) not in shown] == []
