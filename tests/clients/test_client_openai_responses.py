"""The `openai` library on the Responses API, sync and async: answers, streams, its own helper, tools, errors."""

import json
from collections.abc import Iterator

import openai
import pytest
from scripted_model import (
    BREAKS,
    CACHED_TOKENS,
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    TOOL,
    TOTAL_TOKENS,
    WEATHER,
    Ask,
    Said,
)
from scripted_provider import PATIENCE, ScriptedProvider

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "name": TOOL, "description": "The weather.", "parameters": SCHEMA, "strict": False}]
NATIVE = "lab/native"


@pytest.fixture(scope="module")
def client(url: str, secret: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key=secret, timeout=PATIENCE, max_retries=0) as client:
        yield client


def asking(model: str, content: str = Ask.GREETING, **more: object) -> dict:
    return {"model": model, "input": content, **more}


def answered(response) -> list[dict]:
    """Call what the model asked for, and tell it."""
    calls = [item for item in response.output if item.type == "function_call"]
    results = [(call.call_id, WEATHER[json.loads(call.arguments)["city"]]) for call in calls]
    return [{"type": "function_call_output", "call_id": call_id, "output": result} for call_id, result in results]


def thought_of(response) -> str:
    """The text of the response's reasoning items: in their content, or in the summaries of who sends those."""
    items = [item for item in response.output if item.type == "reasoning"]
    return "".join(part.text for item in items for part in (*(item.content or ()), *item.summary))


def test_a_whole_answer(client, any_model):
    response = client.responses.create(**asking(any_model))
    assert response.output_text == Said.ANSWER
    assert (response.status, response.model) == ("completed", any_model)
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens) == (PROMPT_TOKENS, COMPLETION_TOKENS)
    assert usage.total_tokens == TOTAL_TOKENS
    assert usage.input_tokens_details.cached_tokens == CACHED_TOKENS
    assert thought_of(response) == ("" if any_model == "plain" else Said.THOUGHT)


def test_the_reasoning_is_an_item_of_its_own_before_the_message(client, thinker):
    response = client.responses.create(**asking(thinker))
    assert [item.type for item in response.output] == ["reasoning", "message"]


def test_who_asks_for_the_split_gets_the_reasoning_as_a_part_of_the_message(client, thinker):
    response = client.responses.create(**asking(thinker, extra_body={"reasoning_split": True}))
    (message,) = response.output
    assert [(part.type, part.text) for part in message.content] == [
        ("reasoning", Said.THOUGHT),
        ("output_text", Said.ANSWER),
    ]


def test_a_stream(client, any_model):
    events = list(client.responses.create(**asking(any_model), stream=True))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == Said.ANSWER
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.total_tokens == TOTAL_TOKENS
    assert {event.response.model for event in events if hasattr(event, "response")} == {any_model}


def test_what_the_model_thinks_is_streamed(client, thinker):
    events = list(client.responses.create(**asking(thinker), stream=True))
    kinds = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    assert "".join(deltas) == Said.THOUGHT
    assert kinds.index("response.reasoning_text.done") < kinds.index("response.output_text.delta")


def test_the_library_s_own_helper_puts_a_stream_together(client, any_model):
    with client.responses.stream(**asking(any_model)) as stream:
        response = stream.get_final_response()
    assert (response.output_text, response.status) == (Said.ANSWER, "completed")
    assert thought_of(response) == ("" if any_model == "plain" else Said.THOUGHT)


