"""Streams through the running gateway: which bytes reach the client, and how a stream ends that its provider cuts."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from provider_scripts import (
    chunk,
    event,
    finish,
    role,
    story,
    streaming,
    talking,
    usage,
    usage_chunk,
    whole,
    word,
)
from raw_client import chat
from scripted_provider import DONE, EVENT_STREAM

WORDS = ["Once", " upon", " a", " time", ' "usage":{', " data: [DONE]\n\n", " é世😀", " end."]
ASK_USAGE = {"include_usage": True}


def test_a_stream_of_a_model_with_its_provider_s_name_is_handed_through_byte_for_byte(gateway, provider, key):
    spaced = b'data: {"id": "chatcmpl-upstream-1", "object": "chat.completion.chunk", "created": 1700000000, '
    spaced += b'"model": "same", "choices": '
    spaced += b'[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}], "x": 1.0}\n\n'
    events = [spaced, *(word(text) for text in WORDS), spaced.replace(b'"role": "assistant", ', b""), finish(), DONE]
    provider.on("main", streaming(events))
    assert key.ask(stream=True).body == b"".join(events)


def test_a_stream_of_a_renamed_model_differs_in_nothing_but_the_name(gateway, provider, key):
    provider.on("main", streaming(story(WORDS, usage(5, 9), "name-upstream")))
    answer = key.ask("test/renamed", stream=True)
    assert answer.body == b"".join(story(WORDS, None, "test/renamed"))


def test_usage_is_asked_for_and_kept_from_a_client_that_did_not_ask(gateway, provider, key):
    provider.on("main", talking(WORDS, usage(10, 8)))
    answer = key.ask(stream=True)
    assert provider.only().json["stream_options"] == {"include_usage": True}
    assert b"prompt_tokens" not in answer.body
    line = gateway.request_line(answer.request_id)
    assert (line["prompt_tokens"], line["completion_tokens"], line["usage_source"]) == (10, 8, "upstream")


def test_usage_stands_alone_and_last_for_a_client_that_asked(gateway, provider, key):
    provider.on("main", talking(WORDS, {**usage(10, 8, cached=4), "cost": 0.1}))
    *before, last = key.ask(stream=True, stream_options=ASK_USAGE).chunks
    assert not any("usage" in chunk for chunk in before)
    assert last["choices"] == []
    assert last["usage"] == usage(10, 8, cached=4)


def test_usage_that_never_came_is_estimated_for_client_and_account_alike(gateway, provider, key):
    provider.on("main", streaming(story(["12345678", "abcd"], None)))
    answer = key.ask(stream=True, stream_options=ASK_USAGE)
    told = answer.chunks[-1]["usage"]
    line = gateway.request_line(answer.request_id)
    assert (told["prompt_tokens"], told["completion_tokens"]) == (5, 3)
    assert (line["prompt_tokens"], line["completion_tokens"], line["usage_source"]) == (5, 3, "estimated")


def test_every_chunk_has_what_clients_need(gateway, provider, key):
    bare = [event({"choices": [{"delta": {"content": text}, "index": 0}]}) for text in ("a", "b")]
    provider.on("main", streaming([*bare, DONE]))
    chunks = key.ask("test/renamed", stream=True).chunks
    assert {(chunk["object"], chunk["model"], chunk["id"], chunk["created"]) for chunk in chunks} == {
        ("chat.completion.chunk", "test/renamed", chunks[0]["id"], chunks[0]["created"])
    }
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("model", ["same", "test/renamed"])
def test_bytes_that_come_in_crumbs_are_the_same_stream(gateway, provider, key, size, model):
    upstream = "same" if model == "same" else "name-upstream"
    data = b"".join(story(WORDS, usage(5, 9), upstream))

    def crumbs(exchange):
        exchange.start_stream()
        for start in range(0, len(data), size):
            exchange.chunk(data[start : start + size])
        exchange.end_stream()

    provider.on("main", crumbs)
    answer = key.ask(model, stream=True)
    assert answer.body == b"".join(story(WORDS, None, model))
    assert gateway.request_line(answer.request_id)["completion_tokens"] == 9


ODD_FORMS = {
    "CR LF": lambda data: data.replace(b"\n", b"\r\n"),
    "CR": lambda data: data.replace(b"\n", b"\r"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "ids and times to retry": lambda data: b"retry: 3000\n\n" + data.replace(b"data: {", b"id: 7\ndata: {"),
    "names of events": lambda data: data.replace(b"data: {", b"event: message\ndata: {"),
    "comments": lambda data: b": OPENROUTER PROCESSING\n\n" + data.replace(b"data: {", b": hm\n\ndata: {"),
    "no blank after the colon": lambda data: data.replace(b"data: ", b"data:"),
    "blank lines first": lambda data: b"\n\n\n" + data,
    "no line end at the end": lambda data: data.rstrip(b"\n"),
    "no word at the end": lambda data: data.replace(DONE, b""),
    "events without data": lambda data: b"data:\n\nevent: ping\n\n" + data,
}


@pytest.mark.parametrize("form", ODD_FORMS.values(), ids=ODD_FORMS)
def test_a_stream_of_an_odd_form_reaches_the_client_in_the_plain_one(gateway, provider, key, form):
    words = [text for text in WORDS if "\n" not in text]
    provider.on("main", streaming([form(b"".join(story(words, usage(5, 9))))]))
    answer = key.ask(stream=True)
    assert answer.text == "".join(words)
    assert all(line.startswith(b"data: ") or not line for line in answer.body.split(b"\n"))
    assert b"\r" not in answer.body
    assert gateway.request_line(answer.request_id)["completion_tokens"] == 9


def test_several_choices_keep_their_own_state(gateway, provider, key):
    def of(index, delta, reason=None):
        data = chunk({}).removeprefix(b"data: ")
        return event({**json.loads(data), "choices": [{"index": index, "delta": delta, "finish_reason": reason}]})

    events = [of(0, {"role": "assistant"}), of(1, {"role": "assistant"}), of(1, {"content": "B"}),
              of(0, {"content": "A"}), of(0, {}, "length"), of(1, {}, "stop"), DONE]  # fmt: skip
    provider.on("main", streaming(events))
    choices = [choice for chunk in key.ask(stream=True, n=2).chunks for choice in chunk["choices"]]
    assert [(c["index"], c["finish_reason"]) for c in choices if c["finish_reason"]] == [(0, "length"), (1, "stop")]
    assert [(c["index"], c["delta"]["content"]) for c in choices if "content" in c["delta"]] == [(1, "B"), (0, "A")]


def test_an_event_of_two_megabytes_passes(gateway, provider, key):
    text = "0123456789abcdef" * 131_072
    provider.on("main", streaming(story([text], usage(5, 9))))
    answer = key.ask(stream=True)
    assert answer.text == text
    assert gateway.request_line(answer.request_id)["completion_tokens"] == 9


def test_a_whole_answer_in_place_of_a_stream_becomes_a_stream(gateway, provider, key):
    provider.on("main", whole("All at once.", usage(3, 4)))
    answer = key.ask(stream=True, stream_options=ASK_USAGE)
    assert answer.header("Content-Type").startswith("text/event-stream")
    assert answer.text == "All at once."
    assert answer.chunks[-1]["usage"]["completion_tokens"] == 4


def test_what_came_before_the_first_word_waits_for_it(gateway, provider, key):
    """So that an error after an empty first chunk is still an answer with a status of its own."""
    go = threading.Event()

    def slowly(exchange):
        exchange.start_stream()
        exchange.chunk(role())
        exchange.wait(go)
        exchange.chunk(b'data: {"error":{"message":"no","code":503}}\n\n')

    provider.on("main", slowly)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        provider.wait_asked()
        go.set()
        answer = client.answer()
    assert (answer.status, answer.error["code"]) == (502, "upstream_overloaded")
    assert gateway.request_line(answer.request_id)["cost_usd"] == "0"


def test_each_word_reaches_the_client_before_the_next_was_sent(gateway, provider, key):
    steps = [threading.Event() for _ in range(3)]

    def step_by_step(exchange):
        exchange.start_stream()
        exchange.chunk(role())
        for number, step in enumerate(steps):
            exchange.chunk(word(f"w{number}"))
            exchange.wait(step)
        exchange.chunk(finish() + DONE)
        exchange.end_stream()

    provider.on("main", step_by_step)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        client.head()
        for number, step in enumerate(steps):
            client.body_until(b"w%d" % number)
            step.set()
        client.stream_rest()


def test_a_stream_that_begins_with_nothing_to_say_is_begun_for_the_client_after_a_while(gateway, provider, key):
    go = threading.Event()

    def thinking(exchange):
        exchange.start_stream()
        exchange.chunk(role())
        exchange.wait(go)
        exchange.chunk(word("At last.") + finish() + DONE)
        exchange.end_stream()

    provider.on("main", thinking)
    with gateway.client() as client:
        client.send(chat(key.secret, stream=True))
        assert client.head()[0] == 200
        client.body_until(b'"role":"assistant"')
        go.set()
        assert b"At last." in client.stream_rest()


def test_a_stream_from_a_server_that_tells_no_length_and_uses_no_chunks(gateway, provider, key):
    def until_close(exchange):
        exchange.head_of(200, {**EVENT_STREAM, "Connection": "close"})
        exchange.send(b"".join(story(WORDS, None)))
        exchange.close()

    provider.on("main", until_close)
    assert key.ask(stream=True).body == b"".join(story(WORDS, None))


def test_fifty_streams_at_once_each_get_their_own_bytes(gateway, provider, key):
    """No stream ends before all have begun; the provider counts for itself what it told each."""
    all_there = threading.Barrier(50, timeout=60)

    def own_story(exchange):
        name = exchange.json["messages"][0]["content"]
        words = [f"{name}-{number} " for number in range(40)]
        exchange.start_stream()
        exchange.chunk(role() + word(words[0]))
        all_there.wait()
        for text in words[1:]:
            exchange.chunk(word(text))
        exchange.chunk(finish() + usage_chunk(usage(7, int(name))) + DONE)
        exchange.end_stream()

    provider.on("main", own_story)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda number: key.ask(content=str(number), stream=True), range(50)))
    for number, answer in enumerate(answers):
        expected = [role(), *(word(f"{number}-{place} ") for place in range(40)), finish(), DONE]
        assert answer.body == b"".join(expected)
    for number, answer in enumerate(answers):
        assert gateway.request_line(answer.request_id)["completion_tokens"] == number
    assert key.settled().spent_nusd == 50 * 7 * 800 + sum(range(50)) * 1600


def test_a_provider_is_read_no_faster_than_its_client_reads(gateway, provider, key):
    """The provider would send 64 MB; what a client does not read must wait in the provider, not in the gateway."""
    piece = word("x" * 16_000)
    many = 4_000
    sent = 0

    def flood(exchange):
        nonlocal sent
        exchange.head_of(200, {**EVENT_STREAM, "Connection": "close"})
        exchange.send(role())
        rest = memoryview(piece * many + finish() + DONE)
        while sent < len(rest):
            sent += exchange.send_some(rest[sent : sent + 65536])
        exchange.close()

    provider.on("main", flood)
    total = len(piece) * many
    with gateway.client(receive_buffer=65536) as client:
        client.send(chat(key.secret, stream=True))
        client.head()
        before, still = -1, 0
        while still < 20:  # a second in which nothing was taken from the provider
            threading.Event().wait(0.05)
            before, still = sent, (still + 1 if sent == before else 0)
        assert 0 < sent < total / 2
        assert client.stream_rest() == role() + piece * many + finish() + DONE


def test_a_stream_whose_usage_comes_with_its_last_words_loses_no_word(gateway, provider, key):
    both = chunk({"content": " end."}, "stop", usage=usage(4, 2))
    provider.on("main", streaming([role(), word("The"), both, DONE]))
    answer = key.ask(stream=True)
    assert answer.text == "The end."
    assert b"usage" not in answer.body
    assert gateway.request_line(answer.request_id)["completion_tokens"] == 2
