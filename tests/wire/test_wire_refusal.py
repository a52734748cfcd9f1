"""Every error a client sees has the one envelope."""

import json

import pytest

from proxy.errors import ErrorType, Fault, invalid_request
from proxy.wire.refusal import DONE, error_body, error_event

REQUEST = "req_1"


def test_an_error_has_the_four_keys_and_no_other():
    body = json.loads(error_body(invalid_request("Say more.", param="messages[2].content").fault, REQUEST))
    assert body == {
        "error": {
            "message": "Say more.",
            "type": "invalid_request_error",
            "param": "messages[2].content",
            "code": "invalid_value",
        }
    }


def test_what_is_not_known_is_null():
    error = json.loads(error_body(Fault(400, ErrorType.INVALID_REQUEST, None, "x"), REQUEST))["error"]
    assert (error["param"], error["code"]) == (None, None)


@pytest.mark.parametrize("kind", list(ErrorType))
def test_failures_on_the_servers_side_name_the_request_to_ask_about(kind: ErrorType):
    message = json.loads(error_body(Fault(500, kind, "x", "It failed."), REQUEST))["error"]["message"]
    named = kind in {ErrorType.PROVIDER, ErrorType.INTERNAL}
    assert message == ("It failed. (request req_1)" if named else "It failed.")


def test_the_message_of_a_limit_ends_with_the_wait_that_clients_look_for():
    message = "Limit of 5 requests per minute reached. Please try again in 12s."
    body = json.loads(error_body(Fault(429, ErrorType.RATE_LIMIT, "rate_limit_exceeded", message), REQUEST))
    assert body["error"]["message"].endswith("Please try again in 12s.")


def test_an_error_in_a_stream_is_an_event_without_choices_and_the_end():
    """Some clients take whatever has `choices` for an answer and overlook the error."""
    fault = Fault(502, ErrorType.PROVIDER, "upstream_error", 'a "quoted"\nline')
    event = error_event(fault, REQUEST)
    first, rest = event.split(b"\n\n", 1)
    assert first == b"data: " + error_body(fault, REQUEST)
    assert json.loads(first[6:]).keys() == {"error"}
    assert rest == DONE == b"data: [DONE]\n\n"
