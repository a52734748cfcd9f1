"""What one chunk of a stream says, and where providers hide usage in it."""

import json

import pytest
from msgspec import Raw
from playing import NEW_ID

from proxy.usage import Usage
from proxy.wire.chat_answer import read_answer, take_usage
from proxy.wire.chat_chunk import choices_of_answer, event_of, index_of, is_bare
from proxy.wire.json import RawObject, encode, split_list, split_object

COUNTS = '{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}'


def choice(delta: str, finish: str = "null") -> RawObject:
    return split_object(f'{{"index":0,"delta":{delta},"finish_reason":{finish}}}'.encode())


def parted(chunk: str) -> tuple[RawObject, list[RawObject]]:
    fields = split_object(chunk.encode())
    return fields, split_list(fields["choices"])


def test_an_event_is_one_line_and_a_blank_one():
    assert event_of({"a": "x\ny", "b": Raw(b"1.0")}) == b'data: {"a":"x\\ny","b":1.0}\n\n'


@pytest.mark.parametrize("delta", ["{}", "null", '{"role":"assistant"}', '{"role":null,"content":"","tool_calls":[]}'])
def test_a_choice_with_an_empty_delta_is_bare(delta: str):
    assert is_bare(choice(delta))
    assert is_bare(choice(delta, '""'))
    assert not is_bare(choice(delta, '"stop"'))
    assert is_bare({})


@pytest.mark.parametrize("delta", ['{"content":" "}', '{"reasoning":"a"}', '{"images":["i"]}', '{"unknown":0}'])
def test_a_choice_that_says_anything_is_not_bare(delta: str):
    assert not is_bare(choice(delta))


@pytest.mark.parametrize(
    ("raw", "index"), [("0", 0), ("7", 7), ("null", 0), ('"1"', 0), ("-1", 0), ("1.0", 0), ("9" * 5000, 0)]
)
def test_the_number_of_a_choice(raw: str, index: int):
    assert index_of({"index": Raw(raw.encode())}) == index


def test_a_choice_without_a_number_is_the_first():
    assert index_of({}) == 0


@pytest.mark.parametrize(
    "chunk",
    [
        f'{{"choices":[],"usage":{COUNTS}}}',
        f'{{"choices":[{{"index":0,"delta":{{}},"usage":{COUNTS}}}]}}',
        f'{{"choices":[],"x_groq":{{"id":"r","usage":{COUNTS}}}}}',
    ],
    ids=["in the chunk", "in a choice", "in a vendor's key"],
)
def test_usage_is_found_wherever_it_stands_and_cut_out(chunk: str):
    fields, choices = parted(chunk)
    assert take_usage(fields, choices, completion_from_total=False) == (Usage(5, 2), True)
    assert "usage" not in fields
    assert "x_groq" not in fields
    assert not any("usage" in choice for choice in choices)


@pytest.mark.parametrize("chunk", ['{"choices":[]}', '{"choices":[{"usage":null}],"usage":null}',
                                   '{"choices":[],"x_groq":{"id":"r"}}', '{"choices":[],"x_groq":null}'])  # fmt: skip
def test_where_there_is_no_usage_nothing_is_cut(chunk: str):
    fields, choices = parted(chunk)
    assert take_usage(fields, choices, completion_from_total=False) == (None, False)
    assert (fields, choices) == parted(chunk)


@pytest.mark.parametrize("broken", ["{}", '{"prompt_tokens":"5"}', "5", '"x"', "[]"])
def test_usage_that_cannot_be_read_is_cut_out_all_the_same(broken: str):
    fields, choices = parted(f'{{"choices":[],"usage":{broken}}}')
    assert take_usage(fields, choices, completion_from_total=False) == (None, True)
    assert "usage" not in fields


def test_a_whole_answer_has_its_choices_as_a_chunk_has_them_and_its_calls_numbered():
    call = '{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}'
    body = (
        '{"choices":[{"index":0,"message":{"role":"assistant","content":"a","reasoning":"b"},"finish_reason":"stop",'
        '"logprobs":{"content":[]}},{"index":1,"message":{"role":"assistant","content":null,"tool_calls":'
        f'[{call},{call}]}},"finish_reason":"tool_calls"}}]}}'
    )
    answer = read_answer(body.encode(), new_id=lambda: NEW_ID)
    assert json.loads(encode(choices_of_answer(answer))) == [
        {"index": 0, "delta": {"role": "assistant", "content": "a", "reasoning": "b"}, "logprobs": {"content": []},
         "finish_reason": "stop"},
        {"index": 1, "delta": {"role": "assistant", "content": None, "tool_calls": [
            {"index": number, **json.loads(call)} for number in (0, 1)]}, "finish_reason": "tool_calls"},
    ]  # fmt: skip


def test_calls_of_a_whole_answer_are_numbered_whatever_numbers_they_have():
    call = '{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}'
    message = f'{{"role":"assistant","content":null,"tool_calls":[{call},{call}]}}'
    body = f'{{"choices":[{{"index":0,"message":{message},"finish_reason":"tool_calls"}}]}}'
    [choice] = choices_of_answer(read_answer(body.encode(), new_id=lambda: NEW_ID))
    assert [call["index"] for call in json.loads(bytes(choice["delta"]))["tool_calls"]] == [0, 1]
