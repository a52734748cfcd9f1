"""The `openai` library on chat completions, sync and async: whole answers, streams, its own helper, tools, errors."""

import json
from collections.abc import Iterator

import openai
import pytest
from scripted_model import (
    CACHED_TOKENS,
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    THINKING_TOKENS,
    TOOL,
    TOTAL_TOKENS,
    WEATHER,
    Ask,
    Said,
)
from scripted_provider import PATIENCE, ScriptedProvider

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": TOOL, "description": "The weather.", "parameters": SCHEMA}}]


@pytest.fixture(scope="module")
def client(url: str, secret: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key=secret, timeout=PATIENCE, max_retries=0) as client:
        yield client


def asking(model: str, content: str = Ask.GREETING, **more: object) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def answered(calls) -> list[dict]:
    """Call what the model asked for, and tell it."""
    found = [(call.id, WEATHER[json.loads(call.function.arguments)["city"]]) for call in calls]
    return [{"role": "tool", "tool_call_id": call_id, "content": result} for call_id, result in found]


def thought_of(message) -> str:
    return (message.model_extra or {}).get("reasoning", "")


def test_a_whole_answer(client, model):
    answer = client.chat.completions.create(**asking(model))
    assert answer.choices[0].message.content == Said.ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == model
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (PROMPT_TOKENS, COMPLETION_TOKENS)
    assert usage.total_tokens == TOTAL_TOKENS
    assert usage.prompt_tokens_details.cached_tokens == CACHED_TOKENS


def test_what_the_model_thinks_is_beside_what_it_says(client, thinker):
    answer = client.chat.completions.create(**asking(thinker))
    assert thought_of(answer.choices[0].message) == Said.THOUGHT
    assert answer.choices[0].message.content == Said.ANSWER


def test_reasoning_tokens_are_told(client):
    usage = client.chat.completions.create(**asking("lab/sglang")).usage
    assert usage.completion_tokens_details.reasoning_tokens == THINKING_TOKENS


def test_a_stream(client, model):
    chunks = list(client.chat.completions.create(**asking(model), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == Said.ANSWER
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.model for chunk in chunks} == {model}
    assert not any(chunk.usage for chunk in chunks)


def test_what_the_model_thinks_is_streamed_before_what_it_says(client, thinker):
    chunks = client.chat.completions.create(**asking(thinker), stream=True)
    parts = [(thought_of(chunk.choices[0].delta), chunk.choices[0].delta.content) for chunk in chunks]
    assert "".join(thought or "" for thought, _ in parts) == Said.THOUGHT
    last_thought = max(number for number, (thought, _) in enumerate(parts) if thought)
    first_word = min(number for number, (_, content) in enumerate(parts) if content)
    assert last_thought < first_word


def test_a_stream_tells_usage_last_when_it_was_asked_for(client, model):
    more = {"stream": True, "stream_options": {"include_usage": True}}
    *before, last = client.chat.completions.create(**asking(model), **more)
    assert not any(chunk.usage for chunk in before)
    assert (last.choices, last.usage.total_tokens) == ([], 101)


def test_the_library_s_own_helper_puts_a_stream_together(client, model):
    with client.chat.completions.stream(**asking(model)) as stream:
        message = stream.get_final_completion().choices[0].message
    assert (message.role, message.content) == ("assistant", Said.ANSWER)
    assert thought_of(message) == ("" if model == "plain" else Said.THOUGHT)


def test_reasoning_stays_in_the_text_of_who_asks_for_that(client):
    answer = client.chat.completions.create(**asking("lab/sglang", extra_body={"reasoning_split": False}))
    message = answer.choices[0].message
    assert message.content == f"<think>{Said.THOUGHT}</think>{Said.ANSWER}"
    assert thought_of(message) == ""


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("question", "said", "told"),
    [(Ask.ONE_CITY, "", Said.OF_ONE_CITY), (Ask.TWO_CITIES, Said.LOOKING, Said.OF_TWO_CITIES)],
    ids=["one call", "two calls"],
)
def test_tools_are_called_and_their_results_are_answered(client, model, streamed, question, said, told):
    request = asking(model, question, tools=TOOLS)

    def turn():
        if not streamed:
            return client.chat.completions.create(**request).choices[0]
        with client.chat.completions.stream(**request) as stream:
            return stream.get_final_completion().choices[0]

    first = turn()
    assert first.finish_reason == "tool_calls"
    assert (first.message.content or "") == said
    assert thought_of(first.message) == ("" if model == "plain" else Said.ABOUT_WEATHER)
    request["messages"] += [first.message.to_dict(), *answered(first.message.tool_calls)]
    second = turn()
    assert (second.finish_reason, second.message.content) == ("stop", told)


