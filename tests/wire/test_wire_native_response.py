"""A provider's own responses reach the client as they came, but for the model's name, and are billed by what they say.

Streams first, then whole bodies.
"""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import CATALOG, PROMPT, cut_at, in_pieces_of
from response_reading import DONE, REQUEST, damaged, parse, parse_begun

from proxy.errors import ErrorType, Fault
from proxy.usage import Usage, UsageSource, tokens_of
from proxy.wire import native_output, native_response
from proxy.wire.native_answer import NativeAnswer, NativePlan, read_native_answer, write_native_answer
from proxy.wire.native_response import NativeStream
from proxy.wire.upstream_error import UpstreamError

PLAN = NativePlan(CATALOG)
FAULT = Fault(502, ErrorType.PROVIDER, "upstream_error", "It failed; try again.")
USAGE = (
    '{"input_tokens":20,"input_tokens_details":{"cached_tokens":16},"output_tokens":5,'
    '"output_tokens_details":{"reasoning_tokens":2},"total_tokens":25}'
)
TOLD = Usage(20, 5, 16, 2)
TRAP = r"\"response\":{\"model\":\"x\"} \"type\":\"error\" \"error\":{} [DONE]\n\ndata: {}"
PLACE = '"item_id":"msg_9","output_index":0,"content_index":0'
PART = '{"type":"output_text","text":"%s","annotations":[],"logprobs":[]}'
ITEM = '{"id":"msg_9","type":"message","status":"%s","role":"assistant","content":[%s]}'


def told(kind: str, number: int, rest: str = "") -> str:
    return f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":{number}{rest}}}\n\n'


def response(status: str, usage: str = "null", error: str = "null", rest: str = "") -> str:
    head = f'"id":"resp_up","object":"response","created_at":1790000000,"status":"{status}"'
    behind = f'"usage":{usage},"metadata":{{}},"temperature":1.0{rest}'
    return f'{{{head},"error":{error},"model":"gpt-up","output":[],{behind}}}'


def lifecycle(status: str, number: int, usage: str = "null", **more: str) -> str:
    written = response(status.replace("created", "in_progress"), usage, **more)
    return told(f"response.{status}", number, f',"response":{written}')


def delta(text: str, number: int, kind: str = "output_text") -> str:
    return told(f"response.{kind}.delta", number, f',{PLACE},"delta":"{text}","logprobs":[],"obfuscation":"xY3"')


BEGUN = [
    lifecycle("created", 0),
    lifecycle("in_progress", 1),
    told("response.output_item.added", 2, f',"output_index":0,"item":{ITEM % ("in_progress", "")}'),
    told("response.content_part.added", 3, f',{PLACE},"part":{PART % ""}'),
]
SAID = [delta("Hel", 4), delta(TRAP, 5), delta("lo – 世界", 6)]
ITEM_DONE = told("response.output_item.done", 7, f',"output_index":0,"item":{ITEM % ("completed", PART % "x")}')
ENDED = lifecycle("completed", 8, USAGE)
STREAM = "".join([*BEGUN, *SAID, ITEM_DONE, ENDED])
SHOWN = STREAM.replace('"model":"gpt-up"', f'"model":"{CATALOG}"').encode() + DONE


def stream(plan: NativePlan = PLAN) -> NativeStream:
    return NativeStream(plan, lambda output: Usage(PROMPT, tokens_of(output)))


def feed(*events: str, plan: NativePlan = PLAN) -> tuple[NativeStream, bytes]:
    fed = stream(plan)
    return fed, fed.feed("".join(events).encode())


def play(pieces: list[bytes], plan: NativePlan = PLAN) -> tuple[NativeStream, bytes]:
    played = stream(plan)
    out = b"".join([played.feed(piece) for piece in pieces]) + played.end()
    return played, out


def test_f1_2_nothing_changes_but_the_model_and_the_stream_ends_with_done():
    played, out = play([STREAM.encode()])
    assert out == SHOWN
    assert (played.ended, played.error, played.upstream_id) == (True, None, "resp_up")
    assert (played.dropped, played.stray_close_tags) == (0, 0)
    assert played.usage() == (TOLD, UsageSource.UPSTREAM)


def test_the_provider_s_own_done_is_not_doubled():
    assert play([STREAM.encode() + DONE])[1] == SHOWN


def test_a_stream_without_event_lines_stays_so():
    bare = re.sub(r"event: [^\n]+\n", "", STREAM)
    assert play([bare.encode()])[1] == re.sub(rb"event: [^\n]+\n", b"", SHOWN)


