"""The demo provider's script, by calling it: which words do what, and that its numbers are honest."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo_script import SCRIPT, Answer, ChatRequest, answer_to, deltas_of, message_of, tokens, usage_of


def offering(name, **properties):
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = offering("get_weather", city={"type": "string"})
BOOK = offering(
    "book",
    tariff={"enum": ["saver", "full"]},
    seats={"type": "integer"},
    window={"type": "boolean"},
    names={"type": "array", "items": {"type": "string"}},
    when={"type": "object", "properties": {"day": {"type": "string"}}},
)


def asking(prompt, **more):
    return msgspec.convert({"model": "m", "messages": [{"role": "user", "content": prompt}], **more}, ChatRequest)


def text_for(prompt, **more):
    return answer_to(asking(prompt, **more)).text


def test_the_script_lists_every_word_with_what_it_does():
    assert [word.split()[0] for word, _ in SCRIPT] == ["think", "tool", "slow", "long", "break", "error"]
    assert all(does for _, does in SCRIPT)


@pytest.mark.parametrize(
    "prompt", ["a terrorist's breakfast", "stools and toolboxes", "unthinkable slowness", "errors"]
)
def test_a_part_of_a_word_is_no_word_of_the_script(prompt):
    assert answer_to(asking(prompt)) == Answer(text=text_for(prompt))
    assert text_for(prompt).startswith("Hello!")


@pytest.mark.parametrize("prompt", ["A LONG 3", "long: 3", "a story (long, 3 words)"])
def test_case_and_punctuation_do_not_matter(prompt):
    assert text_for(prompt) == "word1 word2 word3"


@pytest.mark.parametrize("prompt", ["how long is it?", "long ago", "long 3rd"])
def test_long_without_a_number_is_an_ordinary_word(prompt):
    assert text_for(prompt).startswith("Hello!")


def test_words_combine():
    answer = answer_to(asking("think slow, then break long 3"))
    assert answer.text.endswith("</think>\n\nword1 word2 word3")
    assert answer.slow
    assert answer.breaks


def test_only_the_last_user_message_decides():
    messages = [("user", "error"), ("assistant", "think"), ("user", "hi"), ("system", "break")]
    request = asking("", messages=[{"role": role, "content": content} for role, content in messages])
    assert answer_to(request) == answer_to(asking("hi"))


def test_a_conversation_without_a_user_gets_the_plain_answer():
    request = asking("", messages=[{"role": "system", "content": "error"}])
    assert answer_to(request).text.endswith('You said: "".')


def test_only_the_beginning_of_a_long_prompt_is_quoted():
    text = text_for("begin " + "x" * 5000 + " end")
    assert '"begin xxx' in text
    assert len(text) < 200


def test_long_n_has_an_upper_bound():
    assert len(text_for("long 999999999").split(" ")) == 10_000


def test_weather_beside_offered_tools_calls_get_weather_even_where_it_is_not_the_first():
    assert answer_to(asking("How is the weather?", tools=[BOOK, WEATHER])).tool == "get_weather"


def test_weather_without_offered_tools_is_only_talk():
    assert answer_to(asking("How is the weather?")).tool == ""


def test_the_first_tool_is_called_with_arguments_that_fit_its_schema():
    answer = answer_to(asking("a tool, please", tools=[BOOK]))
    assert answer.tool == "book"
    assert msgspec.json.decode(answer.arguments) == {
        "tariff": "saver",
        "seats": 1,
        "window": True,
        "names": [],
        "when": {"day": "Oslo"},
    }


@pytest.mark.parametrize("parameters", [None, {}, {"properties": 7}, {"type": "string"}])
def test_a_tool_without_a_usable_schema_is_called_with_no_arguments(parameters):
    tools = [{"function": {"name": "ping", "parameters": parameters}}]
    assert answer_to(asking("tool", tools=tools)).arguments == "{}"


@pytest.mark.parametrize(
    ("choice", "called"),
    [("none", ""), ("auto", ""), ("required", "book"), ({"function": {"name": "get_weather"}}, "get_weather")],
)
def test_tool_choice_is_honoured(choice, called):
    assert answer_to(asking("hello", tools=[BOOK], tool_choice=choice)).tool == called


def test_no_tool_is_called_where_the_request_forbids_it():
    assert answer_to(asking("tool", tools=[BOOK], tool_choice="none")).tool == ""


@pytest.mark.parametrize(("text", "count"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é€", 2)])
def test_a_token_is_four_bytes(text, count):
    assert tokens(text) == count


def test_prompt_tokens_are_four_a_message_and_those_of_its_text():
    messages = [
        {"role": "system", "content": "grüße"},  # 7 bytes: 2 tokens
        {"role": "user", "content": [{"type": "text", "text": "abc"}, {"type": "text", "text": "de"}]},  # 5 bytes: 2
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    request = asking("", messages=messages)
    assert usage_of(request, answer_to(request))["prompt_tokens"] == 4 + 2 + 4 + 2 + 4


def test_a_tool_call_is_counted_as_its_name_and_arguments():
    request = asking("tool in Rome")
    assert usage_of(request, answer_to(request))["completion_tokens"] == tokens('get_weather{"city":"Rome"}')


def test_an_answer_of_exactly_the_most_tokens_is_whole():
    whole = answer_to(asking("hi"))
    assert answer_to(asking("hi", max_tokens=whole.tokens)) == whole
    assert answer_to(asking("hi", max_tokens=whole.tokens - 1)).finish == "length"


def test_a_cut_never_halves_a_character():
    answer = answer_to(asking("€" * 20, max_tokens=25))
    assert answer.tokens == 25
    assert "\ufffd" not in answer.text


def test_reasoning_is_never_more_than_what_was_said_of_it():
    answer = answer_to(asking("think", max_tokens=4))
    assert answer.text == f"<think>\n{answer.reasoning}"


PROMPTS = st.one_of(
    st.text(), st.lists(st.sampled_from(["think", "tool", "weather", "slow", "long 9", "€", "in Rome"])).map(" ".join)
)


@given(PROMPTS, st.none() | st.integers(1, 60), st.sampled_from([None, [WEATHER], [BOOK]]))
def test_for_any_prompt_stream_and_whole_agree_and_the_most_tokens_hold(prompt, most, tools):
    answer = answer_to(asking(prompt, max_tokens=most, tools=tools))
    message, deltas = message_of(answer, "call_1"), list(deltas_of(answer, "call_1"))
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
    whole = [call["function"] for call in message.get("tool_calls", ())]
    assert "".join(delta.get("content") or "" for delta in deltas) == (message["content"] or "")
    assert "".join(call["arguments"] for call in calls) == "".join(call["arguments"] for call in whole)
    assert most is None or answer.tokens <= most
    assert (answer.finish == "length") == (answer != answer_to(asking(prompt, tools=tools)))
