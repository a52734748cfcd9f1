"""The place that a refusal names stands in the log, so it is made of names of the API and of numbers alone.

Whatever a client writes, and wherever, neither the place nor the sentence repeats a word of it.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.errors import Refusal
from proxy.wire.chat_request import read_chat_request
from proxy.wire.response_request import as_chat, read_response_request

WORD = "prmptqz"
ODD: tuple[Any, ...] = (WORD, {WORD: WORD}, {WORD: {WORD: 1}}, [WORD], [{WORD: WORD}], [[WORD]], {"type": WORD}, {})
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SETTINGS = {"model": "m", "temperature": 1.0, "stream": True, "reasoning_split": True, "metadata": {"a": "b"}}
CHAT = SETTINGS | {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi."}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "1"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "max_tokens": 5, "max_completion_tokens": 5, "stop": ["x"], "stream_options": {"include_usage": True}, "n": 1,
}  # fmt: skip
RESPONSE = SETTINGS | {
    "input": [
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "Hi."},
            {"type": "input_image", "image_url": "data:,", "detail": "low"},
            {"type": "input_file", "file_data": "data:,", "filename": "a"},
        ]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "s", "schema": {}}}, "reasoning": {"effort": "low"},
    "include": [], "max_output_tokens": 5, "top_logprobs": 1, "background": False,
}  # fmt: skip
READERS = {
    "chat": (CHAT, read_chat_request),
    "responses": (RESPONSE, lambda body: as_chat(read_response_request(body))),
}


def changed(value: Any) -> Iterator[Any]:
    """The value with each part of it, itself included, left out or put in another's place."""
    yield from ODD
    if isinstance(value, dict):
        yield value | {WORD: WORD}
        for name, part in value.items():
            yield {other: kept for other, kept in value.items() if other != name}
            yield from ({**value, name: odd} for odd in changed(part))
    elif isinstance(value, list):
        yield [*value, WORD]
        for index, part in enumerate(value):
            yield from ([*value[:index], odd, *value[index + 1 :]] for odd in changed(part))


@pytest.mark.parametrize(("good", "read"), READERS.values(), ids=READERS)
def test_no_refusal_repeats_a_word_of_the_request(good, read):
    read(json.dumps(good).encode())
    places = set()
    for wrong in changed(good):
        try:
            read(json.dumps(wrong).encode())
        except Refusal as refusal:
            fault = refusal.fault
            assert WORD not in f"{fault.param} {fault.message} {fault.code}", wrong
            places.add(fault.param)
    assert len(places) > 25, "most places can be wrong"