@pytest.mark.parametrize("at_once", [1, 3])
def test_e3_0_pieces_that_need_no_change_are_handed_on_as_the_very_objects_that_came(at_once: int):
    fed, _ = feed(*BEGUN, SAID[0])
    for number in range(3):
        piece = (delta(TRAP, number + 5) * at_once).encode()
        assert fed.feed(piece) is piece


def test_pieces_after_one_that_was_cut_are_handed_on_as_they_came_again():
    fed, begun = feed(*BEGUN, SAID[0])
    piece = delta("a", 5).encode()
    assert fed.feed(piece[:50]) + fed.feed(piece[50:]) == piece
    assert fed.feed(piece) is piece
    assert begun.endswith(SAID[0].encode())


def test_f1_2_id_and_retry_lines_and_comments_are_removed_and_event_lines_kept():
    noisy = STREAM.replace("event: ", "id: 7\nevent: ").replace("\n\n", "\n\n: ping\n\nretry: 3000\n\n")
    assert play([noisy.encode()])[1] == SHOWN


@pytest.mark.parametrize("eol", ["\r\n", "\r"])
def test_e2_1_other_line_ends_become_the_common_one(eol: str):
    assert play([STREAM.replace("\n", eol).encode()])[1] == SHOWN


def test_e2_1_a_byte_order_mark_and_data_over_several_lines_are_read():
    lines = STREAM.replace('"sequence_number":5', '\ndata: "sequence_number":5')
    for size in (1, 2, 1 << 20):
        pieces = in_pieces_of(size, b"\xef\xbb\xbf" + lines.encode())
        assert play(pieces)[1].replace(b' "seq', b'"seq') == SHOWN


def test_an_event_whose_data_do_not_name_its_kind_is_known_by_its_event_line():
    untyped = re.sub(r'"type":"response[^"]+",', "", STREAM)
    played, out = play([untyped.encode()])
    assert played.ended
    assert out == re.sub(rb'"type":"response[^"]+",', b"", SHOWN)


@settings(deadline=None)
@given(places=st.lists(st.integers(0, 1 << 14), max_size=30))
def test_nothing_depends_on_where_the_bytes_are_cut(places: list[int]):
    played, out = play(cut_at(places, STREAM.encode()))
    assert (out, played.usage()) == (SHOWN, (TOLD, UsageSource.UPSTREAM))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_nothing_depends_on_the_size_of_the_pieces(size: int):
    assert play(in_pieces_of(size, STREAM.encode()))[1] == SHOWN


def test_e2_5_what_comes_before_the_first_output_is_held_back():
    fed, out = feed(*BEGUN)
    assert (out, fed.committed) == (b"", False)
    assert fed.feed(SAID[0].encode()).startswith(b"event: response.created\n")
    assert fed.committed


@pytest.mark.parametrize("kind", ["keepalive", "response.queued", "response.web_search_call.searching"])
def test_e2_5_an_event_that_says_nothing_begins_no_answer(kind: str):
    fed, out = feed(*BEGUN[:2], told(kind, 2))
    assert (out, fed.committed) == (b"", False)


@pytest.mark.parametrize("kind", ["response.refusal.delta", "response.output_item.done"])
def test_e2_5_output_of_every_kind_begins_the_answer(kind: str):
    fed, out = feed(*BEGUN[:2], told(kind, 2))
    assert fed.committed
    assert out.endswith(told(kind, 2).encode())


def test_e2_5_a_slow_answer_begins_with_what_was_held_back():
    fed, _ = feed(*BEGUN[:2])
    assert [event["type"] for event in parse_begun(fed.commit())] == ["response.created", "response.in_progress"]
    assert fed.feed(BEGUN[2].encode()) == BEGUN[2].encode()


def test_a_response_that_ends_without_output_is_sent():
    _, out = play(["".join([*BEGUN[:2], lifecycle("completed", 2, USAGE)]).encode()])
    assert [event["type"] for event in parse(out)][-1] == "response.completed"


def test_an_incomplete_response_is_an_ending_too():
    played, out = play(["".join([*BEGUN, *SAID, lifecycle("incomplete", 7, USAGE)]).encode()])
    assert played.ended
    assert parse(out)[-1]["type"] == "response.incomplete"
    assert played.usage() == (TOLD, UsageSource.UPSTREAM)


def test_only_the_end_of_the_stream_can_follow_the_ending():
    fed, _ = feed(STREAM)
    assert (fed.all_finished, fed.ended) == (True, False)
    assert fed.feed(ENDED.encode()) == b""
    assert fed.end() == DONE


