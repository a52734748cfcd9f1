"""The scripted provider, driven over a real socket: what each word of its script looks like on the wire."""

import asyncio
import math
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest

from proxy.demo_provider import PACE, SLOW_PACE, DemoProvider, start_demo_provider

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def demo() -> AsyncIterator[DemoProvider]:
    provider = await start_demo_provider(pace=0, slow_pace=0, clock=lambda: 1_700_000_000.5)
    yield provider
    await provider.close()


@pytest.fixture
async def client(demo: DemoProvider) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=demo.base_url + "/") as session:
        yield session


def asking(prompt, **more):
    return {"model": "some/model", "messages": [{"role": "user", "content": prompt}], **more}


async def ask(client, body):
    async with client.post("chat/completions", json=body) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        return await response.json()


async def stream(client, body):
    """The events of a whole stream as they came, without their `data: `."""
    async with client.post("chat/completions", json={**body, "stream": True}) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        events = (await response.read()).decode().split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [event.removeprefix("data: ") for event in events]


def chunks(events):
    assert events[-1] == "[DONE]"
    return [msgspec.json.decode(event) for event in events[:-1]]


def said(chunks, index=0):
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def error_of(client, body):
    async with client.post("chat/completions", json=body) as response:
        return response.status, (await response.json())["error"], response.headers


async def test_an_ordinary_prompt_gets_a_plain_answer_that_says_who_speaks_and_quotes_the_prompt(client):
    answer = await ask(client, asking("Good morning!"))
    (choice,) = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert "scripted demo provider" in choice["message"]["content"]
    assert "Good morning!" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


async def test_the_model_is_the_one_asked_for_and_the_head_is_openai_s(client):
    answer = await ask(client, asking("hi"))
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert (answer["object"], answer["created"], answer["model"]) == ("chat.completion", 1_700_000_000, "some/model")


async def test_every_answer_has_an_id_of_its_own(client):
    first, second = await ask(client, asking("hi")), await ask(client, asking("hi"))
    assert first["id"] != second["id"]


async def test_a_stream_is_role_then_words_then_finish_then_done(client):
    events = await stream(client, asking("hi"))
    first, *words, last = chunks(events)
    assert first["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert len(words) > 10
    assert all(list(word["choices"][0]["delta"]) == ["content"] for word in words)
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]


async def test_all_chunks_of_a_stream_carry_the_same_head(client):
    heads = {(c["id"], c["object"], c["created"], c["model"]) for c in chunks(await stream(client, asking("hi")))}
    ((_, *rest),) = heads
    assert rest == ["chat.completion.chunk", 1_700_000_000, "some/model"]


async def test_a_stream_says_word_for_word_what_the_whole_answer_says(client):
    whole = await ask(client, asking("think of a  number"))
    streamed = chunks(await stream(client, asking("think of a  number")))
    assert said(streamed) == whole["choices"][0]["message"]["content"]


async def test_no_usage_appears_in_a_stream_that_did_not_ask_for_it(client):
    events = await stream(client, asking("hi", stream_options={"include_usage": False}))
    assert not any("usage" in event for event in events)


async def test_the_usage_asked_for_is_the_last_chunk_without_choices_and_null_before(client):
    *before, last = chunks(await stream(client, asking("hi", stream_options={"include_usage": True})))
    assert last["choices"] == []
    assert last["usage"] == (await ask(client, asking("hi")))["usage"]
    assert [chunk["usage"] for chunk in before] == [None] * len(before)


@pytest.mark.parametrize("prompt", ["hi", "use a tool", "think"])
async def test_the_usage_so_far_comes_with_every_chunk_if_it_is_asked_for(client, prompt):
    options = {"include_usage": True, "continuous_usage_stats": True}
    *before, last = chunks(await stream(client, asking(prompt, stream_options=options, n=2)))
    counts = [chunk["usage"]["completion_tokens"] for chunk in before]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, last["usage"]["completion_tokens"])
    prompts = {chunk["usage"]["prompt_tokens"] for chunk in [*before, last]}
    assert prompts == {last["usage"]["prompt_tokens"]}


async def test_completion_tokens_are_a_quarter_of_the_bytes_of_the_answer_rounded_up(client):
    answer = await ask(client, asking("hé"))
    content = answer["choices"][0]["message"]["content"]
    usage = answer["usage"]
    assert usage["completion_tokens"] == math.ceil(len(content.encode()) / 4)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


