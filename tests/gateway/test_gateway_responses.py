"""`POST /v1/responses` against the real process: translated for providers that speak chat completions, passed on to
those that speak it themselves; metered, limited and refused as a chat completion is.
"""

import json

import openai
import pytest
from provider_scripts import chunk, completion, event, finish, role, streaming, talking, usage, usage_chunk, whole, word
from raw_client import Answer, request_bytes
from scripted_provider import DONE, PATIENCE, Exchange

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def respond(key: str, model: str = "same", **fields: object) -> bytes:
    body = {"model": model, **({} if "messages" in fields else {"input": "Hi."}), **fields}
    return request_bytes("POST", "/v1/responses", json.dumps(body).encode(), key=key)


def asked(gateway, key, *arguments: object, **fields: object) -> Answer:
    with gateway.client() as client:
        return client.ask(respond(key.secret, *arguments, **fields))


def events_of(answer: Answer) -> list[tuple[str, dict]]:
    """Every event but the last, which has to be [DONE]: the name of its line and its data."""
    *blocks, done, nothing = answer.body.split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    events = []
    for block in blocks:
        name, data = block.split(b"\n")
        events.append((name.removeprefix(b"event: ").decode(), json.loads(data.removeprefix(b"data: "))))
    assert [name for name, _ in events] == [data["type"] for _, data in events]
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    return events


@pytest.fixture
def library(gateway, key):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.api}/v1", api_key=key.secret, timeout=PATIENCE) as client:
        yield client


def test_f1_1_a_response_is_a_chat_completion_to_its_provider(gateway, provider, key):
    provider.on("main", whole("Good day.", usage(12, 4, cached=8)))
    answer = asked(gateway, key, instructions="Be kind.", max_output_tokens=50)
    body = answer.json
    assert provider.only().path.endswith("/chat/completions")
    assert provider.only().json == {
        "model": "same",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi."}],
        "max_tokens": 50,
    }
    assert (body["object"], body["status"], body["model"]) == ("response", "completed", "same")
    assert body["id"].startswith("resp_")
    (message,) = body["output"]
    assert message["content"] == [{"type": "output_text", "text": "Good day.", "annotations": [], "logprobs": []}]
    assert body["usage"]["input_tokens_details"] == {"cached_tokens": 8}


def test_a_response_is_billed_and_logged_like_a_chat_completion(gateway, provider, key):
    provider.on("main", whole("Good day.", usage(12, 4, cached=8)))
    answer = asked(gateway, key)
    line = gateway.request_line(answer.request_id)
    assert (line["endpoint"], line["model"], line["status"], line["ending"]) == ("responses", "same", 200, "complete")
    assert (line["prompt_tokens"], line["completion_tokens"], line["cached_tokens"]) == (12, 4, 8)
    assert line["cost_usd"] == "0.0000112"
    use = key.settled()
    assert (use.in_flight, use.spent_nusd) == (0, 11_200)


