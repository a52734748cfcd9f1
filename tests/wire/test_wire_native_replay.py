"""One JSON body from a native provider where a stream was asked for becomes the stream that it might have been."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_events import FAULT, TOLD, USAGE, play, response, stream
from openai.types.responses import ResponseStreamEvent
from playing import CATALOG, in_pieces_of
from pydantic import TypeAdapter
from response_reading import REQUEST, Grammar, counted, ends_with_its_items, parse, read, shape

from proxy.usage import Usage, UsageSource
from proxy.wire import native_response
from proxy.wire.chat_answer import read_answer
from proxy.wire.native_answer import NativePlan
from proxy.wire.response_answer import write_response

LETTERS = 'ab "\\\n{é世😀\ud83d\ude00'
MESSAGE = {
    "id": "msg_9",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hi.", "annotations": [{"type": "url_citation"}], "logprobs": []}],
}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}}
official = TypeAdapter(ResponseStreamEvent)


def body(*items: dict, status: str = "completed", usage: str = USAGE, **more: str) -> bytes:
    return response(status, usage, **more).replace('"output":[]', f'"output":{json.dumps(items)}').encode()


def replayed(*items: dict, **more: str) -> list[dict]:
    played, out = play([body(*items, **more)])
    assert (played.ended, played.error) == (True, None)
    return parse(out)


def said_of(item: dict) -> list[dict]:
    """The events about the one item of a response, with what each says beside its place and number."""
    about = []
    for number, event in enumerate(replayed(item)):
        assert event.pop("sequence_number") == number
        assert event.pop("output_index", 0) == 0
        assert event.pop("item_id", item.get("id", "")) == item.get("id", "")
        about.append(event)
    assert [event["type"] for event in (*about[:2], about[-1])] == [
        *("response.created", "response.in_progress", "response.completed")
    ]
    return about[2:-1]


def test_e2_3_a_whole_response_where_a_stream_was_asked_for_becomes_a_stream():
    played, out = play(in_pieces_of(7, b"\xef\xbb\xbf\n" + body(MESSAGE)))
    assert parse(out)[-1]["response"] == {**json.loads(body(MESSAGE)), "model": CATALOG}
    assert (played.upstream_id, played.usage()) == ("resp_up", (TOLD, UsageSource.UPSTREAM))


def test_a_body_over_many_lines_becomes_events_of_one():
    whole = json.loads(body(MESSAGE, rest=',"instructions":"a\\nb","tools":[{"type":"mcp"}]'))
    events = parse(play([json.dumps(whole, indent=2).replace("\n", "\r\n").encode()])[1])
    assert events[-1]["response"] == {**whole, "model": CATALOG}


def test_e2_3_what_began_as_a_stream_that_says_nothing_may_still_be_one_body():
    fed = stream()
    out = fed.commit() + fed.feed(body(MESSAGE)[:9]) + fed.feed(body(MESSAGE)[9:]) + fed.end()
    assert parse(out)[-1]["response"]["output"] == [MESSAGE]


def test_f6_2_it_begins_with_a_response_that_has_said_nothing():
    created, in_progress = replayed(MESSAGE, rest=',"completed_at":1790000009,"incomplete_details":null')[:2]
    whole = json.loads(body())
    begun = {**whole, "status": "in_progress", "model": CATALOG, "usage": None, "incomplete_details": None}
    assert created["response"] == in_progress["response"] == begun


def test_f6_4_a_message_is_said_part_by_part():
    assert said_of({**MESSAGE, "content": [*MESSAGE["content"], {"type": "refusal", "refusal": "No."}]}) == [
        {"type": "response.output_item.added", "item": {**MESSAGE, "status": "in_progress", "content": []}},
        {
            "type": "response.content_part.added",
            "content_index": 0,
            "part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
        },
        {"type": "response.output_text.delta", "content_index": 0, "delta": "Hi.", "logprobs": []},
        {"type": "response.output_text.done", "content_index": 0, "text": "Hi.", "logprobs": []},
        {"type": "response.content_part.done", "content_index": 0, "part": MESSAGE["content"][0]},
        {"type": "response.content_part.added", "content_index": 1, "part": {"type": "refusal", "refusal": ""}},
        {"type": "response.refusal.delta", "content_index": 1, "delta": "No."},
        {"type": "response.refusal.done", "content_index": 1, "refusal": "No."},
        {"type": "response.content_part.done", "content_index": 1, "part": {"type": "refusal", "refusal": "No."}},
        {
            "type": "response.output_item.done",
            "item": {**MESSAGE, "content": [*MESSAGE["content"], {"type": "refusal", "refusal": "No."}]},
        },
    ]


def test_f6_5_reasoning_is_said_as_summary_and_as_text():
    summary, text = {"type": "summary_text", "text": "Hm."}, {"type": "reasoning_text", "text": "Well."}
    item = {"id": "rs_1", "type": "reasoning", "summary": [summary], "content": [text], "encrypted_content": "x"}
    assert said_of(item) == [
        {"type": "response.output_item.added", "item": {**item, "summary": [], "content": []}},
        {"type": "response.reasoning_summary_part.added", "summary_index": 0, "part": {**summary, "text": ""}},
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "Hm."},
        {"type": "response.reasoning_summary_text.done", "summary_index": 0, "text": "Hm."},
        {"type": "response.reasoning_summary_part.done", "summary_index": 0, "part": summary},
        {"type": "response.content_part.added", "content_index": 0, "part": {**text, "text": ""}},
        {"type": "response.reasoning_text.delta", "content_index": 0, "delta": "Well."},
        {"type": "response.reasoning_text.done", "content_index": 0, "text": "Well."},
        {"type": "response.content_part.done", "content_index": 0, "part": text},
        {"type": "response.output_item.done", "item": item},
    ]


@pytest.mark.parametrize(
    ("kind", "key", "events", "named"),
    [
        ("function_call", "arguments", "response.function_call_arguments", {"name": "f"}),
        ("mcp_call", "arguments", "response.mcp_call_arguments", {"name": "f"}),
        ("custom_tool_call", "input", "response.custom_tool_call_input", {}),
        ("code_interpreter_call", "code", "response.code_interpreter_call_code", {}),
    ],
)
def test_f6_7_a_call_is_said_with_its_arguments(kind: str, key: str, events: str, named: dict):
    item = {"id": "fc_1", "type": kind, "status": "completed", "call_id": "c", key: '{"a":1}', **named}
    assert said_of(item) == [
        {"type": "response.output_item.added", "item": {**item, "status": "in_progress", key: ""}},
        {"type": f"{events}.delta", "delta": '{"a":1}'},
        {"type": f"{events}.done", key: '{"a":1}', **named},
        {"type": "response.output_item.done", "item": item},
    ]


def test_f6_11_what_says_nothing_is_opened_and_closed_without_a_delta():
    empty = {**MESSAGE, "content": [{"type": "output_text", "text": "", "annotations": []}]}
    call = {"type": "function_call", "name": "f", "arguments": ""}
    for item in (empty, call):
        kinds = [event["type"] for event in said_of(item)]
        assert not [kind for kind in kinds if kind.endswith(".delta")]
        assert (kinds[0], kinds[-1]) == ("response.output_item.added", "response.output_item.done")


def test_items_and_parts_of_other_kinds_are_opened_and_closed_as_they_are():
    part = {"type": "some_later_part", "data": 1}
    assert said_of(SEARCH) == [
        {"type": "response.output_item.added", "item": {**SEARCH, "status": "in_progress"}},
        {"type": "response.output_item.done", "item": SEARCH},
    ]
    assert said_of({**MESSAGE, "content": [part]})[1:3] == [
        {"type": "response.content_part.added", "content_index": 0, "part": part},
        {"type": "response.content_part.done", "content_index": 0, "part": part},
    ]


def test_f6_3_items_are_numbered_in_their_order():
    events = replayed(SEARCH, MESSAGE)
    indexes = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    assert indexes == [0, 1]
    assert events[-1]["response"]["output"] == [SEARCH, MESSAGE]


def test_f6_10_an_incomplete_response_ends_as_one():
    last = replayed(MESSAGE, status="incomplete", rest=',"incomplete_details":{"reason":"max_output_tokens"}')[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_response_that_does_not_tell_its_status_is_complete():
    sent = body(MESSAGE).replace(b'"status":"completed","error"', b'"error"')
    last = parse(play([sent])[1])[-1]
    assert (last["type"], last["response"]["status"]) == ("response.completed", "completed")


def test_g72_metadata_and_secrets_are_as_in_every_answer():
    plan = NativePlan(CATALOG, metadata=b'{"a":1}', strip_fields=("provider",))
    paid = USAGE[:-1] + ',"cost":0.01}'
    out = play([body(MESSAGE, usage=paid, rest=',"provider":"Fireworks"')], plan)[1]
    assert b"Fireworks" not in out
    assert b"cost" not in out
    assert [event["response"]["metadata"] for event in parse(out) if "response" in event] == [{"a": 1}] * 3


def test_g4_without_usage_it_is_billed_by_what_it_says():
    call = {"type": "function_call", "name": "four", "arguments": "{}12"}
    played, _ = play([body(MESSAGE, call, usage="null")])
    assert played._output.size() == len("Hi.") + len("four{}12")
    assert played.usage()[1] is UsageSource.ESTIMATED


@pytest.mark.parametrize(
    ("sent", "message"),
    [('{"error":{"message":"no such model","code":404}}', "no such model"), ('[{"error":{"message":"a"}}]', "a")],
)
def test_e2_3_an_error_in_a_body_where_a_stream_was_asked_for_is_that_error(sent: str, message: str):
    for pieces in ([sent.encode()], [b"\n", b"\xef\xbb\xbf"[:0], sent[:5].encode(), sent[5:].encode()]):
        played, out = play(pieces)
        assert out == b""
        assert played.error is not None
        assert played.error.body.message == message


@pytest.mark.parametrize(
    "sent",
    [
        *(body(status="queued"), body(status="in_progress"), body(status="cancelled")),
        *(b"<html>", b"[]", b"{", b'{"x":1}', b'{"output":[7]}', b'{"output":[{"content":[7]}]}'),
        b'{"id":"chatcmpl-1","object":"chat.completion","choices":[]}',
    ],
)
def test_any_other_body_where_a_stream_was_asked_for_is_a_bad_answer(sent: bytes):
    played, out = play([sent])
    assert out == b""
    assert played.error is not None
    assert played.error.kind == "upstream_bad_response"


def test_a_response_that_failed_fails_here_too():
    fed = stream()
    out = fed.commit() + fed.feed(body(status="failed", error='{"code":"server_error","message":"x"}')) + fed.end()
    assert fed.error is not None
    assert read(out + fed.fail(FAULT, REQUEST))["status"] == "failed"


def test_a_body_without_end_is_not_kept_without_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native_response, "MAX_JSON", 100)
    fed = stream()
    for _ in range(20):
        fed.feed(b'{"aaaaaaa')
    assert fed.error is not None
    assert len(fed._reader.body()) <= 109


def gateway_s(message: dict, finish: str) -> bytes:
    """A response of a gateway like this one, which is a native provider to another."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    chat = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    answer = read_answer(json.dumps(chat).encode(), new_id=counted("made"))
    return write_response(answer, shape(), Usage(12, 8, 4, prompt_details=(("cache_write_tokens", 2),)), counted())


def messages(letters: str) -> st.SearchStrategy[dict]:
    text = st.text(letters, max_size=6)
    functions = st.fixed_dictionaries({"name": st.just("f"), "arguments": text})
    calls = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": functions}), min_size=1)
    return st.fixed_dictionaries({"content": text}, optional={"reasoning": text, "refusal": text, "tool_calls": calls})


@settings(deadline=None)
@given(message=messages(LETTERS), finish=st.sampled_from(["stop", "length"]), size=st.integers(1, 99))
def test_any_response_is_replayed_in_the_grammar_and_loses_nothing(message: dict, finish: str, size: int):
    sent = gateway_s(message, finish)
    out = play(in_pieces_of(size, sent))[1]
    assert Grammar().take_all(parse(out)) == json.loads(sent)
    assert ends_with_its_items(out)


@settings(deadline=None)
@given(message=messages(LETTERS[:-2]))
def test_the_official_library_knows_every_event(message: dict):
    for event in parse(play([gateway_s(message, "stop")])[1]):
        assert official.validate_json(json.dumps(event)).type == event["type"]
