"""The text of an answer of this gateway's API, taken out of its bytes as they come: chat or responses, streamed or not.

Bytes in, text out. What has no text is shown as it came anyway, so nothing that cannot be read is an error here.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

_REASONING: Final = ("reasoning_content", "reasoning")
_DELTAS: Final = {
    "response.output_text.delta": "answer",
    "response.refusal.delta": "answer",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.function_call_arguments.delta": "calls",
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What some bytes brought: themselves as text, and what of it is answer, reasoning and calls of tools."""

    raw: str = ""
    answer: str = ""
    reasoning: str = ""
    calls: str = ""

    def __add__(self, other: "Heard") -> "Heard":
        """Put what came later behind."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return Heard(*(before + after for before, after in pairs))


class AnswerText:
    """Reads one answer, in pieces that may end anywhere."""

    def __init__(self, *, streamed: bool) -> None:
        """`streamed`: it is a stream of events, else one document."""
        self._streamed = streamed
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""
        """A line that has not ended."""

    def read(self, piece: bytes, *, last: bool = False) -> Heard:
        """Return what a piece brings; `last`: nothing comes after it."""
        raw = self._decoder.decode(piece, final=last)
        *whole, self._begun = [self._begun + raw] if not self._streamed else (self._begun + raw).split("\n")
        if last:
            whole.append(self._begun)
        found = {"answer": "", "reasoning": "", "calls": ""}
        for line in whole:
            for kind, text in _said(_event(line), streamed=self._streamed):
                found[kind] += text
        return Heard(raw, **found)


def _event(line: str) -> dict[str, Any]:
    try:
        event: Any = msgspec.json.decode(line.removeprefix("data:").strip())
    except msgspec.DecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _said(event: dict[str, Any], *, streamed: bool) -> Iterator[tuple[str, str]]:
    for choice in _objects(event.get("choices")):
        yield from _of_message(_object(choice.get("delta" if streamed else "message")))
    kind = _DELTAS.get(str(event.get("type")))
    if kind is not None:
        yield from _text(kind, event.get("delta"))
    if event.get("type") == "response.output_item.added":
        yield from _text("calls", _object(event.get("item")).get("name"), " ")
    for item in _objects(event.get("output")):
        yield from _of_item(item)


def _of_message(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _text("answer", message.get("content"))
    yield from _text("answer", message.get("refusal"))
    yield from _text("reasoning", next((message[name] for name in _REASONING if message.get(name)), None))
    for call in _objects(message.get("tool_calls")):
        function = _object(call.get("function"))
        yield from _text("calls", function.get("name"), " ")
        yield from _text("calls", function.get("arguments"))


def _of_item(item: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kind = "reasoning" if item.get("type") == "reasoning" else "answer"
    for part in (*_objects(item.get("content")), *_objects(item.get("summary"))):
        yield from _text(kind, part.get("text"))
    yield from _text("calls", item.get("name"), " ")
    yield from _text("calls", item.get("arguments"))


def _text(kind: str, value: object, after: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value:
        yield kind, value + after


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
