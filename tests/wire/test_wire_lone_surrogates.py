"""Half a surrogate pair goes through everything that is done to an answer, and so do the characters that stand in its
place meanwhile.
"""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import NEW_ID, NOW, arguments_in, chunks_in, joined, plan, play, split
from provider_events import DONE, ROLE, lines, same_model

from proxy.usage import Usage
from proxy.wire.chat_answer import read_answer, write_answer

ODD = st.text(st.sampled_from('\ud83d\ude00\udc00\ue000\ue001\uf8ff\U0001f600\\u"e0 a'), max_size=8)
HALF = "\ud83d"


def whole_text(text: str) -> str:
    """Halves of characters that came one after the other as the character that they are."""
    return json.loads(json.dumps(text))


def dumped(value: object) -> str:
    """JSON with nothing escaped that need not be."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def calls(arguments: object) -> list[dict]:
    return [{"index": 0, "id": f"c{HALF}", "type": "function", "function": {"name": "f", "arguments": arguments}}]


def served(message: dict, mode: str) -> dict:
    body = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    answer = read_answer(dumped(body).encode(), new_id=lambda: NEW_ID, reasoning=split(mode=mode))
    out = write_answer(answer, model="m", usage=Usage(), now=NOW, new_id=lambda: NEW_ID)
    return json.loads(out)["choices"][0]["message"]


def streamed(*deltas: dict, mode: str, **asked: bool) -> list[dict]:
    events = [same_model(dumped(delta)) for delta in deltas]
    sent = lines(same_model(ROLE), *events, same_model("{}", '"stop"'), DONE)
    return chunks_in(play([sent], plan(reasoning=split(mode=mode), **asked)).out)


@pytest.mark.parametrize("every_event", [False, True])
@given(ODD, ODD)
def test_tags_are_taken_out_of_any_text(every_event: bool, thought: str, said: str):
    sent = f"<think>a{thought}b</think>x{said}"
    expected = whole_text(f"a{thought}b"), whole_text(f"x{said}")
    found = served({"role": "assistant", "content": sent}, "split")
    assert (found["reasoning"], found["content"]) == expected
    chunks = streamed({"content": sent[:9]}, {"content": sent[9:]}, mode="split", every_event=every_event)
    assert tuple(whole_text(joined(chunks, name)[0]) for name in ("reasoning", "content")) == expected


@pytest.mark.parametrize("every_event", [False, True])
@pytest.mark.parametrize("place", ["details", "parts", "field"])
@given(ODD, ODD)
def test_any_text_is_folded_in_from_wherever_it_came(every_event: bool, place: str, thought: str, said: str):
    thought = f"a{thought}"
    message = {
        "details": {"reasoning_details": [{"text": thought}], "content": said},
        "parts": {"content": [{"type": "thinking", "thinking": thought}, {"type": "text", "text": said}]},
        "field": {"reasoning_content": thought, "content": said},
    }[place]
    expected = whole_text(f"<think>{thought}</think>{said}")
    assert served({"role": "assistant", **message}, "inline")["content"] == expected
    chunks = streamed(message, mode="inline", every_event=every_event)
    assert whole_text(joined(chunks, "content")[0]) == expected


@given(ODD)
def test_arguments_that_are_an_object_become_the_text_of_it(odd: str):
    arguments = {"k": odd, "half": HALF}
    expected = {"k": whole_text(odd), "half": HALF}
    found = served({"role": "assistant", "content": None, "tool_calls": calls(arguments)}, "split")
    assert json.loads(found["tool_calls"][0]["function"]["arguments"]) == expected
    chunks = streamed({"tool_calls": calls(arguments)}, mode="split")
    assert json.loads(arguments_in(chunks)[0, 0]) == expected


def test_a_call_that_waited_for_its_name_leaves_without_the_disguise_that_it_came_in():
    nameless = calls(f"{HALF}1")
    del nameless[0]["function"]["name"]
    chunks = streamed({"tool_calls": nameless}, {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, mode="split")
    [first] = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", []) if "id" in call]
    assert first["id"] == f"c{HALF}"
    assert arguments_in(chunks)[0, 0] == f"{HALF}1"
