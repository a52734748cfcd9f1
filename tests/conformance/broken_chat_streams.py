"""Endpoints that break one rule of sections D and E each, in chat streams."""

from collections.abc import Callable
from typing import Any

from broken import Broken, Change, body, broken, instead, rewritten, status, streamed, text

from proxy.conformance import asks, chat_streams, reasoning

DONE = b"data: [DONE]\n\n"
FAILED = {"error": {"message": "It failed."}}
THIRD = {"index": 2, "delta": {"role": "assistant"}, "finish_reason": "stop"}

Chunks = list[dict[str, Any]]


def _delta(number: int, **fields: object) -> Change:
    """Set fields of the delta of one chunk."""
    return streamed(lambda found: found[number]["choices"][0]["delta"].update(fields))


def _chunk(number: int, **fields: object) -> Change:
    return streamed(lambda found: found[number].update(fields))


def _lacking(number: int, *keys: str) -> Change:
    """Leave out a chunk, or some of its keys."""

    def edit(found: Chunks) -> None:
        for key in keys:
            del found[number][key]
        if not keys:
            del found[number]

    return streamed(edit)


def _pieces_of_call(edit: Callable[[Chunks], object]) -> Change:
    """Change the deltas of a tool call."""

    def change(found: Chunks) -> None:
        deltas = [chunk["choices"][0]["delta"] for chunk in found]
        edit([delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta])

    return streamed(change)


def _no_role(found: Chunks) -> None:
    del found[0]["choices"][0]["delta"]["role"]


def _merged(found: Chunks) -> Chunks:
    """Two choices in one chunk."""
    found[0]["choices"] += found[1]["choices"]
    return [found[0], *found[2:]]


def _reasoning_last(found: Chunks) -> None:
    found.insert(-1, found.pop(1))