# The library's types have no parts of reasoning in a message; it keeps them, and warns when it writes its snapshot.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_the_library_s_own_helper_puts_a_stream_with_reasoning_in_the_message_together(client, thinker):
    with client.responses.stream(**asking(thinker, extra_body={"reasoning_split": True})) as stream:
        response = stream.get_final_response()
    (message,) = response.output
    assert [part.text for part in message.content] == [Said.THOUGHT, Said.ANSWER]
    assert response.output_text == Said.ANSWER


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("question", "told"),
    [(Ask.ONE_CITY, Said.OF_ONE_CITY), (Ask.TWO_CITIES, Said.OF_TWO_CITIES)],
    ids=["one call", "two calls"],
)
def test_tools_are_called_and_their_results_are_answered(client, any_model, streamed, question, told):
    turns = [{"role": "user", "content": question}]

    def turn():
        request = {"model": any_model, "input": turns, "tools": TOOLS, "instructions": "Be brief."}
        if not streamed:
            return client.responses.create(**request)
        with client.responses.stream(**request) as stream:
            return stream.get_final_response()

    first = turn()
    assert thought_of(first) == ("" if any_model == "plain" else Said.ABOUT_WEATHER)
    turns += [item.to_dict() for item in first.output] + answered(first)
    assert turn().output_text == told


@pytest.mark.parametrize(
    ("thinker", "field"), [("vllm", "reasoning"), ("lab/sglang", "reasoning_content"), ("lab/tags", None)]
)
def test_reasoning_that_is_sent_back_reaches_the_provider_in_its_own_words(
    client, provider: ScriptedProvider, thinker: str, field: str | None
):
    turns = [{"role": "user", "content": Ask.ONE_CITY}]
    first = client.responses.create(model=thinker, input=turns, tools=TOOLS)
    turns += [item.to_dict() for item in first.output] + answered(first)
    client.responses.create(model=thinker, input=turns, tools=TOOLS)
    sent = provider.asked()[-1].json["messages"][1]
    told = {name: sent[name] for name in ("reasoning", "reasoning_content") if name in sent}
    assert told == ({} if field is None else {field: Said.ABOUT_WEATHER})


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_that_was_cut_short_is_incomplete(client, any_model, streamed):
    made = client.responses.create(**asking(any_model, Ask.RAMBLE), stream=streamed)
    response = list(made)[-1].response if streamed else made
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.output_text == Said.CUT_SHORT


@pytest.mark.parametrize("question", BREAKS)
def test_a_stream_that_breaks_off_raises_after_what_was_said(client, any_model, question):
    text = ""
    with pytest.raises(openai.APIError):
        for event in client.responses.create(**asking(any_model, question), stream=True):
            text += event.delta if event.type == "response.output_text.delta" else ""
    assert text == Said.BEFORE_THE_BREAK


def test_the_library_s_own_helper_raises_too(client, any_model):
    with pytest.raises(openai.APIError), client.responses.stream(**asking(any_model, Ask.BREAK_OFF)) as stream:
        stream.until_done()


@pytest.mark.parametrize("model", ["plain", NATIVE])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_provider_that_fails_is_an_internal_server_error(client, model, streamed):
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(**asking(model, Ask.FAIL), stream=streamed)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")


@pytest.mark.parametrize("model", ["plain", NATIVE])
def test_a_conversation_that_is_too_long_is_a_bad_request(client, model):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**asking(model, Ask.TOO_LONG))
    assert caught.value.code == "context_length_exceeded"


def test_the_conversation_is_not_kept(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**asking("plain", previous_response_id="resp_1"))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "previous_response_id")


def test_a_response_is_not_found_later(client):
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")


def test_metadata_comes_back(client):
    response = client.responses.create(**asking("plain", metadata={"order": "4711"}))
    assert response.metadata == {"order": "4711"}


async def test_the_asynchronous_library_answers_streams_and_raises(async_client, any_model):
    response = await async_client.responses.create(**asking(any_model))
    events = [event async for event in await async_client.responses.create(**asking(any_model), stream=True)]
    async with async_client.responses.stream(**asking(any_model, Ask.ONE_CITY, tools=TOOLS)) as stream:
        final = await stream.get_final_response()
    broken = await async_client.responses.create(**asking(any_model, Ask.BREAK_OFF), stream=True)
    with pytest.raises(openai.APIError):
        _ = [event async for event in broken]
    assert response.output_text == Said.ANSWER
    assert events[-1].response.output_text == Said.ANSWER
    assert [item["output"] for item in answered(final)] == ["rain"]
