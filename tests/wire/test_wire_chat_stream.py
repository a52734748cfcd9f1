"""What single events of a stream mean, and what becomes of each.

Whole streams, and where they may be cut, are the matter of `test_wire_recorded_streams.py`.
"""

import json
import re

import pytest
from playing import (
    CATALOG,
    NEW_ID,
    NOW,
    PROMPT,
    arguments_in,
    choices_in,
    chunks_in,
    event_by_event,
    in_pieces_of,
    joined,
    plan,
    play,
    play_recorded,
    split,
)
from provider_events import (
    COMPLETION,
    DONE,
    ROLE,
    lines,
    openai,
    openai_usage,
    openrouter,
    same_model,
    spaced,
    vllm,
    vllm_usage,
)
from streams import RECORDED

from proxy.usage import Usage, UsageSource
from proxy.wire import chat_stream
from proxy.wire.chat_stream import ChatStream
from proxy.wire.reasoning import ReasoningPlan

USAGE = re.compile(rb'"usage"\s*:\s*\{')


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_pieces_that_need_no_change_are_handed_on_as_the_very_objects_that_came(at_once: int):
    stream = ChatStream(plan())
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    for number in range(3):
        piece = lines(*[same_model(f'{{"content":"{number} \\"usage\\":{{\\n"}}')] * at_once)
        assert stream.feed(piece) is piece


@pytest.mark.parametrize("name", ["id", "created"])
def test_what_is_the_same_in_all_chunks_stays_so_although_its_provider_changes_it(name: str):
    """llama.cpp writes the time of each chunk into it."""
    stream = ChatStream(plan())
    out = stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    for number in range(3):
        later = re.sub(rb'"%b":("?)[^,"]+("?)' % name.encode(), rb'"%b":\g<1>9%d\g<2>' % (name.encode(), number),
                       lines(same_model('{"content":"b"}')), count=1)  # fmt: skip
        out += stream.feed(later)
    assert len({chunk[name] for chunk in chunks_in(out)}) == 1


def test_pieces_after_one_that_was_cut_are_handed_on_as_they_came_again():
    stream = ChatStream(plan())
    piece = lines(same_model('{"content":"b"}'))
    first = lines(same_model(ROLE), same_model('{"content":"a"}'))
    out = stream.feed(first + piece[:40])
    assert out + stream.feed(piece[40:]) == first + piece
    assert stream.feed(piece) is piece


@pytest.mark.parametrize("null", ['"usage":null', '"usage": null', '"error":null', '"x":1'])
def test_keys_that_hold_nothing_do_not_keep_a_piece_from_being_handed_on(null: str):
    stream = ChatStream(plan())
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    piece = lines(same_model('{"content":"b"}')[:-1] + f",{null}}}")
    assert stream.feed(piece) is piece


def test_another_name_of_the_model_is_all_that_changes_in_a_piece():
    stream = ChatStream(plan())
    stream.feed(lines(spaced('{"role": "assistant", "content": ""}'), spaced('{"content": "a"}')))
    piece = lines(spaced('{"content": "the \\"model\\": \\"yi-34b\\""}'), spaced('{"content": "c"}'))
    assert stream.feed(piece) == piece.replace(b'"model": "yi-34b"', f'"model": "{CATALOG}"'.encode())


def test_an_event_in_which_the_model_stands_elsewhere_too_is_read_and_only_its_own_name_changed():
    stream = ChatStream(plan())
    stream.feed(lines(vllm(ROLE), vllm('{"content":"a"}')))
    event = vllm('{"content":"b"}')[:-1] + ',"meta":{"model":"Qwen/Qwen3-8B"}}'
    (chunk,) = chunks_in(stream.feed(lines(event)))
    assert (chunk["model"], chunk["meta"]) == (CATALOG, {"model": "Qwen/Qwen3-8B"})


