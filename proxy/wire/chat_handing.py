"""Decides of whole events whether a client gets them as the very bytes that came, the model's name perhaps swapped.

What is decided here stands on what was read of the stream before: the form of its first chunk, and what the splitters
still have to see. It never reads an event's JSON. Pure.
"""

import re
from typing import Final

from msgspec import Raw

from proxy.wire import json
from proxy.wire.json import RawObject
from proxy.wire.reasoning import Passing
from proxy.wire.scan import OutputCounter, holds_no_reasoning, holds_only_reasoning, is_plain
from proxy.wire.sse import Event
from proxy.wire.text_event import ARGUMENTS, CONTENT, REASONING, REASONING_CONTENT, TextEvent

_MOST_FORMS: Final = 3
_MOST_LOOKS: Final = 16
"""How many forms of events are known at once, and how often a new one is looked for."""
_KEYS: Final = {
    Passing.ALL: (*CONTENT, *REASONING, *REASONING_CONTENT, *ARGUMENTS),
    Passing.CONTENT: (*CONTENT, *ARGUMENTS),
    Passing.REASONING: (*REASONING, *ARGUMENTS),
}


class Handing:
    """What of one stream leaves unread, and is counted. Nothing does before `learn` has seen its first chunk."""

    __slots__ = ("_constant", "_forms", "_learned", "_looks", "_model", "_output", "_passing", "_there", "_written")

    def __init__(self, model: str, output: OutputCounter) -> None:
        """Start before the first chunk; `model` is the name that clients see, `output` gets what is handed on."""
        self._model = model
        self._output = output
        self._learned = False
        self._passing = Passing.NOTHING
        self._forms: list[tuple[TextEvent, TextEvent | None]] = []
        self._looks = 0
        self._constant: list[bytes] = []
        self._there: bytes | None = None
        self._written = b""

    def learn(self, event: Event, fields: RawObject, choices: list[RawObject]) -> None:
        """Learn from the first chunk, of which nothing but the model's name has to change, where that stands."""
        shown = bytes(fields.get("model", b""))
        if not shown or any("index" not in choice for choice in choices):
            return
        written = json.encode(self._model)
        if shown != written:
            there = re.search(rb'"model"\s*:\s*' + re.escape(shown), event.raw)
            if there is None or event.raw.count(there[0]) != 1:
                return
            self._there = there[0]
            self._written = there[0].removesuffix(shown) + written
        self._constant = [_as_written(name, fields[name], event.raw) for name in ("id", "created")]
        self._learned = True

    def allow(self, passing: Passing) -> None:
        """Take note of what may leave unread from now on."""
        if passing is not self._passing:
            self._passing = passing
            self._forms.clear()
            self._looks = 0

    def hand(self, events: bytes) -> bytes | None:
        """Count whole events that arrived and return what a client gets of them: the same object if nothing has to
        change. None if they have to be read, and then they are not counted.
        """
        if not self._learned or self._passing is Passing.NOTHING:
            return None
        for form, renamed in self._forms:
            if (texts := form.texts(events)) is not None:
                form.count(events, texts, self._output)
                return events if renamed is None else renamed.write(texts)
        if not self._passes(events):
            return None
        if self._there is None:
            self._output.add(events)
            return events
        if events.count(self._there) != events.count(b"\n\n"):
            return None
        self._output.add(events)
        return events.replace(self._there, self._written)

    def _passes(self, events: bytes) -> bool:
        if self._passing is Passing.CONTENT and not holds_no_reasoning(events):
            return False
        if self._passing is Passing.REASONING and not holds_only_reasoning(events):
            return False
        if not is_plain(events):
            return False
        number = events.count(b"\n\n")
        if any(events.count(constant) != number for constant in self._constant):  # llama.cpp's `created` is a clock
            return False
        if len(self._forms) < _MOST_FORMS and self._looks < _MOST_LOOKS:
            self._looks += 1
            self._know(TextEvent.like(events[: events.find(b"\n\n") + 2], _KEYS[self._passing]))
        return True

    def _know(self, form: TextEvent | None) -> None:
        if form is None:
            return
        renamed = None if self._there is None else form.renamed(self._there, self._written)
        if self._there is None or renamed is not None:
            self._forms.append((form, renamed))


def _as_written(name: str, value: Raw, event: bytes) -> bytes:
    """Return a field of the first chunk with its key, exactly as this provider writes them."""
    written = re.search(rb'"%b"\s*:\s*%b' % (name.encode(), re.escape(bytes(value))), event)
    return written[0] if written else b""
