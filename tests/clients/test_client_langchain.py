"""`langchain-openai` behind the gateway, on both endpoints: answers, streams, a tool loop, errors; sync and async."""

from collections.abc import Iterator

import openai
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from scripted_model import BREAKS, TOTAL_TOKENS, WEATHER, Ask, Said
from scripted_provider import PATIENCE


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return WEATHER[city]


@pytest.fixture
def chat(url: str, secret: str, over: tuple[str, str]) -> ChatOpenAI:
    endpoint, model = over
    return ChatOpenAI(
        base_url=url, api_key=secret, model=model, timeout=PATIENCE, max_retries=0, stream_usage=True,
        use_responses_api=endpoint == "responses",
    )  # fmt: skip


def streamed(chat: Runnable, turns: list[BaseMessage]) -> AIMessage:
    """The message that a stream's chunks add up to."""
    chunks: Iterator[AIMessage] = chat.stream(turns)
    message = next(chunks)
    for chunk in chunks:
        message += chunk
    return message


def whole(chat: Runnable, turns: list[BaseMessage]) -> AIMessage:
    return chat.invoke(turns)


both_ways = pytest.mark.parametrize("say", [whole, streamed])


@both_ways
def test_a_message_is_what_the_model_said_and_nothing_that_it_thought(chat, say):
    message = say(chat, [HumanMessage(Ask.GREETING)])
    assert message.text == Said.ANSWER
    assert message.usage_metadata["total_tokens"] == TOTAL_TOKENS


@pytest.mark.parametrize("over", [("responses", "vllm"), ("responses", "lab/native")], ids=["content", "summary"])
def test_what_the_model_thinks_is_a_block_of_its_own_on_the_responses_api(chat):
    thought, _ = chat.invoke([HumanMessage(Ask.GREETING)]).content
    assert thought["type"] == "reasoning"
    assert "".join(part["text"] for part in (*thought.get("content", ()), *thought["summary"])) == Said.THOUGHT


@both_ways
@pytest.mark.parametrize(
    ("question", "told"),
    [(Ask.ONE_CITY, Said.OF_ONE_CITY), (Ask.TWO_CITIES, Said.OF_TWO_CITIES)],
    ids=["one call", "two calls"],
)
def test_tools_are_called_and_their_results_are_answered(chat, say, question, told):
    able = chat.bind_tools([get_weather])
    turns = [HumanMessage(question)]
    message = say(able, turns)
    turns += [message, *(get_weather.invoke(call) for call in message.tool_calls)]
    assert all(isinstance(turn, ToolMessage) for turn in turns[2:])
    assert say(able, turns).text == told


@pytest.mark.parametrize("question", BREAKS)
def test_a_stream_that_breaks_off_raises_after_what_was_said(chat, question):
    text = ""
    with pytest.raises((openai.APIError, ValueError)):
        for chunk in chat.stream([HumanMessage(question)]):
            text += chunk.text
    assert text == Said.BEFORE_THE_BREAK


@both_ways
def test_a_provider_that_fails_is_the_openai_library_s_error(chat, say):
    with pytest.raises(openai.InternalServerError):
        say(chat, [HumanMessage(Ask.FAIL)])


async def test_the_asynchronous_methods_answer_stream_and_raise(chat):
    message = await chat.ainvoke([HumanMessage(Ask.GREETING)])
    chunks = [chunk.text async for chunk in chat.astream([HumanMessage(Ask.GREETING)])]
    with pytest.raises((openai.APIError, ValueError)):
        _ = [chunk async for chunk in chat.astream([HumanMessage(Ask.BREAK_OFF)])]
    assert (message.text, "".join(chunks)) == (Said.ANSWER, Said.ANSWER)