FLAT = told("error", 5, ',"code":"server_error","message":"CUDA on 10.0.0.7","param":null')
NESTED = told("error", 5, ',"error":{"type":"server_error","code":"server_error","message":"CUDA on 10.0.0.7"}')
FAILED = lifecycle("failed", 5, error='{"code":"server_error","message":"CUDA on 10.0.0.7"}')
CHAT = 'data: {"error":{"message":"CUDA on 10.0.0.7","code":500}}\n\n'
FIELD = 'error: {"message":"CUDA on 10.0.0.7"}\n\n'
failures = pytest.mark.parametrize(
    "failure", [FLAT, NESTED, FAILED, CHAT, FIELD], ids=["flat", "nested", "failed", "chat", "field"]
)


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


def test_f6_10_what_was_complete_is_in_the_response_that_failed():
    item = '{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[]}'
    done = f'{{"type":"response.output_item.done","sequence_number":9,"output_index":0,"item":{item}}}'
    fed, out = feed(*BEGUN, SAID[0], f"event: response.output_item.done\ndata: {done}\n\n")
    failed = parse(out + fed.fail(FAULT, REQUEST))[-1]
    assert failed["response"]["output"] == [json.loads(item)]


def test_a_stream_that_fails_before_anything_is_known_of_it_still_fails_in_form():
    fed = stream()
    fed.commit()
    error, failed = parse(fed.fail(FAULT, REQUEST))
    assert (error["sequence_number"], failed["sequence_number"]) == (0, 1)
    assert failed["response"]["status"] == "failed"


@pytest.mark.parametrize(
    ("body", "message"),
    [('{"error":{"message":"no such model","code":404}}', "no such model"), ('[{"error":{"message":"a"}}]', "a")],
)
def test_e2_3_an_error_in_a_body_where_a_stream_was_asked_for_is_that_error(body: str, message: str):
    for pieces in ([body.encode()], [b"\n", b"\xef\xbb\xbf"[:0], body[:5].encode(), body[5:].encode()]):
        played, out = play(pieces)
        assert out == b""
        assert played.error is not None
        assert played.error.body.message == message


@pytest.mark.parametrize("body", [response("completed"), "<html>", "[]", "{", '{"x":1}'])
def test_any_other_body_where_a_stream_was_asked_for_is_a_bad_answer(body: str):
    played, out = play([body.encode()])
    assert out == b""
    assert played.error is not None
    assert played.error.kind == "upstream_bad_response"


def test_a_body_without_end_is_not_kept_without_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native_response, "MAX_BODY", 100)
    fed = stream()
    for _ in range(20):
        fed.feed(b'{"aaaaaaa')
    assert fed.error is not None
    assert len(fed._reader.body()) <= 109


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


def test_d3_7_half_a_pair_beside_the_model_s_name_survives():
    odd = [event.replace('"metadata":{}', r'"metadata":{"a":"\ud83d \ue000"}') for event in BEGUN]
    fed, out = feed(*odd, SAID[0])
    assert out.count(rb'"metadata":{"a":"\ud83d \ue000"}') == 2
    assert rb'"metadata":{"a":"\ud83d \ue000"}' in fed.fail(FAULT, REQUEST)


def test_g72_the_client_s_metadata_come_back_though_the_provider_was_not_sent_them():
    fed, out = feed(*BEGUN, SAID[0], plan=NativePlan(CATALOG, metadata=b'{\r\n  "a": 1\n}'))
    out += fed.fail(FAULT, REQUEST)
    told = [event["response"]["metadata"] for event in parse(out) if "response" in event]
    assert told == [{"a": 1}] * 3


def test_fields_that_are_stripped_and_what_the_provider_is_paid_are_not_shown():
    paid = USAGE[:-1] + ',"cost":0.01,"is_byok":false,"cost_details":{"x":1}}'
    plan = NativePlan(CATALOG, strip_fields=("provider",))
    ended = lifecycle("completed", 7, paid, rest=',"provider":"Fireworks"')
    fed, out = feed(*BEGUN, *SAID, ended, plan=plan)
    assert f'"usage":{USAGE}'.encode() in out
    assert b"Fireworks" not in out
    assert fed.usage() == (TOLD, UsageSource.UPSTREAM)


def test_g2_8_usage_of_zeros_beside_a_text_is_none():
    fed, _ = feed(*BEGUN, delta("12345678", 4), lifecycle("completed", 5, '{"input_tokens":0,"output_tokens":0}'))
    assert fed.usage() == (Usage(PROMPT, 2), UsageSource.ESTIMATED)


