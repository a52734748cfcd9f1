"""A native stream that fails tells so in the form in which the gateway's own streams do, with all that was said."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_events import (
    BEGUN,
    FAULT,
    ITEM_DONE,
    PLACE,
    SAID,
    SHOWN,
    STREAM,
    TOLD,
    USAGE,
    delta,
    feed,
    lifecycle,
    play,
    stream,
    told,
)
from playing import CATALOG, NOW, PROMPT, cut_at
from response_reading import DONE, REQUEST, chunks, damaged, parse, read, respond

from proxy.usage import Usage, UsageSource
from proxy.wire import native_output
from proxy.wire.native_answer import NativePlan

FLAT = told("error", 5, ',"code":"server_error","message":"CUDA on 10.0.0.7","param":null')
NESTED = told("error", 5, ',"error":{"type":"server_error","code":"server_error","message":"CUDA on 10.0.0.7"}')
FAILED = lifecycle("failed", 5, error='{"code":"server_error","message":"CUDA on 10.0.0.7"}')
CHAT = 'data: {"error":{"message":"CUDA on 10.0.0.7","code":500}}\n\n'
FIELD = 'error: {"message":"CUDA on 10.0.0.7"}\n\n'
failures = pytest.mark.parametrize(
    "failure", [FLAT, NESTED, FAILED, CHAT, FIELD], ids=["flat", "nested", "failed", "chat", "field"]
)


def failed_after(*events: str) -> dict:
    """The response that is told to have failed after these events, which were begun."""
    fed, out = feed(*events)
    assert fed.error is None
    return parse(out + fed.fail(FAULT, REQUEST))[-1]["response"]


def added(item: str, number: int = 2, index: int = 0) -> str:
    return told("response.output_item.added", number, f',"output_index":{index},"item":{item}')


@failures
def test_an_error_before_any_output_is_left_to_be_answered_as_an_error(failure: str):
    fed, out = feed(*BEGUN, failure)
    assert (out, fed.committed) == (b"", False)
    assert fed.error is not None
    assert fed.error.body.message == "CUDA on 10.0.0.7"


@failures
def test_b3_3_an_error_after_output_is_told_in_the_gateway_s_words_and_numbered_on(failure: str):
    fed, out = feed(*BEGUN, SAID[0], failure)
    assert fed.error is not None
    out += fed.fail(FAULT, REQUEST)
    assert b"CUDA" not in out
    *_, last, error, failed = parse(out)
    assert last["type"] == "response.output_text.delta"
    assert [event["sequence_number"] for event in (last, error, failed)] == [4, 5, 6]
    assert error["error"]["message"] == f"It failed; try again. (request {REQUEST})"
    assert failed["response"]["id"] == "resp_up"
    assert failed["response"]["model"] == CATALOG
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert fed.feed(SAID[1].encode()) == b""


def test_a_failed_response_that_is_not_told_is_a_failure_all_the_same():
    fed, out = feed(*BEGUN, SAID[0], told("response.failed", 5))
    assert fed.error is not None
    assert b"response.failed" not in out


def test_a_limit_of_the_provider_s_is_named_as_one():
    fed, _ = feed(lifecycle("failed", 0, error='{"code":"rate_limit_exceeded","message":"slow down"}'))
    assert fed.error is not None
    assert fed.error.kind == "upstream_rate_limited"


def test_g3_a_failure_is_billed_by_its_usage_if_it_tells_one():
    fed, _ = feed(*BEGUN, SAID[0], lifecycle("failed", 5, USAGE, error='{"code":"server_error","message":"x"}'))
    assert fed.usage() == (TOLD, UsageSource.UPSTREAM)
    assert parse(fed.fail(FAULT, REQUEST))[-1]["response"]["usage"]["total_tokens"] == 25


def test_g3_a_failure_that_tells_no_usage_is_billed_by_what_was_received():
    fed, _ = feed(*BEGUN, delta("12345678", 4), NESTED)
    assert fed.usage() == (Usage(PROMPT, 2), UsageSource.ESTIMATED)


@pytest.mark.parametrize("rest", ["", "data: [DONE]\n\n", 'event: response.completed\ndata: {"type":"resp'])
def test_e5_4_a_stream_without_an_ending_is_an_error(rest: str):
    played, out = play(["".join([*BEGUN, *SAID, rest]).encode()])
    assert played.error is not None
    assert played.error.kind == "upstream_truncated"
    assert DONE not in out
    assert not played.ended


@pytest.mark.parametrize("half", [delta("if (a) {b}", 5), delta("}", 5)], ids=["code", "brace"])
@pytest.mark.parametrize("named", [True, False], ids=["with its event line", "without"])
def test_b3_4_half_an_event_that_looks_like_a_whole_one_is_never_sent(half: str, named: bool):
    half = half[: half.index('}"') + 1]
    sent = "".join([*BEGUN, SAID[0], half if named else half[half.index("data:") :]])
    played, out = play([sent.encode()])
    assert played.error is not None
    assert played.error.kind == "upstream_truncated"
    parse(out + played.fail(FAULT, REQUEST))
    assert out.endswith(SAID[0].encode())


def test_e2_1_a_last_event_without_its_blank_line_is_sent():
    played, out = play([STREAM.removesuffix("\n\n").encode()])
    assert played.ended
    assert out == SHOWN


# What was said


def test_f6_10_an_item_that_was_done_is_in_the_response_that_failed_as_it_came():
    item = '{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[]}'
    done = told("response.output_item.done", 9, f',"output_index":0,"item":{item}')
    assert failed_after(*BEGUN, SAID[0], done)["output"] == [json.loads(item)]


def test_f6_10_an_item_that_was_open_is_in_the_response_that_failed_incomplete_with_its_text_so_far():
    (item,) = failed_after(*BEGUN, delta("Hel", 4), delta(r"lo \"you\" é", 5))["output"]
    text = {"type": "output_text", "text": 'Hello "you" é', "annotations": [], "logprobs": []}
    assert item == {"id": "msg_9", "type": "message", "status": "incomplete", "role": "assistant", "content": [text]}


def test_f6_10_items_stand_in_their_order_whether_they_were_done_or_not():
    call = '{"id":"fc_1","type":"function_call","status":"in_progress","call_id":"c","name":"f","arguments":""}'
    argued = told("response.function_call_arguments.delta", 9, r',"output_index":1,"delta":"{\"a\":"')
    message, call_so_far = failed_after(*BEGUN, *SAID, ITEM_DONE, added(call, 8, 1), argued)["output"]
    assert (message["status"], call_so_far["status"]) == ("completed", "incomplete")
    assert call_so_far == {**json.loads(call), "arguments": '{"a":', "status": "incomplete"}


@pytest.mark.parametrize(
    ("item", "event", "shown"),
    [
        ({"type": "reasoning", "summary": []}, "reasoning_summary_text", {"summary": "summary_text"}),
        ({"type": "reasoning", "summary": [], "content": []}, "reasoning_text", {"content": "reasoning_text"}),
        ({"type": "mcp_call", "arguments": ""}, "mcp_call_arguments", {"arguments": "said"}),
        ({"type": "custom_tool_call", "input": ""}, "custom_tool_call_input", {"input": "said"}),
        ({"type": "code_interpreter_call", "code": ""}, "code_interpreter_call_code", {"code": "said"}),
        ({"type": "some_later_call"}, "some_later_call", {}),
    ],
    ids=str,
)
def test_f6_10_every_kind_of_item_shows_what_was_said_of_it(item: dict, event: str, shown: dict):
    rest = ',"output_index":0,"summary_index":0,"content_index":0,"delta":"said"'
    said = told(f"response.{event}.delta", 3, rest)
    texts = {
        name: [{"type": kind, "text": "said"}] if name in {"summary", "content"} else kind
        for name, kind in shown.items()
    }
    (failed,) = failed_after(*BEGUN[:2], added(json.dumps(item)), said)["output"]
    assert failed == {**item, "status": "incomplete", **texts}


def test_f6_10_a_part_that_was_begun_and_says_nothing_yet_is_there():
    refused = told("response.content_part.added", 5, f',{PLACE[:-1]}1,"part":{{"type":"refusal","refusal":""}}')
    (item,) = failed_after(*BEGUN, SAID[0], refused)["output"]
    assert [part["type"] for part in item["content"]] == ["output_text", "refusal"]


def test_f6_10_a_part_that_was_begun_is_there_beside_half_a_pair_too():
    refused = told("response.content_part.added", 5, f',{PLACE[:-1]}1,"part":{{"type":"refusal","refusal":""}}')
    (item,) = failed_after(*BEGUN, delta(r"a\ud83d", 4), refused)["output"]
    assert [part["type"] for part in item["content"]] == ["output_text", "refusal"]


def test_f6_10_half_a_pair_in_what_was_said_survives():
    item = r'{"id":"msg_9","type":"message","role":"assistant","note":"\ud83d"}'
    fed, out = feed(*BEGUN[:2], added(item), delta(r"a\ud83d", 3), delta(r"\ud83db", 4))
    out += fed.fail(FAULT, REQUEST)
    assert rb'"text":"a\ud83d\ud83db"' in out
    assert rb'"note":"\ud83d"' in out


@pytest.mark.parametrize("item", ["null", "7", "[]", "{"], ids=str)
def test_an_item_that_is_none_is_not_shown(item: str):
    assert failed_after(*BEGUN[:2], added(item), delta("a", 3), SAID[0])["output"] == []


def test_an_item_with_parts_that_are_none_is_shown_as_it_came():
    item = '{"content":[7],"summary":{}}'
    done = told("response.output_item.done", 5, f',"output_index":1,"item":{item}')
    (_, shown) = failed_after(*BEGUN, SAID[0], done)["output"]
    assert shown == json.loads(item)


def test_what_is_kept_of_a_response_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native_output, "MAX_KEPT", 1000)
    fed, out = feed(*BEGUN)
    said = 400 * [delta("a" * 100, 5).encode()]
    out += b"".join([fed.feed(piece) for piece in said])
    (item,) = parse(out + fed.fail(FAULT, REQUEST))[-1]["response"]["output"]
    assert len(item["content"][0]["text"]) < 1000
    fed.feed(added('{"type":"message"}', 6, 1).encode())
    fed.feed(ITEM_DONE.encode())
    assert fed._output.items() == []
    assert fed._output.size() == 400 * 100


def test_of_parts_that_say_nothing_no_more_is_kept_either(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native_output, "MAX_KEPT", 1000)
    part = '"part":{"type":"refusal","refusal":""}'
    parts = [told("response.content_part.added", n, f',"output_index":0,"content_index":{n},{part}') for n in range(99)]
    fed, out = feed(*BEGUN, *parts, SAID[0])
    (item,) = parse(out + fed.fail(FAULT, REQUEST))[-1]["response"]["output"]
    assert len(item["content"]) < 1000 / 64


def test_of_items_that_are_done_no_more_is_kept_either(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native_output, "MAX_KEPT", 1000)
    item = json.dumps({"id": "x", "type": "image_generation_call", "result": "a" * 200})
    done = [told("response.output_item.done", n, f',"output_index":{n},"item":{item}') for n in range(2, 20)]
    assert failed_after(*BEGUN[:2], *done)["output"] == (999 // len(item)) * [json.loads(item)]


def gateway_s(*deltas: str) -> list[bytes]:
    """The events of a stream of a gateway like this one, which is a native provider to another."""
    events = respond(chunks(*deltas)).removesuffix(DONE).split(b"\n\n")[:-1]
    return [event + b"\n\n" for event in events]


DELTAS = [
    *('{"reasoning":"Hm, "}', '{"reasoning":"well."}', '{"content":"Hel"}', r'{"content":"lo \n\ud83d\ude00"}'),
    '{"refusal":"no"}',
    r'{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":"}}]}',
    '{"tool_calls":[{"index":1,"id":"d","type":"function","function":{"name":"g","arguments":""}}]}',
    '{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}',
]
EVENTS = gateway_s(*DELTAS)


@pytest.mark.parametrize("broken_after", range(len(EVENTS) - 1))
@pytest.mark.parametrize("at_once", [True, False])
def test_f6_2_f6_10_wherever_a_stream_breaks_off_it_keeps_the_grammar(
    broken_after: int, at_once: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(native_output, "FOLD_AT", 900)  # so that some of them are read before the end, and some at it
    fed = stream(NativePlan(CATALOG))
    came = EVENTS[:broken_after]
    out = fed.commit() + b"".join([fed.feed(piece) for piece in ([b"".join(came)] if at_once else came)])
    assert read(out + fed.fail(FAULT, REQUEST))["status"] == "failed"


# Before the provider has told of a response


@pytest.mark.parametrize("sent", ["", ": waiting\n\n", 'event: x\ndata: {"broken\n\n', "{"])
def test_f6_2_a_slow_stream_that_fails_before_its_first_event_begins_and_ends_as_every_other(sent: str):
    fed = stream(NativePlan(CATALOG, metadata=b'{"a":1}'))
    out = fed.commit() + fed.feed(sent.encode()) + fed.end()
    assert fed.error is not None
    response = read(out + fed.fail(FAULT, REQUEST))
    assert (response["id"], response["model"], response["created_at"]) == ("resp_0", CATALOG, NOW)
    assert response["output"] == []


def test_f6_2_a_slow_stream_whose_first_event_is_its_failure_begins_before_it_fails():
    fed = stream()
    out = fed.commit() + fed.feed(lifecycle("failed", 0, USAGE, error='{"code":"server_error"}').encode())
    assert fed.error is not None
    created, in_progress, error, failed = parse(out + fed.fail(FAULT, REQUEST))
    assert created["type"] == "response.created"
    assert in_progress["type"] == "response.in_progress"
    begun = in_progress["response"]
    assert (begun["id"], begun["status"], begun["usage"], begun["error"]) == ("resp_up", "in_progress", None, None)
    assert (error["type"], failed["response"]["usage"]["total_tokens"]) == ("error", 25)


def test_what_came_before_the_response_counts_in_the_numbers():
    fed = stream()
    out = fed.commit() + fed.feed(told("keepalive", 0).encode())
    events = parse(out + fed.fail(FAULT, REQUEST))
    assert [event["type"] for event in events[1:]] == [
        *("response.created", "response.in_progress", "error", "response.failed")
    ]
    assert [event["sequence_number"] for event in events] == [0, 1, 2, 3, 4]


def test_f6_2_a_stream_that_never_told_of_its_response_does_not_begin_behind_what_it_said():
    fed, out = feed(*BEGUN[2:], SAID[0])
    events = parse(out + fed.fail(FAULT, REQUEST))
    assert [event["type"] for event in events[-3:]] == ["response.output_text.delta", "error", "response.failed"]
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Hel"


# Numbers


def test_f6_1_events_without_numbers_are_counted():
    fed, _ = feed("".join([*BEGUN, SAID[0]]).replace('"sequence_number":', '"old_number":'))
    error, failed = parse(fed.fail(FAULT, REQUEST))
    assert (error["sequence_number"], failed["sequence_number"]) == (5, 6)


@pytest.mark.parametrize("number", ["7", "7 ", "\t7"])
@pytest.mark.parametrize("trap", ['"sequence_number":99', '"a":"\\"sequence_number\\":99"', '"a":"\\ud83d"'])
def test_f6_1_the_number_of_an_event_is_its_own_and_not_one_that_it_speaks_of(number: str, trap: str):
    last = f'data: {{"type":"response.custom","sequence_number":{number},"x":{{{trap}}}}}\n\n'
    fed, _ = feed(*BEGUN, SAID[0], last)
    assert parse(fed.fail(FAULT, REQUEST))[0]["sequence_number"] == 8


@pytest.mark.parametrize("number", ["-1", "1.5", '"7"', "null", "1e400"])
def test_a_number_that_is_none_is_counted_over(number: str):
    fed, _ = feed(*BEGUN, SAID[0], f'data: {{"type":"response.custom","sequence_number":{number}}}\n\n')
    assert parse(fed.fail(FAULT, REQUEST))[0]["sequence_number"] == 6


# Whatever comes


def test_events_that_cannot_be_read_are_dropped_and_counted_and_three_in_a_row_end_the_stream():
    broken = 'event: x\ndata: {"error\n\n'
    assert feed(broken, broken)[0].error is None
    assert feed(broken, broken, broken)[0].error is not None
    fed, out = feed(*BEGUN, SAID[0], broken, broken, SAID[1], broken, "data: \n\n", broken)
    assert (fed.dropped, fed.error) == (4, None)
    assert out.endswith(SAID[1].encode())
    fed.feed(broken.encode())
    assert fed.error is not None
    assert fed.error.kind == "upstream_bad_response"


def test_bytes_that_are_no_utf8_never_reach_a_client():
    fed, _ = feed(*BEGUN, SAID[0])
    assert fed.feed(delta("a", 5).encode().replace(b'"a"', b'"\xff"')) == b""
    assert fed.dropped == 1


def test_an_event_that_is_too_large_ends_the_stream():
    fed, _ = feed(*BEGUN, SAID[0])
    fed.feed(b"data: {" + b"a" * 17 * 1024 * 1024)
    assert fed.error is not None
    assert fed.error.kind == "upstream_bad_response"


def test_an_event_that_is_nested_beyond_all_bounds_costs_nothing_but_itself():
    deep = '"x":' + "[" * 100_000 + "]" * 100_000
    nested = told("response.output_text.delta", 5, f',{PLACE},"delta":"b",{deep}')
    fed, _ = feed(*BEGUN, delta("1234", 4))
    fed.feed(nested.encode())
    assert fed.usage() == (Usage(PROMPT, 1), UsageSource.ESTIMATED)
    assert [event["sequence_number"] for event in parse(fed.fail(FAULT, REQUEST))] == [5, 6]


@settings(deadline=None)
@given(
    damage=st.lists(st.tuples(st.integers(0, 1 << 14), st.binary(max_size=3)), min_size=1, max_size=4),
    places=st.lists(st.integers(0, 1 << 14), max_size=8),
)
def test_a_damaged_stream_ends_once_and_is_utf8(damage: list[tuple[int, bytes]], places: list[int]):
    played, out = play(cut_at(places, damaged(STREAM.encode(), damage)))
    assert played.ended != (played.error is not None)
    assert out.decode().count("data: [DONE]\n\n") == (1 if played.ended else 0)
    assert played.usage()[0].prompt >= 0
    (out + played.fail(FAULT, REQUEST)).decode()
