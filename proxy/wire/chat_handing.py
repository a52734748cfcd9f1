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
_FIXED: Final = frozenset({"id", "created", "model"})
"""What is the same in all chunks."""
_NO_KEY: Final = re.compile(
    rb'(?::\s*|\\)"(?:role|error|usage|finish_reason|content|reasoning|reasoning_content|reasoning_details|tool_calls'
    rb'|id|name|type)"'
)
"""What reads like a key that is looked for, and is a value or the end of one."""
_ALL, _CONTENT, _REASONING, _NOTHING = Passing
_KEYS: Final = {
    _ALL: (*CONTENT, *REASONING, *REASONING_CONTENT, *ARGUMENTS),
    _CONTENT: (*CONTENT, *ARGUMENTS),
    _REASONING: (*REASONING, *ARGUMENTS),
}


class Handing:
    """What of one stream leaves unread, and is counted. Nothing does before `learn` has seen its first chunk."""

    __slots__ = (
        "_constant", "_forms", "_learned", "_looks", "_model", "_output", "_there", "_written", "passing",
    )  # fmt: skip

    def __init__(self, model: str, output: OutputCounter) -> None:
        """Start before the first chunk; `model` is the name that clients see, `output` gets what is handed on."""
        self._model = model
        self._output = output
        self._learned = False
        self.passing = _NOTHING
        """What may leave unread now."""
        self._forms: list[TextEvent] = []
        self._looks = 0
        self._constant: list[bytes] = []
        self._there: bytes | None = None
        self._written = b""

    def learn(self, event: Event, fields: RawObject, choices: list[RawObject]) -> None:
        """Learn from the first chunk, of which nothing but the model's name has to change, where that stands."""
        shown = bytes(fields.get("model", b""))
        if not shown or any("index" not in choice for choice in choices):
            return
        self._constant = [_as_written(name, fields[name], event.raw) for name in _FIXED]
        written = json.encode(self._model)
        if shown != written:
            there = _as_written("model", fields["model"], event.raw)
            if event.raw.count(there) != 1:
                return
            self._there = there
            self._written = there.removesuffix(shown) + written
        self._learned = True

    def allow(self, passing: Passing) -> None:
        """Take note of what may leave unread from now on."""
        if self._learned and passing is not self.passing:
            self.passing = passing
            self._forms.clear()
            self._looks = 0

    def hand(self, events: bytes) -> bytes | None:
        """Count whole events of a known form and return what a client gets of them: the same object if nothing has to
        change. None if they are not of one, and then they are not counted.
        """
        for form in self._forms:
            if (out := form.takes(events, self._output)) is not None:
                return out
        return None

    def look(self, events: bytes) -> bytes | None:
        """Do the same for whole events of any form; None if they have to be read. Of events of one form the answer is
        the same for each.
        """
        if self.passing is _NOTHING:
            return None
        number = events.count(b"\n\n")
        if any(events.count(constant) != number for constant in self._constant):  # llama.cpp's `created` is a clock
            return None
        if not self._passes(events):
            without, number = _NO_KEY.subn(b':"-"', events)
            if not (number and self._passes(without)):
                return None
        if self._looks < _MOST_LOOKS:
            self._looks += 1
            self._know(events[: events.find(b"\n\n") + 2])
        self._output.add(events)
        return events if self._there is None else events.replace(self._there, self._written)

    def _passes(self, events: bytes) -> bool:
        if self.passing is _CONTENT and not holds_no_reasoning(events):
            return False
        if self.passing is _REASONING and not holds_only_reasoning(events):
            return False
        return is_plain(events)

    def _know(self, event: bytes) -> None:
        """Learn the form of an event, or what else may differ in one that is known."""
        keys = _KEYS[self.passing]
        for at, form in enumerate(self._forms):
            if (wider := form.widened(event, keys, _FIXED)) is not None:
                self._forms[at] = self._swapping(wider)
                return
        if (another := TextEvent.like(event, keys)) is not None:
            self._forms = [*self._forms, self._swapping(another)][-_MOST_FORMS:]

    def _swapping(self, form: TextEvent) -> TextEvent:
        if self._there is not None:
            form.swap(self._there, self._written)
        return form


def _as_written(name: str, value: Raw, event: bytes) -> bytes:
    """Return a field of the first chunk with its key, exactly as this provider writes them."""
    written = re.search(rb'"%b"\s*:\s*%b' % (name.encode(), re.escape(bytes(value))), event)
    return written[0] if written else b""
