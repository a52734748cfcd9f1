"""Agents of `openai-agents` behind the gateway, on both endpoints: runs, streamed runs, tools, errors."""

import agents
import openai
import pytest
from scripted_model import BREAKS, TOTAL_TOKENS, WEATHER, Ask, Said

ENDPOINTS = {"chat": agents.OpenAIChatCompletionsModel, "responses": agents.OpenAIResponsesModel}


class Guide:
    """An agent with one tool, and what that was called with."""

    def __init__(self, model: agents.Model) -> None:
        self.asked_for: list[str] = []

        @agents.function_tool
        def get_weather(city: str) -> str:
            self.asked_for.append(city)
            return WEATHER[city]

        tell_usage = agents.ModelSettings(include_usage=True)
        self.agent = agents.Agent(
            "Guide", instructions="Be brief.", model=model, model_settings=tell_usage, tools=[get_weather]
        )

    async def run(self, question: str, *, streamed: bool) -> agents.result.RunResultBase:
        if not streamed:
            return await agents.Runner.run(self.agent, question)
        result = agents.Runner.run_streamed(self.agent, question)
        async for _ in result.stream_events():
            pass
        return result


@pytest.fixture
def guide(async_client: openai.AsyncOpenAI, over: tuple[str, str]) -> Guide:
    endpoint, model = over
    return Guide(ENDPOINTS[endpoint](model, async_client))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_run_ends_with_what_the_model_said_and_nothing_that_it_thought(guide, streamed):
    result = await guide.run(Ask.GREETING, streamed=streamed)
    assert result.final_output == Said.ANSWER
    assert result.context_wrapper.usage.total_tokens == TOTAL_TOKENS


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("question", "cities", "told"),
    [(Ask.ONE_CITY, ["Oslo"], Said.OF_ONE_CITY), (Ask.TWO_CITIES, ["Oslo", "Rome"], Said.OF_TWO_CITIES)],
    ids=["one call", "two calls"],
)
async def test_the_tool_is_called_and_its_results_are_answered(guide, streamed, question, cities, told):
    result = await guide.run(question, streamed=streamed)
    assert (sorted(guide.asked_for), result.final_output) == (cities, told)


async def test_a_conversation_goes_on_after_a_tool_was_called(guide):
    first = await guide.run(Ask.ONE_CITY, streamed=False)
    second = await agents.Runner.run(guide.agent, [*first.to_input_list(), {"role": "user", "content": Ask.GREETING}])
    assert second.final_output == Said.ANSWER


@pytest.mark.parametrize("question", BREAKS)
async def test_a_stream_that_breaks_off_raises_after_what_was_said(guide, question):
    result = agents.Runner.run_streamed(guide.agent, question)
    text = ""
    with pytest.raises((openai.APIError, agents.AgentsException)):
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                text += event.data.delta
    assert text == Said.BEFORE_THE_BREAK


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_provider_that_fails_is_the_openai_library_s_error(guide, streamed):
    with pytest.raises(openai.InternalServerError):
        await guide.run(Ask.FAIL, streamed=streamed)
