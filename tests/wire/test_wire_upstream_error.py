"""A provider's failure becomes what a client can act on, and nothing of the provider's secrets goes with it."""

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.errors import ErrorType, Fault
from proxy.wire.upstream_error import (
    MAX_COMPARED,
    MAX_MESSAGE,
    ErrorBody,
    UpstreamError,
    apart_from,
    bad_answer,
    client_fault,
    error_in,
    may_try_next,
    read_error,
    scrub,
    stream_fault,
)

WHY = "temperature must be below 2"


def answered(status: int, message: str = WHY, *, wait_ms: int | None = None, **error: object) -> UpstreamError:
    body = json.dumps({"error": {"message": message, **error}}).encode()
    return UpstreamError(read_error(body), status=status, retry_after_ms=wait_ms)


def told(error: UpstreamError) -> tuple[int, ErrorType, str | None]:
    fault = client_fault(error)
    return fault.status, fault.type, fault.code


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_the_provider_found_wrong_with_the_request_is_told_in_its_words(status: int):
    fault = client_fault(answered(status, param="temperature", type="x", code="bad"))
    assert fault == Fault(400, ErrorType.INVALID_REQUEST, "provider_validation", WHY, "temperature")


def test_a_404_about_a_parameter_is_the_clients():
    assert client_fault(answered(404, "No such tool", param="tool_choice")).type is ErrorType.INVALID_REQUEST


@pytest.mark.parametrize(
    "error",
    [
        {"param": None},
        {"param": "model", "message": "The model `Qwen/X` does not exist."},
        {"param": "x", "code": "model_not_found", "message": "The model `Qwen/X` does not exist."},
    ],
)
def test_a_404_about_the_model_is_the_operators_and_does_not_tell_its_name_there(error: dict):
    fault = client_fault(answered(404, **error))
    assert (fault.status, fault.type, fault.code) == (400, ErrorType.CONFIGURATION, "provider_model_missing")
    assert "Qwen" not in fault.message


@pytest.mark.parametrize(
    "error",
    [
        {"code": "context_length_exceeded", "message": "x"},
        {"message": "This model's maximum context length is 8192 tokens."},
        {"message": "the context length is only 4096 tokens"},
        {"message": "the request exceeds the available context size", "type": "exceed_context_size_error", "code": 400},
        {"message": "x", "type": "exceed_context_size_error"},
    ],
)
def test_a_prompt_that_is_too_long_is_named_so(error: dict):
    assert told(answered(400, **error)) == (400, ErrorType.INVALID_REQUEST, "context_length_exceeded")


@pytest.mark.parametrize("status", [401, 402, 403, 404, 407, 301, 302, 307, 308])
def test_what_the_operator_has_to_correct_is_a_configuration_error_without_the_providers_words(status: int):
    fault = client_fault(answered(status, "Incorrect API key sk-abc at https://internal"))
    assert (fault.status, fault.type) == (400, ErrorType.CONFIGURATION)
    assert "operator" in fault.message
    assert "sk-abc" not in fault.message
    assert "internal" not in fault.message


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "provider_auth"), (402, "provider_quota"), (403, "provider_auth"), (404, "provider_model_missing"),
     (407, "provider_auth"), (307, "provider_auth")],
)  # fmt: skip
def test_a_configuration_error_names_what_is_wrong(status: int, code: str):
    assert client_fault(answered(status)).code == code


@pytest.mark.parametrize(
    "error",
    [{"message": "Your input was flagged"}, {"message": "Requires MODERATION"},
     {"message": "x", "code": "content_filter"}, {"message": "x", "type": "moderation_error"}],
)  # fmt: skip
def test_a_403_about_content_is_the_clients(error: dict):
    fault = client_fault(answered(403, **error))
    assert (fault.status, fault.type, fault.code) == (400, ErrorType.INVALID_REQUEST, "content_policy_violation")
    assert fault.message == error["message"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(408, "upstream_timeout"), (504, "upstream_timeout"), (429, "upstream_rate_limited"), (503, "upstream_overloaded"),
     (529, "upstream_overloaded"), (500, "upstream_error"), (502, "upstream_error"), (599, "upstream_error"),
     (409, "upstream_error"), (418, "upstream_error")],
)  # fmt: skip
def test_what_the_provider_cannot_help_is_a_502_in_fixed_words(status: int, code: str):
    fault = client_fault(answered(status, "Traceback in /srv/engine.py, key sk-abc"))
    assert (fault.status, fault.type, fault.code) == (502, ErrorType.PROVIDER, code)
    assert "Traceback" not in fault.message
    assert fault.message.endswith(".")


