"""The scripted model behind a provider that speaks the Responses API itself, with ids and items of its own.

Only that form; the words are `scripted_model.py`'s.
"""

from collections.abc import Iterator
from typing import Any

from provider_scripts import CREATED, event, failing
from scripted_model import (
    BREAKS,
    CACHED_TOKENS,
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    THINKING_TOKENS,
    TOOL,
    TOTAL_TOKENS,
    Ask,
    Heard,
    Speech,
    heard,
    pieces,
    speech,
    text_of,
)
from scripted_provider import Exchange, Script

BROKEN = {"code": "server_error", "message": "The server had an error while answering."}
USAGE = {
    "input_tokens": PROMPT_TOKENS,
    "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
    "output_tokens": COMPLETION_TOKENS,
    "output_tokens_details": {"reasoning_tokens": THINKING_TOKENS},
    "total_tokens": TOTAL_TOKENS,
}
Item = dict[str, Any]
Event = tuple[str, dict[str, Any]]


def speaking_natively() -> Script:
    """The model as a script that answers `POST …/responses`."""

    def script(exchange: Exchange) -> None:
        assert exchange.path.endswith("/responses"), exchange.path
        request = exchange.json
        conversation = listen(request["input"])
        asked, items = conversation.asked, output(speech(conversation))
        if asked == Ask.TOO_LONG:
            failing(400, "This model's maximum context length is 8192 tokens.")(exchange)
        elif asked == Ask.FAIL or (asked in BREAKS and not request.get("stream")):
            failing(500, "boom")(exchange)
        elif request.get("stream"):
            stream(exchange, request, items, asked)
        else:
            exchange.answer(ended(request, items, asked))

    return script


def listen(given: str | list[Item]) -> Heard:
    if isinstance(given, str):
        return heard([("user", given)])
    turns = []
    for item in given:
        if item.get("type") == "function_call_output":
            turns.append(("tool", text_of(item["output"])))
        elif "role" in item:
            turns.append((item["role"], text_of(item["content"])))
    return heard(turns)


def output(says: Speech) -> list[Item]:
    """The items of a whole answer."""
    summary = [{"type": "summary_text", "text": says.thought}]
    items: list[Item] = [{"id": "rs_native_1", "type": "reasoning", "summary": summary}]
    if says.text:
        part = {"type": "output_text", "text": says.text, "annotations": [], "logprobs": []}
        message = {"id": "msg_native_1", "type": "message", "status": "completed", "role": "assistant"}
        items.append({**message, "content": [part]})
    for call in says.calls:
        function = {"call_id": call.id, "name": TOOL, "arguments": call.arguments}
        items.append({"id": f"fc_{call.id}", "type": "function_call", "status": "completed", **function})
    return items


def response(request: dict[str, Any], status: str, items: list[Item], **more: object) -> dict[str, Any]:
    body = {"id": "resp_native_1", "object": "response", "created_at": CREATED, "model": request["model"]}
    body |= {"status": status, "output": items, "error": None, "incomplete_details": None, "usage": None}
    body |= {"instructions": request.get("instructions"), "tools": request.get("tools", []), "tool_choice": "auto"}
    return body | {"metadata": {}, "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0} | more


def ended(request: dict[str, Any], items: list[Item], asked: str) -> dict[str, Any]:
    if asked == Ask.RAMBLE:
        return response(request, "incomplete", items, usage=USAGE, incomplete_details={"reason": "max_output_tokens"})
    return response(request, "completed", items, usage=USAGE)


def stream(exchange: Exchange, request: dict[str, Any], items: list[Item], asked: str) -> None:
    """Send a stream, which may end before its time."""
    begun = response(request, "in_progress", [])
    events: list[Event] = [("response.created", {"response": begun}), ("response.in_progress", {"response": begun})]
    for index, item in enumerate(items):
        events += PARTS[item["type"]](item, {"output_index": index})
        if item["type"] != "message" or asked not in BREAKS:
            events.append(("response.output_item.done", {"output_index": index, "item": item}))
    if asked == Ask.BREAK_OFF:
        failed = response(request, "failed", [], error=BROKEN)
        events += [("error", {"error": BROKEN | {"type": "server_error", "param": None}})]
        events += [("response.failed", {"response": failed})]
    elif asked != Ask.FALL_SILENT:
        ending = ended(request, items, asked)
        events.append((f"response.{ending['status']}", {"response": ending}))
    exchange.start_stream()
    for number, (kind, data) in enumerate(events):
        exchange.chunk(f"event: {kind}\n".encode() + event({"type": kind, "sequence_number": number, **data}))
    if asked == Ask.FALL_SILENT:
        exchange.close()
    else:
        exchange.end_stream()


def reasoning(item: Item, place: dict[str, int]) -> Iterator[Event]:
    at = {"item_id": item["id"], **place, "summary_index": 0}
    (part,) = item["summary"]
    yield "response.output_item.added", {**place, "item": {**item, "summary": []}}
    yield "response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}
    for piece in pieces(part["text"]):
        yield "response.reasoning_summary_text.delta", {**at, "delta": piece}
    yield "response.reasoning_summary_text.done", {**at, "text": part["text"]}
    yield "response.reasoning_summary_part.done", {**at, "part": part}


def message(item: Item, place: dict[str, int]) -> Iterator[Event]:
    at = {"item_id": item["id"], **place, "content_index": 0}
    (part,) = item["content"]
    yield "response.output_item.added", {**place, "item": {**item, "status": "in_progress", "content": []}}
    yield "response.content_part.added", {**at, "part": {**part, "text": ""}}
    for piece in pieces(part["text"]):
        yield "response.output_text.delta", {**at, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**at, "text": part["text"], "logprobs": []}
    yield "response.content_part.done", {**at, "part": part}


def function_call(item: Item, place: dict[str, int]) -> Iterator[Event]:
    at = {"item_id": item["id"], **place}
    yield "response.output_item.added", {**place, "item": {**item, "status": "in_progress", "arguments": ""}}
    for piece in pieces(item["arguments"]):
        yield "response.function_call_arguments.delta", {**at, "delta": piece}
    yield "response.function_call_arguments.done", {**at, "arguments": item["arguments"], "name": TOOL}


PARTS = {"reasoning": reasoning, "message": message, "function_call": function_call}
