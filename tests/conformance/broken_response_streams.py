"""Endpoints that break one rule of section F each, in the streams of responses."""

import re
from typing import Any

from broken import (
    Broken,
    Change,
    Edit,
    body,
    broken,
    each,
    event,
    first,
    instead,
    moved,
    rewritten,
    status,
    streamed,
    text,
    without,
)

from proxy.conformance import asks, response_streams

DONE = b"data: [DONE]\n\n"
FAILED = {"type": "error", "sequence_number": 0, "message": "It failed."}
SAID = "output_text.delta"
CALL = "function_call_arguments"


def _last(edit: Edit) -> Change:
    """Change the response of the event that ends it."""

    def change(found: list[dict[str, Any]]) -> None:
        edit(found[-1]["response"])

    return streamed(change)


def _twice(kind: str) -> Change:
    def edit(found: list[dict[str, Any]]) -> None:
        one = first(found, kind)
        found.insert(found.index(one), dict(one))

    return streamed(edit)


def _of(kind: str, **fields: object) -> Change:
    return event(kind, lambda it: it.update(fields))


def _item(kind: str, **fields: object) -> Change:
    return event(kind, lambda it: it["item"].update(fields))


def _part(kind: str, **fields: object) -> Change:
    return event(f"content_part.{kind}", lambda it: it["part"].update(fields))


def _lacking(kind: str, key: str) -> Change:
    return event(kind, lambda it: it.pop(key))


def _item_lacking(kind: str, key: str) -> Change:
    return event(f"output_item.{kind}", lambda it: it["item"].pop(key))


