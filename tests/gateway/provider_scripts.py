"""What providers say in these tests: chunks, answers and whole scripts, in the form that common servers send.

Only values and scripts; the connection is in `scripted_provider.py`.
"""

import json
from typing import Any

from scripted_provider import DONE, Exchange, Script

ID = "chatcmpl-upstream-1"
CREATED = 1_700_000_000


def usage(prompt: int, completion: int, cached: int | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if cached is not None:
        told["prompt_tokens_details"] = {"cached_tokens": cached}
    return told


def completion(text: str | None, told: dict[str, Any] | None, model: str = "same", **message: object) -> dict[str, Any]:
    """A whole answer."""
    finish = "tool_calls" if "tool_calls" in message else "stop"
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    body = {"id": ID, "object": "chat.completion", "created": CREATED, "model": model, "choices": [choice]}
    return body if told is None else {**body, "usage": told}


def event(data: object) -> bytes:
    """One event in the compact form of most servers."""
    return b"data: " + json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: dict[str, Any], finish: str | None = None, model: str = "same", **more: object) -> bytes:
    """One chunk of a stream."""
    return event(
        {
            "id": ID,
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            **more,
        }
    )


def role(model: str = "same") -> bytes:
    return chunk({"role": "assistant", "content": ""}, model=model)


def word(text: str, model: str = "same") -> bytes:
    return chunk({"content": text}, model=model)


def finish(reason: str = "stop", model: str = "same") -> bytes:
    return chunk({}, reason, model=model)


def usage_chunk(told: dict[str, Any], model: str = "same") -> bytes:
    body = {"id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": model, "choices": []}
    return event({**body, "usage": told})


def story(words: list[str], told: dict[str, Any] | None, model: str = "same") -> list[bytes]:
    """The events of a whole stream, the usage before the end if it is told."""
    events = [role(model), *(word(text, model) for text in words), finish(model=model)]
    return [*events, *([] if told is None else [usage_chunk(told, model)]), DONE]


def whole(text: str = "Hello.", told: dict[str, Any] | None = None, **more: Any) -> Script:
    """A script that sends one answer."""
    body = completion(text, told or usage(10, 5), **more)
    return lambda exchange: exchange.answer(body)


def streaming(events: list[bytes]) -> Script:
    """A script that sends these pieces, one chunk each, and ends."""

    def script(exchange: Exchange) -> None:
        exchange.start_stream()
        for piece in events:
            exchange.chunk(piece)
        exchange.end_stream()

    return script


def failing(status: int, message: str = "no", **more: Any) -> Script:
    """A script that answers with an error."""
    headers = more.pop("headers", {})
    return lambda exchange: exchange.answer({"error": {"message": message, **more}}, status, **headers)


def talking(words: list[str], told: dict[str, Any]) -> Script:
    """A script that answers as it is asked: whole or streamed, with usage where it was asked for."""

    def script(exchange: Exchange) -> None:
        request = exchange.json
        model = request["model"]
        if not request.get("stream"):
            exchange.answer(completion("".join(words), told, model))
            return
        asked = (request.get("stream_options") or {}).get("include_usage")
        streaming(story(words, told if asked else None, model))(exchange)

    return script
