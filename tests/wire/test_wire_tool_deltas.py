"""Tool calls reach a client in the one form that it can join, whatever a provider repeats, leaves out or mixes up.

For every way to cut the arguments: a joining client has each call's id, type and name once and its arguments whole.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.wire.json import Malformed, encode
from proxy.wire.tool_deltas import ToolDeltas, read_calls

MADE = "call_" + "n" * 24


def deltas(*events: object) -> list[list[dict]]:
    """What comes out of the tool calls of each event, and at the end of the choice."""
    tools = ToolDeltas(lambda: "n" * 24)
    taken = [tools.take(read_calls(json.dumps(event).encode())) for event in events]
    return [json.loads(encode(calls)) for calls in [*taken, tools.end()]]


def joined(*events: object) -> dict[int, dict]:
    """The calls as a client puts them together; every delta is checked to be in the one form."""
    calls: dict[int, dict] = {}
    for delta in [delta for made in deltas(*events) for delta in made]:
        if delta["index"] not in calls:
            assert set(delta) >= {"index", "id", "type", "function"}
            assert delta["function"]["arguments"] == ""
            calls[delta["index"]] = {"id": delta["id"], "name": delta["function"]["name"], "arguments": ""}
        else:
            assert set(delta) == {"index", "function"}
            assert set(delta["function"]) == {"arguments"}
            assert delta["function"]["arguments"]
            calls[delta["index"]]["arguments"] += delta["function"]["arguments"]
    return calls


def call(index: object = 0, call_id: object = "c", name: object = "f", arguments: object = "{}") -> dict:
    """One delta; a value of None is left out."""
    function = {"name": name, "arguments": arguments}
    function = {key: value for key, value in function.items() if value is not None}
    whole = {"index": index, "id": call_id, "type": "function", "function": function}
    return {key: value for key, value in whole.items() if value is not None}


def more(arguments: object, index: object = 0, **rest: object) -> dict:
    return call(index, None, None, arguments) | rest


def test_e1_6_a_call_begins_without_arguments_and_goes_on_with_nothing_else():
    assert deltas([call(arguments="{")], [more("}")]) == [
        [
            {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"index": 0, "function": {"arguments": "{"}},
        ],
        [{"index": 0, "function": {"arguments": "}"}}],
        [],
    ]


def test_e1_6_what_is_repeated_is_said_once():
    assert joined([call(arguments="{")], [call(arguments="}")], [call(call_id="", name="", arguments=None)]) == {
        0: {"id": "c", "name": "f", "arguments": "{}"}
    }


@pytest.mark.parametrize("kind", [{}, {"type": None}, {"type": ""}, {"type": "function"}])
def test_d5_6_the_type_is_function_if_none_is_said(kind: dict):
    [[first, *_], _] = deltas([{**{key: value for key, value in call().items() if key != "type"}, **kind}])
    assert first["type"] == "function"


@pytest.mark.parametrize("missing", [None, ""])
def test_d5_6_a_missing_id_is_made(missing: object):
    assert joined([call(call_id=missing)], [more("x")])[0]["id"] == MADE


def test_d5_6_arguments_that_are_no_text_become_one():
    assert joined([call(arguments={"a": [1, {}]})])[0]["arguments"] == '{"a":[1,{}]}'


@pytest.mark.parametrize("nothing", ["", None])
def test_a_delta_that_says_nothing_is_not_sent(nothing: object):
    assert deltas([call(arguments="")], [{"index": 0, "function": {"arguments": nothing}}], [{"index": 0}])[1:] == [
        [], [], [],
    ]  # fmt: skip


@pytest.mark.parametrize("function", [None, {}, {"name": None, "arguments": None}])
def test_a_function_that_is_not_there_yet_is_waited_for(function: object):
    begun = {"index": 0, "id": "c", "type": "function", "function": function}
    events = [[begun], [more("{")], [{"index": 0, "function": {"name": "f"}}], [more("}")]]
    assert [len(made) for made in deltas(*events)] == [0, 0, 2, 1, 0]
    assert joined(*events) == {0: {"id": "c", "name": "f", "arguments": "{}"}}


def test_a_call_that_never_says_its_name_is_sent_at_the_end():
    assert joined([call(name=None)]) == {0: {"id": "c", "name": "", "arguments": "{}"}}


@pytest.mark.parametrize("missing", [None, "0", -1, 1.5, 10**9])
def test_f6_8_without_a_number_a_new_id_begins_the_next_call(missing: object):
    events = [
        [call(missing, "a", "f", "{")],
        [more("}", missing)],
        [call(missing, "b", "f", "[")],
        [more("]", missing)],
    ]
    assert joined(*events) == {
        0: {"id": "a", "name": "f", "arguments": "{}"},
        1: {"id": "b", "name": "f", "arguments": "[]"},
    }


def test_f6_8_without_a_number_and_an_id_a_name_begins_the_next_call():
    found = joined([call(None, None, "f", "{}")], [call(None, None, "g", "[")], [more("]", None)])
    assert [(made["name"], made["arguments"]) for made in found.values()] == [("f", "{}"), ("g", "[]")]


def test_f6_8_without_a_number_an_id_that_is_repeated_goes_on():
    assert joined([call(None, "a", "f", "{")], [call(None, "a", None, "}")]) == {
        0: {"id": "a", "name": "f", "arguments": "{}"}
    }


def test_without_a_number_a_name_that_comes_late_is_the_name_of_the_call_that_waits_for_it():
    assert joined([call(None, "a", None, "{")], [call(None, None, "f", "}")]) == {
        0: {"id": "a", "name": "f", "arguments": "{}"}
    }


def test_calls_that_all_have_the_same_number_get_numbers_of_their_own():
    found = joined([call(0, "a", "f", "{")], [call(0, "b", "g", "[")], [more("]", 0)], [call(1, "c", "h", "1")])
    assert found == {
        0: {"id": "a", "name": "f", "arguments": "{"},
        1: {"id": "b", "name": "g", "arguments": "[]"},
        2: {"id": "c", "name": "h", "arguments": "1"},
    }


def test_a_number_that_comes_late_is_that_of_the_call_that_has_it():
    assert joined([call(None, "a", "f", "{")], [more("}", 0)], [call(1, "b", "g", "1")]) == {
        0: {"id": "a", "name": "f", "arguments": "{}"},
        1: {"id": "b", "name": "g", "arguments": "1"},
    }


def test_an_id_that_changes_with_every_delta_is_that_of_the_first():
    """Some servers make a new one for each piece of the arguments."""
    assert joined([call(0, "a", "f", "{")], [call(0, "b", None, "}")]) == {
        0: {"id": "a", "name": "f", "arguments": "{}"}
    }


def test_calls_that_take_turns_keep_apart():
    events = [[call(0, "a", "f", "{"), call(1, "b", "g", "[")], [more("]", 1), more("}", 0)]]
    assert joined(*events) == {
        0: {"id": "a", "name": "f", "arguments": "{}"},
        1: {"id": "b", "name": "g", "arguments": "[]"},
    }


def test_what_is_not_known_here_goes_along():
    odd = call() | {"extra_content": {"google": {"thought_signature": "x"}}}
    odd["function"]["strict"] = True
    [[first, second], later, _] = deltas([odd], [more("", extra_content={"y": 1})])
    assert first["extra_content"] == odd["extra_content"]
    assert first["function"] == {"name": "f", "arguments": "", "strict": True}
    assert "extra_content" not in second
    assert later == [{"index": 0, "extra_content": {"y": 1}}]


def test_a_call_of_another_type_is_passed_on_as_it_is():
    custom = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}
    more_of_it = {"index": 0, "id": "c", "custom": {"input": "y"}}
    assert deltas([custom], [more_of_it]) == [[custom], [{"index": 0, "custom": {"input": "y"}}], []]


@pytest.mark.parametrize("arguments", [r'"{\"a\":\u00e9\/}"', '"é"', r'"\ud83d\ude00"'])
def test_arguments_stay_the_bytes_that_came(arguments: str):
    event = b'[{"index":0,"id":"c\\u0031","function":{"name":"\\u0066","arguments":%b}}]' % arguments.encode()
    first, second = ToolDeltas(lambda: "n").take(read_calls(event))
    assert second == {"index": 0, "function": {"arguments": Raw(arguments.encode())}}
    assert b'"id":"c\\u0031"' in encode(first)
    assert b'"name":"\\u0066"' in encode(first)


@pytest.mark.parametrize("function", [b"5", b'"f"', b"[1]"])
def test_a_function_that_is_none_is_malformed(function: bytes):
    with pytest.raises(Malformed):
        read_calls(b'[{"index":0,"id":"a","function":{"name":"f"}},{"index":1,"function":%b}]' % function)


def test_it_says_which_call_a_delta_with_arguments_alone_belongs_to():
    tools = ToolDeltas(lambda: "n")
    assert not tools.goes_on(Raw(b"0"), 0)
    assert not tools.goes_on(None, 0)
    tools.take(read_calls(json.dumps([call(0, "a", None)]).encode()))
    assert not tools.goes_on(Raw(b"0"), 0)
    tools.take(read_calls(json.dumps([call(0, "a", "f"), call(1, "b", "g")]).encode()))
    assert tools.goes_on(None, 1)
    assert not tools.goes_on(None, 0)
    assert tools.goes_on(Raw(b"0"), 0)
    assert tools.goes_on(None, 0)


@pytest.mark.parametrize(
    ("event", "as_told"),
    [
        ([], True),
        ([call(0, "a"), call(1, "b")], True),
        ([call(1, "a")], True),
        ([call(None, "a")], False),
        ([call(0, "a"), call(0, "b")], False),
        ([call(0, "a", None)], False),
        ([call(0, "a", None), {"index": 0, "function": {"name": "f"}}], True),
    ],
)
def test_it_says_whether_deltas_may_leave_as_they_come(event: list[dict], as_told: bool):
    tools = ToolDeltas(lambda: "n")
    tools.take(read_calls(json.dumps(event).encode()))
    assert tools.as_told is as_told


@given(
    calls=st.lists(
        st.tuples(st.text(max_size=20), st.lists(st.integers(0, 20), max_size=5)), min_size=1, max_size=3
    ),
    numbered=st.booleans(), repeats=st.booleans(), at_once=st.booleans(),
)  # fmt: skip
def test_the_arguments_are_whole_however_they_were_cut(calls, numbered: bool, repeats: bool, at_once: bool):
    events = []
    for number, (arguments, places) in enumerate(calls):
        edges = [0, *sorted(place % (len(arguments) + 1) for place in places), len(arguments)]
        texts = [arguments[edges[at] : edges[at + 1]] for at in range(len(edges) - 1)]
        index = number if numbered else None
        call_id, name = f"c{number}", f"f{number}"
        events += [
            call(index, *((call_id, name) if repeats or not at else (None, None)), text)
            for at, text in enumerate(texts)
        ]
    found = joined(events) if at_once else joined(*([event] for event in events))
    assert [(made["id"], made["name"], made["arguments"]) for made in found.values()] == [
        (f"c{number}", f"f{number}", arguments) for number, (arguments, _) in enumerate(calls)
    ]
