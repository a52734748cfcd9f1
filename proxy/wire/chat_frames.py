"""Chunks written without parsing, for events that repeat the form of one that was parsed: level 2 at a fraction of its
cost.

Such an event differs from that one in a text, and perhaps in single values that mean nothing here. The text goes
through the machines of its choice as if it had been parsed, and what they return is put into the frame of the chunk
that the earlier event became. Pure.
"""

from typing import Final

from msgspec import Raw

from proxy.wire import json
from proxy.wire.chat_chunk import HEAD, as_it_came, event_of, index_of
from proxy.wire.chat_rewrite import LOGPROBS, ChunkWriter, Delta, Known, spread
from proxy.wire.chat_text import is_text, says
from proxy.wire.json import RawObject
from proxy.wire.reasoning import Part, Passing
from proxy.wire.scan import OutputCounter
from proxy.wire.text_event import (
    ARGUMENTS,
    CONTENT,
    PROBABILITIES,
    REASONING,
    REASONING_CONTENT,
    TextEvent,
    Values,
)

_KEYS: Final = {
    "content": CONTENT,
    "reasoning": REASONING,
    "reasoning_content": REASONING_CONTENT,
    "tool_calls": ARGUMENTS,
}
_CALLS: Final = "tool_calls"
_CHOICES: Final = "choices"
_OWN: Final = frozenset({"index", "delta", LOGPROBS})
_SILENT: Final = frozenset({"index", "type", "function"})
_APART: Final = HEAD | {PROBABILITIES}
"""Places whose values are no fields of their own in what clients get."""
_MOST_FRAMES: Final = 4
_MOST_LOOKS: Final = 32
"""How many frames are known at once, and how often another is looked for."""
_NOTHING: Final = Passing.NOTHING
_HOLE: Final = Raw(b"\x00")
"""What no JSON holds, in the place of what differs."""

Framed = tuple[bytes, bytes, bool]
"""The chunks that events of one form became, events that were left, and whether others may leave unread now than did.
"""
Call = tuple[Raw | None, int]
"""The number that a provider gave to a tool call, if it did, and the one that clients know it by."""
Said = tuple[str, Call | None]
"""The key of the one thing that an event says, and the call if it is a call's arguments."""


class Frames:
    """The frames of one stream."""

    __slots__ = ("_anew", "_frames", "_looks", "_output")

    def __init__(self, output: OutputCounter, *, anew: bool) -> None:
        """Start before the first event; `output` gets what is written here. `anew` says that no event leaves as it
        came, not even if it differs in nothing but blanks.
        """
        self._output = output
        self._anew = anew
        self._frames: list[_Frame] = []
        self._looks = 0

    def learn(self, event: bytes, fields: RawObject, choices: list[RawObject], writer: ChunkWriter) -> None:
        """Take a frame from an event that was parsed and written by `writer` with these `fields` around, if it is of a
        kind that comes again; of two events that differ in single values alone, one frame for both.
        """
        if len(choices) != 1 or self._looks >= _MOST_LOOKS:
            return
        self._looks += 1
        choice = choices[0]
        known = writer.known(index_of(choice))
        if (said := _said(choice, known)) is None:
            return
        keys = _KEYS[said[0]]
        wider = [frame.form.widened(event, keys) for frame in self._frames]
        at = next((at for at, form in enumerate(wider) if form is not None), len(wider))
        varying = [PROBABILITIES] if says(choice.get(LOGPROBS)) else []
        form = TextEvent.like(event, keys, varying) if at == len(wider) else wider[at]
        if form is not None:
            anew = self._anew or json.compact(event[6:-2]) == event[6:-2]
            self._frames[at : at + 1] = [_Frame(form, said, known, fields, choice, anew=anew)]
            del self._frames[:-_MOST_FRAMES]

    def write(self, piece: bytes, passing: Passing, *, refused: bool = False) -> Framed | None:
        """Count a piece that is events of one known form, and return the chunks that they become; else None.

        Where some may leave unread, which `passing` says, it takes forms of which an event was `refused` that, as this
        one may have been: clients get what may leave unread as it came.
        """
        for frame in self._frames:
            if passing is not _NOTHING and not (refused or frame.refused is passing):
                continue
            found = frame.form.read(piece)
            if found is None or (written := frame.write(found)) is None:
                continue
            if refused and _APART.isdisjoint(frame.form.places):  # of those, some may be as clients have seen them
                frame.refused = passing
            chunks, number, changes = written
            size = len(piece) if number == len(found) else frame.form.size(found[:number])
            frame.form.count(piece[:size], found[:number], self._output)
            return chunks, piece[size:], changes
        return None


