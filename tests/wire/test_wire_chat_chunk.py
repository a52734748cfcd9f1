"""What one chunk of a stream says, and where providers hide usage in it."""

import json

import pytest
from msgspec import Raw
from playing import NEW_ID

from proxy.usage import Usage
from proxy.wire.chat_answer import read_answer, take_usage
from proxy.wire.chat_chunk import chunks_of_answer, event_of, index_of, says_something, set_role
from proxy.wire.json import RawObject, split_list, split_object

COUNTS = '{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}'


def choice(delta: str, finish: str = "null") -> RawObject:
    return split_object(f'{{"index":0,"delta":{delta},"finish_reason":{finish}}}'.encode())


def parted(chunk: str) -> tuple[RawObject, list[RawObject]]:
    fields = split_object(chunk.encode())
    return fields, split_list(fields["choices"])


def test_an_event_is_one_line_and_a_blank_one():
    assert event_of({"a": "x\ny", "b": Raw(b"1.0")}) == b'data: {"a":"x\\ny","b":1.0}\n\n'


@pytest.mark.parametrize(
    "delta",
    ['{"content":"a"}', '{"content":" "}', '{"reasoning":"a"}', '{"reasoning_content":"a"}', '{"refusal":"a"}',
     '{"tool_calls":[{"index":0}]}', '{"function_call":{"name":"f"}}', '{"reasoning_details":[{"index":0}]}',
     '{"audio":{"data":""}}', '{"content":[{"type":"text","text":"a"}]}'],
)  # fmt: skip
def test_output_of_any_kind_says_something(delta: str):
    assert says_something(choice(delta))


@pytest.mark.parametrize(
    "delta",
    ["{}", "null", '{"role":"assistant"}', '{"content":""}', '{"content":null,"reasoning":null,"tool_calls":null}',
     '{"tool_calls":[],"reasoning_content":"","refusal":null}', '{"unknown":"a"}'],
)  # fmt: skip
def test_a_role_alone_or_empty_output_says_nothing(delta: str):
    assert not says_something(choice(delta))
    assert not says_something(choice(delta, '""'))
    assert says_something(choice(delta, '"stop"'))


def test_a_choice_without_a_delta_says_nothing():
    assert not says_something(split_object(b'{"index":0}'))


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


@pytest.mark.parametrize(
    ("delta", "first", "expected"),
    [
        ('{"content":"a"}', True, '{"role":"assistant","content":"a"}'),
        ('{"content":"a"}', False, None),
        ('{"role":"assistant","content":"a"}', True, None),
        ('{"role":"assistant","content":"a"}', False, '{"content":"a"}'),
        ('{"role":null,"content":"a"}', True, '{"role":"assistant","content":"a"}'),
        ('{"role":null,"content":"a"}', False, '{"content":"a"}'),
        ('{"content":"a","role":"model"}', True, '{"role":"assistant","content":"a"}'),
        ("{}", True, '{"role":"assistant"}'),
        ("null", True, '{"role":"assistant"}'),
        ("{}", False, None),
    ],
)
def test_a_role_stands_in_the_first_chunk_of_a_choice_alone(delta: str, first: bool, expected: str | None):
    changed = choice(delta)
    assert set_role(changed, first=first) is (expected is not None)
    assert bytes(changed["delta"]) == (expected or delta).encode()


def test_a_whole_answer_becomes_two_chunks_a_choice():
    body = (
        '{"choices":[{"index":0,"message":{"role":"assistant","content":"a","reasoning":"b"},"finish_reason":"stop",'
        '"logprobs":{"content":[]}},{"index":1,"message":{"role":"assistant","content":"c"},"finish_reason":"length"}]}'
    )
    answer = read_answer(body.encode(), new_id=lambda: NEW_ID)
    choices = [json.loads(made)[0] for made in chunks_of_answer(answer, lambda choices: event_of(choices)[6:])]
    assert choices == [
        {"index": 0, "delta": {"role": "assistant", "content": "a", "reasoning": "b"}, "logprobs": {"content": []},
         "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
        {"index": 1, "delta": {"role": "assistant", "content": "c"}, "finish_reason": None},
        {"index": 1, "delta": {}, "finish_reason": "length"},
    ]  # fmt: skip
