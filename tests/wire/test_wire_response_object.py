"""A response has every key that its documentation and the official clients ask for; errors have both their forms."""

import json

import pytest
from msgspec import Raw
from playing import CATALOG, NOW
from response_reading import LATER, REQUEST, shape

from proxy.errors import ErrorType, Fault
from proxy.usage import Usage
from proxy.wire.response_echo import ResponseEcho
from proxy.wire.response_object import Status, error_event, event, response_error, response_object

FAULT = Fault(502, ErrorType.PROVIDER, "upstream_error", "It failed; try again.")
CLIENTS = Fault(400, ErrorType.INVALID_REQUEST, "invalid_value", "`x` is wrong.", "x")


def read(raw: Raw) -> dict:
    return json.loads(bytes(raw))


def test_f5_1_every_key_is_there_and_the_documented_ones_come_first():
    assert read(response_object(shape(), Status.IN_PROGRESS)) == {
        "id": "resp_0",
        "object": "response",
        "created_at": NOW,
        "model": CATALOG,
        "status": "in_progress",
        "output": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
    }
    keys = list(read(response_object(shape(), Status.IN_PROGRESS)))
    assert keys[:7] == ["id", "object", "created_at", "model", "status", "output", "usage"]


def test_f5_1_what_the_client_sent_comes_back_as_it_was_written():
    echo = ResponseEcho(
        instructions=Raw(rb'"Be \ud83d brief"'),
        max_output_tokens=100,
        metadata=Raw(b'{"a":1,"b":123456789012345678901234567890}'),
        parallel_tool_calls=False,
        reasoning_effort="low",
        temperature=Raw(b"0.70"),
        text_format=Raw(b'{"type":"json_object"}'),
        tool_choice=Raw(b'{"type":"function","name":"f"}'),
        tools=Raw(b'[{"type":"function","name":"f"}]'),
        top_p=Raw(b"1e-1"),
    )
    written = bytes(response_object(shape(echo=echo), Status.COMPLETED))
    for part in (
        rb'"instructions":"Be \ud83d brief"',
        b'"max_output_tokens":100',
        b'"metadata":{"a":1,"b":123456789012345678901234567890}',
        b'"parallel_tool_calls":false',
        b'"reasoning":{"effort":"low","summary":null}',
        b'"temperature":0.70,',
        b'"text":{"format":{"type":"json_object"}}',
        b'"tool_choice":{"type":"function","name":"f"}',
        b'"tools":[{"type":"function","name":"f"}]',
        b'"top_p":1e-1',
    ):
        assert part in written


def test_f5_1_a_response_says_when_it_was_completed_and_only_then():
    assert read(response_object(shape(), Status.COMPLETED))["completed_at"] == LATER
    for status in (Status.IN_PROGRESS, Status.INCOMPLETE, Status.FAILED):
        assert "completed_at" not in read(response_object(shape(), status))


@pytest.mark.parametrize(
    ("usage", "written"),
    [
        (
            Usage(12, 8),
            {
                "input_tokens": 12,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 8,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 20,
            },
        ),
        (
            Usage(
                12,
                8,
                4,
                5,
                prompt_details=(("audio_tokens", 1), ("cache_write_tokens", 2)),
                completion_details=(("audio_tokens", 1),),
            ),
            {
                "input_tokens": 12,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "output_tokens": 8,
                "output_tokens_details": {"reasoning_tokens": 5},
                "total_tokens": 20,
            },
        ),
    ],
)
def test_f5_5_usage_is_whole_numbers_and_nothing_that_was_not_told(usage: Usage, written: dict):
    assert usage.as_response() == written
    assert read(response_object(shape(), Status.COMPLETED, usage=usage))["usage"] == written


def test_f6_1_an_event_has_its_kind_twice_and_its_number():
    assert event("response.x", 7, item_id="i") == (
        b'event: response.x\ndata: {"type":"response.x","sequence_number":7,"item_id":"i"}\n\n'
    )


def test_b3_3_an_error_event_has_the_flat_and_the_nested_form():
    message = f"It failed; try again. (request {REQUEST})"
    assert (
        error_event(FAULT, REQUEST, 3)
        == (
            'event: error\ndata: {"type":"error","sequence_number":3,"code":"upstream_error",'
            f'"message":"{message}","param":null,"error":{{"type":"provider_error","code":"upstream_error",'
            f'"message":"{message}","param":null}}}}\n\n'
        ).encode()
    )


def test_b3_3_an_error_that_is_the_client_s_names_its_parameter_and_no_request():
    data = json.loads(error_event(CLIENTS, REQUEST, 0).split(b"data: ")[1])
    assert (data["message"], data["param"], data["error"]["type"]) == ("`x` is wrong.", "x", "invalid_request_error")


@pytest.mark.parametrize(
    ("code", "written"),
    [("upstream_error", "server_error"), ("upstream_rate_limited", "rate_limit_exceeded"), (None, "server_error")],
)
def test_f5_7_a_failed_response_uses_one_of_two_codes(code: str | None, written: str):
    fault = Fault(502, ErrorType.PROVIDER, code, "It failed; try again.")
    error = read(response_object(shape(), Status.FAILED, error=response_error(fault, REQUEST)))["error"]
    assert error == {
        "code": written,
        "message": f"It failed; try again. (request {REQUEST})",
        "type": "provider_error",
        "param": None,
    }
