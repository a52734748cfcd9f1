"""Chunks written without parsing, for events that repeat the form of one that was parsed: level 2 at a fraction of its
cost.

Such an event differs from that one in a text alone. The text goes through the machines of its choice as if it had
been parsed, and what they return is put into the frame of the chunk that the earlier event became. Pure.
"""

import re
from typing import Final

from msgspec import Raw

from proxy.wire import json
from proxy.wire.chat_chunk import event_of, index_of
from proxy.wire.chat_rewrite import ChunkWriter, Known
from proxy.wire.chat_text import decode_text, says
from proxy.wire.json import Malformed, RawObject
from proxy.wire.reasoning import Part
from proxy.wire.scan import OutputCounter
from proxy.wire.text_event import ARGUMENTS, CONTENT, REASONING, REASONING_CONTENT, TextEvent

_KEYS: Final = {
    "content": CONTENT,
    "reasoning": REASONING,
    "reasoning_content": REASONING_CONTENT,
    "tool_calls": ARGUMENTS,
}
_CALLS: Final = "tool_calls"
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape that may be half of a character: what is cut there has to be put together again."""
_OWN: Final = frozenset({"index", "delta"})
_SILENT: Final = frozenset({"index", "type", "function"})
_MOST_FRAMES: Final = 4
_MOST_LOOKS: Final = 32
"""How many frames are known at once, and how often another is looked for."""
_MOST_MISSES: Final = 8
"""In a row: then the frames are those of a part of the stream that is over, or of a server that repeats none."""
_HOLE: Final = b"\x00"
"""What no JSON holds, in the place of the text."""

Call = tuple[Raw | None, int]
"""The number that a provider gave to a tool call, if it did, and the one that clients know it by."""


class Frames:
    """The frames of one stream."""

    __slots__ = ("_frames", "_looks", "_misses", "_output")

    def __init__(self, output: OutputCounter) -> None:
        """Start before the first event; `output` gets what is written here."""
        self._output = output
        self._frames: list[_Frame] = []
        self._looks = 0
        self._misses = 0

    def learn(self, event: bytes, fields: RawObject, choices: list[RawObject], writer: ChunkWriter) -> None:
        """Take a frame from an event that was parsed and written by `writer` with these `fields` around, if it is of a
        kind that comes again.
        """
        if len(choices) != 1 or len(self._frames) >= _MOST_FRAMES or self._looks >= _MOST_LOOKS:
            return
        self._looks += 1
        choice = choices[0]
        if (frame := _frame(event, fields, choice, writer.known(index_of(choice)))) is not None:
            self._frames.append(frame)

    def write(self, piece: bytes) -> bytes | None:
        """Count a piece that is events of one known form, and return the chunks that they become; else None."""
        for frame in self._frames:
            if (texts := frame.form.texts(piece)) is not None:
                if (written := frame.write(texts)) is not None:
                    frame.form.count(piece, texts, self._output)
                self._misses = 0
                return written
        self._misses += 1
        if self._misses > _MOST_MISSES:
            self._frames.clear()
        return None


class _Frame:
    """One form of event; `name` is the key of its text in the delta, `call` the tool call whose arguments it is."""

    __slots__ = ("_call", "_choice", "_fields", "_halves", "_known", "_name", "form")

    def __init__(
        self, form: TextEvent, name: str, known: Known, call: Call | None, fields: RawObject, choice: RawObject
    ) -> None:
        self.form = form
        self._name = name
        self._known = known
        self._call = call
        self._fields = fields
        self._choice = choice
        self._halves: dict[str, tuple[bytes, bytes]] = {}

    def write(self, texts: list[bytes]) -> bytes | None:
        """Return the chunks of events with these texts; None if they have to be parsed."""
        if any(_HALF.search(text) for text in texts):
            return None
        values = [Raw(b'"%b"' % text) for text in texts]
        try:
            for value in values:
                decode_text(value)
        except Malformed:
            return None
        if self._call is not None and not self._known.tools.goes_on(*self._call):
            return None
        return b"".join([half for value in values for part in self._parts(value) for half in self._chunk(*part)])

    def _parts(self, value: Raw) -> list[Part]:
        if self._call is None:
            return self._known.splitter.take({self._name: value})
        return [*self._known.splitter.call(), (_CALLS, value)] if says(value) else []

    def _chunk(self, name: str, value: Raw) -> tuple[bytes, bytes, bytes]:
        if name not in self._halves:
            hole = Raw(_HOLE)
            delta: dict[str, object] = {name: hole}
            if self._call is not None and name == _CALLS:
                delta = {name: [{"index": self._call[1], "function": {"arguments": hole}}]}
            choice = {**self._choice, "index": index_of(self._choice), "delta": delta, "finish_reason": None}
            before, _, behind = event_of({**self._fields, "choices": [choice]}).partition(_HOLE)
            self._halves[name] = before, behind
        before, behind = self._halves[name]
        return before, bytes(value), behind


def _frame(event: bytes, fields: RawObject, choice: RawObject, known: Known) -> _Frame | None:
    """Take the frame of an event that says one thing and no more; None if it says something else."""
    delta = json.split_object(bytes(choice["delta"])) if says(choice.get("delta")) else {}
    said = [name for name, value in delta.items() if name != "role" and says(value)]
    if len(said) != 1 or said[0] not in _KEYS or any(says(choice[name]) for name in choice if name not in _OWN):
        return None
    [name] = said
    text: Raw | None = delta[name]
    call: Call | None = None
    if name == _CALLS:
        [one, *others] = json.split_list(delta[name])
        function = json.split_object(bytes(one["function"])) if says(one.get("function")) else {}
        text, last = function.pop("arguments", None), known.tools.last
        spoken = {key: value for key, value in {**one, **function}.items() if key not in _SILENT and says(value)}
        if others or spoken or last is None:
            return None
        call = one.get("index"), last
    form = TextEvent.like(event, _KEYS[name])
    if form is None or text is None or form.texts(event) != [bytes(text)[1:-1]]:
        return None
    return _Frame(form, name, known, call, fields, choice)
