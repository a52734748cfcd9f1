"""The grammar of a response's stream: which event may come when, and what each says of those before it.

A pure machine: events in, findings out, each under the clause of the rule that is broken. It goes on after a finding,
so that one broken rule is found as that rule and not as all others too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct

from proxy.conformance.exchange import Violation, fitted
from proxy.conformance.shapes import Count, Filled

TERMINAL: Final = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
_LIFECYCLE: Final = ("response.created", "response.in_progress", *TERMINAL)


class Finding(Struct, frozen=True):
    """A broken rule."""

    clause: str
    what: str


class _Lifecycle(Struct, frozen=True):
    response: dict[str, Any]


class _Item(Struct, frozen=True):
    output_index: Count
    item: dict[str, Any]


class _Placed(Struct, frozen=True):
    """An event about one part of an item."""

    item_id: Filled
    output_index: Count
    content_index: Count


class _Part(_Placed, frozen=True):
    part: dict[str, Any]


class _Delta(_Placed, frozen=True):
    delta: str


class _TextDelta(_Delta, frozen=True):
    logprobs: list[Any]


class _TextDone(_Placed, frozen=True):
    text: str


class _OutputTextDone(_TextDone, frozen=True):
    logprobs: list[Any]


class _RefusalDone(_Placed, frozen=True):
    refusal: str


class _ArgumentsDelta(Struct, frozen=True):
    item_id: Filled
    output_index: Count
    delta: str


class _ArgumentsDone(Struct, frozen=True):
    item_id: Filled
    output_index: Count
    name: Filled
    arguments: Filled


# The form of each event, and the clause of its rules where no item says otherwise.
_EVENTS: Final[Mapping[str, tuple[str, type[Struct]]]] = {
    **dict.fromkeys(("response.created", "response.in_progress"), ("F6.2", _Lifecycle)),
    **dict.fromkeys(TERMINAL, ("F6.10", _Lifecycle)),
    **dict.fromkeys(("response.output_item.added", "response.output_item.done"), ("F6.3", _Item)),
    **dict.fromkeys(("response.content_part.added", "response.content_part.done"), ("F6.4", _Part)),
    "response.output_text.delta": ("F6.4", _TextDelta),
    "response.output_text.done": ("F6.4", _OutputTextDone),
    "response.reasoning_text.delta": ("F6.5", _Delta),
    "response.reasoning_text.done": ("F6.5", _TextDone),
    "response.refusal.delta": ("F6.9", _Delta),
    "response.refusal.done": ("F6.9", _RefusalDone),
    "response.function_call_arguments.delta": ("F6.7", _ArgumentsDelta),
    "response.function_call_arguments.done": ("F6.7", _ArgumentsDone),
}
# The parts of messages and reasoning items: their clause, and how each begins.
_PARTS: Final[Mapping[tuple[str, str], tuple[str, dict[str, Any]]]] = {
    ("message", "output_text"): ("F6.4", {"type": "output_text", "text": "", "annotations": [], "logprobs": []}),
    ("message", "refusal"): ("F6.9", {"type": "refusal", "refusal": ""}),
    ("message", "reasoning"): ("F6.6", {"type": "reasoning", "text": ""}),
    ("reasoning", "reasoning_text"): ("F6.5", {"type": "reasoning_text", "text": ""}),
}
_SPOKEN_BY: Final = {
    "output_text": ("output_text",), "refusal": ("refusal",), "reasoning_text": ("reasoning_text", "reasoning"),
}  # fmt: skip


@dataclass(slots=True)
class _Open:
    """An item on its way."""

    item: dict[str, Any]
    parts: list[dict[str, Any]] = field(default_factory=list)
    part: dict[str, Any] | None = None
    """The part that is open, as it began."""
    text: str = ""
    said: str | None = None
    """What the `…done` event of the open part, or of the arguments, has said."""
    done: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        return str(self.item.get("type"))

    @property
    def clause(self) -> str:
        return {"message": "F6.4", "reasoning": "F6.5", "function_call": "F6.7"}.get(self.kind, "F6.3")


class Grammar:
    """Feed it the documents of a stream in order, then end it; `findings` has what is broken."""

    def __init__(self) -> None:
        """Start before the first event."""
        self.findings: list[Finding] = []
        self.items: list[_Open] = []
        self.final: dict[str, Any] | None = None
        """The response of the terminal event."""
        self._number = 0
        self._response_id: object = None

    def take(self, document: dict[str, Any]) -> None:
        """Take the next event."""
        kind = str(document.get("type"))
        if self._number < 2 and kind != _LIFECYCLE[self._number]:  # noqa: PLR2004 - created, in_progress
            self._find("F6.2", f"event {self._number} is {kind}")
        if self.final is not None:
            self._find("F6.10", f"{kind} follows the event that ends the response")
        self._number += 1
        if kind not in _EVENTS:
            return
        clause, shape = _EVENTS[kind]
        try:
            event = fitted(document, shape, kind)
        except Violation as wrong:
            self._find(clause, str(wrong))
            return
        if isinstance(event, _Lifecycle):
            self._lifecycle(kind, event.response)
        elif isinstance(event, _Item):
            self._added(event) if kind.endswith("added") else self._item_done(event)
        elif (item := self._item(kind, event)) is not None:
            self._inside(kind, item, event)

    def end(self) -> list[Finding]:
        """Return everything that is broken, now that the stream has ended."""
        if self.final is None:
            self._find("F6.10", "no event ends the response")
        return self.findings

    def _find(self, clause: str, what: str) -> None:
        self.findings.append(Finding(clause, what))

    def _must(self, holds: object, clause: str, what: str) -> None:
        if not holds:
            self._find(clause, what)

    def _lifecycle(self, kind: str, response: dict[str, Any]) -> None:
        self._response_id = self._response_id or response.get("id")
        self._must(response.get("id") == self._response_id, "F6.2", f"{kind}: the response has another id")
        if kind not in TERMINAL:
            begun = response.get("status"), response.get("output"), response.get("usage")
            self._must(begun == ("in_progress", [], None), "F6.2", f"{kind}: status, output and usage are {begun}")
            return
        self.final = response
        self._must(response.get("status") == TERMINAL[kind], "F6.10", f"{kind}: status is {response.get('status')}")
        same = response.get("output") == [item.done for item in self.items]
        self._must(same, "F6.10", f"{kind}: output is not what the items were when they were done")
        told = response.get("usage") is not None or kind == "response.failed"
        self._must(told, "F6.10", f"{kind}: there is no usage")

    def _added(self, event: _Item) -> None:
        item = _Open(event.item)
        self._must(
            event.output_index == len(self.items),
            "F6.3",
            f"item {len(self.items)}: its output_index is {event.output_index}",
        )
        ids = [other.item.get("id") for other in self.items]
        self._must(item.item.get("id") and item.item.get("id") not in ids, "F6.3", "an item has no id of its own")
        self._must(item.item.get("status") == "in_progress", item.clause, f"a new item is {item.item.get('status')}")
        empty = {"message": ("content", []), "reasoning": ("content", []), "function_call": ("arguments", "")}
        name, nothing = empty.get(item.kind, ("type", item.kind))
        self._must(item.item.get(name) == nothing, item.clause, f"the {name} of a new item is not empty")
        open_kinds = {other.kind for other in self.items if other.done is None}
        if item.kind == "reasoning":
            self._must(item.item.get("summary") == [], "F6.5", "a new reasoning item has no empty summary")
            self._must("message" not in {other.kind for other in self.items}, "F6.5", "reasoning comes after a message")
        if item.kind == "message":
            self._must(item.item.get("role") == "assistant", "F6.4", "a message has another role than assistant")
            self._must("reasoning" not in open_kinds, "F6.5", "a message begins before the reasoning is done")
        if item.kind == "function_call":
            self._must(
                not open_kinds & {"message", "reasoning"}, "F6.7", "a call begins before text or reasoning is done"
            )
        self.items.append(item)

    def _item(self, kind: str, event: Any) -> _Open | None:  # noqa: ANN401 - any event about an item
        for item in self.items[event.output_index : event.output_index + 1]:
            if item.done is None and item.item.get("id") == event.item_id:
                return item
        self._find("F6.3", f"{kind}: no open item has this output_index and item_id")
        return None

    def _item_done(self, event: _Item) -> None:
        item = self.items[event.output_index] if event.output_index < len(self.items) else None
        if item is None or item.done is not None:
            self._find("F6.3", "response.output_item.done: no open item has this output_index")
            return
        item.done = event.item
        for name in ("id", "type", "call_id", "name", "role"):
            self._must(item.item.get(name) == event.item.get(name), "F6.3", f"an item's {name} changes")
        ended = event.item.get("status") in {"completed", "incomplete"}
        self._must(ended, item.clause, f"an item is done and its status is {event.item.get('status')}")
        if item.kind == "function_call":
            same = event.item.get("arguments") == item.said
            self._must(same, "F6.7", "a done call has other arguments than function_call_arguments.done")
        elif item.kind in {"message", "reasoning"}:
            self._must(item.part is None, item.clause, "an item is done before its part is")
            self._must(event.item.get("content") == item.parts, item.clause, "a done item has other parts")

    def _inside(self, kind: str, item: _Open, event: Any) -> None:  # noqa: ANN401 - any event about an item
        match event:
            case _Part() if kind.endswith("added"):
                self._part_added(item, event)
            case _Part():
                self._part_done(item, event)
            case _ArgumentsDelta():
                item.text += event.delta
            case _ArgumentsDone():
                self._must(event.name == item.item.get("name"), "F6.7", f"{kind}: the name is another")
                whole = item.text or "{}"
                self._must(event.arguments == whole, "F6.7", f"{kind}: the arguments are not those of the deltas")
                item.said = event.arguments
            case _:
                self._spoken(kind, item, event)

    def _part_added(self, item: _Open, event: _Part) -> None:
        clause, begun = _PARTS.get((item.kind, str(event.part.get("type"))), (item.clause, {}))
        self._must(event.part == begun, clause, f"a new part is {event.part}")
        self._must(item.part is None, clause, "a part begins before the last one is done")
        self._must(event.content_index == len(item.parts), clause, f"content_index is {event.content_index}")
        if event.part.get("type") == "reasoning":
            self._must(event.content_index == 0, "F6.6", "reasoning is not the first part")
        item.part, item.text, item.said = event.part, "", None

    def _part_done(self, item: _Open, event: _Part) -> None:
        clause, _ = _PARTS.get((item.kind, str(event.part.get("type"))), (item.clause, {}))
        opened = item.part or {}
        self._must(item.part is not None and event.content_index == len(item.parts), clause, "no such part is open")
        self._must(event.part.get("type") == opened.get("type"), clause, "a part changes its type")
        self._must(set(event.part) == set(opened), clause, f"a done part has the keys {', '.join(event.part)}")
        self._must(item.said is not None, clause, "a part is done before its text is")
        text = event.part.get("refusal" if event.part.get("type") == "refusal" else "text")
        self._must(text == item.text, clause, "the text of a done part is not that of the deltas")
        item.parts.append(event.part)
        item.part = None

    def _spoken(self, kind: str, item: _Open, event: Any) -> None:  # noqa: ANN401 - a delta or a done text
        opened = str((item.part or {}).get("type"))
        clause, _ = _PARTS.get((item.kind, opened), (item.clause, {}))
        fits = opened in _SPOKEN_BY[kind.split(".")[1]] and event.content_index == len(item.parts)
        self._must(fits, clause, f"{kind}: no such part is open")
        if isinstance(event, _Delta):
            item.text += event.delta
            return
        item.said = event.refusal if isinstance(event, _RefusalDone) else event.text
        self._must(item.said == item.text, clause, f"{kind}: the text is not that of the deltas")


def findings_in(documents: Sequence[dict[str, Any]]) -> list[Finding]:
    """Return every broken rule of a whole stream, in order."""
    grammar = Grammar()
    for document in documents:
        grammar.take(document)
    return grammar.end()