@pytest.mark.parametrize("usage", ["null", "{}", "[]", '{"input_tokens":"4"}'])
def test_g4_without_usage_all_that_was_said_is_counted(usage: str):
    call = '{"id":"fc","type":"function_call","name":"four","arguments":""}'
    fed, _ = feed(
        *BEGUN,
        delta("1234", 4),
        delta("é", 5, "reasoning_text"),
        delta(r"\n\ud83d", 6, "refusal"),
        told("response.output_item.added", 7, f',"output_index":1,"item":{call}'),
        delta(r"{\"a\":1}", 8, "function_call_arguments"),
        told("response.output_text.done", 9, ',"text":"1234"'),
        lifecycle("completed", 10, usage),
    )
    assert fed._output.total() == 4 + 2 + 4 + 4 + 7
    assert fed.usage()[1] is UsageSource.ESTIMATED


def test_what_was_said_is_counted_without_being_kept():
    fed, _ = feed(*BEGUN, SAID[0])
    for _ in range(400):
        fed.feed(delta("a" * 100, 5).encode())
        assert fed._output._kept_size <= native_output.FOLD_AT
    assert fed._output.total() == 3 + 400 * 100


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


# Whole bodies


def body(rest: str = "", usage: str = USAGE, status: str = "completed", error: str = "null", items: str = "") -> bytes:
    content = '[{"type":"output_text","text":"Hi é","annotations":[]}]'
    output = f'[{{"type":"reasoning","summary":[{{"text":"Hm"}}]}},{{"type":"message","content":{content}}}{items}]'
    return response(status, usage, error).replace('"output":[]', f'"output":{output}{rest}').encode()


def answered(sent: bytes, plan: NativePlan = PLAN) -> tuple[NativeAnswer, bytes]:
    answer = read_native_answer(sent, plan)
    return answer, write_native_answer(answer, plan)


def test_f1_2_a_whole_body_changes_in_nothing_but_the_model():
    answer, out = answered(body(rest=',"big":123456789012345678901234567890,"odd":"\\u0041"'))
    assert out == body(rest=',"big":123456789012345678901234567890,"odd":"\\u0041"').replace(
        b"gpt-up", CATALOG.encode()
    )
    assert (answer.usage, answer.upstream_id) == (TOLD, "resp_up")


def test_a_whole_body_keeps_half_a_pair():
    _, out = answered(body(rest=r',"odd":"\ud83d \ue000"'))
    assert rb',"odd":"\ud83d \ue000"' in out


def test_g4_3_what_a_whole_body_says_can_be_counted():
    answer, _ = answered(body(usage="null", items=',{"type":"function_call","name":"four","arguments":"{}"}'))
    assert answer.usage is None
    assert answer.output_bytes() == len("Hm") + len("Hi é".encode()) + len("four{}")


def test_g2_8_zeros_beside_a_text_are_no_usage():
    assert answered(body(usage='{"input_tokens":0,"output_tokens":0}'))[0].usage is None


def test_g72_a_whole_body_has_the_client_s_metadata_and_no_secrets():
    plan = NativePlan(CATALOG, metadata=b'{"a":1}', strip_fields=("provider",))
    paid = USAGE[:-1] + ',"cost":0.01}'
    _, out = answered(body(rest=',"provider":"Fireworks"', usage=paid), plan)
    read = json.loads(out)
    assert read["metadata"] == {"a": 1}
    assert read["usage"] == json.loads(USAGE)
    assert "provider" not in read


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (body(status="failed", error='{"code":"server_error","message":"x"}'), "upstream_error"),
        (body(status="failed", error='{"code":"rate_limit_exceeded","message":"x"}'), "upstream_rate_limited"),
        (body(status="failed"), "upstream_error"),
        (b'{"error":{"message":"x"}}', "upstream_error"),
        (b'[{"error":{"message":"x"}}]', "upstream_error"),
        (b'{"object":"error","message":"x"}', "upstream_error"),
        (b"<html>", "upstream_bad_response"),
        (b"[]", "upstream_bad_response"),
        (b'{"id":"resp_1"}', "upstream_bad_response"),
        (b'{"output":{}}', "upstream_bad_response"),
        (b'{"output":"\xff"}', "upstream_bad_response"),
        (b"", "upstream_bad_response"),
    ],
    ids=str,
)
def test_f5_6_what_is_no_answer_is_an_error(sent: bytes, kind: str):
    with pytest.raises(UpstreamError) as error:
        read_native_answer(sent, PLAN)
    assert error.value.kind == kind


def test_output_that_is_no_list_of_items_cannot_be_counted():
    with pytest.raises(UpstreamError):
        read_native_answer(b'{"output":[1]}', PLAN).output_bytes()