def test_a_model_that_comes_under_another_name_later_still_shows_the_catalogs():
    stream = ChatStream(plan())
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    (chunk,) = chunks_in(stream.feed(lines(same_model("{}", '"stop"').replace(CATALOG, "gpt-secret-2"))))
    assert chunk["model"] == CATALOG


def test_a_model_that_comes_under_another_name_in_mid_stream_still_shows_the_catalogs():
    stream = ChatStream(plan())
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    piece = lines(same_model('{"content":"b"}'))
    assert stream.feed(piece.replace(CATALOG.encode(), b"gpt-secret-2")) == piece


@pytest.mark.parametrize(
    "text", ["usage", "role", "error", "content", r"\"finish_reason", r"\\\"usage", "reasoning", "tool_calls"]
)
@pytest.mark.parametrize("reasoning", [split("none"), split()], ids=["untouched", "split"])
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_text_that_reads_like_a_key_is_handed_on_like_any_other(text: str, reasoning: ReasoningPlan, at_once: int):
    stream = ChatStream(plan(reasoning=reasoning))
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    piece = lines(*[same_model(f'{{"content":"{text}","x":null}}')] * at_once)
    assert stream.feed(piece) is piece


def test_a_field_that_clients_must_not_see_is_cut_out_even_if_it_comes_late():
    stream = ChatStream(plan(strip=("provider",)))
    late = same_model('{"content":"b"}')[:-1] + ',"provider":"Fireworks"}'
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    out = stream.feed(lines(late))
    assert joined(chunks_in(out), "content") == {0: "b"}
    assert b"Fireworks" not in out


def test_an_id_that_a_client_cannot_be_shown_is_replaced_in_every_chunk():
    sent = lines(*(event.replace("chatcmpl-77", "") for event in (
        same_model(ROLE), same_model('{"content":"a"}'), same_model('{"content":"b"}'), same_model("{}", '"stop"'),
    )), DONE)  # fmt: skip
    played = play(event_by_event(sent), plan())
    assert {chunk["id"] for chunk in chunks_in(played.out)} == {f"chatcmpl_{NEW_ID}"}


def test_the_providers_id_is_kept_for_the_record():
    assert play([lines(same_model(ROLE), same_model("{}", '"stop"'), DONE)], plan()).upstream_id == "chatcmpl-77"


@pytest.mark.parametrize("role", ["null", '""', '"user"', '"model"'])
def test_the_first_chunk_says_assistant_whatever_the_provider_calls_it(role: str):
    sent = lines(same_model(f'{{"role":{role},"content":"a"}}'), same_model("{}", '"stop"'), DONE)
    first = chunks_in(play([sent], plan()).out)[0]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "a"}


def test_nothing_is_sent_before_the_first_output():
    """A provider that sends a role and then fails has not begun: another target may still answer."""
    stream = ChatStream(plan())
    assert stream.feed(lines(": hello", same_model(ROLE), same_model('{"content":null,"tool_calls":[]}'))) == b""
    assert not stream.committed
    out = stream.feed(lines(same_model('{"content":"a"}')))
    assert stream.committed
    assert [chunk["choices"][0]["delta"] for chunk in chunks_in(out)] == [json.loads(ROLE), {"content": "a"}]


@pytest.mark.parametrize(
    "delta",
    ['{"content":"a"}', '{"reasoning":"a"}', '{"reasoning_content":"a"}', '{"refusal":"no"}',
     '{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}',
     '{"reasoning_details":[{"type":"reasoning.text","text":"a","index":0}]}'],
)  # fmt: skip
def test_output_of_every_kind_begins_the_answer(delta: str):
    stream = ChatStream(plan())
    assert stream.feed(lines(same_model(ROLE))) == b""
    assert stream.feed(lines(same_model(delta)))


def test_a_finish_reason_begins_the_answer():
    stream = ChatStream(plan())
    assert stream.feed(lines(same_model(ROLE), same_model("{}", '"stop"')))


