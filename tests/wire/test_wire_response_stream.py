"""A provider's chat stream reaches a client of the Responses API as that API's events, to the byte and in their order.

The golden cases are whole streams, event by event; then what commits, ends and breaks off a stream.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from playing import CATALOG, NOW, PROMPT, cut_at, event_by_event, in_pieces_of, split
from provider_events import DONE, ROLE, lines, openai, openai_usage, sglang, vllm, vllm_usage
from response_reading import (
    LATER,
    REQUEST,
    TERMINAL,
    Grammar,
    chunks,
    counted,
    damaged,
    parse,
    parse_begun,
    read,
    respond,
    said_by,
    shape,
    stream_plan,
)
from streams import RECORDED

from proxy.errors import ErrorType, Fault
from proxy.usage import Usage, UsageSource
from proxy.wire import response_stream
from proxy.wire.large_json import LARGE
from proxy.wire.response_echo import ResponseEcho
from proxy.wire.response_stream import ResponseStream
from proxy.wire.upstream_error import stream_fault

COMPLETE = [recorded for recorded in RECORDED if recorded.error is None and recorded.choices == 1]
FAILED = [recorded for recorded in RECORDED if recorded.error is not None]
FAULT = Fault(502, ErrorType.PROVIDER, "upstream_error", "The provider failed; try again.")
MESSAGE = f"The provider failed; try again. (request {REQUEST})"


def told(out: bytes) -> list[tuple]:
    """Each event as its kind, less what all have in common, and the values that it adds."""
    rest = {"type", "sequence_number", "response"}
    return [
        (event["type"].removeprefix("response."), *(value for name, value in event.items() if name not in rest))
        for event in parse(out)
    ]


def the_response(out: bytes) -> dict:
    return parse(out)[-1]["response"]


def text_part(text: str) -> dict:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message(number: int, status: str, *content: dict) -> dict:
    return {"id": f"msg_{number}", "type": "message", "status": status, "role": "assistant", "content": list(content)}


def thought(number: int, status: str, *content: dict) -> dict:
    return {"id": f"rs_{number}", "type": "reasoning", "status": status, "summary": [], "content": list(content)}


def called(number: int, status: str, call_id: str, name: str, arguments: str) -> dict:
    call = {"id": f"fc_{number}", "type": "function_call", "status": status}
    return {**call, "call_id": call_id, "name": name, "arguments": arguments}


def text_events(item: str, index: int, content: int, *pieces: str) -> list[tuple]:
    """What an output text in pieces makes, from its opening to its closing."""
    place, text = (item, index, content), "".join(pieces)
    return [
        ("content_part.added", *place, text_part("")),
        *(("output_text.delta", *place, piece, []) for piece in pieces),
        ("output_text.done", *place, text, []),
        ("content_part.done", *place, text_part(text)),
    ]


def reasoning_events(item: str, index: int, kind: str, *pieces: str) -> list[tuple]:
    place, text = (item, index, 0), "".join(pieces)
    return [
        ("content_part.added", *place, {"type": kind, "text": ""}),
        *(("reasoning_text.delta", *place, piece) for piece in pieces),
        ("reasoning_text.done", *place, text),
        ("content_part.done", *place, {"type": kind, "text": text}),
    ]


def call_events(number: int, index: int, call_id: str, name: str, *pieces: str) -> list[tuple]:
    arguments = "".join(pieces)
    return [
        ("output_item.added", index, called(number, "in_progress", call_id, name, "")),
        *(("function_call_arguments.delta", f"fc_{number}", index, piece) for piece in pieces),
        ("function_call_arguments.done", f"fc_{number}", index, name, arguments),
        ("output_item.done", index, called(number, "completed", call_id, name, arguments)),
    ]


BEGUN = [("created",), ("in_progress",)]
THOUGHTS = ("Six times", " seven.")
THINKING = lines(
    vllm(ROLE),
    *(vllm(f'{{"reasoning":"{piece}"}}') for piece in THOUGHTS),
    vllm('{"content":"It is"}'),
    vllm('{"content":" 42."}'),
    vllm("{}", '"stop"'),
    vllm_usage(
        '{"prompt_tokens":70,"total_tokens":101,"completion_tokens":31,"prompt_tokens_details":{"cached_tokens":64},'
        '"completion_tokens_details":{"reasoning_tokens":19}}'
    ),
    DONE,
)


def test_f7_1_plain_text():
    out = respond(
        lines(
            vllm('{"role":"assistant","content":""}'),
            vllm('{"content":"Good"}'),
            vllm('{"content":" day"}'),
            vllm('{"content":""}', '"stop"'),
            vllm_usage('{"prompt_tokens":12,"total_tokens":20,"completion_tokens":8}'),
            DONE,
        )
    )
    assert told(out) == [
        *BEGUN,
        ("output_item.added", 0, message(1, "in_progress")),
        *text_events("msg_1", 0, 0, "Good", " day"),
        ("output_item.done", 0, message(1, "completed", text_part("Good day"))),
        ("completed",),
    ]
    assert the_response(out)["output"] == [message(1, "completed", text_part("Good day"))]
    assert the_response(out)["usage"] == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 20,
    }


def test_f7_1_to_the_byte():
    place = '"item_id":"msg_1","output_index":0,"content_index":0'
    wanted = (
        f'event: response.output_text.delta\ndata: {{"type":"response.output_text.delta","sequence_number":4,{place},'
        '"delta":"caf\\u00e9 😀","logprobs":[]}\n\n'
    )
    assert wanted.encode() in respond(chunks(r'{"content":"caf\u00e9 😀"}'))


def test_f7_2_reasoning_as_an_item_of_its_own():
    out = respond(THINKING)
    item = thought(1, "completed", {"type": "reasoning_text", "text": "Six times seven."})
    answer = message(2, "completed", text_part("It is 42."))
    assert told(out) == [
        *BEGUN,
        ("output_item.added", 0, thought(1, "in_progress")),
        *reasoning_events("rs_1", 0, "reasoning_text", *THOUGHTS),
        ("output_item.done", 0, item),
        ("output_item.added", 1, message(2, "in_progress")),
        *text_events("msg_2", 1, 0, "It is", " 42."),
        ("output_item.done", 1, answer),
        ("completed",),
    ]
    assert the_response(out)["output"] == [item, answer]
    assert the_response(out)["usage"]["input_tokens_details"] == {"cached_tokens": 64}
    assert the_response(out)["usage"]["output_tokens_details"] == {"reasoning_tokens": 19}


def test_f7_3_reasoning_as_a_part_of_the_message():
    out = respond(THINKING, separate=False)
    answer = message(1, "completed", {"type": "reasoning", "text": "Six times seven."}, text_part("It is 42."))
    assert told(out) == [
        *BEGUN,
        ("output_item.added", 0, message(1, "in_progress")),
        *reasoning_events("msg_1", 0, "reasoning", *THOUGHTS),
        *text_events("msg_1", 0, 1, "It is", " 42."),
        ("output_item.done", 0, answer),
        ("completed",),
    ]
    assert the_response(out)["output"] == [answer]


def test_f7_4_reasoning_and_one_tool_call():
    call = r'[{"id":"call_w","index":0,"type":"function","function":{"name":"weather","arguments":""}}]'
    more = '[{"id":null,"index":0,"type":"function","function":{"name":null,"arguments":"%s"}}]'
    begun, ended = more % r"{\"city\": ", more % r"\"Oslo\"}"
    empty = '"role":null,"content":null,"reasoning_content":'
    out = respond(
        lines(
            sglang('{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null}'),
            sglang(f'{{{empty}"Oslo?","tool_calls":null}}'),
            sglang(f'{{{empty}null,"tool_calls":{call}}}'),
            sglang(f'{{{empty}null,"tool_calls":{begun}}}'),
            sglang(f'{{{empty}null,"tool_calls":{ended}}}'),
            sglang(f'{{{empty}null,"tool_calls":null}}', '"tool_calls"'),
            DONE,
        )
    )
    item = thought(1, "completed", {"type": "reasoning_text", "text": "Oslo?"})
    assert told(out) == [
        *BEGUN,
        ("output_item.added", 0, thought(1, "in_progress")),
        *reasoning_events("rs_1", 0, "reasoning_text", "Oslo?"),
        ("output_item.done", 0, item),
        *call_events(2, 1, "call_w", "weather", '{"city": ', '"Oslo"}'),
        ("completed",),
    ]
    assert the_response(out)["output"] == [item, called(2, "completed", "call_w", "weather", '{"city": "Oslo"}')]


def test_f7_5_text_and_two_tool_calls():
    first = '{"tool_calls":[{"index":%d,"id":"%s","type":"function","function":{"name":"%s","arguments":%s}}]}'
    later = '{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}'
    out = respond(
        chunks(
            '{"content":"Both."}',
            first % (0, "call_a", "weather", r'"{\"city\":"'),
            later % (0, r'"\"Oslo\"}"'),
            first % (1, "call_b", "time", r'"{\"tz\":\"Europe/"'),
            later % (1, r'"Oslo\"}"'),
            finish="tool_calls",
        )
    )
    assert told(out) == [
        *BEGUN,
        ("output_item.added", 0, message(1, "in_progress")),
        *text_events("msg_1", 0, 0, "Both."),
        ("output_item.done", 0, message(1, "completed", text_part("Both."))),
        *call_events(2, 1, "call_a", "weather", '{"city":', '"Oslo"}'),
        *call_events(3, 2, "call_b", "time", '{"tz":"Europe/', 'Oslo"}'),
        ("completed",),
    ]
    assert [item["id"] for item in the_response(out)["output"]] == ["msg_1", "fc_2", "fc_3"]


def test_f7_6_cut_off_while_it_reasons():
    pieces = ("Let me", " count: 1, 2", " </th")
    out = respond(chunks(*(f'{{"reasoning":"{piece}"}}' for piece in pieces), finish="length"))
    item = thought(1, "incomplete", {"type": "reasoning_text", "text": "".join(pieces)})
    assert told(out) == [
        *BEGUN,
        ("output_item.added", 0, thought(1, "in_progress")),
        *reasoning_events("rs_1", 0, "reasoning_text", *pieces),
        ("output_item.done", 0, item),
        ("incomplete",),
    ]
    assert the_response(out)["incomplete_details"] == {"reason": "max_output_tokens"}
    assert the_response(out)["output"] == [item]


def failing(sent: bytes) -> tuple[ResponseStream, bytes]:
    stream = ResponseStream(stream_plan(), shape())
    return stream, stream.feed(sent)


def test_f7_7_the_provider_fails_after_text():
    error = 'data: {"error":{"message":"CUDA out of memory on 10.0.0.7","type":"InternalServerError","code":500}}'
    stream, out = failing(lines(vllm(ROLE), vllm('{"content":"Once"}'), vllm('{"content":" upon"}'), error, DONE))
    assert stream.error is not None
    out += stream.fail(FAULT, REQUEST)
    said = {"code": "upstream_error", "message": MESSAGE, "param": None}
    assert told(out)[:-2] == [
        *BEGUN,
        ("output_item.added", 0, message(1, "in_progress")),
        *text_events("msg_1", 0, 0, "Once", " upon")[:3],
    ]
    assert parse(out)[-2] == {
        "type": "error",
        "sequence_number": 6,
        **said,
        "error": {"type": "provider_error", **said},
    }
    response = the_response(out)
    assert parse(out)[-1] == {"type": "response.failed", "sequence_number": 7, "response": response}
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": MESSAGE, "type": "provider_error", "param": None}
    assert response["output"] == [message(1, "incomplete", text_part("Once upon"))]
    assert response["usage"] is None
    assert b"CUDA" not in out


def test_f5_1_the_first_events_hold_a_response_that_has_only_begun():
    created, in_progress = parse(respond(chunks('{"content":"a"}')))[:2]
    assert created["response"] == in_progress["response"]
    assert list(created["response"])[:7] == ["id", "object", "created_at", "model", "status", "output", "usage"]
    assert {name: created["response"][name] for name in ("id", "created_at", "model", "status", "output", "usage")} == {
        "id": "resp_0",
        "created_at": NOW,
        "model": CATALOG,
        "status": "in_progress",
        "output": [],
        "usage": None,
    }


def test_e1_1_what_a_client_wrote_over_several_lines_comes_back_on_one():
    tools = Raw(b'[\r\n  {"type": "function",\n   "name": "f"}\r]')
    stream = ResponseStream(stream_plan(), shape(echo=ResponseEcho(tools=tools, metadata=Raw(b"{\n}"))))
    response = read(stream.feed(chunks('{"content":"a"}')))
    assert (response["tools"], response["metadata"]) == ([{"type": "function", "name": "f"}], {})


def test_f5_1_only_a_completed_response_says_when():
    assert the_response(respond(chunks('{"content":"a"}')))["completed_at"] == LATER
    assert "completed_at" not in the_response(respond(chunks('{"content":"a"}', finish="length")))


def test_e2_5_nothing_is_sent_before_the_first_output():
    stream = ResponseStream(stream_plan(), shape())
    assert stream.feed(lines(vllm(ROLE))) == b""
    assert not stream.committed
    out = stream.feed(lines(vllm('{"content":"a"}')))
    assert stream.committed
    assert [event["type"] for event in parse_begun(out)][:3] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
    ]


def test_f6_2_a_slow_answer_begins_with_the_two_events_that_come_first():
    stream = ResponseStream(stream_plan(), shape())
    stream.feed(lines(vllm(ROLE)))
    begun = stream.commit()
    assert [event["type"] for event in parse_begun(begun)] == ["response.created", "response.in_progress"]
    rest = stream.feed(lines(vllm('{"content":"a"}'), vllm("{}", '"stop"'), DONE))
    assert said_by(read(begun + rest), "output_text") == "a"


def test_f6_2_an_answer_that_began_and_then_said_nothing_fails_in_order():
    stream = ResponseStream(stream_plan(), shape())
    out = stream.commit() + stream.fail(FAULT, REQUEST)
    assert [event["type"] for event in parse(out)] == [
        "response.created",
        "response.in_progress",
        "error",
        "response.failed",
    ]
    assert Grammar().take_all(parse(out))["output"] == []


def test_an_error_before_any_output_is_left_to_be_answered_as_an_error():
    stream, out = failing(lines(vllm(ROLE), 'data: {"error":{"message":"overloaded","code":529}}'))
    assert (out, stream.committed) == (b"", False)
    assert stream.error is not None
    assert stream.error.status == 529


@pytest.mark.parametrize("done", [True, False])
def test_e5_1_and_e5_2_a_finished_answer_ends_with_done_whether_or_not_the_provider_s_does(done: bool):
    assert said_by(read(respond(chunks('{"content":"a"}', done=done))), "output_text") == "a"


def test_e5_3_an_answer_that_does_not_say_why_it_ended_is_complete():
    assert read(respond(chunks('{"content":"a"}', finish=None)))["status"] == "completed"


def test_e5_4_an_answer_that_breaks_off_is_an_error():
    stream, out = failing(chunks('{"content":"a"}', finish=None, done=False))
    assert stream.end() == b""
    assert stream.error is not None
    assert stream.error.kind == "upstream_truncated"
    assert not stream.ended
    assert Grammar().take_all(parse(out + stream.fail(stream_fault(stream.error), REQUEST)))["status"] == "failed"


def test_f5_7_a_provider_that_limits_is_told_by_the_code_that_clients_know():
    fault = Fault(502, ErrorType.PROVIDER, "upstream_rate_limited", "Try again later.")
    stream, out = failing(chunks('{"content":"a"}', finish=None, done=False))
    out += stream.fail(fault, REQUEST)
    assert the_response(out)["error"]["code"] == "rate_limit_exceeded"
    assert parse(out)[-2]["code"] == "upstream_rate_limited"


def test_f6_10_usage_that_came_before_a_failure_is_told_with_it():
    usage = vllm_usage('{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}')
    stream, out = failing(lines(vllm(ROLE), vllm('{"content":"a"}'), usage))
    out += stream.fail(FAULT, REQUEST)
    assert the_response(out)["usage"]["total_tokens"] == 5


def test_e4_3_an_estimate_is_told_like_the_provider_s_own_usage():
    usage = the_response(respond(chunks('{"content":"12345678"}')))["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (PROMPT, 2)


def test_usage_is_billed_as_for_a_chat_stream():
    stream = ResponseStream(stream_plan(), shape())
    stream.feed(
        lines(openai(ROLE), openai('{"content":"a"}'), openai("{}", '"stop"'), openai_usage(20, 3, 16, 2), DONE)
    )
    usage, source = stream.usage()
    assert source is UsageSource.UPSTREAM
    assert (usage.prompt, usage.completion, usage.cached, usage.reasoning) == (20, 3, 16, 2)
    assert stream.upstream_id == "chatcmpl-Dz"


def test_e4_5_only_usage_can_follow_the_finish_reason():
    stream, _ = failing(chunks('{"content":"a"}', done=False))
    assert stream.all_finished
    assert not stream.ended


def test_e2_3_a_whole_body_where_a_stream_was_asked_for_becomes_a_stream():
    body = (
        b'{"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"m","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
    )
    assert said_by(read(respond(body)), "output_text") == "Hi"


def test_f6_4_log_probabilities_stand_beside_their_text():
    entry = '{"token":"a","logprob":-0.25,"bytes":[97],"top_logprobs":[]}'
    delta = vllm('{"content":"a"}').replace('"logprobs":null', f'"logprobs":{{"content":[{entry}],"refusal":null}}')
    out = respond(lines(vllm(ROLE), delta, vllm('{"content":"b"}'), vllm("{}", '"stop"'), DONE))
    assert read(out)["output"][0]["content"][0]["logprobs"] == [json.loads(entry)]
    assert [event["logprobs"] for event in parse(out) if event["type"] == "response.output_text.delta"] == [
        [json.loads(entry)],
        [],
    ]


@pytest.mark.parametrize(
    "tokens", [["\\n", "Hi", "!"], ["<think>", "Hm", "</think>", "\\n", "Hi"], ["Hi"]], ids=["blanks", "tags", "text"]
)
def test_d4_12_log_probabilities_are_those_of_the_whole_answer_whatever_was_held_back(tokens: list[str]):
    entries = [f'{{"token":"{token}","logprob":-0.25,"bytes":null,"top_logprobs":[]}}' for token in tokens]
    said = [
        vllm(f'{{"content":"{token}"}}').replace('"logprobs":null', f'"logprobs":{{"content":[{entry}]}}')
        for token, entry in zip(tokens, entries, strict=True)
    ]
    stream = ResponseStream(replace(stream_plan(), reasoning=split("tags")), shape())
    out = stream.feed(lines(vllm(ROLE), *said, vllm("{}", '"stop"'), DONE))
    *_, part = read(out)["output"][-1]["content"]
    assert part["logprobs"] == [json.loads(entry) for entry in entries]


@pytest.mark.parametrize("logprobs", ["[]", "{}", '"x"', '{"content":{}}', '{"content":null}'])
def test_log_probabilities_that_are_none_cost_no_text(logprobs: str):
    delta = vllm('{"content":"a"}').replace('"logprobs":null', f'"logprobs":{logprobs}')
    assert said_by(read(respond(lines(vllm(ROLE), delta, vllm("{}", '"stop"'), DONE))), "output_text") == "a"


def test_another_choice_is_not_mixed_into_the_first():
    sent = lines(
        openai(ROLE, index=0),
        openai(ROLE, index=1),
        *(openai(f'{{"content":"{text}"}}', index=index) for index, text in enumerate("ab" * 3)),
        *(openai(f'{{"content":"{text}"}}', index=number % 2) for number, text in enumerate("ab" * 3)),
        openai("{}", '"stop"', index=1),
        openai("{}", '"length"', index=0),
        DONE,
    )
    response = read(respond(sent))
    assert said_by(response, "output_text") == "aaaa"
    assert response["status"] == "incomplete"


@pytest.mark.parametrize("ids", [("c1", "c2"), ("", "")])
def test_f6_8_calls_that_their_provider_does_not_number_are_told_apart_by_id_or_name(ids: tuple[str, str]):
    def piece(number: int, arguments: str, *, first: bool) -> str:
        begun = {"id": ids[number], "function": {"name": "fg"[number], "arguments": arguments}}
        call = begun if first else {"id": ids[number], "function": {"arguments": arguments}}
        return json.dumps({"tool_calls": [call]})

    out = respond(
        chunks(
            piece(0, '{"a":', first=True), piece(0, "1}", first=False), piece(1, "{", first=True),
            piece(1, "}", first=False), finish="tool_calls",
        )
    )  # fmt: skip
    calls = read(out)["output"]
    assert [(call["name"], call["arguments"]) for call in calls] == [("f", '{"a":1}'), ("g", "{}")]


def test_the_older_form_of_a_call_is_a_call():
    deltas = ['{"function_call":{"name":"f","arguments":""}}', '{"function_call":{"arguments":"[1]"}}']
    (call,) = read(respond(chunks(*deltas, finish="function_call")))["output"]
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "f", "[1]")


def test_several_things_in_one_delta_come_out_one_after_the_other():
    call = '[{"index":%d,"id":"c%d","type":"function","function":{"name":"f","arguments":"{}"}}]'
    calls = f"{(call % (0, 0))[:-1]},{(call % (1, 1))[1:]}"
    out = respond(chunks(f'{{"content":"b","reasoning":"a","refusal":"c","tool_calls":{calls}}}'))
    response = read(out)
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert [part["type"] for part in response["output"][1]["content"]] == ["output_text", "refusal"]


@pytest.mark.parametrize(
    "said",
    [
        ['{"content":"0123456789"}'],
        ['{"reasoning":"0123456789"}'],
        ['{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"0123456789"}}]}'],
        ['{"content":"0"}', '{"reasoning":"1"}'],
    ],
    ids=["text", "reasoning", "arguments", "items"],
)
def test_a_response_that_grows_beyond_all_bounds_is_given_up(said: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(response_stream, "MAX_KEPT", 4_000)
    stream = ResponseStream(stream_plan(), shape())
    out = b"".join([stream.feed(piece) for piece in event_by_event(chunks(*said * 1_000))])
    assert stream.error is not None
    assert stream.error.kind == "upstream_bad_response"
    assert not stream.ended
    assert stream.feed(lines(vllm('{"content":"a"}'))) == b""
    assert len(out) < 200_000
    Grammar().take_all(parse(out + stream.fail(stream_fault(stream.error), REQUEST)))


@pytest.mark.parametrize("delta", ['{"content":"%s"}', '{"reasoning":"%s"}', '{"refusal":"%s"}'])
def test_a_large_event_beyond_these_bounds_is_billed_and_not_said(delta: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(response_stream, "MAX_KEPT", LARGE)
    stream = ResponseStream(stream_plan(), shape())
    out = stream.feed(chunks('{"content":"a"}', delta % ("b" * LARGE), '{"content":"c"}'))
    assert stream.error is not None
    assert not stream.ended
    assert b"b" * 1_000 not in out
    assert b"response.completed" not in out
    assert stream.progress()[1] > LARGE
    Grammar().take_all(parse(out + stream.fail(stream_fault(stream.error), REQUEST)))


def test_what_cannot_be_read_as_a_chunk_is_dropped_and_counted():
    stream = ResponseStream(stream_plan(), shape())
    stream.feed(lines(vllm(ROLE), vllm('{"content":"a"}')))
    assert stream._read(b'data: {"choices":[{"delta":[]}]}') == b""
    assert stream._dropped == 1


@pytest.mark.parametrize("recorded", COMPLETE, ids=str)
@pytest.mark.parametrize("separate", [True, False])
def test_every_recorded_stream_is_well_formed_and_complete(recorded, separate: bool):
    stream = ResponseStream(stream_plan(recorded.strip), shape(separate=separate))
    response = read(stream.feed(recorded.sent) + stream.end())
    assert said_by(response, "output_text") == recorded.text.get(0, "")
    assert said_by(response, "reasoning", "reasoning_text") == recorded.reasoning.get(0, "")
    calls = [item["arguments"] for item in response["output"] if item["type"] == "function_call"]
    assert calls == list(recorded.arguments.values())
    usage, source = stream.usage()
    assert ((usage.prompt, usage.completion, usage.cached), source) == (recorded.usage, recorded.source)
    assert response["usage"]["total_tokens"] == usage.prompt + usage.completion


@pytest.mark.parametrize("recorded", FAILED, ids=str)
def test_every_recorded_failure_is_well_formed(recorded):
    stream = ResponseStream(stream_plan(recorded.strip), shape())
    out = stream.feed(recorded.sent) + stream.end()
    assert stream.error is not None
    assert stream.error.kind == recorded.error
    assert bool(out) == stream.committed
    assert not [event for event in parse_begun(out) if event["type"] in TERMINAL]
    failed = Grammar().take_all(parse(out + stream.fail(FAULT, REQUEST)))
    assert said_by(failed, "output_text") == recorded.text.get(0, "")


def played(pieces: list[bytes]) -> bytes:
    stream = ResponseStream(stream_plan(), shape())
    out = b"".join([stream.feed(piece) for piece in pieces]) + stream.end()
    return out if stream.error is None else out + stream.fail(FAULT, REQUEST)


@pytest.mark.parametrize("recorded", RECORDED, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_nothing_depends_on_the_size_of_the_pieces(recorded, size: int):
    assert played(in_pieces_of(size, recorded.sent)) == played([recorded.sent])


@settings(deadline=None)
@given(recorded=st.sampled_from(RECORDED), places=st.lists(st.integers(0, 1 << 16), max_size=40))
def test_nothing_depends_on_where_the_bytes_are_cut(recorded, places: list[int]):
    assert played(cut_at(places, recorded.sent)) == played([recorded.sent])


@pytest.mark.parametrize("recorded", RECORDED, ids=str)
def test_nothing_depends_on_how_many_events_come_at_once(recorded):
    assert played(event_by_event(recorded.sent)) == played([recorded.sent])


@settings(deadline=None)
@given(recorded=st.sampled_from(RECORDED), at=st.integers(0, 1 << 16))
def test_nothing_but_the_beginning_depends_on_when_the_answer_begins(recorded, at: int):
    stream = ResponseStream(stream_plan(), shape())
    first, rest = cut_at([at], recorded.sent)
    out = stream.feed(first) + stream.commit() + stream.feed(rest) + stream.end()
    out += b"" if stream.error is None else stream.fail(FAULT, REQUEST)
    whole = played([recorded.sent])
    assert out == whole or (not whole.count(b"response.output_item.added") and Grammar().take_all(parse(out)))


@settings(deadline=None)
@given(
    recorded=st.sampled_from(RECORDED),
    damage=st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=3)), min_size=1, max_size=4),
    places=st.lists(st.integers(0, 1 << 16), max_size=8),
    separate=st.booleans(),
)
def test_a_damaged_stream_keeps_the_grammar_and_ends_once(recorded, damage: list, places: list[int], separate: bool):
    sent = damaged(recorded.sent, damage)
    stream = ResponseStream(stream_plan(), shape(separate=separate))
    out = b"".join([stream.feed(piece) for piece in cut_at(places, sent)]) + stream.end()
    assert stream.ended != (stream.error is not None)
    read(out if stream.ended else out + stream.fail(FAULT, REQUEST))


def test_an_estimate_is_what_the_plan_makes_of_the_bytes():
    stream = ResponseStream(stream_plan(), shape())
    stream.feed(chunks('{"content":"12345678"}'))
    assert stream.usage() == (Usage(PROMPT, 2), UsageSource.ESTIMATED)


def test_ids_are_made_by_the_plan():
    assert counted("x")() == "x1"
    assert the_response(respond(chunks('{"content":"a"}')))["output"][0]["id"] == "msg_1"
