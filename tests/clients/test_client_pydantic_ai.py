"""Agents of `pydantic-ai` behind the gateway, on both endpoints: runs, streamed runs, tools, thinking, errors."""

from collections.abc import AsyncIterable

import openai
import pydantic_ai
import pytest
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import ModelMessage, ModelResponse, ThinkingPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from scripted_model import BREAKS, TOTAL_TOKENS, WEATHER, Ask, Said

ENDPOINTS = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}


class Guide:
    """An agent with one tool, and what that was called with."""

    def __init__(self, model: pydantic_ai.models.Model) -> None:
        self.asked_for: list[str] = []
        self.agent = pydantic_ai.Agent(model, instructions="Be brief.")

        @self.agent.tool_plain
        def get_weather(city: str) -> str:
            self.asked_for.append(city)
            return WEATHER[city]

    async def run(self, question: str, *, streamed: bool) -> tuple[str, list[ModelMessage]]:
        """What it said in the end, and the whole conversation."""
        result = await self.agent.run(question, event_stream_handler=look_on if streamed else None)
        return result.output, result.all_messages()


async def look_on(_context: object, events: AsyncIterable[object]) -> None:
    """With somebody who looks on, the library asks for streams."""
    async for _ in events:
        pass


@pytest.fixture
def guide(async_client: openai.AsyncOpenAI, over: tuple[str, str]) -> Guide:
    endpoint, model = over
    return Guide(ENDPOINTS[endpoint](model, provider=OpenAIProvider(openai_client=async_client)))


def thoughts(messages: list[ModelMessage]) -> str:
    """What the library shows as thinking or, of the reasoning that it only keeps, what it keeps."""
    parts = [part for message in messages if isinstance(message, ModelResponse) for part in message.parts]
    thinking = [part for part in parts if isinstance(part, ThinkingPart)]
    return "".join(part.content or "".join((part.provider_details or {})["raw_content"]) for part in thinking)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_run_ends_with_what_the_model_said_and_nothing_that_it_thought(guide, streamed):
    text, messages = await guide.run(Ask.GREETING, streamed=streamed)
    assert text == Said.ANSWER
    assert messages[-1].usage.total_tokens == TOTAL_TOKENS


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_what_the_model_thinks_is_a_part_of_its_own(guide, over, streamed):
    _, messages = await guide.run(Ask.GREETING, streamed=streamed)
    assert thoughts(messages) == ("" if over[1] == "plain" else Said.THOUGHT)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("question", "cities", "told"),
    [(Ask.ONE_CITY, ["Oslo"], Said.OF_ONE_CITY), (Ask.TWO_CITIES, ["Oslo", "Rome"], Said.OF_TWO_CITIES)],
    ids=["one call", "two calls"],
)
async def test_the_tool_is_called_and_its_results_are_answered(guide, streamed, question, cities, told):
    text, _ = await guide.run(question, streamed=streamed)
    assert (sorted(guide.asked_for), text) == (cities, told)


async def test_a_conversation_goes_on_after_a_tool_was_called(guide):
    first = await guide.agent.run(Ask.TWO_CITIES)
    second = await guide.agent.run(Ask.GREETING, message_history=first.all_messages())
    assert second.output == Said.ANSWER


async def test_text_is_streamed_as_it_comes(guide):
    async with guide.agent.run_stream(Ask.GREETING) as stream:
        parts = [part async for part in stream.stream_text(delta=True, debounce_by=None)]
        assert await stream.get_output() == "".join(parts) == Said.ANSWER
    assert len(parts) > 1


@pytest.mark.parametrize("question", BREAKS)
async def test_a_stream_that_breaks_off_raises_after_what_was_said(guide, question):
    text = ""
    with pytest.raises((openai.APIError, AgentRunError)):
        async with guide.agent.run_stream(question) as stream:
            async for part in stream.stream_text(delta=True, debounce_by=None):
                text += part
    assert text == Said.BEFORE_THE_BREAK


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_provider_that_fails_is_an_error_with_its_status(guide, streamed):
    with pytest.raises(pydantic_ai.ModelHTTPError) as caught:
        await guide.run(Ask.FAIL, streamed=streamed)
    assert caught.value.status_code == 502
