"""Reasoning apart from the answer, through the real process: by default on models that reason, and as asked for."""

import pytest
from provider_scripts import chunk, finish, role, streaming, usage, usage_chunk, whole, word
from raw_client import chat
from scripted_provider import DONE

THOUGHT = "6 times 7"


def tagged(stream: bool):
    text = ["<thi", f"nk>\n{THOUGHT}", "</th", "ink>\n\n42", "."]
    if not stream:
        return whole("".join(text), usage(9, 9), model="tagged-reasoner")
    model = "tagged-reasoner"
    pieces = [word(part, model) for part in text]
    return streaming([role(model), *pieces, finish(model=model), usage_chunk(usage(9, 9), model), DONE])


def in_field(stream: bool, field: str):
    if not stream:
        return whole("42.", usage(9, 9), model="reasoner", **{field: THOUGHT})
    thoughts = [chunk({field: part}, model="reasoner") for part in ("6 times", " 7")]
    rest = [word("42", "reasoner"), word(".", "reasoner"), finish(model="reasoner")]
    return streaming([role("reasoner"), *thoughts, *rest, usage_chunk(usage(9, 9), "reasoner"), DONE])


def said(answer, stream: bool) -> tuple[str | None, str]:
    """The reasoning and the answer as a client puts them together."""
    if not stream:
        message = answer.json["choices"][0]["message"]
        return message.get("reasoning"), message["content"]
    deltas = [choice["delta"] for data in answer.chunks for choice in data["choices"]]
    thought = "".join(delta.get("reasoning") or "" for delta in deltas) or None
    return thought, "".join(delta.get("content") or "" for delta in deltas)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wanted", [None, True])
def test_tags_are_taken_apart(gateway, provider, key, stream, wanted):
    provider.on("tagged", tagged(stream))
    answer = key.ask("tagged-reasoner", stream=stream, reasoning_split=wanted)
    assert said(answer, stream) == (THOUGHT, "42.")
    assert "reasoning_split" not in provider.only().json


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_comes_in_one_field_whatever_its_provider_calls_it(gateway, provider, key, stream, field):
    provider.on("main", in_field(stream, field))
    answer = key.ask("reasoner", stream=stream)
    assert said(answer, stream) == (THOUGHT, "42.")
    assert b"reasoning_content" not in answer.body


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_stays_in_the_text_where_the_request_says_so(gateway, provider, key, stream):
    provider.on("main", in_field(stream, "reasoning_content"))
    assert said(key.ask("reasoner", stream=stream, reasoning_split=False), stream) == (
        None,
        f"<think>{THOUGHT}</think>42.",
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, (THOUGHT, "<think>x")),
        (True, (THOUGHT, "<think>x")),
        (False, (None, f"<think>{THOUGHT}</think><think>x")),
    ],
)
def test_where_tags_mean_nothing_a_field_is_reasoning_all_the_same(gateway, provider, key, stream, wanted, expected):
    events = [role(), chunk({"reasoning_content": THOUGHT}), word("<think>x"), finish(), DONE]
    whole_one = whole("<think>x", usage(9, 9), reasoning_content=THOUGHT)
    provider.on("literal", streaming(events) if stream else whole_one)
    assert said(key.ask("literal", stream=stream, reasoning_split=wanted), stream) == expected


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asked", [None, {"enable_thinking": True}])
def test_no_tag_is_taken_for_granted_where_the_operator_has_turned_thinking_off(gateway, provider, key, stream, asked):
    provider.on("silenced", streaming([role(), word("42."), finish(), DONE]) if stream else whole("42.", usage(9, 9)))
    assert said(key.ask("silenced", stream=stream, chat_template_kwargs=asked), stream) == (None, "42.")
    assert provider.only().json["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_is_not_marked_is_left_alone(gateway, provider, key, stream):
    text = f"<think>{THOUGHT}</think>42."
    events = [role(), word(text), finish(), usage_chunk(usage(9, 9)), DONE]
    provider.on("main", streaming(events) if stream else whole(text, usage(9, 9)))
    assert said(key.ask("same", stream=stream), stream) == (None, text)


def test_a_stream_whose_reasoning_has_its_name_already_is_handed_through(gateway, provider, key):
    thoughts = [chunk({"reasoning": f"{number} and "}, model="reasoner") for number in range(50)]
    words = [word(f"word{number} ", "reasoner") for number in range(50)]
    events = [role("reasoner"), *thoughts, *words, finish(model="reasoner"), DONE]
    provider.on("main", streaming(events))
    with gateway.client() as client:
        assert client.ask(chat(key.secret, "reasoner", stream=True)).body == b"".join(events)


def test_earlier_reasoning_goes_back_under_the_name_that_the_provider_used(gateway, provider, key):
    provider.on("main", in_field(False, "reasoning_content"), whole("43.", usage(9, 9), model="reasoner"))
    key.ask("reasoner")
    history = [
        {"role": "user", "content": "6*7?"},
        {"role": "assistant", "content": "42.", "reasoning": THOUGHT},
        {"role": "user", "content": "And one more?"},
    ]
    key.ask("reasoner", messages=history)
    sent = provider.asked()[1].json["messages"][1]
    assert sent == {"role": "assistant", "content": "42.", "reasoning_content": THOUGHT}
