"""What the fake endpoint's model says: chat completions, responses and both kinds of stream, each exactly right.

The model says hello; asked to think, it thinks; told to use a tool, it calls it; asked to count, it is cut.
"""

import json
from itertools import count
from typing import Any

MODEL = "fake/model"
CREATED = 1_769_846_400
HELLO = ["Hel", "lo", "!"]
THOUGHT = ["We need ", "6*7."]
ANSWER = ["It is ", "42."]
ARGUMENTS = ['{"city"', ':"Oslo"}']
NUMBERS = ["one two", " three"]
CALL = {"name": "get_weather", "arguments": "".join(ARGUMENTS)}


class Said:
    """What the model says to one request."""

    def __init__(self, fields: dict[str, Any], *, tools: bool, reasons: bool) -> None:
        prompt = json.dumps(fields.get("messages", fields.get("input")))
        self.thought = THOUGHT if reasons and "Think" in prompt else []
        choice = fields.get("tool_choice")
        self.calls = tools and choice != "none" and "Use the tool" in prompt and "Thank you" not in prompt
        allowed = choice["tools"] if isinstance(choice, dict) and choice["type"] == "allowed_tools" else [CALL]
        self.call = {**CALL, "name": allowed[0]["name"]}
        self.cut = "Count" in prompt
        self.text = NUMBERS if self.cut else [] if self.calls else ANSWER if "Think" in prompt else HELLO
        if self.thought and fields.get("reasoning_split") is False:
            self.text = ["<think>", *self.thought, "</think>", *self.text]
            self.thought = []
        self.finish = "tool_calls" if self.calls else "length" if self.cut else "stop"
        self.choices = fields.get("n") or 1

    @property
    def reasoning_tokens(self) -> int:
        return len(self.thought)

    @property
    def tokens(self) -> int:
        return (len(self.thought) + len(self.text) + 2 * self.calls) * self.choices


# chat completions


def chat_usage(said: Said, tokens: int | None = None) -> dict[str, Any]:
    tokens = said.tokens if tokens is None else tokens
    return {
        "prompt_tokens": 7,
        "completion_tokens": tokens,
        "total_tokens": 7 + tokens,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": said.reasoning_tokens},
    }


def chat_completion(said: Said, number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    if said.thought:
        message["reasoning"] = "".join(said.thought)
    message["content"] = None if said.calls else "".join(said.text)
    if said.calls:
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": CALL}]
    return {
        "id": f"chatcmpl_{number}",
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [
            {"index": index, "message": message, "finish_reason": said.finish} for index in range(said.choices)
        ],
        "usage": chat_usage(said),
    }


def chat_stream(said: Said, number: int, *, usage: bool, running: bool) -> bytes:
    head = {"id": f"chatcmpl_{number}", "object": "chat.completion.chunk", "created": CREATED, "model": MODEL}
    steps: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    steps += [{"reasoning": piece} for piece in said.thought]
    steps += [{"content": piece} for piece in said.text]
    if said.calls:
        opened = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
        steps += [{"tool_calls": [opened]}]
        steps += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in ARGUMENTS]
    chunks = [
        {**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}
        for delta in steps
        for index in range(said.choices)
    ]
    chunks += [
        {**head, "choices": [{"index": index, "delta": {}, "finish_reason": said.finish}]}
        for index in range(said.choices)
    ]
    if usage and running:
        chunks = [{**chunk, "usage": chat_usage(said, min(at, said.tokens))} for at, chunk in enumerate(chunks)]
    chunks += [{**head, "choices": [], "usage": chat_usage(said)}] if usage else []
    return b": keep-alive\n\n" + b"".join(b"data: %b\n\n" % dumped(chunk) for chunk in chunks) + b"data: [DONE]\n\n"


# responses


def response_usage(said: Said) -> dict[str, Any]:
    return {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": said.tokens,
        "output_tokens_details": {"reasoning_tokens": said.reasoning_tokens},
        "total_tokens": 7 + said.tokens,
    }