class _Frame:
    """One form of event, and what becomes of it."""

    __slots__ = (
        "_anew", "_call", "_choice", "_differing", "_fields", "_known", "_logprobs", "_name", "_shown", "_templates",
        "form", "refused",
    )  # fmt: skip

    def __init__(
        self, form: TextEvent, said: Said, known: Known, fields: RawObject, choice: RawObject, *, anew: bool
    ) -> None:
        self.form = form
        self.refused: Passing | None = None
        """An event of this form was found not to leave unread although this much may."""
        self._name, self._call = said
        self._known = known
        self._choice = choice
        self._anew = anew
        self._fields = fields
        self._differing = [
            (at, name)
            for at, name in enumerate(form.places, 1)
            if name is not None and name not in _APART and name in fields
        ]
        """The groups whose values clients get, and the fields that they belong to."""
        self._logprobs = form.group(PROBABILITIES)
        self._shown = sorted([form.text, *(at for at, _ in self._differing), *filter(None, [self._logprobs])])
        self._templates: dict[str, bytes] = {}

    def write(self, found: list[Values]) -> tuple[bytes, int, bool] | None:
        """Return the chunks of events in which this was found, and of how many: no more after one that changes what
        may leave unread, and whether one did. None if they have to be parsed.
        """
        if self._call is not None and not self._known.tools.goes_on(*self._call):
            return None
        splitter = self._known.splitter
        passing = splitter.passing
        out: list[bytes] = []
        for number, one in enumerate(found, 1):
            out += self._event(one)
            if splitter.passing is not passing:
                return b"".join(out), number, True
        return b"".join(out), len(found), False

    def _event(self, one: Values) -> list[bytes]:
        text, shown = self.form.text, self._shown
        parts = self._parts(Raw(b'"%b"' % one[text]))
        if self._logprobs and len(parts) != 1:
            return self._spread(one, parts)
        out = []
        for name, value in parts:
            template = self._templates.get(name) or self._template(name)
            values = value if len(shown) == 1 else tuple(value if at == text else one[at] for at in shown)
            out.append(template % values)
        return out if self._anew else [as_it_came(self.form.event(one), b"".join(out))]

    def _spread(self, one: Values, parts: list[Part]) -> list[bytes]:
        """Write an event of which none or several texts leave: its log probabilities go with the first, or alone."""
        quoted = {name: is_text(self._fields[name]) for _, name in self._differing}
        values = {name: Raw(b'"%b"' % one[at] if quoted[name] else one[at]) for at, name in self._differing}
        choice = {**self._choice, LOGPROBS: Raw(one[self._logprobs])}
        choices = spread(choice, index_of(choice), [self._delta(name, value) for name, value in parts], None)
        out = [event_of({**self._fields, **values, _CHOICES: [one]}) for one in choices]
        return out if self._anew else [as_it_came(self.form.event(one), b"".join(out))]

    def _parts(self, value: Raw) -> list[Part]:
        if self._call is None:
            return self._known.splitter.take({self._name: value})
        closing = self._known.splitter.call()
        return [*closing, (_CALLS, value)] if says(value) else closing

    def _template(self, name: str) -> bytes:
        """Return the chunk of an event that says one thing under this name, with a place for each that differs."""
        fields = {**self._fields, **{name: _hole(self._fields[name]) for _, name in self._differing}}
        choice = {**self._choice, "index": index_of(self._choice), "delta": self._delta(name, _HOLE)}
        if self._logprobs:
            choice[LOGPROBS] = _HOLE
        event = event_of({**fields, _CHOICES: [{**choice, "finish_reason": None}]})
        self._templates[name] = event.replace(b"%", b"%%").replace(bytes(_HOLE), b"%b")
        return self._templates[name]

    def _delta(self, name: str, value: Raw) -> Delta:
        if self._call is None or name != _CALLS:
            return {name: value}
        return {name: [{"index": self._call[1], "function": {"arguments": value}}]}


def _hole(value: Raw) -> Raw:
    """Leave a place for a value: of a text, for what is in it."""
    return Raw(b'"%b"' % _HOLE) if is_text(value) else _HOLE


def _said(choice: RawObject, known: Known) -> Said | None:
    """Return the one thing that a choice of an event says; None if it says something else."""
    delta = json.split_object(bytes(choice["delta"])) if says(choice.get("delta")) else {}
    said = [name for name, value in delta.items() if name != "role" and says(value)]
    if len(said) != 1 or said[0] not in _KEYS or any(says(choice[name]) for name in choice if name not in _OWN):
        return None
    [name] = said
    if name != _CALLS:
        return name, None
    if known.tools.last is None or len(calls := json.split_list(delta[name])) != 1:
        return None
    call = calls[0]
    function = json.split_object(bytes(call["function"])) if says(call.get("function")) else {}
    spoken = {key for key, value in {**call, **function}.items() if key not in _SILENT and says(value)}
    return (name, (call.get("index"), known.tools.last)) if spoken == {"arguments"} else None
