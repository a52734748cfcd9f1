"""All checks in the order of their clauses; what they check is in the files that are named here."""

from proxy.conformance import (
    chat_answers,
    chat_requests,
    chat_streams,
    credentials,
    errors,
    headers,
    models,
    reasoning,
    requests,
    response_answers,
    response_requests,
    response_streams,
)
from proxy.conformance.check import Check, place_of


def all_checks() -> tuple[Check, ...]:
    """Return every check; those of one clause in the order of their file."""
    parts = (
        *(credentials, requests, headers, errors, models, chat_requests, chat_answers, reasoning, chat_streams),
        *(response_requests, response_answers, response_streams),
    )
    return tuple(sorted((one for part in parts for one in part.CHECKS), key=lambda one: place_of(one.clause)))