@pytest.mark.parametrize(
    ("thinker", "field"), [("vllm", "reasoning"), ("lab/sglang", "reasoning_content"), ("lab/tags", None)]
)
def test_reasoning_that_is_sent_back_reaches_the_provider_in_its_own_words(
    client, provider: ScriptedProvider, thinker: str, field: str | None
):
    request = asking(thinker, Ask.ONE_CITY, tools=TOOLS)
    message = client.chat.completions.create(**request).choices[0].message
    request["messages"] += [message.to_dict(), *answered(message.tool_calls)]
    client.chat.completions.create(**request)
    sent = provider.asked()[-1].json["messages"][1]
    told = {name: sent[name] for name in ("reasoning", "reasoning_content") if name in sent}
    assert told == ({} if field is None else {field: Said.ABOUT_WEATHER})


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_that_was_cut_short_says_so(client, model, streamed):
    if streamed:
        chunks = list(client.chat.completions.create(**asking(model, Ask.RAMBLE), stream=True))
        text, finish = "".join(chunk.choices[0].delta.content or "" for chunk in chunks), chunks[-1].choices[0]
    else:
        finish = client.chat.completions.create(**asking(model, Ask.RAMBLE)).choices[0]
        text = finish.message.content
    assert (text, finish.finish_reason) == (Said.CUT_SHORT, "length")


@pytest.mark.parametrize(
    ("question", "code"), [(Ask.BREAK_OFF, "upstream_error"), (Ask.FALL_SILENT, "upstream_truncated")]
)
def test_a_stream_that_breaks_off_raises_after_what_was_said(client, model, question, code):
    text = ""
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(**asking(model, question), stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == Said.BEFORE_THE_BREAK
    assert (caught.value.type, caught.value.code) == ("provider_error", code)


def test_the_library_s_own_helper_raises_too(client, model):
    with (
        pytest.raises(openai.APIError),
        client.chat.completions.stream(**asking(model, Ask.BREAK_OFF)) as stream,
    ):
        stream.until_done()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_provider_that_fails_is_an_internal_server_error(client, streamed):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**asking("plain", Ask.FAIL), stream=streamed)
    assert caught.value.code == "upstream_error"


def test_a_conversation_that_is_too_long_is_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asking("plain", Ask.TOO_LONG))
    assert caught.value.code == "context_length_exceeded"


async def test_the_asynchronous_library_answers_streams_and_raises(async_client, model):
    answer = await async_client.chat.completions.create(**asking(model))
    chunks = [chunk async for chunk in await async_client.chat.completions.create(**asking(model), stream=True)]
    async with async_client.chat.completions.stream(**asking(model, Ask.ONE_CITY), tools=TOOLS) as stream:
        (call,) = (await stream.get_final_completion()).choices[0].message.tool_calls
    broken = await async_client.chat.completions.create(**asking(model, Ask.BREAK_OFF), stream=True)
    with pytest.raises(openai.APIError):
        _ = [chunk async for chunk in broken]
    assert answer.choices[0].message.content == Said.ANSWER
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == Said.ANSWER
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