@pytest.mark.parametrize(
    "kind",
    ["upstream_timeout", "upstream_unavailable", "upstream_truncated", "upstream_bad_response", "upstream_error"],
)
def test_a_failure_without_an_answer_goes_by_its_kind(kind: str):
    error = UpstreamError(kind=kind, detail="connect to 10.0.0.7:8000 failed")
    for fault in (client_fault(error), stream_fault(error)):
        assert (fault.status, fault.type, fault.code) == (502, ErrorType.PROVIDER, kind)
        assert "10.0.0.7" not in fault.message


def test_an_answer_that_cannot_be_served_says_why_to_the_log_alone():
    error = bad_answer("it is a page of HTML")
    assert (error.kind, error.status) == ("upstream_bad_response", None)
    assert "HTML" in error.detail
    assert "HTML" not in client_fault(error).message


@pytest.mark.parametrize(("wait_ms", "passed"), [(7000, 7000), (60_000, 60_000), (3_600_000, 60_000), (None, None)])
def test_the_providers_wait_is_passed_on_up_to_a_minute(wait_ms: int | None, passed: int | None):
    assert client_fault(answered(429, wait_ms=wait_ms)).retry_after_ms == passed


def test_an_error_inside_a_success_counts_as_the_status_it_names():
    inside = UpstreamError(error_in(b'{"error":{"message":"quota","code":429}}'))
    assert told(inside) == (502, ErrorType.PROVIDER, "upstream_rate_limited")
    unnamed = UpstreamError(error_in(b'{"error":{"message":"quota"}}'))
    assert told(unnamed) == (502, ErrorType.PROVIDER, "upstream_error")


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "upstream_error"), (401, "upstream_error"), (429, "upstream_rate_limited"), (None, "upstream_error")],
)
def test_after_the_first_byte_every_failure_is_the_providers(status: int | None, code: str):
    fault = stream_fault(UpstreamError(ErrorBody(message="secret", status=status)))
    assert (fault.type, fault.code) == (ErrorType.PROVIDER, code)
    assert "secret" not in fault.message


@pytest.mark.parametrize(
    ("status", "may"),
    [(None, True), (500, True), (429, True), (401, True), (404, True), (400, False), (413, False), (422, False)],
)
def test_another_target_is_tried_unless_the_request_itself_is_wrong(status: int | None, may: bool):
    assert may_try_next(UpstreamError(status=status)) is may


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"message":"m","type":"t","param":"p","code":"c"}}', ErrorBody("m", "c", "t", "p")),
        (b'{"error":{"message":"m","code":429}}', ErrorBody("m", status=429)),
        (b'{"error":{"message":"m","code":"503"}}', ErrorBody("m", "503", status=503)),
        (b'{"error":{"message":"m","code":true,"param":["p"]}}', ErrorBody("m")),
        (b'{"error":{"message":"m","code":7}}', ErrorBody("m")),
        (b'{"error":"m"}', ErrorBody("m")),
        (b'{"error":{"error":{"message":"m"}}}', ErrorBody("m")),
        (b'{"object":"error","message":"m","type":"t","param":null,"code":400}', ErrorBody("m", kind="t", status=400)),
        (b'{"detail":"m"}', ErrorBody("m")),
        (b'{"detail":[{"loc":["body"],"msg":"m"}]}', ErrorBody('[{"loc":["body"],"msg":"m"}]')),
        (b'{"message":"m","request_id":"r"}', ErrorBody("m")),
        (b'[{"error":{"message":"m","code":400,"status":"INVALID_ARGUMENT"}}]', ErrorBody("m", status=400)),
        (b'["m"]', ErrorBody("m")),
        (b'"m"', ErrorBody("m")),
        (b"  m \n", ErrorBody("m")),
        (b"<html>m</html>", ErrorBody("<html>m</html>")),
        (b"\xff\xfe", ErrorBody("��")),
        (b"", ErrorBody()),
        (b"{}", ErrorBody()),
        (b"[]", ErrorBody()),
        (b"5", ErrorBody()),
        (b"null", ErrorBody()),
        (rb'{"error":{"message":"half \ud83d"}}', ErrorBody("half �")),
    ],
    ids=lambda given: given.decode(errors="replace") or "empty" if isinstance(given, bytes) else "",
)
def test_errors_are_read_in_every_shape(body: bytes, expected: ErrorBody):
    read = read_error(body)
    assert read == expected