async def test_think_puts_a_think_block_before_the_answer_and_counts_it_as_reasoning(client):
    answer = await ask(client, asking("Think hard"))
    content = answer["choices"][0]["message"]["content"]
    block, after = content.removeprefix("<think>\n").split("\n</think>\n\n")
    assert content.startswith("<think>\n")
    assert "scripted demo provider" in after
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == math.ceil(len(block) / 4)


async def test_tool_without_offered_tools_calls_get_weather_for_the_city_of_the_prompt(client):
    (choice,) = (await ask(client, asking("use a TOOL in Bergen")))["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert call["type"] == "function"
    assert call["function"]["name"] == "get_weather"
    assert msgspec.json.decode(call["function"]["arguments"]) == {"city": "Bergen"}


async def test_a_streamed_tool_call_is_its_name_and_then_pieces_of_its_arguments(client):
    role, first, *pieces, last = chunks(await stream(client, asking("tool in Bergen")))
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": None}
    (opening,) = first["choices"][0]["delta"]["tool_calls"]
    assert (opening["index"], opening["type"]) == (0, "function")
    assert opening["id"].startswith("call_")
    assert opening["function"] == {"name": "get_weather", "arguments": ""}
    calls = [piece["choices"][0]["delta"]["tool_calls"][0] for piece in pieces]
    assert all(set(call) == {"index", "function"} for call in calls)
    assert msgspec.json.decode("".join(call["function"]["arguments"] for call in calls)) == {"city": "Bergen"}
    assert last["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_tool_s_result_is_answered_with_text_that_quotes_it(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "use a tool for the weather"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "seven degrees, rain"},
    ]
    (choice,) = (await ask(client, {"model": "m", "messages": messages, "tools": [WEATHER]}))["choices"]
    assert "seven degrees, rain" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("prompt", "status", "kind"),
    [
        ("an error please", 500, "server_error"),
        ("error 429", 429, "rate_limit_error"),
        ("Error: 400", 400, "invalid_request_error"),
        ("error 401", 401, "authentication_error"),
        ("error 503", 503, "server_error"),
        ("error 200", 500, "server_error"),
    ],
)
@pytest.mark.parametrize("streaming", [True, False])
async def test_error_answers_that_status_in_the_error_envelope(client, prompt, status, kind, streaming):
    got, error, _ = await error_of(client, asking(prompt, stream=streaming))
    assert got == status
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == kind


async def test_error_429_says_when_to_come_back(client):
    _, _, headers = await error_of(client, asking("error 429"))
    assert headers["Retry-After"] == "1"


async def test_break_ends_a_stream_in_the_middle_without_finish_or_done(client):
    received = b""
    with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - the error comes while it is being read
        async with client.post("chat/completions", json=asking("break", stream=True)) as response:
            async for piece in response.content.iter_any():
                received += piece
    events = received.decode().split("\n\n")
    assert len(events) > 5
    assert 'finish_reason":null' in events[-2]
    assert "[DONE]" not in received.decode()


async def test_break_cuts_a_whole_answer_too(client):
    async with client.post("chat/completions", json=asking("break")) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_the_provider_serves_on_after_a_break(client):
    async with client.post("chat/completions", json=asking("break", stream=True)) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert (await ask(client, asking("hi")))["choices"]


async def test_long_n_is_n_words(client):
    assert len(said(chunks(await stream(client, asking("long 321")))).split(" ")) == 321


async def test_words_come_at_the_pace_and_slow_ones_at_the_slow_pace():
    """No time passes here: the pauses that the provider asks for are written down."""
    pauses = []

    async def written_down(seconds):
        pauses.append(seconds)

    provider = await start_demo_provider(sleep=written_down)
    async with aiohttp.ClientSession(base_url=provider.base_url + "/") as client:
        await stream(client, asking("long 5"))
        usual = pauses.copy()
        pauses.clear()
        await stream(client, asking("slow long 5"))
    await provider.close()
    assert usual == [PACE] * 6
    assert pauses == [SLOW_PACE] * 6