def test_a_slow_answer_begins_when_it_is_told_to_and_loses_nothing():
    stream = ChatStream(plan())
    head = lines(same_model(ROLE))
    assert stream.feed(head) == b""
    assert stream.commit() == head
    rest = lines(same_model('{"content":"a"}'))
    assert stream.feed(rest) == rest


def test_an_error_after_the_answer_has_begun_by_time_alone_is_an_error_of_the_stream():
    stream = ChatStream(plan())
    stream.feed(lines(same_model(ROLE)))
    stream.commit()
    assert stream.feed(lines('data: {"error":{"message":"no"}}')) == b""
    assert stream.error is not None
    assert stream.committed


def test_all_that_came_before_an_error_in_the_same_piece_is_sent():
    stream = ChatStream(plan())
    out = stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}'), 'data: {"error":"x"}', DONE))
    assert joined(chunks_in(out), "content") == {0: "a"}
    assert stream.error is not None


@pytest.mark.parametrize("last", [lines(DONE), lines('data: {"error":{"message":"x"}}')], ids=["done", "error"])
def test_after_the_end_nothing_more_is_taken(last: bytes):
    stream = ChatStream(plan())
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}'), same_model("{}", '"stop"')))
    stream.feed(last)
    before = stream.usage()
    assert stream.feed(lines(same_model('{"content":"ghost"}'))) == b""
    assert stream.feed(b"data: ") == b""
    assert stream.end() == b""
    assert stream.usage() == before


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ('{"error":{"message":"x","code":429}}', 429),
        ('{"error":"x"}', None),
        ('{"object":"error","message":"x","code":400}', 400),
        ('{"error":{"message":"x"},"choices":[]}', None),
    ],
)
def test_an_error_in_a_stream_is_known_in_every_form(data: str, status: int | None):
    played = play([lines(same_model('{"content":"a"}'), f"data: {data}")], plan())
    assert played.error == ("upstream_error", status, "x")


@pytest.mark.parametrize("nothing", ["null", "false", '""', "{}", "[]", "0"])
def test_an_error_key_that_holds_nothing_is_no_error(nothing: str):
    chunk = same_model('{"content":"a"}')[:-1] + f',"error":{nothing}}}'
    assert play([lines(same_model(ROLE), chunk, same_model("{}", '"stop"'), DONE)], plan()).ended


def test_events_that_cannot_be_read_are_dropped_and_the_stream_goes_on():
    bad = "data: {nonsense"
    good = same_model('{"content":"a"}')
    played = play([lines(same_model(ROLE), bad, bad, good, bad, bad, good, same_model("{}", '"stop"'), DONE)], plan())
    assert played.ended
    assert joined(chunks_in(played.out), "content") == {0: "aa"}


@pytest.mark.parametrize("at_once", [1, 100])
def test_only_events_in_a_row_are_too_many_unreadable_ones(at_once: int):
    """Events that were handed on unread stand between them, whether they came alone or not."""
    bad, good = "data: {nonsense", same_model('{"content":"a"}')
    events = event_by_event(lines(same_model(ROLE), good, bad, good, bad, good, bad, good, bad, good, DONE))
    pieces = [b"".join(events[start : start + at_once]) for start in range(0, len(events), at_once)]
    assert play(pieces, plan()).ended


def test_finish_reasons_are_named_as_openai_names_them():
    for word, name in {
        "eos": "stop",
        "max_tokens": "length",
        "tool_use": "tool_calls",
        "safety": "content_filter",
    }.items():
        played = play([lines(same_model(ROLE), same_model('{"content":"a"}', f'"{word}"'), DONE)], plan())
        assert chunks_in(played.out)[-1]["choices"][0]["finish_reason"] == name


def test_every_choice_that_did_not_finish_is_finished():
    sent = lines(
        openai('{"role":"assistant","content":"a"}'), openai('{"role":"assistant","content":"b"}', index=1), DONE
    )
    chunks = chunks_in(play([sent], plan(choices=2)).out)
    assert [(c["choices"][0]["index"], c["choices"][0]["finish_reason"]) for c in chunks[2:]] == [
        (0, "stop"),
        (1, "stop"),
    ]