@pytest.mark.parametrize("depth", [50, 300, 900, 100_000])
def test_an_error_in_an_error_in_an_error_is_read_without_a_stack_overflow(depth: int):
    body = b'{"error":' * depth + b'"m"' + b"}" * depth
    read_error(body)
    error_in(body)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"", b"<html>", b'{"error":null}', b'{"error":""}',
                                  b'{"error":0}', b'{"error":false}', b'{"object":"chat.completion"}'])  # fmt: skip
def test_what_names_no_error_is_none(body: bytes):
    assert error_in(body) is None


@given(st.binary(max_size=80))
def test_no_bytes_keep_an_error_from_being_told(body: bytes):
    fault = client_fault(UpstreamError(read_error(body), status=400))
    assert 0 < len(fault.message) <= MAX_MESSAGE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect key sk-abcDEF123 given", "Incorrect key [removed] given"),
        ("key: sk-proj-ab**********yz.", "key: [removed]"),
        ("see https://api.vendor.example/v1/chat?x=1 for more", "see [removed] for more"),
        ("write to ops+llm@vendor.example please", "write to [removed] please"),
        ("host vllm-7.internal refused", "host [removed] refused"),
        ("a risk-free task-force", "a risk-free task-force"),
        ("plain words", "plain words"),
    ],
)
def test_keys_hosts_and_addresses_are_removed(text: str, shown: str):
    assert scrub(text, ["vllm-7.internal", ""]) == shown


def test_what_is_shown_of_the_providers_words_is_scrubbed_its_parameter_too():
    secrets = ["provider-key-1", "vllm-7.internal"]
    error = answered(400, "provider-key-1 at vllm-7.internal", param="x at vllm-7.internal sk-abc")
    fault = client_fault(error, secrets)
    for text in (fault.message, fault.param or ""):
        assert not any(secret in text for secret in [*secrets, "sk-abc"])


def test_a_long_message_is_cut():
    assert len(client_fault(answered(400, "x" * 10_000)).message) == MAX_MESSAGE


@pytest.mark.parametrize("message", ["", "   "])
def test_a_failure_without_words_gets_some(message: str):
    assert "check its parameters" in client_fault(answered(400, message)).message


@pytest.mark.parametrize(
    "text", ["a" * 60_000, "sk-" * 20_000, "a@" * 30_000, "http://" * 9_000, "." * 60_000, "a.b-" * 15_000]
)
def test_no_text_makes_the_scrubbing_slow(text: str):
    """In a second, something that grows with the square of the size would not get through a text of this size."""
    started = time.process_time()
    scrub(text, ["secret"])
    assert time.process_time() - started < 1


def test_an_error_keeps_the_providers_words_out_of_its_own():
    error = answered(400, "prompt text of a client")
    assert "prompt text" not in str(error)


def request_with(text: str) -> dict[str, Raw]:
    return {"model": Raw(b'"m"'), "messages": Raw(json.dumps([{"role": "user", "content": text}]).encode())}


@pytest.mark.parametrize(
    ("message", "logged"),
    [
        ("CUDA: out of memory (rank 3)", "CUDA: out of memory (rank 3)"),
        ("failed at 'my secret diary'", "failed at '*'"),
        ("failed at 'MY SECRET DIA", "failed at '*"),
        ('{"content":"my secret diary"}', '{"*"}'),
        ("my caf\u00e9", "* caf*"),
        ("no\r\nlines", "no*lines"),
        ("", ""),
    ],
)
def test_of_a_provider_s_words_those_of_the_request_are_masked(message: str, logged: str):
    assert apart_from(message, request_with("it is my secret diary")) == logged


@given(st.text(min_size=1), st.text(), st.text(), st.integers(0, 40), st.integers(1, 60))
def test_no_word_of_a_request_is_left_of_a_quotation(prompt: str, before: str, after: str, start: int, length: int):
    quoted = prompt[start : start + length]
    logged = apart_from(f"{before} {quoted} {after}", request_with(prompt))
    asked = request_with(prompt)["messages"]
    assert not [word for word in re.findall(r"[A-Za-z0-9_]+", logged) if word.lower().encode() in bytes(asked).lower()]
    assert logged.isascii()


def test_nothing_is_left_where_a_request_is_too_large_or_spells_its_letters_in_another_way():
    assert apart_from("boom", request_with("x" * MAX_COMPARED)) == ""
    spelled = {"messages": Raw(b'[{"role":"user","content":"\\u0073ecret"}]')}
    assert apart_from("secret", spelled) == ""


def test_a_long_error_is_looked_through_in_no_time():
    asked = {"messages": Raw(b'"' + b"a b " * (MAX_COMPARED // 4 - 10) + b'"')}
    assert len(apart_from("c d " * 100_000, asked)) <= 500