def response_object(fields: dict[str, Any], number: int, status: str, **more: Any) -> dict[str, Any]:
    tools = [tool for tool in fields.get("tools") or [] if tool["type"] == "function"]
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": CREATED,
        "model": MODEL,
        "status": status,
        "output": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
        "instructions": fields.get("instructions"),
        "max_output_tokens": fields.get("max_output_tokens"),
        "metadata": fields.get("metadata") or {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": fields.get("temperature"),
        "text": {"format": {"type": "text"}},
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": tools,
        "top_p": None,
        "truncation": "disabled",
        **({"completed_at": CREATED + 1} if status == "completed" else {}),
        **more,
    }


class Writer:
    """Writes the events of one response."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.output: list[dict[str, Any]] = []

    def event(self, kind: str, **fields: Any) -> None:
        self.events.append({"type": f"response.{kind}", "sequence_number": len(self.events), **fields})

    def add(self, item: dict[str, Any]) -> dict[str, Any]:
        """Open an item; returns what every event about it holds."""
        index = len(self.output)
        self.output.append(item)
        self.event("output_item.added", output_index=index, item=item)
        return {"item_id": item["id"], "output_index": index}

    def close(self, at: dict[str, Any], status: str, **last: Any) -> None:
        index = at["output_index"]
        self.output[index] = {**self.output[index], "status": status, **last}
        self.event("output_item.done", output_index=index, item=self.output[index])

    def part(self, at: dict[str, Any], number: int, kind: str, pieces: list[str]) -> dict[str, Any]:
        """Open a part, say its pieces and close it; returns the part."""
        at = {**at, "content_index": number}
        lists: dict[str, Any] = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
        probabilities = {"logprobs": []} if lists else {}
        spoken = "reasoning_text" if kind == "reasoning" else kind
        self.event("content_part.added", **at, part={"type": kind, "text": "", **lists})
        for piece in pieces:
            self.event(f"{spoken}.delta", **at, delta=piece, **probabilities)
        self.event(f"{spoken}.done", **at, text="".join(pieces), **probabilities)
        part = {"type": kind, "text": "".join(pieces), **lists}
        self.event("content_part.done", **at, part=part)
        return part


def response_events(fields: dict[str, Any], said: Said, number: int) -> list[dict[str, Any]]:
    status = "incomplete" if said.cut else "completed"
    begun = response_object(fields, number, "in_progress")
    writer, ids = Writer(), count()
    writer.event("created", response=begun)
    writer.event("in_progress", response=begun)
    new = {"status": "in_progress"}
    apart = said.thought and not fields.get("reasoning_split")
    if apart:
        item = {"id": f"rs_{next(ids)}", "type": "reasoning", **new, "summary": [], "content": []}
        at = writer.add(item)
        writer.close(at, "completed", content=[writer.part(at, 0, "reasoning_text", said.thought)])
    if said.text:
        at = writer.add({"id": f"msg_{next(ids)}", "type": "message", **new, "role": "assistant", "content": []})
        inside = said.thought and not apart
        parts = [writer.part(at, 0, "reasoning", said.thought)] if inside else []
        parts.append(writer.part(at, len(parts), "output_text", said.text))
        writer.close(at, status, content=parts)
    if said.calls:
        item = {
            "id": f"fc_{next(ids)}",
            "type": "function_call",
            **new,
            "call_id": "call_1",
            **said.call,
            "arguments": "",
        }
        at = writer.add(item)
        for piece in ARGUMENTS:
            writer.event("function_call_arguments.delta", **at, delta=piece)
        writer.event("function_call_arguments.done", **at, **said.call)
        writer.close(at, "completed", arguments=CALL["arguments"])
    details = {"reason": "max_output_tokens"} if said.cut else None
    ended = response_object(
        fields, number, status, output=writer.output, usage=response_usage(said), incomplete_details=details
    )
    writer.event(status, response=ended)
    return writer.events


def response_stream(events: list[dict[str, Any]]) -> bytes:
    lines = [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumped(event)) for event in events]
    return b"".join(lines) + b"data: [DONE]\n\n"


def dumped(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