@pytest.mark.parametrize("caller", [0, 1])
def test_e5_3_a_choice_that_did_not_finish_has_called_a_tool_only_if_it_did_so_itself(caller: int):
    call = '{"role":"assistant","tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f"}}]}'
    begin = [openai('{"role":"assistant","content":"a"}', index=1 - caller), openai(call, index=caller)]
    for asked in ({"choices": 2}, {"choices": 2, "reasoning": split()}):
        chunks = chunks_in(play([lines(*begin, DONE)], plan(**asked)).out)
        endings = {c["index"]: c["finish_reason"] for c in choices_in(chunks) if c["finish_reason"]}
        assert endings == {caller: "tool_calls", 1 - caller: "stop"}


def test_the_finish_reasons_are_known_choice_by_choice():
    stream = ChatStream(plan(choices=2))
    stream.feed(lines(openai('{"role":"assistant","content":"b"}', index=1)))
    assert stream.finish_reasons == ()
    stream.feed(lines(openai('{"role":"assistant","content":"a"}', '"eos"')))
    stream.feed(lines(openai("{}", '"length"', index=1)))
    assert stream.finish_reasons == ("stop", "length")


def test_all_choices_have_finished_only_when_each_has():
    stream = ChatStream(plan(choices=2))
    stream.feed(lines(openai('{"role":"assistant","content":"a"}', '"stop"')))
    assert not stream.all_finished
    stream.feed(lines(openai('{"role":"assistant","content":"b"}', '"stop"', index=1)))
    assert stream.all_finished


def test_a_stream_that_stops_with_a_choice_unfinished_is_cut_off():
    sent = lines(openai('{"content":"a"}', '"stop"'), openai('{"content":"b"}', index=1))
    assert play([sent], plan(choices=2)).error == ("upstream_truncated", None, "")


def test_running_usage_that_was_asked_for_passes_in_the_gateways_form_and_a_final_one_follows():
    recorded = next(recorded for recorded in RECORDED if "running usage" in recorded.name)
    chunks = chunks_in(play_recorded(recorded, include_usage=True, continuous_usage=True).out)
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 1, 2, 3, 3]
    assert all("prompt_tokens_details" in chunk["usage"] for chunk in chunks)
    assert [bool(chunk["choices"]) for chunk in chunks] == [True] * 4 + [False]


def test_usage_is_never_added_up_the_last_valid_one_counts():
    usages = ['{"prompt_tokens":5,"completion_tokens":1}', '{"prompt_tokens":5,"completion_tokens":4}',
              '{"prompt_tokens":"5","completion_tokens":9}', "{}", "null"]  # fmt: skip
    sent = lines(vllm('{"content":"a"}'), vllm("{}", '"stop"'), *map(vllm_usage, usages), DONE)
    played = play([sent], plan())
    assert (played.usage, played.source) == (Usage(5, 4), UsageSource.UPSTREAM)


def test_usage_beside_text_is_cut_out_and_the_text_stays():
    with_usage = same_model('{"content":"b"}')[:-1] + ',"usage":{"prompt_tokens":1,"completion_tokens":2},"x":1.50}'
    played = play([lines(same_model('{"content":"a"}'), with_usage, same_model("{}", '"stop"'), DONE)], plan())
    assert joined(chunks_in(played.out), "content") == {0: "ab"}
    assert not USAGE.search(played.out)
    assert b'"x":1.50' in played.out


def test_hidden_reasoning_is_counted_from_the_total_where_the_provider_is_known_for_it():
    sent = lines(vllm('{"content":"a"}', '"stop"'),
                 vllm_usage('{"prompt_tokens":20,"completion_tokens":198,"total_tokens":623}'), DONE)  # fmt: skip
    assert play([sent], plan(completion_from_total=True)).usage.completion == 603
    assert play([sent], plan()).usage == Usage(20, 198, inconsistent=True)


