"""How a refusal looks on the wire, and what bytes that are no request are told."""

import json

import pytest
from aiohttp.http_exceptions import BadHttpMessage, BadStatusLine

from proxy import refuse as refusals
from proxy.errors import ErrorType, Fault
from proxy.refuse import malformed, refuse
from proxy.wire.head_rules import too_many_fields


class Client:
    def answer(self, status: int, body: bytes, lines: bytes = b"") -> None:
        self.sent = status, json.loads(body), lines


def refused(fault: Fault, lines: bytes = b"") -> tuple[int, dict, bytes]:
    client = Client()
    refuse(client, fault, "req_1", lines)
    return client.sent


def test_a_refusal_is_the_one_envelope_with_its_status():
    fault = Fault(400, ErrorType.INVALID_REQUEST, "invalid_value", "Correct it.", "messages[0]")
    assert refused(fault) == (
        400,
        {
            "error": {
                "message": "Correct it.",
                "type": "invalid_request_error",
                "param": "messages[0]",
                "code": "invalid_value",
            }
        },
        b"",
    )


def test_a_refused_key_is_told_what_is_asked_for():
    _, _, lines = refused(Fault(401, ErrorType.AUTHENTICATION, "invalid_api_key", "No."))
    assert lines == b"WWW-Authenticate: Bearer\r\n"


def test_other_lines_stand_beside_those_of_the_fault():
    fault = Fault(429, ErrorType.RATE_LIMIT, "rate_limit_exceeded", "Wait.", retry_after_ms=1500)
    assert refused(fault, b"x-ratelimit-limit-requests: 1\r\n")[2] == (
        b"x-ratelimit-limit-requests: 1\r\nRetry-After: 2\r\nretry-after-ms: 1500\r\n"
    )


def test_a_failure_that_is_not_the_clients_names_the_request_to_ask_about():
    _, body, _ = refused(refusals.our_bug())
    assert "req_1" in body["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "status", "kind", "code"),
    [
        (refusals.unknown_url(), 404, ErrorType.INVALID_REQUEST, "unknown_url"),
        (refusals.wrong_method("POST"), 405, ErrorType.INVALID_REQUEST, "method_not_allowed"),
        (refusals.unknown_model(), 404, ErrorType.INVALID_REQUEST, "model_not_found"),
        (refusals.our_bug(), 500, ErrorType.INTERNAL, "internal_error"),
        (refusals.no_plan(), 400, ErrorType.CONFIGURATION, "unknown_plan"),
        (malformed(BadHttpMessage("x")), 400, ErrorType.INVALID_REQUEST, "invalid_http"),
        (malformed(BadStatusLine("x")), 400, ErrorType.INVALID_REQUEST, "invalid_http"),
        (malformed(too_many_fields()), 431, ErrorType.INVALID_REQUEST, "request_header_too_large"),
    ],
)
def test_each_refusal_has_its_status_type_and_code(fault, status, kind, code):
    assert (fault.status, fault.type, fault.code) == (status, kind, code)
    assert refused(fault)[0] == status


def test_nothing_of_what_could_not_be_read_is_repeated():
    for error in (BadHttpMessage("Bearer secret"), BadStatusLine("GET /secret")):
        assert "secret" not in malformed(error).message
