"""A whole chat completion reads the same as a response, and the same as if it had come as a stream."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.responses import Response
from pydantic import TypeAdapter
from response_reading import LATER, counted, read, respond, shape

from proxy.usage import Usage
from proxy.wire.chat_answer import ChatAnswer, read_answer
from proxy.wire.response_answer import write_response
from proxy.wire.upstream_error import UpstreamError

USAGE = Usage(12, 8, 4, prompt_details=(("cache_write_tokens", 2),))
LETTERS = 'ab "\\\n{é世😀\ud83d\ude00'
official = TypeAdapter(Response)


def completion(message: dict, finish: str | None = "stop", **choice: object) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **choice}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": "vendor/name"}
    return json.dumps({**head, "choices": [choice]}).encode()


def written(body: bytes, *, separate: bool = True) -> dict:
    answer = read_answer(body, new_id=counted("made"))
    return json.loads(write_response(answer, shape(separate=separate), USAGE, counted()))


def output(message: dict, finish: str | None = "stop", *, separate: bool = True, **choice: object) -> list[dict]:
    return written(completion(message, finish, **choice), separate=separate)["output"]


def called(name: str, arguments: object, **call: object) -> dict:
    return {**call, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_f5_1_a_plain_answer():
    response = written(completion({"content": "Hi"}))
    assert response["output"] == [
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}],
        }
    ]
    assert (response["status"], response["incomplete_details"], response["error"]) == ("completed", None, None)
    assert response["completed_at"] == LATER


def test_f4_1_reasoning_as_a_part_of_the_message():
    (item,) = output({"reasoning": "Hm", "content": "Hi"}, separate=False)
    assert item["content"] == [
        {"type": "reasoning", "text": "Hm"},
        {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []},
    ]


def test_f4_2_reasoning_as_an_item_before_the_message():
    thought, item = output({"reasoning": "Hm", "content": "Hi"})
    assert thought == {
        "id": "rs_1",
        "type": "reasoning",
        "status": "completed",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm"}],
    }
    assert item["content"][0]["text"] == "Hi"


@pytest.mark.parametrize("separate", [True, False])
def test_f5_2_every_output_text_has_its_lists(separate: bool):
    items = output({"reasoning": "Hm", "content": "Hi", "refusal": "No"}, separate=separate)
    message = items[-1]
    assert list(message) == ["id", "type", "status", "role", "content"]
    assert message["id"].startswith("msg_")
    texts = [part for part in message["content"] if part["type"] == "output_text"]
    assert texts == [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}]


def test_f5_3_calls_keep_their_ids_and_their_arguments():
    calls = [called("f", '{"a": 1}', id="call_a"), called("g", "", id="call_b")]
    assert output({"content": None, "tool_calls": calls}, "tool_calls") == [
        {
            "id": "fc_1",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_a",
            "name": "f",
            "arguments": '{"a": 1}',
        },
        {
            "id": "fc_2",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_b",
            "name": "g",
            "arguments": "{}",
        },
    ]


def test_f5_3_two_calls_under_one_name_are_two_and_one_without_an_id_gets_one():
    first, second = output({"content": None, "tool_calls": [called("f", "{}"), called("f", "{}")]})
    assert first["call_id"] != second["call_id"]


def test_d5_6_arguments_that_are_an_object_become_a_string():
    (item,) = output({"content": None, "tool_calls": [called("f", {"a": 1}, id="c")]})
    assert item["arguments"] == '{"a":1}'


def test_f5_4_reasoning_message_calls_in_this_order():
    items = output({"tool_calls": [called("f", "{}", id="c")], "content": "Hi", "reasoning": "Hm"})
    assert [item["type"] for item in items] == ["reasoning", "message", "function_call"]


@pytest.mark.parametrize("content", ["", None])
def test_f5_4_an_empty_answer_is_one_message_with_an_empty_text(content: str | None):
    (item,) = output({"content": content})
    assert [part["text"] for part in item["content"]] == [""]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [("stop", "completed", None), ("tool_calls", "completed", None), ("function_call", "completed", None),
     ("length", "incomplete", "max_output_tokens"), ("content_filter", "incomplete", "content_filter"),
     ("max_tokens", "incomplete", "max_output_tokens"), (None, "completed", None), ("odd", "completed", None)],
)  # fmt: skip
def test_f5_6_the_finish_reason_decides_the_status(finish: str | None, status: str, reason: str | None):
    response = written(completion({"content": "Hi"}, finish))
    assert (response["status"], response["output"][0]["status"]) == (status, status)
    assert response["incomplete_details"] == (None if reason is None else {"reason": reason})
    assert ("completed_at" in response) == (reason is None)


def test_f6_9_a_refusal_is_a_part_of_its_own():
    (item,) = output({"content": None, "refusal": "No."})
    assert item["content"] == [{"type": "refusal", "refusal": "No."}]


def test_f5_2_log_probabilities_of_the_text_stand_in_its_part():
    entry = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
    (item,) = output({"content": "Hi"}, logprobs={"content": [entry], "refusal": None})
    assert item["content"][0]["logprobs"] == [entry]


def test_the_older_form_of_a_call_is_a_call():
    (item,) = output({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call")
    assert (item["type"], item["name"]) == ("function_call", "f")


def test_d3_7_half_a_pair_in_the_text_and_a_private_character_beside_it_both_survive():
    body = completion({"content": "a\ud83d"}).replace(b'"role"', rb'"note":"\ue000","role"')
    assert (
        json.loads(write_response(read_answer(body, new_id=counted()), shape(), USAGE, counted()))["output"][0][
            "content"
        ][0]["text"]
        == "a\ud83d"
    )


@pytest.mark.parametrize("choices", ["[]", "{}", '[{"index":0,"message":[]}]', "[1]"])
def test_an_answer_that_cannot_be_read_is_a_bad_answer(choices: str):
    with pytest.raises(UpstreamError) as error:
        write_response(ChatAnswer({}, Raw(choices.encode()), None, None), shape(), USAGE, counted())
    assert error.value.kind == "upstream_bad_response"


def answers(letters: str) -> st.SearchStrategy[dict]:
    text = st.text(letters, max_size=6)
    arguments = st.just("") | text | st.dictionaries(text, st.integers() | text, max_size=2).map(json.dumps)
    calls = st.lists(st.tuples(st.sampled_from(["f", "g", "h"]), arguments), min_size=1, max_size=3)
    said = {"reasoning": text, "refusal": text, "tool_calls": calls}
    return st.fixed_dictionaries({"content": st.none() | text}, optional=said)


finishes = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "eos"])


def in_pieces(word: str, size: int) -> list[str]:
    """Cut as a provider may: between characters, and between the halves of one."""
    return [word[start : start + size] for start in range(0, len(word), size)] or [""]


def as_stream(answer: dict, finish: str, size: int) -> bytes:
    deltas = [
        {name: piece}
        for name in ("reasoning", "content", "refusal")
        if answer.get(name)
        for piece in in_pieces(answer[name], size)
    ]
    for number, (name, said) in enumerate(answer.get("tool_calls", ())):
        first, *more = in_pieces(said, size)
        begun = {"index": number, "id": f"c{number}", "type": "function"}
        deltas.append({"tool_calls": [{**begun, "function": {"name": name, "arguments": first}}]})
        deltas += [{"tool_calls": [{"index": number, "function": {"arguments": piece}}]} for piece in more]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "vendor/name"}
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in [{"role": "assistant"}, *deltas]]
    chunks.append({"index": 0, "delta": {}, "finish_reason": finish})
    events = (b"data: %b\n\n" % json.dumps({**head, "choices": [chunk]}).encode() for chunk in chunks)
    return b"".join(events) + b"data: [DONE]\n\n"


def without_ids(response: dict) -> list[dict]:
    return [{name: value for name, value in item.items() if name != "id"} for item in response["output"]]


@settings(deadline=None)
@given(answer=answers(LETTERS), finish=finishes, size=st.integers(1, 4), separate=st.booleans())
def test_an_answer_and_its_stream_are_the_same_response(answer: dict, finish: str, size: int, separate: bool):
    calls = [called(name, said, id=f"c{number}") for number, (name, said) in enumerate(answer.get("tool_calls", ()))]
    body = completion({**answer, **({"tool_calls": calls} if calls else {})}, finish)
    at_once = written(body, separate=separate)
    streamed = read(respond(as_stream(answer, finish, size), separate=separate))
    assert without_ids(at_once) == without_ids(streamed)
    for name in ("status", "incomplete_details", "error", "model", "created_at"):
        assert at_once[name] == streamed[name]
    assert at_once.keys() == streamed.keys()


@settings(deadline=None)
@given(answer=answers(LETTERS[:-2]))
def test_the_official_library_knows_the_response(answer: dict):
    calls = [called(name, said, id=f"c{number}") for number, (name, said) in enumerate(answer.get("tool_calls", ()))]
    response = written(completion({**answer, **({"tool_calls": calls} if calls else {})}))
    known = official.validate_json(json.dumps(response))
    assert known.output_text == (answer["content"] or "")