BROKEN: list[Broken] = [
    *broken(
        reasoning.split_stream,
        ("not split", instead(asks.streamed_unsplit), asks.streamed_split),
        ("lost", instead(asks.streamed), asks.streamed_split),
        ("a tag is left", _delta(1, reasoning="<think>"), asks.streamed_split),
        ("a tag in the text", _delta(3, content="<think>x</think>"), asks.streamed_split),
        ("behind the text", streamed(_reasoning_last), asks.streamed_split),
        ("broken off", streamed(lambda found: [*found[:2], FAILED]), asks.streamed_split),
    ),
    *broken(
        reasoning.folded_stream,
        ("split", instead(asks.streamed_split)),
        ("another field", _delta(1, reasoning_content="x")),
        ("no stream", instead(asks.unsplit)),
    ),
    *broken(
        chat_streams.usage_of_a_stream,
        ("another total", text(b'"total_tokens":10', b'"total_tokens":11')),
        ("none", _lacking(-1)),
        ("a price", text(b'"total_tokens":10', b'"total_tokens":10,"cost":0.1')),
        ("nothing out", text(b'"completion_tokens":3,"total_tokens":10', b'"completion_tokens":0,"total_tokens":7')),
    ),
    *broken(
        chat_streams.framing,
        ("CR", text(b"\n", b"\r\n"), asks.streamed),
        ("one CR", text(b"}\n\n", b"}\r\n\n"), asks.streamed_usage),
        ("event lines", text(b"data: {", b"event: chunk\ndata: {")),
        ("ids", text(b"data: {", b"id: 1\ndata: {")),
        ("a retry", rewritten(lambda found: b"retry: 3000\n\n" + found), asks.streamed),
        ("a byte order mark", rewritten(lambda found: b"\xef\xbb\xbf" + found)),
        ("no blank", text(b"data: {", b"data:{")),
        ("empty data", text(DONE, b"data: \n\n" + DONE)),
        ("empty data without a blank", text(DONE, b"data:\n\n" + DONE)),
        ("two lines of data", text(b',"choices"', b'\ndata: ,"choices"')),
        ("a comment in an event", text(b"data: {", b": x\ndata: {")),
        ("three line ends", text(b"}\n\n", b"}\n\n\n")),
        ("one CR alone", text(b"}\n\n", b"}\r\r")),
    ),
    *broken(
        chat_streams.end_mark,
        ("none", text(DONE, b"")),
        ("no empty line", text(DONE, b"data: [DONE]\n"), asks.streamed_usage),
        ("no line end", text(DONE, b"data: [DONE]")),
        ("twice", text(DONE, DONE + DONE)),
        ("something behind", text(DONE, DONE + b": x\n\n")),
        ("small letters", text(DONE, b"data: [done]\n\n")),
        ("quoted", text(DONE, b'data: "[DONE]"\n\n')),
        ("no blank", text(DONE, b"data:[DONE]\n\n")),
        ("in the middle", text(b'data: {"id"', DONE + b'data: {"id"')),
    ),
    *broken(
        chat_streams.keep_alive,
        ("a provider's", text(b": keep-alive", b": OPENROUTER PROCESSING"), asks.streamed),
        ("without a blank", text(b": keep-alive", b":keep-alive"), asks.streamed_usage),
        ("empty", text(b": keep-alive", b":")),
    ),
    *broken(
        chat_streams.keys_of_a_chunk,
        ("another id", _chunk(2, id="chatcmpl_x"), asks.streamed),
        ("another time", _chunk(1, created=1)),
        ("another model", _chunk(3, model="x"), asks.streamed_usage),
        ("no id", _lacking(1, "id")),
        ("no time", _lacking(1, "created")),
        ("no model", _lacking(1, "model")),
        ("no choices", _lacking(1, "choices")),
        ("another object", _chunk(0, object="chat.completion")),
        ("no JSON", text(b'{"id"', b'{id"')),
        ("an empty stream", body(DONE)),
        ("a list", text(DONE, b"data: []\n\n" + DONE)),
    ),
    *broken(
        chat_streams.role,
        ("none", streamed(_no_role)),
        ("in each", text(b'"delta":{', b'"delta":{"role":"assistant",'), asks.streamed_usage),
        ("late", _lacking(0), asks.streamed),
        ("twice", _delta(2, role="assistant")),
        ("another", _delta(0, role="model")),
        ("empty later", _delta(1, role="")),
    ),
    *broken(
        chat_streams.several_choices,
        ("one role", _lacking(1)),
        ("no second finish", _lacking(-1)),
        ("another index", text(b'"index":1', b'"index":2')),
        (
            "three",
            streamed(lambda found: found.append({**found[0], "choices": [THIRD]})),
        ),
        ("502", status(502)),
    ),
    *broken(
        chat_streams.deltas_of_a_call,
        ("no index", _pieces_of_call(lambda calls: calls[1].pop("index"))),
        ("no index at first", _pieces_of_call(lambda calls: [call.pop("index") for call in calls])),
        ("no id", _pieces_of_call(lambda calls: calls[0].pop("id"))),
        ("no type", _pieces_of_call(lambda calls: calls[0].pop("type"))),
        ("no name", _pieces_of_call(lambda calls: calls[0]["function"].pop("name"))),
        ("its id again", _pieces_of_call(lambda calls: calls[1].update(id="call_1"))),
        ("its name again", _pieces_of_call(lambda calls: calls[2]["function"].update(name="get_weather"))),
        ("no function", _pieces_of_call(lambda calls: calls[1].pop("function"))),
        ("a null function", _pieces_of_call(lambda calls: calls[1].update(function=None))),
        ("no arguments", _pieces_of_call(lambda calls: calls[1]["function"].pop("arguments"))),
        ("an object", _pieces_of_call(lambda calls: calls[1]["function"].update(arguments={}))),
        ("lost", _pieces_of_call(lambda calls: calls[2]["function"].update(arguments=""))),
        ("doubled", _pieces_of_call(lambda calls: calls[0]["function"].update(arguments="{}"))),
        ("502", status(502)),
        ("a text as index", _pieces_of_call(lambda calls: [call.update(index="0") for call in calls])),
    ),
    *broken(
        chat_streams.one_choice_a_chunk,
        ("both in one", streamed(_merged), asks.two),
        ("text beside a thought", _delta(1, reasoning="x"), asks.streamed),
        ("text beside a call", _delta(1, tool_calls=[{"index": 0}]), asks.streamed_usage),
        ("text beside a refusal", _delta(1, refusal="x"), asks.streamed),
    ),
    *broken(
        chat_streams.usage_is_last,
        ("none", _lacking(-1)),
        ("with a choice", streamed(lambda found: found[-1]["choices"].append(found[1]["choices"][0]))),
        ("in each", streamed(lambda found: [{**chunk, "usage": found[-1]["usage"]} for chunk in found])),
        ("at the finish", streamed(lambda found: [*found[:-2], {**found[-2], "usage": found[-1]["usage"]}])),
        ("not last", streamed(lambda found: found.insert(0, found.pop()))),
        ("twice", streamed(lambda found: found.append(found[-1]))),
        ("null", _chunk(-1, usage=None)),
    ),
    *broken(
        chat_streams.running_usage,
        ("none at all", instead(asks.streamed)),
        ("none in the end", _lacking(-1)),
        ("null in the end", _chunk(-1, usage=None)),
        ("with a choice in the end", streamed(lambda found: found[-1]["choices"].append(found[1]["choices"][0]))),
        ("no choice on the way", _chunk(2, choices=[])),
        ("a price on the way", streamed(lambda found: found[1]["usage"].update(cost=0.1))),
        ("another total on the way", streamed(lambda found: found[1]["usage"].update(total_tokens=1))),
        ("no details on the way", streamed(lambda found: found[1]["usage"].pop("prompt_tokens_details"))),
        ("less than before", streamed(lambda found: found[2].update(usage=found[0]["usage"]))),
        ("less in the end", streamed(lambda found: found[-1].update(usage=found[1]["usage"]))),
        ("502", status(502)),
    ),
    *broken(
        chat_streams.no_usage_unasked,
        ("unasked", instead(asks.streamed_usage)),
        ("at the finish", _chunk(-1, usage={"total_tokens": 1})),
        ("in a choice", streamed(lambda found: found[-1]["choices"][0].update(usage={"total_tokens": 1}))),
        ("no choice", _chunk(1, choices=[])),
    ),
    *broken(
        chat_streams.finish,
        ("none", _lacking(-1), asks.streamed),
        ("twice", streamed(lambda found: found.insert(-2, found[-2])), asks.streamed_usage),
        ("text behind", streamed(lambda found: found.append(found[1])), asks.streamed),
        ("no choice at all", streamed(lambda found: [{**found[0], "choices": []}])),
        ("broken off", streamed(lambda found: [*found[:3], FAILED])),
    ),
    *broken(
        chat_streams.message_of_a_stream,
        ("nothing", streamed(lambda found: [found[0], found[-1]])),
        ("no choice", streamed(lambda found: [{**found[0], "choices": []}])),
        ("numbers", _delta(1, content=5)),
    ),
]