async def test_each_word_leaves_before_the_pause_that_follows_it():
    go = asyncio.Semaphore(0)

    async def held(_):
        await go.acquire()

    provider = await start_demo_provider(sleep=held)
    async with (
        aiohttp.ClientSession(base_url=provider.base_url + "/") as client,
        client.post("chat/completions", json=asking("long 2", stream=True)) as response,
    ):
        for expected in (b'"content":""', b'"content":"word1"', b'"content":" word2"'):
            assert expected in await response.content.readuntil(b"\n\n")
            go.release()
        await response.read()
    await provider.close()


async def test_a_client_that_leaves_ends_its_stream():
    started, ended = asyncio.Event(), asyncio.Event()

    async def watched(_):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    provider = await start_demo_provider(sleep=watched)
    async with (
        aiohttp.ClientSession(base_url=provider.base_url + "/") as client,
        client.post("chat/completions", json=asking("hi", stream=True)),
    ):
        await started.wait()
    async with asyncio.timeout(30):
        await ended.wait()
    await provider.close()


async def test_n_choices_each_have_their_words_and_add_up_in_the_usage(client):
    one, three = await ask(client, asking("hi")), await ask(client, asking("hi", n=3))
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]


async def test_n_choices_stream_side_by_side_one_to_a_chunk(client):
    streamed = chunks(await stream(client, asking("hi", n=2)))
    assert said(streamed, 0) == said(streamed, 1) != ""
    assert [chunk["choices"][0]["index"] for chunk in streamed] == [0, 1] * (len(streamed) // 2)
    assert [chunk["choices"][0]["finish_reason"] for chunk in streamed[-2:]] == ["stop", "stop"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_the_most_tokens_cut_the_answer_there_and_say_length(client, name):
    answer = await ask(client, {**asking("long 100"), name: 7})
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["choices"][0]["finish_reason"] == "length"
    assert len(answer["choices"][0]["message"]["content"]) == 28


async def test_a_cut_stream_says_length_too(client):
    assert chunks(await stream(client, asking("hi", max_tokens=1)))[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"messages":[{"role":"user","content":"hi"}]}',
        b'{"model":"m"}',
        b'{"model":"m","messages":[]}',
        b'{"model":"m","messages":[{"role":"user","content":7}]}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":0}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"n":0}',
    ],
)
async def test_a_request_that_cannot_be_read_is_a_400_in_the_error_envelope(client, body):
    async with client.post("chat/completions", data=body) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("The request cannot be read: ")


async def test_null_is_as_good_as_absent(client):
    nulls = dict.fromkeys(("stream", "stream_options", "tools", "tool_choice", "n", "max_tokens"))
    assert (await ask(client, asking("hi", **nulls)))["choices"] == (await ask(client, asking("hi")))["choices"]


async def test_fields_that_the_script_does_not_know_are_ignored(client):
    assert await ask(client, asking("hi", temperature=0.3, top_k=5, response_format={"type": "text"}))


async def test_models_lists_in_openai_s_shape(client):
    async with client.get("models") as response:
        listed = await response.json()
    assert listed["object"] == "list"
    assert set(listed["data"][0]) == {"id", "object", "created", "owned_by"}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "nothing", 404), ("GET", "chat/completions", 405)])
async def test_other_paths_and_methods_are_refused_in_the_same_envelope(client, method, path, status):
    async with client.request(method, path) as response:
        assert response.status == status
        assert "POST /v1/chat/completions" in (await response.json())["error"]["message"]


async def test_the_base_url_names_the_port_that_was_found(demo):
    assert demo.port > 0
    assert demo.base_url == f"http://127.0.0.1:{demo.port}/v1"


async def test_a_port_that_is_taken_is_an_error_at_once(demo):
    with pytest.raises(OSError, match="address already in use"):
        await start_demo_provider(port=demo.port)


async def test_a_closed_provider_no_longer_listens():
    provider = await start_demo_provider()
    await provider.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", provider.port)


async def test_closing_does_not_wait_for_a_stream_that_never_ends():
    async def for_ever(_):
        await asyncio.Event().wait()

    provider = await start_demo_provider(sleep=for_ever)
    async with (
        aiohttp.ClientSession(base_url=provider.base_url + "/") as client,
        client.post("chat/completions", json=asking("hi", stream=True)) as response,
    ):
        await response.content.readuntil(b"\n\n")
        async with asyncio.timeout(30):
            await provider.close()