def test_the_estimate_counts_text_reasoning_tool_names_and_arguments():
    call = '{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"fn","arguments":"{\\"a\\":1}"}}]}'
    sent = lines(vllm('{"content":"é"}'), vllm('{"reasoning":"abc","reasoning_content":"abc"}'), vllm(call), DONE)
    output_bytes = 2 + 3 + 2 + 7
    assert play([sent], plan()).usage == Usage(PROMPT, -(-output_bytes // 4))


def test_text_in_parts_is_counted_too():
    """Mistral's reasoning models send content as a list of parts."""
    thinking = '{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm, let me see"}]}]}'
    text = '{"content":[{"type":"text","text":"42"}]}'
    sent = lines(vllm(ROLE), vllm(thinking), vllm(text), vllm("{}", '"stop"'), DONE)
    assert play([sent], plan()).usage.completion == 4


def test_what_came_before_the_client_left_is_billed():
    stream = ChatStream(plan())
    assert stream.usage() == (Usage(PROMPT), UsageSource.ESTIMATED)
    stream.feed(lines(same_model(ROLE), same_model('{"content":"four"}')))
    assert stream.usage() == (Usage(PROMPT, 1), UsageSource.ESTIMATED)
    stream.feed(lines(same_model('{"content":"more than four"}')))
    assert stream.usage() == (Usage(PROMPT, 5), UsageSource.ESTIMATED)


def counting(content: str, completion: int) -> str:
    """One chunk as vLLM sends it with continuous usage."""
    usage = {"prompt_tokens": 9, "completion_tokens": completion, "total_tokens": 9 + completion}
    return same_model(json.dumps({"content": content})).removesuffix("}") + f',"usage":{json.dumps(usage)}}}'


def test_the_progress_is_what_was_told_last_and_what_came_since():
    stream = ChatStream(plan())
    assert stream.progress() == (None, 0)
    stream.feed(lines(same_model(ROLE), same_model('{"content":"four"}')))
    assert stream.progress() == (None, 4)
    stream.feed(lines(counting("and so on", 3)))
    assert stream.progress() == (Usage(9, 3), 0)
    assert stream.usage() == (Usage(9, 3), UsageSource.UPSTREAM)
    stream.feed(lines(same_model('{"content":"five."}')))
    assert stream.progress() == (Usage(9, 3), 5)
    assert stream.usage() == (Usage(9, 3 + 2), UsageSource.ESTIMATED)
    stream.feed(lines(counting("more", 7)))
    assert stream.usage() == (Usage(9, 7), UsageSource.UPSTREAM)


def test_usage_that_cannot_be_true_is_no_progress():
    stream = ChatStream(plan())
    told = same_model('{"content":"four"}').removesuffix("}") + ',"usage":{"prompt_tokens":0,"completion_tokens":0}}'
    stream.feed(lines(same_model(ROLE), told, same_model('{"content":"four"}')))
    assert stream.progress() == (None, 8)
    assert stream.usage() == (Usage(PROMPT, 2), UsageSource.ESTIMATED)


def test_usage_in_the_middle_of_a_stream_that_ends_is_the_bill():
    sent = lines(same_model(ROLE), counting("four", 3), same_model('{"content":"more"}'), same_model("{}", '"stop"'))
    assert play([sent + lines(DONE)], plan()).usage == Usage(9, 3)


def test_a_whole_completion_becomes_two_chunks_a_choice():
    chunks = chunks_in(play([COMPLETION.encode()], plan()).out)
    message, last = chunks
    assert message["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": "All at once"}, "finish_reason": None}
    ]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        ("chatcmpl-w", 1790000012, CATALOG)
    }