def test_a_stream_of_events(gateway, provider, key):
    provider.on("main", talking(["Good ", "day."], usage(12, 4)))
    events = events_of(asked(gateway, key, stream=True))
    assert [name for name, _ in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[-1][1]["response"]["usage"]["total_tokens"] == 16


def test_the_library_s_stream_ends_with_the_whole_response(library, provider):
    provider.on("main", talking(["Good ", "day."], usage(12, 4)))
    with library.responses.stream(model="same", input="Hi.") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert text == stream.get_final_response().output_text == "Good day."


def test_a_tool_loop(library, provider):
    provider.on("main", whole(None, usage(10, 5), tool_calls=[CALL]), whole("Rain.", usage(20, 2)))
    first = library.responses.create(model="same", input="Weather in Oslo?", tools=[WEATHER])
    (call,) = first.output
    assert (call.type, call.call_id, call.name, call.arguments) == (
        "function_call",
        "call_1",
        "weather",
        '{"city": "Oslo"}',
    )
    turn = [{"role": "user", "content": "Weather in Oslo?"}, call.to_dict()]
    turn.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
    second = library.responses.create(model="same", input=turn, tools=[WEATHER])
    assert second.output_text == "Rain."
    assert provider.asked()[1].json["messages"] == [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]


def reasoned(words: list[str], thoughts: list[str]) -> list[bytes]:
    thinking = [chunk({"reasoning_content": thought}, model="reasoner") for thought in thoughts]
    talk = [word(text, "reasoner") for text in words]
    return [role("reasoner"), *thinking, *talk, finish(model="reasoner"), usage_chunk(usage(9, 9), "reasoner"), DONE]


@pytest.mark.parametrize("stream", [False, True])
def test_f4_2_reasoning_is_an_item_of_its_own_unless_it_was_asked_for(gateway, provider, key, stream):
    provider.on(
        "main",
        streaming(reasoned(["42."], ["6 times", " 7"]))
        if stream
        else whole("42.", usage(9, 9), model="reasoner", reasoning_content="6 times 7"),
    )
    answer = asked(gateway, key, "reasoner", stream=stream)
    body = events_of(answer)[-1][1]["response"] if stream else answer.json
    thought, message = body["output"]
    assert (thought["type"], thought["content"]) == ("reasoning", [{"type": "reasoning_text", "text": "6 times 7"}])
    assert [part["text"] for part in message["content"]] == ["42."]


@pytest.mark.parametrize("stream", [False, True])
def test_f4_1_reasoning_is_a_part_of_the_message_where_it_was_asked_for(gateway, provider, key, stream):
    provider.on(
        "main",
        streaming(reasoned(["42."], ["6 times", " 7"]))
        if stream
        else whole("42.", usage(9, 9), model="reasoner", reasoning_content="6 times 7"),
    )
    answer = asked(gateway, key, "reasoner", stream=stream, reasoning_split=True)
    body = events_of(answer)[-1][1]["response"] if stream else answer.json
    (message,) = body["output"]
    assert [(part["type"], part["text"]) for part in message["content"]] == [
        ("reasoning", "6 times 7"),
        ("output_text", "42."),
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "shown"),
    [({"reasoning_split": False}, "<think>6 times 7</think>42."), ({"model": "same"}, "42.")],
    ids=["inline", "raw"],
)
def test_f4_2_reasoning_stays_in_the_text_where_that_was_asked_for_and_in_its_field_elsewhere(
    gateway, provider, key, stream, fields, shown
):
    answer = whole("42.", usage(9, 9), model="reasoner", reasoning_content="6 times 7")
    provider.on("main", streaming(reasoned(["42."], ["6 times", " 7"])) if stream else answer)
    answer = asked(gateway, key, **{"model": "reasoner", **fields}, stream=stream)
    body = events_of(answer)[-1][1]["response"] if stream else answer.json
    assert [part["text"] for part in body["output"][-1]["content"]] == [shown]


@pytest.mark.parametrize("stream", [False, True])
def test_f2_f5_1_what_only_a_server_that_keeps_responses_could_do_is_answered_truly(gateway, provider, key, stream):
    provider.on("main", talking(["Good day."], usage(12, 4)))
    said = {"store": True, "truncation": "auto", "metadata": {"a": 1}, "reasoning": {"summary": "auto"}}
    answer = asked(gateway, key, **said, background=False, previous_response_id=None, stream=stream)
    responses = [data["response"] for _, data in events_of(answer) if "response" in data] if stream else [answer.json]
    for response in responses:
        assert (response["store"], response["truncation"], response["previous_response_id"]) == (
            *(False, "disabled", None),
        )
        assert response["metadata"] == {"a": 1}
        assert response["reasoning"] == {"effort": None, "summary": None}
    assert answer.header("x-gateway-ignored-params") == "store,background"


def test_a_provider_that_fails_before_the_first_word_is_an_answer_with_a_status(gateway, provider, key):
    provider.on("main", lambda exchange: exchange.answer({"error": {"message": "db-7 broke"}}, 500))
    answer = asked(gateway, key, stream=True)
    assert (answer.status, answer.error["type"]) == (502, "provider_error")


def test_b3_3_a_provider_that_fails_after_the_first_word_fails_the_response(gateway, provider, key):
    provider.on("main", streaming([role(), word("Once"), b'data: {"error":{"message":"db-7 broke","code":500}}\n\n']))
    answer = asked(gateway, key, stream=True)
    *_, (error, told), (failed, last) = events_of(answer)
    assert (error, failed) == ("error", "response.failed")
    assert told["error"]["type"] == "provider_error"
    assert answer.request_id in told["message"]
    assert last["response"]["output"][0]["content"][0]["text"] == "Once"
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert b"db-7" not in answer.body
    line = gateway.request_line(answer.request_id)
    assert (line["ending"], line["usage_source"]) == ("upstream_error", "estimated")


def test_the_library_raises_when_a_response_fails(library, provider):
    provider.on("main", streaming([role(), word("Once"), b'data: {"error":{"message":"no","code":500}}\n\n']))
    with pytest.raises(openai.APIError):
        list(library.responses.create(model="same", input="Hi.", stream=True))


