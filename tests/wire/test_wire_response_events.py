"""Whatever a model says, in whatever order and pieces, its events keep the grammar, and nothing is lost or doubled."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter
from response_reading import DONE, REQUEST, TERMINAL, Grammar, counted, parse, read, said_by, shape, whole

from proxy.errors import ErrorType, Fault
from proxy.usage import Usage
from proxy.wire.response_events import ResponseEvents
from proxy.wire.response_source import said_in_chunk

FAULT = Fault(503, ErrorType.INTERNAL, "overloaded", "The gateway is stopping; try again.")
USAGE = Usage(5, 3, 1, prompt_details=(("cache_write_tokens", 2),))
# Halves of a pair among them: they may come in two deltas.
LETTERS = 'ab "\\\n{é世😀\ud83d\ude00'
FINISHES = ["stop", "length", "tool_calls", "function_call", "content_filter", "what_is_this"]
official = TypeAdapter(ResponseStreamEvent)


def say(events: ResponseEvents, delta: dict, finish: str | None = None) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"".join(events.say(said) for said in said_in_chunk(json.dumps(chunk).encode()))


def play(*deltas: dict, finish: str | None = "stop", separate: bool = True) -> bytes:
    events = ResponseEvents(shape(separate=separate), counted())
    out = events.begin() + b"".join([say(events, delta) for delta in deltas])
    out += say(events, {}, finish) if finish else b""
    return out + events.end(USAGE) + DONE


def kinds(out: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in parse(out)]


def call(index: int, name: str | None = None, arguments: str | None = None, ident: str | None = None):
    told = {"index": index, "id": ident}
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not None}
    return {"tool_calls": [{**{key: value for key, value in told.items() if value is not None}, "function": function}]}


def calls_in(response: dict) -> list[tuple[str, str]]:
    return [(item["name"], item["arguments"]) for item in response["output"] if item["type"] == "function_call"]


def items_in(response: dict) -> list[tuple[str, str]]:
    return [(item["type"], item["status"]) for item in response["output"]]


def test_f5_3_a_call_without_arguments_gets_an_empty_object_which_its_deltas_say_too():
    out = play(call(0, "now", "", "c"))
    assert calls_in(read(out)) == [("now", "{}")]
    assert [event["delta"] for event in parse(out) if event["type"].endswith("arguments.delta")] == ["{}"]


def test_f5_3_a_call_without_an_id_gets_one():
    (item,) = read(play(call(0, "f", "{}")))["output"]
    assert item["call_id"].startswith("call_")
    assert item["call_id"] != item["id"]


def test_f6_3_items_are_numbered_as_they_are_added_and_keep_what_they_are():
    out = play({"reasoning": "a"}, {"content": "b"}, call(0, "f", "{"), call(1, "g", "{}"), {"content": "c"})
    items = [event for event in parse(out) if event["type"].startswith("response.output_item.")]
    added = {one["output_index"]: one["item"] for one in items if one["type"].endswith("added")}
    done = {one["output_index"]: one["item"] for one in items if one["type"].endswith("done")}
    assert list(added) == sorted(done) == [0, 1, 2, 3, 4]
    for index, item in added.items():
        assert {name: item.get(name) for name in ("id", "type", "call_id")} == {
            name: done[index].get(name) for name in ("id", "type", "call_id")
        }


def test_f6_3_a_call_id_that_comes_twice_names_only_the_first():
    response = read(play(call(0, "f", "{}", "same"), call(1, "g", "{}", "same")))
    first, second = (item["call_id"] for item in response["output"])
    assert (first, second.startswith("call_")) == ("same", True)


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call", "what_is_this"])
def test_f5_4_an_empty_answer_is_one_message_with_an_empty_text(finish: str):
    for separate in (True, False):
        out = play(finish=finish, separate=separate)
        (item,) = read(out)["output"]
        assert (item["type"], item["status"]) == ("message", "completed")
        assert item["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]
        assert "output_text.delta" not in kinds(out)
        assert "output_text.done" in kinds(out)


def test_f5_4_reasoning_alone_is_just_the_reasoning_item():
    assert items_in(read(play({"reasoning": "a"}))) == [("reasoning", "completed")]


def test_f4_1_reasoning_alone_in_a_message_stands_before_an_empty_text():
    (item,) = read(play({"reasoning": "a"}, separate=False))["output"]
    assert [(part["type"], part["text"]) for part in item["content"]] == [("reasoning", "a"), ("output_text", "")]


@pytest.mark.parametrize("separate", [True, False])
def test_f5_4_a_call_alone_is_just_the_call(separate: bool):
    response = read(play({"reasoning": "a"}, call(0, "f", "{}"), separate=separate))
    assert [item["type"] for item in response["output"]] == ["reasoning" if separate else "message", "function_call"]


@pytest.mark.parametrize("finish", [*FINISHES, None])
def test_f6_10_one_event_ends_it_and_has_the_items_as_they_were_done(finish: str | None):
    events = parse(play({"reasoning": "a"}, {"content": "b"}, call(0, "f", "{}"), finish=finish))
    ends = [event for event in events if event["type"] in TERMINAL]
    assert ends == events[-1:]
    assert ends[0]["response"]["usage"]["total_tokens"] == 8
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert ends[0]["response"]["output"] == done


@pytest.mark.parametrize("delta", [{}, {"content": ""}, {"reasoning": ""}, {"refusal": ""}, {"tool_calls": []}])
def test_f6_11_what_has_no_delta_is_opened_and_closed_all_the_same(delta: dict):
    assert kinds(play(delta))[2:-1] == [
        *("output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done")
    ]


def test_f5_6_what_was_cut_off_before_it_began_is_an_empty_output():
    response = read(play(finish="length"))
    assert (response["status"], response["output"]) == ("incomplete", [])


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_f5_6_the_item_that_was_open_at_the_cut_is_incomplete_and_no_other(finish: str, reason: str):
    response = read(
        play({"reasoning": "a"}, {"content": "b"}, call(0, "f", '{"a":1}'), call(1, "g", "{"), finish=finish)
    )
    assert response["incomplete_details"] == {"reason": reason}
    assert items_in(response) == [
        ("reasoning", "completed"),
        ("message", "completed"),
        ("function_call", "completed"),
        ("function_call", "incomplete"),
    ]


def test_f5_6_the_first_finish_reason_stands():
    events = ResponseEvents(shape(), counted())
    out = events.begin() + say(events, {"content": "a"}) + say(events, {}, "length") + say(events, {}, "stop")
    response = read(out + events.end(USAGE) + DONE)
    assert response["status"] == "incomplete"


def test_f6_4_a_message_opens_says_and_closes_each_part_in_turn():
    out = play({"content": "a"}, {"content": "b"}, {"refusal": "c"})
    assert kinds(out)[2:-1] == [
        "output_item.added",
        *("content_part.added", "output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("content_part.added", "refusal.delta", "refusal.done", "content_part.done"),
        "output_item.done",
    ]
    events = parse(out)
    assert (events[2]["item"]["status"], events[2]["item"]["content"]) == ("in_progress", [])
    assert [event["content_index"] for event in events if "content_index" in event] == [0] * 5 + [1] * 4
    assert [event["logprobs"] for event in events if event["type"].startswith("response.output_text.")] == [[], [], []]


def test_f6_5_reasoning_is_closed_before_the_message_is_added():
    out = play({"reasoning": "a"}, {"reasoning": "b"}, {"content": "c"})
    assert kinds(out)[2:9] == [
        *("output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
    ]
    added, part = parse(out)[2:4]
    assert (added["item"]["summary"], added["item"]["content"]) == ([], [])
    assert part["part"] == {"type": "reasoning_text", "text": ""}


def test_f6_6_reasoning_in_the_message_is_its_first_part():
    out = play({"reasoning": "a"}, {"content": "b"}, separate=False)
    assert kinds(out)[2:-1] == [
        "output_item.added",
        *("content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done"),
        *("content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
        "output_item.done",
    ]
    events = parse(out)
    assert {event["item_id"] for event in events if "item_id" in event} == {events[2]["item"]["id"]}
    assert events[3]["part"] == {"type": "reasoning", "text": ""}


def test_f6_7_the_first_piece_of_a_call_closes_the_text_and_a_text_behind_calls_is_a_new_message():
    out = play({"content": "a"}, call(0, "f", "{}"), {"content": "b"})
    response = read(out)
    assert items_in(response) == [("message", "completed"), ("function_call", "completed"), ("message", "completed")]
    assert len({item["id"] for item in response["output"]}) == 3
    assert kinds(out)[2:-1] == [
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
    ]


def test_f6_7_a_call_whose_arguments_are_not_whole_stays_open_behind_the_next():
    out = play(call(0, "f", '{"a":'), call(1, "g", '{"b":2}'), call(0, arguments="1}"))
    assert calls_in(read(out)) == [("f", '{"a":1}'), ("g", '{"b":2}')]
    done = [event["output_index"] for event in parse(out) if event["type"] == "response.output_item.done"]
    assert done == [0, 1]
    assert kinds(out)[-5:-1] == ["function_call_arguments.done", "output_item.done"] * 2


@pytest.mark.parametrize(("sent", "more"), [("1", "2"), ("tru", "e"), ('"a', '"'), ("", "{}"), ('{"a":"\\ud83d"', "}")])
def test_f6_7_arguments_of_which_more_may_come_are_not_taken_for_whole(sent: str, more: str):
    out = play(call(0, "f", sent), call(1, "g", "{}"), call(0, arguments=more))
    assert calls_in(read(out)) == [("f", sent + more), ("g", "{}")]


@pytest.mark.parametrize("arguments", ['{"a":1}', " [1]\n", '"a"', "true", "null"])
def test_f6_7_a_call_whose_arguments_are_whole_is_closed_as_the_next_begins(arguments: str):
    out = play(call(0, "f", arguments), call(1, "g", "{}"))
    assert kinds(out)[2:7] == [
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done"),
        *("output_item.done", "output_item.added"),
    ]
    assert calls_in(read(out)) == [("f", arguments), ("g", "{}")]


def test_f6_7_what_follows_whole_arguments_of_a_closed_call_is_nothing():
    out = play(call(0, "f", "{}"), call(1, "g", "{}"), call(0, arguments="\n"))
    assert calls_in(read(out)) == [("f", "{}"), ("g", "{}")]


def test_a_piece_of_a_call_that_says_nothing_begins_none():
    assert items_in(read(play({"tool_calls": [{"index": 0}]}))) == [("message", "completed")]


@pytest.mark.parametrize("calls", ["x", {}, [1], [{"index": "0"}], [{"function": []}]])
def test_calls_that_are_none_cost_no_text(calls: object):
    assert said_by(read(play({"content": "a", "tool_calls": calls})), "output_text") == "a"


def test_the_older_form_of_a_call_is_a_call():
    out = play({"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "[1]"}})
    assert calls_in(read(out)) == [("f", "[1]")]


def test_f6_9_a_refusal_is_a_part_of_its_own():
    out = play({"content": "a"}, {"refusal": "I"}, {"refusal": " can't"})
    (item,) = read(out)["output"]
    assert item["content"][1] == {"type": "refusal", "refusal": "I can't"}
    assert kinds(out)[7:12] == [
        "content_part.added",
        "refusal.delta",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
    ]


def test_f6_5_reasoning_behind_a_text_is_an_item_between_two_messages():
    response = read(play({"content": "a"}, {"reasoning": "b"}, {"content": "c"}))
    assert [item["type"] for item in response["output"]] == ["message", "reasoning", "message"]


def test_f6_6_reasoning_behind_a_text_is_a_part_between_two_others():
    (item,) = read(play({"content": "a"}, {"reasoning": "b"}, {"content": "c"}, separate=False))["output"]
    assert [part["type"] for part in item["content"]] == ["output_text", "reasoning", "output_text"]


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "a"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "a"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "a"}, {"type": "x", "data": "?"}, {}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]},
        {"content": [{"type": "thinking", "thinking": "a"}], "reasoning": None},
    ],
    ids=str,
)
def test_d4_3_reasoning_is_found_wherever_providers_put_it(delta: dict):
    response = read(play(delta, {"content": [{"type": "text", "text": "b"}]}))
    assert said_by(response, "reasoning_text") == "a"
    assert said_by(response, "output_text") == "b"


def test_d4_3_reasoning_that_stands_in_two_places_is_said_once():
    details = [{"type": "reasoning.text", "text": "a", "index": 0}]
    both = {"reasoning": "a", "reasoning_content": "a", "reasoning_details": details}
    apart = [{"reasoning_details": details}, {"reasoning": "a"}, {"reasoning_content": "a"}]
    for deltas in ([both], apart, [{"reasoning_content": "a"}, {"reasoning": "a"}]):
        assert said_by(read(play(*deltas)), "reasoning_text") == "a"


def test_f6_7_what_comes_behind_the_end_of_a_choice_still_comes_in_order():
    events = ResponseEvents(shape(), counted())
    out = events.begin() + say(events, {"content": "a"}, "stop") + say(events, {"content": "b"})
    response = read(out + events.end(USAGE) + DONE)
    assert items_in(response) == [("message", "completed")] * 2


def test_f6_2_a_stream_that_fails_before_it_began_begins_first():
    events = ResponseEvents(shape(), counted())
    assert [event["type"] for event in parse(events.fail(FAULT, REQUEST, None) + DONE)] == [
        "response.created",
        "response.in_progress",
        "error",
        "response.failed",
    ]


def test_a_failure_of_the_gateway_s_own_is_called_so():
    events = ResponseEvents(shape(), counted())
    error, failed = parse(events.fail(FAULT, REQUEST, USAGE) + DONE)[-2:]
    assert error["error"]["type"] == failed["response"]["error"]["type"] == "internal_error"
    assert failed["response"]["usage"]["output_tokens"] == 3


def steps(letters: str) -> st.SearchStrategy[list[tuple[dict, str | None]]]:
    text = st.text(letters, max_size=4)
    index, ident = st.integers(0, 3), st.none() | st.sampled_from(["", "c0", "c1", "c2"])
    delta = st.one_of(
        st.fixed_dictionaries({"content": text}),
        st.fixed_dictionaries({"reasoning": text}),
        st.fixed_dictionaries({"refusal": text}),
        st.builds(call, index, st.none() | text, st.none() | text, ident),
        st.fixed_dictionaries({}, optional={"content": text, "reasoning": text, "refusal": text}),
    )
    finish = st.sampled_from([None] * 9 + FINISHES)
    return st.lists(st.tuples(delta, finish), max_size=12)


def joined(deltas: list[dict], name: str) -> str:
    return whole("".join(delta.get(name) or "" for delta in deltas))


@settings(deadline=None)
@given(steps=steps(LETTERS), separate=st.booleans(), fails=st.booleans())
def test_any_sequence_keeps_the_grammar_and_every_text(steps: list, separate: bool, fails: bool):
    events = ResponseEvents(shape(separate=separate), counted())
    out = events.begin() + b"".join([say(events, *one) for one in steps])
    out += (events.fail(FAULT, REQUEST, None) if fails else events.end(USAGE)) + DONE
    response = read(out)
    deltas = [one[0] for one in steps]
    assert whole(said_by(response, "output_text")) == joined(deltas, "content")
    assert whole(said_by(response, "refusal")) == joined(deltas, "refusal")
    assert whole(said_by(response, "reasoning", "reasoning_text")) == joined(deltas, "reasoning")


def cut(word: str, size: int) -> list[str]:
    return [word[start : start + size] for start in range(0, len(word), size)]


values = st.dictionaries(st.text(LETTERS, max_size=2), st.integers() | st.text(LETTERS, max_size=3), max_size=2)


@settings(deadline=None)
@given(arguments=st.lists(values, min_size=1, max_size=4), size=st.integers(1, 9), data=st.data())
def test_pieces_of_calls_in_any_order_come_together_again(arguments: list[dict], size: int, data: st.DataObject):
    written = [json.dumps(one) for one in arguments]
    left = {number: cut(one, size) for number, one in enumerate(written)}
    deltas = [[call(number, "f", left[number].pop(0), f"c{number}")] for number in left]
    order = [deltas.pop(0)[0]]
    while deltas or any(left.values()):
        begun = len(left) - len(deltas)
        ready = [number for number in range(begun) if left[number]]
        choice = data.draw(st.sampled_from([*ready, *(["next"] if deltas else [])]))
        order.append(deltas.pop(0)[0] if choice == "next" else call(choice, None, left[choice].pop(0)))
    response = read(play(*order, finish="tool_calls"))
    assert [arguments for _, arguments in calls_in(response)] == [whole(one) for one in written]


@settings(deadline=None)
@given(steps=steps(LETTERS[:-2]), fails=st.booleans())
def test_the_official_library_knows_every_event(steps: list, fails: bool):
    events = ResponseEvents(shape(), counted())
    out = events.begin() + b"".join([say(events, *one) for one in steps])
    out += (events.fail(FAULT, REQUEST, USAGE) if fails else events.end(USAGE)) + DONE
    for event in parse(out):
        assert official.validate_json(json.dumps(event)).type == event["type"]


def test_the_grammar_of_these_tests_refuses_what_is_wrong():
    events = parse(play({"reasoning": "a"}, {"content": "b"}, call(0, "f", "{}")))
    Grammar().take_all(events)
    for number in range(len(events)):
        before, one, behind = events[:number], events[number : number + 1], events[number + 1 :]
        for wrong in ([*before, *behind], [*before, *one, *one, *behind], [*before, *behind[:1], *one, *behind[1:]]):
            if wrong != events:
                with pytest.raises(AssertionError):
                    Grammar().take_all(numbered(wrong))


def numbered(events: list[dict]) -> list[dict]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]
