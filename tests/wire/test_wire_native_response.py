"""A provider's own responses reach the client as they came, but for the model's name, and are billed by what they say.

Streams first, then whole bodies.
"""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_events import (
    BEGUN,
    ENDED,
    FAULT,
    ITEM_DONE,
    PLACE,
    PLAN,
    SAID,
    SHOWN,
    STREAM,
    TOLD,
    TRAP,
    USAGE,
    delta,
    feed,
    lifecycle,
    play,
    response,
    told,
)
from playing import CATALOG, PROMPT, cut_at, in_pieces_of
from response_reading import DONE, REQUEST, parse, parse_begun

from proxy.usage import Usage, UsageSource
from proxy.wire import native_output
from proxy.wire.native_answer import NativeAnswer, NativePlan, read_native_answer, write_native_answer
from proxy.wire.upstream_error import UpstreamError


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


def test_e3_0_an_event_that_tells_its_kind_last_is_handed_on_too():
    fed, _ = feed(*BEGUN, SAID[0])
    kind = "response.output_text.delta"
    last = f'event: {kind}\ndata: {{{PLACE},"delta":"{TRAP}","sequence_number":5,"type":"{kind}"}}\n\n'.encode()
    assert fed.feed(last) is last


def test_c2_a_response_that_stands_where_none_belongs_does_not_show_the_provider_s_name():
    fed, _ = feed(*BEGUN, SAID[0])
    odd = delta("a", 5).replace('"}\n', f'","response":{response("in_progress")}}}\n')
    assert b"gpt-up" not in fed.feed(odd.encode())


def test_events_that_could_be_read_in_two_ways_take_no_time_to_be_told_from_others():
    fed, _ = feed(*BEGUN, SAID[0])
    twice = delta("a", 5).replace('"}\n\n', '","type":"response.output_text.delta"}\n\n')
    assert twice.endswith(',"type":"response.output_text.delta"}\n\n')
    piece = (twice * 60 + ITEM_DONE).encode()
    assert fed.feed(piece) == piece


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


def test_e1_1_blanks_around_the_data_go():
    blank = re.sub(r"^data: (.*)$", r"data:\ndata:  \t\1 ", STREAM, flags=re.MULTILINE)
    assert play([blank.encode()])[1] == SHOWN


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
    assert fed._output.size() == 4 + 2 + 4 + 4 + 7
    assert fed.usage()[1] is UsageSource.ESTIMATED


def test_what_was_said_is_counted_without_being_kept():
    fed, _ = feed(*BEGUN, SAID[0])
    for _ in range(400):
        fed.feed(delta("a" * 100, 5).encode())
        assert sum(map(len, fed._output._kept)) <= native_output.FOLD_AT
    assert fed._output.size() == 3 + 400 * 100


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