def test_a_client_that_leaves_closes_the_provider_s_connection_and_is_billed(gateway, provider, key):
    gone = []

    def endless(exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.chunk(role())
        exchange.chunk(word("Once upon a time"))
        exchange.wait_gone()
        gone.append(True)

    provider.on("main", endless)
    with gateway.client() as client:
        client.send(respond(key.secret, stream=True))
        client.until(b"Once upon a time")
    provider.wait_until(lambda: gone)
    line = gateway.only_line_of(key)
    assert (line["ending"], line["usage_source"], line["completion_tokens"]) == ("client_gone", "estimated", 4)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": [{"role": "user", "content": "x"}], "input": "x"}, "input", "invalid_value"),
        ({"input": None}, "input", "missing_parameter"),
        ({"input": []}, "input", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content", "invalid_value"),
        ({"model": "nope"}, "model", "model_not_found"),
    ],
)
def test_f2_a_bad_request_is_refused_with_its_place(gateway, key, fields, param, code):
    answer = asked(gateway, key, **{"model": "same", **fields})
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert (answer.error["param"], answer.error["code"]) == (param, code)


@pytest.mark.parametrize("fields", [{"model": "nope"}, {"previous_response_id": "resp_1"}], ids=str)
def test_the_log_of_a_refused_request_tells_that_a_stream_was_asked_for(gateway, key, fields):
    answer = asked(gateway, key, **{"model": "same", "stream": True, **fields})
    line = gateway.request_line(answer.request_id)
    assert (line["status"], line["ending"], line["stream"]) == (400, "refused", True)


def test_f1_3_a_response_that_was_never_kept_is_not_found(gateway, key):
    with gateway.client() as client:
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            answer = client.ask(request_bytes(method, f"/v1/responses/resp_1{path}", key=key.secret), method=method)
            assert (answer.status, answer.error["code"]) == (404, "response_not_found")


@pytest.mark.parametrize("path", ["input_tokens", "compact"])
def test_f1_3_what_is_no_response_is_an_unknown_url(gateway, key, path):
    with gateway.client() as client:
        answer = client.ask(request_bytes("POST", f"/v1/responses/{path}", b"{}", key=key.secret))
    assert (answer.status, answer.error["code"]) == (404, "unknown_url")


# a provider that speaks the Responses API itself

NATIVE = {
    "id": "resp_theirs",
    "object": "response",
    "created_at": 1_700_000_000,
    "status": "completed",
    "model": "native-upstream",
    "output": [
        {
            "id": "msg_theirs",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Good day.", "annotations": [], "logprobs": []}],
        }
    ],
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 16,
    },
}


def native_event(kind: str, number: int, **fields: object) -> bytes:
    return f"event: {kind}\n".encode() + event({"type": kind, "sequence_number": number, **fields})


NATIVE_EVENTS = [
    native_event("response.created", 0, response={**NATIVE, "status": "in_progress", "output": [], "usage": None}),
    native_event("response.output_text.delta", 1, item_id="msg_theirs", output_index=0, content_index=0, delta="Good "),
    native_event("response.output_text.delta", 2, item_id="msg_theirs", output_index=0, content_index=0, delta="day."),
    native_event("response.completed", 3, response=NATIVE),
]


def test_f1_2_a_native_provider_gets_the_request_as_it_came(gateway, provider, key):
    provider.on("native", lambda exchange: exchange.answer(NATIVE))
    answer = asked(gateway, key, "native", previous_response_id="resp_0", store=True, metadata={"a": 1}, priority=3)
    assert provider.only().path.endswith("/v1/responses")
    assert provider.only().json == {
        "model": "native-upstream",
        "input": "Hi.",
        "previous_response_id": "resp_0",
        "store": True,
    }
    assert answer.json == {**NATIVE, "model": "native", "metadata": {"a": 1}}
    line = gateway.request_line(answer.request_id)
    assert (line["prompt_tokens"], line["completion_tokens"], line["cached_tokens"]) == (12, 4, 8)
    assert line["upstream_id"] == "resp_theirs"


def test_f1_2_a_native_stream_keeps_its_events(gateway, provider, key):
    provider.on("native", streaming(NATIVE_EVENTS))
    answer = asked(gateway, key, "native", stream=True)
    expected = b"".join(NATIVE_EVENTS).replace(b'"native-upstream"', b'"native"') + DONE
    assert answer.body == expected
    line = gateway.request_line(answer.request_id)
    assert (line["ending"], line["usage_source"], line["prompt_tokens"]) == ("complete", "upstream", 12)


