"""The scripted model behind chat completions, in the forms that real servers give their answers.

A form is where reasoning stands and what else surrounds an answer; the words are `scripted_model.py`'s.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from provider_scripts import CREATED, ID, completion, event, failing, usage
from scripted_model import (
    BREAKS,
    CACHED_TOKENS,
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    THINKING_TOKENS,
    TOOL,
    Ask,
    Speech,
    heard,
    pieces,
    speech,
    text_of,
)
from scripted_provider import DONE, Exchange, Script


class Form(StrEnum):
    """Whose answers these look like, or where their reasoning stands."""

    PLAIN = "plain"
    VLLM = "vllm"
    SGLANG = "sglang"
    OPENROUTER = "openrouter"
    TAGS = "tags"
    PREFILLED = "prefilled"


OPENINGS = {Form.TAGS: "<think>\n", Form.PREFILLED: ""}
CLOSING = "\n</think>\n\n"
NULLS = dict.fromkeys(("role", "content", "reasoning_content", "tool_calls"))


BROKEN = {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "param": None, "code": 500}


def speaking(form: Form) -> Script:
    """The model as a script: whole or streamed as it is asked, and failing when it is told to."""

    def script(exchange: Exchange) -> None:
        request = exchange.json
        conversation = heard([(turn["role"], text_of(turn.get("content"))) for turn in request["messages"]])
        says, asked, model = speech(conversation), conversation.asked, request["model"]
        if asked == Ask.TOO_LONG:
            failing(400, "This model's maximum context length is 8192 tokens.")(exchange)
        elif asked == Ask.FAIL or (asked in BREAKS and not request.get("stream")):
            failing(500, "boom")(exchange)
        elif request.get("stream"):
            stream(exchange, Frames(form, model), says, asked)
        else:
            exchange.answer(answer(says, form, model))

    return script


def stream(exchange: Exchange, frames: "Frames", says: Speech, asked: str) -> None:
    """Send a stream, which may end before its time."""
    exchange.start_stream()
    for piece in frames.beginning(says):
        exchange.chunk(piece)
    if asked == Ask.FALL_SILENT:
        exchange.close()
        return
    for piece in [event({"error": BROKEN}), DONE] if asked == Ask.BREAK_OFF else frames.ending(says):
        exchange.chunk(piece)
    exchange.end_stream()


def answer(says: Speech, form: Form, model: str) -> dict[str, Any]:
    """A whole answer."""
    message: dict[str, Any] = dict(thinking(says.thought, form))
    if says.calls:
        function = [{"name": TOOL, "arguments": call.arguments} for call in says.calls]
        calls = zip(says.calls, function, strict=True)
        message["tool_calls"] = [{"id": call.id, "type": "function", "function": of} for call, of in calls]
    text = inline(says, form) or (None if says.calls else "")
    body = completion(text, told(form), model, **message)
    if says.cut_short:
        body["choices"][0]["finish_reason"] = "length"
    return body | vendor(form)


class Frames:
    """The events of a stream in one form."""

    def __init__(self, form: Form, model: str) -> None:
        self._form = form
        self._surrounding = {Form.SGLANG: NULLS, Form.OPENROUTER: {"role": "assistant", "content": ""}}.get(form, {})
        self._frame = {"id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": model} | vendor(form)

    def chunk(self, delta: dict[str, Any], finish: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "delta": {**self._surrounding, **delta}, "logprobs": None, "finish_reason": finish}
        return event({**self._frame, "choices": [choice], **more})

    def beginning(self, says: Speech) -> Iterator[bytes]:
        """All that is thought and said."""
        if self._form is Form.OPENROUTER:
            yield b": OPENROUTER PROCESSING\n\n"
        yield self.chunk({"role": "assistant", "content": ""})
        for part in pieces(says.thought) if thinking("", self._form) else ():
            yield self.chunk(thinking(part, self._form))
        for part in pieces(inline(says, self._form)):
            yield self.chunk({"content": part})

    def ending(self, says: Speech) -> Iterator[bytes]:
        """The calls, and what tells that it is over."""
        for index, call in enumerate(says.calls):
            function = {"name": TOOL, "arguments": ""}
            yield self.chunk(
                {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}
            )
            for part in pieces(call.arguments):
                yield self.chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
        yield self.chunk({}, "length" if says.cut_short else "tool_calls" if says.calls else "stop")
        if self._form is Form.OPENROUTER:
            yield self.chunk({}, usage=told(self._form))
        else:
            yield event({**self._frame, "choices": [], "usage": told(self._form)})
        yield DONE


def vendor(form: Form) -> dict[str, str]:
    return {"provider": "Together"} if form is Form.OPENROUTER else {}


def thinking(text: str, form: Form) -> dict[str, Any]:
    """The fields in which a form tells what the model thinks, if it has any."""
    if form is Form.VLLM:
        return {"reasoning": text}
    if form is Form.SGLANG:
        return {"reasoning_content": text}
    if form is Form.OPENROUTER:
        details = {"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}
        return {"reasoning": text, "reasoning_details": [details]}
    return {}


def inline(says: Speech, form: Form) -> str:
    """The content, in which some forms have the reasoning too."""
    opening = OPENINGS.get(form)
    return says.text if opening is None else f"{opening}{says.thought}{CLOSING}{says.text}"


def told(form: Form) -> dict[str, Any]:
    """The usage; each form counts reasoning where its servers do."""
    counted = usage(PROMPT_TOKENS, COMPLETION_TOKENS, CACHED_TOKENS)
    if form is Form.PLAIN:
        return counted
    if form is Form.SGLANG:
        return counted | {"reasoning_tokens": THINKING_TOKENS}
    cost = {"cost": 0.00041912, "is_byok": False} if form is Form.OPENROUTER else {}
    return counted | cost | {"completion_tokens_details": {"reasoning_tokens": THINKING_TOKENS}}