def _call_first(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A message that is still open while a call begins."""
    message = {"id": "msg_x", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    added = {"type": "response.output_item.added", "sequence_number": 0, "output_index": 0, "item": message}
    done = {**added, "type": "response.output_item.done", "item": {**message, "status": "completed"}}
    for one in found[2:-1]:
        one["output_index"] = 1
    found[-1]["response"]["output"].insert(0, done["item"])
    return [*found[:2], added, found[2], done, *found[3:]]


def _late_thought(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reasoning behind the message."""
    thought = [one for one in found if one.get("output_index") == 0]
    message = [one for one in found if one.get("output_index") == 1]
    for one in thought:
        one["output_index"] = 1
    for one in message:
        one["output_index"] = 0
    found[-1]["response"]["output"].reverse()
    return [*found[:2], *message, *thought, found[-1]]


def _open_thought(found: list[dict[str, Any]]) -> None:
    """Reasoning that ends only after the message has begun."""
    dones = [one for one in found if one["type"] == "response.output_item.done"]
    added = [one for one in found if one["type"] == "response.output_item.added"]
    found.remove(dones[0])
    found.insert(found.index(added[1]) + 1, dones[0])


def _thought_second(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The part of reasoning behind that of the text."""
    thought = [one for one in found if one.get("content_index") == 0]
    answer = [one for one in found if one.get("content_index") == 1]
    for one in thought:
        one["content_index"] = 1
    for one in answer:
        one["content_index"] = 0
    for item in (found[-2]["item"], found[-1]["response"]["output"][0]):
        item["content"].reverse()
    return [*found[:3], *answer, *thought, *found[-2:]]


def _part_left_open(found: list[dict[str, Any]]) -> None:
    """Reasoning that is said and then missing in its item."""
    found.remove(first(found, "content_part.done"))
    for item in (first(found, "output_item.done")["item"], found[-1]["response"]["output"][0]):
        item["content"] = []


def _no_thought(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A part of reasoning in which nothing is said."""
    first(found, "reasoning_text.done")["text"] = ""
    first(found, "content_part.done")["part"]["text"] = ""
    for item in (first(found, "output_item.done")["item"], found[-1]["response"]["output"][0]):
        item["content"][0]["text"] = ""
    return [one for one in found if one["type"] != "response.reasoning_text.delta"]


def _other_arguments(found: list[dict[str, Any]]) -> None:
    for item in (first(found, "output_item.done")["item"], found[-1]["response"]["output"][0]):
        item["arguments"] = "{}"


def _silent(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A response without any item."""
    found[-1]["response"]["output"] = []
    return [found[0], found[1], found[-1]]


def _with_part(found: dict[str, Any]) -> None:
    """The message of a response that was asked for without parts has one."""
    message = found["output"][-1]
    message["content"].insert(0, {"type": "reasoning", "text": "We need 6*7."})


BROKEN: list[Broken] = [
    *broken(
        response_streams.no_part_unasked,
        ("a part", _last(_with_part)),
        ("the reasoning again", _last(lambda it: it["output"][1]["content"][0].update(text="<think>x</think>y"))),
        ("broken off", streamed(lambda found: [*found[:4], FAILED])),
    ),
    *each(
        response_streams.objects_of_events,
        "no tools at first",
        event("created", lambda it: it["response"].pop("tools")),
    ),
    *each(
        response_streams.objects_of_events,
        "no error later",
        event("in_progress", lambda it: it["response"].pop("error")),
    ),
    *each(response_streams.objects_of_events, "no model at the end", _last(lambda it: it.pop("model"))),
    *broken(
        response_streams.usage_of_a_stream,
        ("none", _last(lambda it: it.update(usage=None))),
        ("another total", _last(lambda it: it["usage"].update(total_tokens=1))),
        ("no details", _last(lambda it: it["usage"].pop("input_tokens_details"))),
    ),
    *broken(
        response_streams.cut_short,
        ("no reason", _last(lambda it: it.update(incomplete_details=None))),
        ("another reason", _last(lambda it: it.update(incomplete_details={"reason": "length"}))),
        ("a complete item", _last(lambda it: it["output"][-1].update(status="completed"))),
        ("no item", _last(lambda it: it.update(output=[]))),
        ("completed with a reason", _last(lambda it: it.update(status="completed", completed_at=5))),
        ("response.completed", streamed(lambda found: found[-1].update(type="response.completed"))),
        ("no end", streamed(lambda found: found[:-1])),
    ),
    *each(
        response_streams.lines_and_numbers,
        "no lines",
        rewritten(lambda found: re.sub(rb"(?m)^event: .*\n", b"", found)),
    ),
    *each(
        response_streams.lines_and_numbers, "a number left out", text(b'"sequence_number":2,', b'"sequence_number":3,')
    ),
    *broken(
        response_streams.lines_and_numbers,
        ("another line", text(b"event: response.created\n", b"event: response.begun\n")),
        ("from 1", rewritten(lambda found: re.sub(rb'"sequence_number":', rb'"sequence_number":1', found))),
        ("0 twice", text(b'"sequence_number":1,', b'"sequence_number":0,')),
        ("none", text(b'"sequence_number"', b'"number"')),
        ("a text", text(b'"sequence_number":0', b'"sequence_number":"0"')),
    ),
    *each(response_streams.framing, "no [DONE]", text(DONE, b"")),
    *broken(
        response_streams.framing,
        ("CR", text(b"\n", b"\r\n")),
        ("[DONE] twice", text(DONE, DONE + DONE)),
        ("[DONE] with a name", text(DONE, b"event: done\n" + DONE)),
        ("no lines", text(b"event: response.created\n", b"")),
        ("ids", text(b"event: response.created\n", b"event: response.created\nid: 1\n")),
        ("data first", rewritten(lambda found: re.sub(rb"(?m)^(event: .*)\n(data: .*)$", rb"\2\n\1", found))),
        ("a comment", text(DONE, b": PROCESSING\n\n" + DONE)),
        ("refused", instead(asks.no_messages), asks.cut_response),
    ),
    *each(response_streams.beginning, "no created", without("created")),
    *each(response_streams.beginning, "no in_progress", without("in_progress")),
    *broken(
        response_streams.beginning,
        ("another order", moved("in_progress", "created")),
        ("another id at the end", _last(lambda it: it.update(id="resp_x"))),
        ("another id", event("in_progress", lambda it: it["response"].update(id="resp_x"))),
        ("completed", event("created", lambda it: it["response"].update(status="completed"))),
        ("usage", event("created", lambda it: it["response"].update(usage={}))),
        ("output", event("in_progress", lambda it: it["response"].update(output=[{}]))),
        ("no response", _lacking("created", "response")),
    ),
    *each(response_streams.indexes, "another index", event("output_item.added", lambda it: it.update(output_index=1))),
    *broken(
        response_streams.indexes,
        ("not added", without("output_item.added"), asks.streamed_response),
        ("no index", _lacking("output_item.added", "output_index")),
        ("another item_id", event(SAID, lambda it: it.update(item_id="x")), asks.streamed_response),
        ("another index of a delta", event(SAID, lambda it: it.update(output_index=7))),
        ("an id that changes", _item("output_item.done", id="msg_x")),
        ("a type that changes", _item("output_item.done", type="output")),
        ("a role that changes", _item("output_item.done", role="user"), asks.streamed_response),
        ("no id", _item_lacking("added", "id")),
        ("done twice", _twice("output_item.done")),
        ("text behind the end", moved("output_item.done", SAID), asks.streamed_response),
        (
            "always the first",
            text(b'"output_index":1', b'"output_index":0'),
            asks.streamed_response_thought,
        ),
        ("one id for all", text(b"msg_1", b"rs_0"), asks.streamed_response_thought),
    ),
    *broken(
        response_streams.messages,
        ("no part added", without("content_part.added")),
        ("no whole text", without("output_text.done")),
        ("no part done", without("content_part.done")),
        ("no logprobs", _lacking(SAID, "logprobs")),
        ("no logprobs when done", _lacking("output_text.done", "logprobs")),
        ("no annotations", event("content_part.added", lambda it: it["part"].pop("annotations"))),
        ("another text", _of("output_text.done", text="x")),
        ("a lost delta", streamed(lambda found: found.remove(first(found, SAID)))),
        ("a doubled delta", _twice(SAID)),
        ("another text of the part", _part("done", text="x")),
        ("a full part", _part("added", text="Hel")),
        ("another content_index", _of("content_part.added", content_index=1)),
        ("another content_index of a delta", _of(SAID, content_index=1)),
        ("another content_index when done", _of("content_part.done", content_index=1)),
        ("another type", _part("done", type="text")),
        ("a full item", _item("output_item.added", content=[{}])),
        ("completed at once", _item("output_item.added", status="completed")),
        ("no end", _item("output_item.done", status="in_progress")),
        ("no content", _item("output_item.done", content=[])),
        ("a delta after the text", moved("output_text.done", SAID)),
        ("a delta before its part", moved(SAID, "content_part.added")),
        ("the part after its item", moved("output_item.done", "content_part.done")),
        ("the text after its part", moved("content_part.done", "output_text.done")),
        ("two parts at once", _twice("content_part.added")),
        ("another role", _item("output_item.added", role="model")),
        ("no delta", _lacking(SAID, "delta")),
        ("a key less in the part", event("content_part.done", lambda it: it["part"].pop("logprobs"))),
        ("no message at all", streamed(_silent)),
        ("a part of another kind", _part("added", type="refusal")),
        ("no annotations in the end", _last(lambda it: it["output"][0]["content"][0].pop("annotations"))),
        at=asks.streamed_response,
    ),
    *broken(
        response_streams.reasoning_item,
        ("behind the message", streamed(_late_thought)),
        ("open beside the message", streamed(_open_thought)),
        ("no part", without("content_part.added")),
        ("no whole text", without("reasoning_text.done")),
        ("a lost delta", streamed(lambda found: found.remove(first(found, "reasoning_text.delta")))),
        ("no summary", _item_lacking("added", "summary")),
        ("a summary", _item("output_item.added", summary=[{}])),
        ("another part", _part("added", type="summary_text")),
        ("another text", _of("reasoning_text.done", text="x")),
        ("another id", text(b"rs_0", b"x_0")),
        ("deltas of text", text(b"response.reasoning_text.delta", b"response.output_text.delta")),
        ("no content in the end", _last(lambda it: it["output"][0].pop("content"))),
        ("no index", _lacking("reasoning_text.delta", "content_index")),
        ("a part that is never done", streamed(_part_left_open)),
        ("a key more in the end", text(b'"text":"We need', b'"x":1,"text":"We need')),
        ("502", status(502)),
    ),
    *broken(
        response_streams.reasoning_part,
        ("an item", instead(asks.streamed_response_thought)),
        ("another part", _part("added", type="reasoning_text")),
        ("second", streamed(_thought_second)),
        ("no deltas", without("reasoning_text.delta")),
        ("a full part", _part("added", text="x")),
        ("no whole text", without("reasoning_text.done")),
        ("another text", _of("reasoning_text.done", text="x")),
        ("another text of the part", _part("done", text="x")),
        ("a doubled delta", _twice("reasoning_text.delta")),
        ("an empty part", streamed(_no_thought)),
    ),
    *broken(
        response_streams.calls,
        ("full at once", _item("output_item.added", arguments="{}")),
        ("no call_id", _item_lacking("added", "call_id")),
        ("no name", _item("output_item.added", name="")),
        ("no whole arguments", without(f"{CALL}.done")),
        ("no name when done", _lacking(f"{CALL}.done", "name")),
        ("another name", _of(f"{CALL}.done", name="x")),
        ("other arguments", _of(f"{CALL}.done", arguments="{}")),
        ("a lost delta", streamed(lambda found: found.remove(first(found, f"{CALL}.delta")))),
        ("other arguments in the item", _item("output_item.done", arguments="{}")),
        ("other arguments in the end", streamed(_other_arguments)),
        ("a call_id that changes", _item("output_item.done", call_id="call_2")),
        ("an open message", streamed(_call_first)),
        ("no JSON", text(rb'":\"Oslo\"}', rb'":\"Oslo\"')),
        ("an object", _of(f"{CALL}.delta", delta={})),
        ("502", status(502)),
        ("another id", text(b"fc_0", b"call_0")),
        ("its output is empty", _last(lambda it: it.update(output=[]))),
        ("completed at once", _item("output_item.added", status="completed")),
    ),
    *each(response_streams.ending, "no end", streamed(lambda found: found[:-1])),
    *each(response_streams.ending, "another output", _last(lambda it: it["output"][0].update(status="in_progress"))),
    *broken(
        response_streams.ending,
        ("two ends", streamed(lambda found: found.append(dict(found[-1])))),
        ("more behind it", streamed(lambda found: found.append(dict(found[-2])))),
        ("no output", _last(lambda it: it.update(output=[]))),
        ("no usage", _last(lambda it: it.update(usage=None))),
        ("another status", _last(lambda it: it.update(status="in_progress"))),
        ("an open item", without("output_item.done")),
        ("no response", _lacking("completed", "response"), asks.streamed_response),
        ("broken off", streamed(lambda found: [*found[:4], FAILED])),
        ("nothing", body(DONE)),
    ),
]