def test_tool_calls_of_a_whole_completion_are_numbered():
    call = '{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}'
    body = COMPLETION.replace('"content":"All at once"', f'"content":null,"tool_calls":[{call},{call}]')
    chunks = chunks_in(play([body.encode()], plan()).out)
    assert arguments_in(chunks) == {(0, 0): "{}", (0, 1): "{}"}
    assert not any("content" in choice["delta"] for choice in choices_in(chunks))


def test_e2_3_a_whole_completion_whose_choice_has_a_number_beyond_all_bounds_is_a_bad_answer():
    played = play([COMPLETION.replace('"index":0', '"index":500').encode()], plan())
    assert played.error is not None
    assert played.error[0] == "upstream_bad_response"
    assert not played.committed


def test_a_whole_completion_with_half_a_surrogate_pair_keeps_it():
    body = COMPLETION.replace("All at once", r"\ud83d")
    assert rb'"content":"\ud83d"' in play([body.encode()], plan()).out


def test_a_whole_body_is_waited_for_and_only_then_answered():
    stream = ChatStream(plan())
    assert stream.feed(COMPLETION.encode()) == b""
    assert not stream.committed
    assert stream.end()
    assert (stream.committed, stream.ended) == (True, True)


def test_a_whole_body_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chat_stream, "MAX_JSON", 1000)
    stream = ChatStream(plan())
    stream.feed(b"{" + b" " * 1000)
    assert stream.error is not None
    assert stream.error.kind == "upstream_bad_response"


@pytest.mark.parametrize("body", ["[]", "{}", '{"choices":[]}', '{"choices":null}', '{"choices":[{"index":0}]}', "[1]",
                                  '{"message":"x"}', '{"choices":[{"index":0,"message":null}]}', "{" ])  # fmt: skip
def test_a_whole_body_that_is_no_completion_is_refused(body: str):
    played = play([body.encode()], plan())
    assert played.error is not None
    assert (played.error[0], played.out) == ("upstream_bad_response", b"")


@pytest.mark.parametrize("size", [1, 17, 4096])
def test_an_event_that_is_too_large_ends_the_stream_after_what_came_before_it(
    monkeypatch: pytest.MonkeyPatch, size: int
):
    monkeypatch.setattr("proxy.wire.sse.MAX_EVENT", 1000)
    sent = lines(same_model(ROLE), same_model('{"content":"a"}'), same_model(f'{{"content":"{"b" * 1000}"}}'), DONE)
    played = play(in_pieces_of(size, sent), plan())
    assert played.error is not None
    assert played.error[0] == "upstream_bad_response"
    assert joined(chunks_in(played.out), "content") == {0: "a"}


def test_half_an_event_is_never_sent_even_if_it_looks_like_a_whole_one():
    stream = ChatStream(plan())
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    half = same_model('{"content":"b"}').partition("}")[0] + "}"
    assert stream.feed(half.encode()) == b""
    assert stream.end() == b""
    assert stream.error is not None
    assert stream.error.kind == "upstream_truncated"


def test_a_chunk_without_a_time_gets_one():
    sent = lines('data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}', DONE)
    assert chunks_in(play([sent], plan()).out)[0]["created"] == NOW


def test_numbers_and_unknown_keys_of_a_chunk_that_is_written_again_stay_as_they_came():
    odd = (
        openai('{"role":"assistant","content":"a"}')[:-1] + ',"z":1.10,"big":123456789012345678901234567890,"e":1e-05}'
    )
    out = play([lines(odd, openai("{}", '"stop"'), openai_usage(1, 1, 0), DONE)], plan()).out
    assert b'"z":1.10,"big":123456789012345678901234567890,"e":1e-05' in out


def test_log_probabilities_are_not_touched():
    logprobs = '{"content":[{"token":"\\u00e9","logprob":-1e-05,"bytes":[195,169],"top_logprobs":[]}],"refusal":null}'
    event = openrouter('{"role":"assistant","content":"é"}').replace('"logprobs":null', f'"logprobs":{logprobs}')
    out = play([lines(event, openrouter("{}", '"stop"'), DONE)], plan(strip=("provider",))).out
    assert f'"logprobs":{logprobs}'.encode() in out


