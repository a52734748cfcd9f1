"""The official `openai` library against the gateway, sync and async: what an application gets and what it catches."""

import json
from collections.abc import Iterator

import openai
import pytest
from gateway_process import Gateway, Key
from provider_scripts import chunk, completion, failing, finish, role, streaming, talking, usage, whole
from raw_client import chat
from scripted_provider import DONE, PATIENCE

ASK = {"model": "same", "messages": [{"role": "user", "content": "Hi."}]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def library(gateway: Gateway, secret: str) -> openai.OpenAI:
    """The library as an application uses it: with its own retries."""
    return openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.api}/v1", api_key=secret, timeout=PATIENCE)


@pytest.fixture
def client(gateway: Gateway, key: Key) -> Iterator[openai.OpenAI]:
    """The library with a good key."""
    with library(gateway, key.secret) as client:
        yield client


def test_models_are_listed(client):
    listed = client.models.list().data
    assert [model.id for model in listed][:2] == ["same", "test/renamed"]
    assert (listed[1].owned_by, listed[1].object) == ("test", "model")


def test_a_model_whose_id_has_a_slash_is_retrieved(client):
    assert client.models.retrieve("test/renamed").id == "test/renamed"


def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nothing/like-it")
    assert caught.value.code == "model_not_found"


def test_a_whole_answer(client, provider):
    provider.on("main", talking(["Good ", "day."], usage(12, 4, cached=8)))
    answer = client.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "Good day."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "same"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (12, 4, 16)
    assert answer.usage.prompt_tokens_details.cached_tokens == 8


def test_every_answer_names_its_request(client, provider):
    provider.on("main", whole())
    assert client.chat.completions.create(**ASK)._request_id.startswith("req_")


def test_an_alias_is_answered_under_the_model_s_own_name(client, provider):
    provider.on("main", whole(model="name-upstream"))
    assert client.chat.completions.create(**{**ASK, "model": "renamed"}).model == "test/renamed"


def test_a_stream(client, provider):
    provider.on("main", talking(["One", " two", " three."], usage(9, 3)))
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "One two three."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert not any(chunk.usage for chunk in chunks)


def test_a_stream_tells_usage_last_when_it_was_asked_for(client, provider):
    provider.on("main", talking(["One", " two"], usage(9, 2)))
    *before, last = client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    assert not any(chunk.usage for chunk in before)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (9, 2)


def test_the_accumulating_helper_reads_a_stream_whose_every_chunk_repeats_the_role(client, provider):
    words = [chunk({"role": "assistant", "content": text}) for text in ("One", " two")]
    provider.on("main", streaming([*words, finish(), DONE]))
    with client.chat.completions.stream(**ASK) as stream:
        message = stream.get_final_completion().choices[0].message
    assert (message.role, message.content) == ("assistant", "One two")


def test_a_tool_is_called_and_its_result_is_answered(client, provider):
    provider.on("main", whole(text=None, tool_calls=[CALL]), whole("It rains in Oslo."))
    messages = list(ASK["messages"])
    first = client.chat.completions.create(model="same", messages=messages, tools=[WEATHER])
    call = first.choices[0].message.tool_calls[0]
    assert first.choices[0].finish_reason == "tool_calls"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    second = client.chat.completions.create(model="same", messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content == "It rains in Oslo."
    sent = provider.asked()[1].json["messages"]
    assert sent[1]["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
    assert sent[2] == {"role": "tool", "tool_call_id": "call_1", "content": "rain"}


def test_a_streamed_tool_call_is_put_together(client, provider):
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    parts = [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in ('{"city"', ': "Oslo"}')]
    events = [role(), chunk({"tool_calls": [first]}), *(chunk(part) for part in parts), finish("tool_calls"), DONE]
    provider.on("main", streaming(events))
    with client.chat.completions.stream(**ASK, tools=[WEATHER]) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.arguments == '{"city": "Oslo"}'


def test_a_key_that_is_no_key_fails_to_authenticate_once(gateway, provider):
    client = library(gateway, "sk-aion-nobody-at-all")
    with client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(**ASK)
    assert caught.value.code == "invalid_api_key"
    assert caught.value.type == "authentication_error"
    assert caught.value.request_id.startswith("req_")
    assert provider.asked() == []


def test_the_other_scheme_authenticates_too(gateway, provider, key):
    provider.on("main", whole("Hello."))
    url, headers = f"http://127.0.0.1:{gateway.api}/v1", {"Authorization": f"Api-Key {key.secret}"}
    with openai.OpenAI(base_url=url, api_key="unused", default_headers=headers) as client:
        assert client.chat.completions.create(**ASK).choices[0].message.content == "Hello."


def test_a_model_outside_the_key_s_list_is_not_permitted(gateway, provider):
    key = gateway.new_key(models=frozenset({"second"}))
    client = library(gateway, key.secret)
    with client, pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(**ASK)
    assert (caught.value.code, caught.value.param) == ("model_not_allowed", "model")


def test_a_request_that_is_wrong_is_a_bad_request_that_names_the_parameter(client, provider):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASK, max_tokens=0)
    assert (caught.value.param, caught.value.type) == ("max_tokens", "invalid_request_error")


def test_a_model_that_does_not_exist_is_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**ASK, "model": "gpt-none"})
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_an_endpoint_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="same", input="Hi.")
    assert caught.value.code == "unknown_url"


