"""Answers that are rare and were once handled wrongly."""

import json

import pytest
from msgspec import Raw

from proxy.usage import Usage, UsageSource
from proxy.wire.chat_answer import read_answer
from proxy.wire.chat_request import read_chat_request
from proxy.wire.chat_stream import ChatStream, StreamPlan
from proxy.wire.upstream_error import UpstreamError, client_fault, read_error

ESTIMATE = Usage(prompt=7, completion=2)


def make_stream(**changes):
    plan = {
        "model": "lab/model", "choices": 1, "include_usage": True, "continuous_usage": False, "strip_fields": (),
        "every_event": False, "completion_from_total": False, "now": 5, "new_id": lambda: "made",
        "estimate": lambda _: ESTIMATE,
    }  # fmt: skip
    return ChatStream(StreamPlan(**{**plan, **changes}))


def event(**fields):
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def chunk(delta=None, finish=None, **fields):
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    whole = {"id": "c-1", "object": "chat.completion.chunk", "created": 111, "model": "lab/model", "choices": choices}
    return event(**{**whole, **fields})


def chunks_in(sent):
    return [json.loads(part[6:]) for part in sent.split(b"\n\n") if part and part != b"data: [DONE]"]


def test_all_chunks_have_one_id_and_time_although_a_chunk_without_choices_came_first():
    stream = make_stream()
    sent = stream.feed(event(id="", created=0, choices=[], prompt_filter_results=[]))
    sent += stream.feed(chunk({"content": "a"})) + stream.feed(chunk(finish="stop")) + stream.feed(b"data: [DONE]\n\n")
    assert {(one["id"], one["created"]) for one in chunks_in(sent)} == {("c-1", 111)}
    assert stream.upstream_id == "c-1"


def test_a_made_id_stays_when_a_later_chunk_has_one():
    stream = make_stream()
    sent = stream.feed(chunk({"content": "a"}, id="")) + stream.feed(chunk({"content": "b"}, id="c-2"))
    sent += stream.feed(chunk(finish="stop")) + stream.feed(b"data: [DONE]\n\n")
    assert {one["id"] for one in chunks_in(sent)} == {"chatcmpl_made"}
    assert stream.upstream_id is None


def test_zeros_do_not_replace_usage_that_was_told():
    stream = make_stream()
    told = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
    stream.feed(chunk({"content": "a"}, usage=told))
    stream.feed(chunk(finish="stop", usage=dict.fromkeys(told, 0)))
    assert stream.usage() == (Usage(prompt=12, completion=8), UsageSource.UPSTREAM)


def test_a_delta_of_an_unknown_kind_is_kept_although_usage_stands_beside_it():
    stream = make_stream()
    stream.feed(chunk({"content": "a"}))
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    [sent] = chunks_in(stream.feed(chunk({"images": ["i"]}, usage=usage)))
    assert sent["choices"][0]["delta"]["images"] == ["i"]
    assert "usage" not in sent


def test_text_in_place_of_a_stream_is_a_bad_answer():
    stream = make_stream()
    stream.feed(b"provider says no\n")
    stream.end()
    assert stream.error.kind == "upstream_bad_response"


def test_a_stream_of_comments_that_breaks_off_is_truncated():
    stream = make_stream()
    stream.feed(b": working\n\n")
    stream.end()
    assert stream.error.kind == "upstream_truncated"


@pytest.mark.parametrize("choice", [b"5", b'{"delta":5}', b'{"index":0,"delta":[1]}'])
def test_the_third_chunk_of_another_shape_in_a_row_ends_the_stream(choice):
    stream = make_stream()
    for _ in range(3):
        assert stream.error is None
        stream.feed(b'data: {"id":"c","choices":[%b]}\n\n' % choice)
    assert stream.error.kind == "upstream_bad_response"


def test_a_prompt_with_a_number_beyond_all_bounds_can_be_estimated():
    tools = '[{"type":"function","function":{"name":"a","parameters":{"x": 1e999}}}]'
    body = f'{{"model":"m","messages":[{{"role":"user","content":"Say hello."}}],"tools":{tools}}}'
    compact = len(tools.replace(" ", ""))
    assert read_chat_request(body.encode()).estimate_prompt() == 7 + -(-compact // 4)


@pytest.mark.parametrize("message", ['"content":1e999', '"content":"a","reasoning":1e999'])
def test_an_answer_whose_text_is_no_text_is_bad_and_no_bug(message):
    body = f'{{"choices":[{{"index":0,"message":{{"role":"assistant",{message}}},"finish_reason":"stop"}}]}}'
    try:
        answer = read_answer(body.encode(), new_id=lambda: "made")
        assert answer.output_bytes() >= 0
    except UpstreamError as error:
        assert error.kind == "upstream_bad_response"


def test_usage_in_a_choice_of_a_whole_answer_is_read_and_cut():
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 1}
    message = {"role": "assistant", "content": "a"}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop", "usage": usage}]}
    answer = read_answer(json.dumps(body).encode(), new_id=lambda: "made")
    assert answer.usage == Usage(prompt=1, completion=2)
    assert b"cost" not in bytes(Raw(answer.choices))


def test_a_refusal_is_moderation_if_its_body_says_so_anywhere():
    body = read_error(b'{"error":{"code":403,"message":"Input rejected","metadata":{"flagged_input":"x"}}}')
    assert client_fault(UpstreamError(body, status=403)).code == "content_policy_violation"


def test_a_long_error_is_cut_after_the_secrets_were_taken_out():
    body = read_error(b"x" * 1985 + b"longsecretkey0123456789ABCDEF")
    fault = client_fault(UpstreamError(body, status=400), ["longsecretkey0123456789ABCDEF"])
    assert "longsecret" not in fault.message
    assert len(fault.message) <= 2000