@pytest.mark.parametrize(
    "said",
    [
        b'data: {"message":"db-7 broke"}\n\n',
        b'data: {"detail":"db-7 broke"}\n\n',
        b'data: {"type":"error","message":"db-7 broke"}\n\n',
        b'data: {"code":500,"message":"db-7 broke","choices":[]}\n\n',
        b'event: error\ndata: {"code":500,"text":"db-7 broke"}\n\n',
    ],
)
def test_an_error_that_does_not_call_itself_one_ends_the_stream_unseen(said: bytes):
    stream = ChatStream(plan())
    out = stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    assert stream.feed(said) == b""
    assert stream.error is not None
    assert b"db-7" not in out


def test_a_choice_that_nobody_can_have_asked_for_is_left_out():
    stream = ChatStream(plan(every_event=True))
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    event = lines(same_model('{"content":"b"}')).replace(b'"index":0', b'"index":500')
    assert stream.feed(event) == b""
    assert stream.dropped == 1


def test_a_piece_that_ends_an_event_is_not_taken_for_one_of_its_own():
    stream = ChatStream(plan())
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    piece = lines(same_model('{"content":"b"}'))
    assert stream.feed(b"data: no json\n") + stream.feed(piece) == b""
    assert stream.dropped == 1
    assert stream.feed(piece) is piece


@pytest.mark.parametrize("second", ['{"tool_calls":[5]}', '{"tool_calls":[{"function":5}]}', "5", '"x"'])
def test_an_event_that_cannot_be_read_changes_nothing_in_any_choice(second: str):
    """Else the beginning of a call would be taken for said, and never be."""
    call = '{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"1"}}]}'
    whole = openai(call)
    half = whole.replace('"choices":[', f'"choices":[{{"index":0,"delta":{call}}},{{"index":1,"delta":{second}}},')
    begin = [openai('{"role":"assistant","content":"a"}'), openai('{"role":"assistant","content":"b"}', index=1)]
    played = play([lines(*begin, half, whole, DONE)], plan(choices=2))
    assert arguments_in(chunks_in(played.out)) == {(0, 0): "1"}
    assert played.out.count(b'"name":"f"') == 1


@pytest.mark.parametrize("reasoning", [split("none"), split()], ids=["untouched", "split"])
def test_a_list_of_no_tool_calls_is_none_however_it_is_written(reasoning: ReasoningPlan):
    empty = same_model('{"tool_calls":[ ]}').replace("null", '""')
    sent = lines(same_model(ROLE), same_model('{"content":"a"}'), empty, same_model('{"content":"b"}'), DONE)
    played = play(event_by_event(sent), plan(reasoning=reasoning))
    assert joined(chunks_in(played.out), "content") == {0: "ab"}
    assert chunks_in(played.out)[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("calls", ["5", "{}", "[5]", '[{"function":5}]', '[{"function":{"arguments":{"a":1}}}]'])
def test_tool_calls_that_nobody_has_to_repair_leave_as_they_came_however_odd(calls: str):
    stream = ChatStream(plan())
    stream.feed(lines(same_model(ROLE), same_model('{"content":"a"}')))
    event = lines(same_model(f'{{"tool_calls":{calls}}}', '""'))
    out = stream.feed(event)
    assert stream.dropped == 0
    assert out in {b"", event.replace(b'""', b"null")}


def test_tool_calls_are_not_repaired_by_halves():
    """Where later deltas leave as they come, the first is not changed either."""
    call = '{"id":"c","function":{"name":"f","arguments":"{"}}'
    delta = f'{{"role":"assistant","tool_calls":[{call}]}}'
    out = play([lines(same_model(delta), same_model("{}", '"stop"'), DONE)], plan()).out
    assert chunks_in(out)[0]["choices"][0]["delta"]["tool_calls"] == [json.loads(call)]