def test_b3_3_a_native_stream_that_breaks_off_fails_with_what_was_said(gateway, provider, key):
    begun = {**NATIVE["output"][0], "status": "in_progress", "content": []}
    added = native_event("response.output_item.added", 1, output_index=0, item=begun)
    said = native_event("response.output_text.delta", 2, output_index=0, content_index=0, delta="Good ")
    provider.on("native", streaming([NATIVE_EVENTS[0], added, said]))
    answer = asked(gateway, key, "native", stream=True)
    *_, (error, told), (failed, last) = events_of(answer)
    assert (error, failed, told["code"]) == ("error", "response.failed", "upstream_truncated")
    (item,) = last["response"]["output"]
    assert (item["status"], [part["text"] for part in item["content"]]) == ("incomplete", ["Good "])
    line = gateway.request_line(answer.request_id)
    assert (line["ending"], line["usage_source"]) == ("upstream_truncated", "estimated")


def test_e2_3_a_native_provider_that_answers_in_one_piece_is_streamed_all_the_same(gateway, provider, key):
    provider.on("native", lambda exchange: exchange.answer(NATIVE))
    answer = asked(gateway, key, "native", stream=True)
    assert answer.header("Content-Type") == "text/event-stream; charset=utf-8"
    events = events_of(answer)
    assert [data["delta"] for name, data in events if name == "response.output_text.delta"] == ["Good day."]
    assert events[-1][1]["response"] == {**NATIVE, "model": "native"}
    line = gateway.request_line(answer.request_id)
    assert (line["ending"], line["usage_source"], line["prompt_tokens"]) == ("complete", "upstream", 12)


def test_the_library_reads_a_native_answer_that_came_in_one_piece(library, provider):
    provider.on("native", lambda exchange: exchange.answer(NATIVE))
    with library.responses.stream(model="native", input="Hi.") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert text == stream.get_final_response().output_text == "Good day."


@pytest.mark.parametrize("fields", [{"reasoning_split": True}, {"messages": [{"role": "user", "content": "Hi."}]}])
def test_f1_2_what_is_this_gateway_s_own_is_translated_for_a_native_provider_too(gateway, provider, key, fields):
    provider.on("native", lambda exchange: exchange.answer(completion("Good day.", usage(12, 4), "native-upstream")))
    answer = asked(gateway, key, "native", **fields)
    assert provider.only().path.endswith("/chat/completions")
    assert answer.json["output"][-1]["content"][-1]["text"] == "Good day."


def test_f1_2_what_cannot_be_translated_goes_to_a_native_provider_alone(gateway, provider, key):
    provider.on("native", lambda exchange: exchange.answer(NATIVE))
    answer = asked(gateway, key, "chat-or-native", previous_response_id="resp_0")
    assert answer.status == 200
    assert [exchange.path.split("/")[1] for exchange in provider.asked()] == ["native"]


@pytest.mark.parametrize("stream", [False, True])
def test_a5_8_what_is_named_as_dropped_is_what_the_target_that_answered_was_not_sent(gateway, provider, key, stream):
    search, dropped = {"type": "web_search"}, "x-gateway-ignored-params"
    native = streaming(NATIVE_EVENTS) if stream else lambda exchange: exchange.answer(NATIVE)
    provider.on("native", native, lambda exchange: exchange.answer({"error": {"message": "no"}}, 500))
    provider.on("main", talking(["Good day."], usage(12, 4)))
    fields = {"tools": [WEATHER, search], "store": True, "service_tier": "flex", "stream": stream}
    assert asked(gateway, key, "native-or-chat", **fields).header(dropped) == "service_tier"
    assert provider.only().json["tools"] == [WEATHER, search]
    assert asked(gateway, key, "native-or-chat", **fields).header(dropped) == "store,service_tier,tools[1]"


def test_a5_8_a_request_that_failed_is_told_what_the_last_target_was_not_sent(gateway, provider, key):
    for name in ("native", "main"):
        provider.on(name, lambda exchange: exchange.answer({"error": {"message": "no"}}, 500))
    answer = asked(gateway, key, "native-or-chat", tools=[WEATHER, {"type": "mcp"}])
    assert (answer.status, answer.header("x-gateway-ignored-params")) == (502, "tools[1]")
    answer = asked(gateway, key, "chat-or-native", tools=[WEATHER, {"type": "mcp"}])
    assert (answer.status, answer.header("x-gateway-ignored-params")) == (502, None)


def test_failover_from_a_native_provider_to_one_that_speaks_chat(gateway, provider, key):
    provider.on("native", lambda exchange: exchange.answer({"error": {"message": "no"}}, 500))
    provider.on("main", whole("Good day.", usage(12, 4)))
    answer = asked(gateway, key, "native-or-chat")
    assert answer.json["output"][0]["content"][0]["text"] == "Good day."