def test_a_budget_that_is_used_up_is_tried_once(gateway, provider):
    key = gateway.new_key(budget_nusd=1, budget_per="total")
    client = library(gateway, key.secret)
    with client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**ASK)
    assert caught.value.code == "insufficient_quota"
    assert gateway.only_line_of(key)["retry_count"] == "0"


def test_a_rate_limit_is_tried_again_after_the_time_that_was_told(gateway, provider):
    key = gateway.new_key(concurrent_requests=1)
    provider.on("main", lambda exchange: exchange.wait_gone())
    url = f"http://127.0.0.1:{gateway.api}/v1"
    with gateway.client() as holder, openai.OpenAI(base_url=url, api_key=key.secret, max_retries=1) as client:
        holder.send(chat(key.secret))
        provider.wait_asked()
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**ASK)
    assert caught.value.code == "concurrency_limit"
    gateway.wait_logged("request", account=key.account, retry_count="1", status=429)


def test_a_provider_that_fails_is_an_internal_server_error(client, provider):
    provider.on("main", failing(500))
    with pytest.raises(openai.InternalServerError) as caught:
        client.with_options(max_retries=0).chat.completions.create(**ASK)
    assert (caught.value.status_code, caught.value.type) == (502, "provider_error")


def test_a_provider_that_fails_is_tried_again_by_the_library(client, provider):
    provider.on("main", failing(500), whole("At last."))
    assert client.chat.completions.create(**ASK).choices[0].message.content == "At last."


def test_an_error_inside_a_stream_is_raised_after_the_text_before_it(client, provider):
    events = [role(), chunk({"content": "Once"}), b'data: {"error":{"message":"boom","code":500}}\n\n']
    provider.on("main", streaming(events))
    stream = client.chat.completions.create(**ASK, stream=True)
    text = [next(stream).choices[0].delta.content for _ in range(2)]
    with pytest.raises(openai.APIError) as caught:
        next(stream)
    assert "".join(text) == "Once"
    assert caught.value.type == "provider_error"


async def test_the_asynchronous_library_asks_and_streams(gateway, provider, key):
    provider.on("main", talking(["One", " two"], usage(5, 2)))
    url = f"http://127.0.0.1:{gateway.api}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=key.secret, timeout=PATIENCE) as client:
        assert "same" in [model.id async for model in client.models.list()]
        answer = await client.chat.completions.create(**ASK)
        stream = await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
    assert answer.choices[0].message.content == "One two"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "One two"
    assert chunks[-1].usage.total_tokens == 7


async def test_the_asynchronous_library_raises_the_same_errors(gateway, provider, key):
    provider.on("main", failing(429, headers={"Retry-After": "1"}))
    url = f"http://127.0.0.1:{gateway.api}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=key.secret, max_retries=0) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(**ASK)
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(**ASK, temperature="hot")
    assert caught.value.code == "upstream_rate_limited"
    assert caught.value.response.headers["retry-after"] == "1"


def test_the_oracle_s_tokens_are_those_that_the_library_is_told(client, provider):
    """A provider that counts for itself, and answers that add up to what it counted."""
    counted = []

    def counting(exchange):
        number = len(exchange.json["messages"][0]["content"])
        counted.append(number)
        exchange.answer(completion("x" * number, usage(number, number)))

    provider.on("main", counting)
    asked = [
        client.chat.completions.create(model="same", messages=[{"role": "user", "content": "x" * size}])
        for size in (1, 20, 300)
    ]
    assert [answer.usage.prompt_tokens for answer in asked] == counted == [1, 20, 300]
