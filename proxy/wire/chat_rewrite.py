"""The chunks of a stream written anew, in the one form that every client can join: level 2.

Each event was parsed; here its texts go through the splitter of their choice, its tool calls are repaired, and there
is one chunk for each kind of output. Everything else of a choice goes along unread. Pure.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Raw, Struct

from proxy.wire import json
from proxy.wire.chat_answer import FAILED, finish_reason
from proxy.wire.chat_chunk import OUTPUT, index_of
from proxy.wire.chat_request import MAX_CHOICES
from proxy.wire.chat_text import says
from proxy.wire.json import Disguise, Malformed, RawObject
from proxy.wire.reasoning import FIELDS, Passing, ReasoningPlan, Splitter
from proxy.wire.tool_deltas import ToolDeltas, read_calls

_OWN: Final = frozenset({"index", "delta", "finish_reason"})
LOGPROBS: Final = "logprobs"
_NULL: Final = Raw(b"null")
_EMPTY: Final = Raw(b'""')
_ROLE: Final = Raw(b'"assistant"')
_NOTHING: Final = Passing.NOTHING

Delta = dict[str, object]
Choice = dict[str, object]


class Written(Struct, frozen=True):
    """What one event has become: choices, one for each chunk."""

    choices: list[Choice]
    speaks: bool
    """There is output among them."""
    finishes: bool
    """There is a finish reason among them."""
    failed: str | None
    """The finish reason, if it says that the provider failed."""


class Known:
    """What is remembered of one choice."""

    __slots__ = ("begun", "finished", "splitter", "tools")

    def __init__(self, plan: ReasoningPlan, new_id: Callable[[], str]) -> None:
        self.splitter = Splitter(plan)
        self.tools = ToolDeltas(new_id)
        self.begun = False
        self.finished: str | None = None
        """Its finish reason, once there is one."""

    def rest(self) -> list[Delta]:
        """Return what is held back, because nothing follows."""
        texts: list[Delta] = [{name: text} for name, text in self.splitter.end()]
        return texts + [{"tool_calls": [call]} for call in self.tools.end()]


class ChunkWriter:
    """Writes the choices of one stream's chunks, and remembers of each choice what was said."""

    __slots__ = ("_choices", "_new_id", "_plan", "_repairs")

    def __init__(self, plan: ReasoningPlan, new_id: Callable[[], str], *, repairs: bool) -> None:
        """Start before the first event; without `repairs` tool calls stay as they come."""
        self._plan = plan
        self._new_id = new_id
        self._repairs = repairs
        self._choices: dict[int, Known] = {}

    @property
    def begun(self) -> bool:
        """Tell whether any choice has been seen."""
        return bool(self._choices)

    @property
    def passing(self) -> Passing:
        """What of further events may leave unread; of several choices nothing, because each would have to be known."""
        if len(self._choices) != 1:
            return _NOTHING
        [known] = self._choices.values()
        return known.splitter.passing if known.tools.as_told else _NOTHING

    @property
    def reasoning_field(self) -> str | None:
        """The field in which the provider sent reasoning, if it did."""
        sources = (known.splitter.source for known in self._choices.values())
        return next((source for source in sources if source in FIELDS), None)

    @property
    def unfinished(self) -> list[int]:
        """The choices without a finish reason, in order."""
        return sorted(index for index, known in self._choices.items() if not known.finished)

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """The finish reasons that there are, in the order of their choices."""
        reasons = (self._choices[index].finished for index in sorted(self._choices))
        return tuple(reason for reason in reasons if reason is not None)

    @property
    def blockless(self) -> list[int]:
        """The choices in which no reasoning was found although it was looked for."""
        return [index for index, known in self._choices.items() if known.splitter.saw_no_block]

    def known(self, index: int) -> Known:
        """Return what is remembered of a choice that was seen."""
        return self._choices[index]

    def all_finished(self, choices: int) -> bool:
        """Tell whether as many choices as were asked for have been seen, and every one has its finish reason."""
        return len(self._choices) >= choices and all(known.finished for known in self._choices.values())

    def write(self, choices: list[RawObject], disguise: Disguise | None = None) -> Written:
        """Write the choices of one event anew; raises `Malformed` if they are not those of a chunk."""
        read = []
        for choice in choices:
            raw = choice.get("delta")
            delta = {} if raw is None or raw == _NULL else json.split_object(raw)
            index = index_of(choice)
            if index >= MAX_CHOICES:
                raise Malformed("a choice has a number that nobody can have asked for")
            calls = delta.pop("tool_calls", None)
            told = read_calls(calls, disguise) if self._repairs and calls is not None and says(calls) else None
            read.append((index, choice, delta, calls, told))
        # Nothing is malformed from here on, and only now is anything remembered.
        written: list[Choice] = []
        speaks, finishes, failed = False, False, None
        for index, choice, delta, calls, told in read:
            known = self._choices.get(index) or Known(self._plan, self._new_id)
            content = delta.get("content")
            called: list[Delta] | None = [{"tool_calls": calls}] if says(calls) else None
            if told is not None:
                called = [{"tool_calls": [call]} for call in known.tools.take(told)]
            deltas = _deltas(known, delta, called, disguise)
            reason = None if known.finished else _reason(choice)
            speaks = speaks or reason is not None or bool(deltas and not OUTPUT.isdisjoint(deltas[0]))
            if not known.begun:
                self._choices[index] = known
                known.begun = True
                deltas[:1] = [_first(deltas, content)]
            if reason in FAILED:
                failed, reason = reason, None
            if reason is not None:
                known.finished, finishes = reason, True
                deltas += known.rest()
            written += spread(choice, index, deltas, reason)
        return Written(written, speaks, finishes, failed)

    def finish(self, index: int, reason: str) -> list[Choice]:
        """Return the last chunks of a choice that ended without a finish reason."""
        known = self._choices[index]
        known.finished = reason
        return [*_flushed(index, known), {"index": index, "delta": {}, "finish_reason": reason}]

    def flush(self) -> list[Choice]:
        """Return what is held back, because the stream will not go on."""
        return [choice for index, known in self._choices.items() for choice in _flushed(index, known)]


def _deltas(known: Known, delta: RawObject, calls: list[Delta] | None, disguise: Disguise | None) -> list[Delta]:
    """Part what one delta says into deltas of one kind each; what is not known here goes with the first of them."""
    deltas: list[Delta] = [{name: text} for name, text in known.splitter.take(delta, disguise)]
    delta.pop("role", None)
    if not delta and calls is None:
        return deltas
    if (refusal := delta.pop("refusal", None)) is not None and says(refusal):
        deltas.append({"refusal": refusal})
    if calls is not None:
        deltas += [{name: text} for name, text in known.splitter.call()]
        deltas += calls
    others = {name: value for name, value in delta.items() if says(value)}
    if others:
        deltas[:1] = [{**deltas[0], **others} if deltas else {**others}]
    return deltas


def _first(deltas: list[Delta], content: Raw | None) -> Delta:
    """Put the role into the first delta of a choice; one that says nothing yet keeps its empty content."""
    if deltas:
        return {"role": _ROLE, **deltas[0]}
    if content is None:
        return {"role": _ROLE}
    return {"role": _ROLE, "content": _NULL if json.is_null(content) else _EMPTY}


def _reason(choice: RawObject) -> str | None:
    """Return the finish reason by its usual name; some servers send an empty one in every chunk."""
    raw = choice.get("finish_reason")
    if raw is None or raw == _NULL or not json.text_of(raw):
        return None
    return finish_reason(raw, has_tool_calls=False)


def spread(choice: RawObject, index: int, deltas: list[Delta], reason: str | None) -> list[Choice]:
    """Write a choice once for each delta and once for its finish reason."""
    if reason is None:
        if len(deltas) == 1:
            return [{**choice, "index": index, "delta": deltas[0], "finish_reason": None}]
        if not deltas and not any(says(value) for name, value in choice.items() if name not in _OWN):
            return []
    ends: list[tuple[Delta, str | None]] = [(delta, None) for delta in deltas]
    if reason is not None or not deltas:
        ends.append(({}, reason))
    return [
        {**_share(choice, at, len(ends) - 1), "index": index, "delta": delta, "finish_reason": end}
        for at, (delta, end) in enumerate(ends)
    ]


def _share(choice: RawObject, at: int, last: int) -> RawObject:
    """Return the fields of one of a choice's chunks, in their order: the first gets the log probabilities, because
    they belong to the text, and the last what else says anything.
    """
    return {
        name: _NULL if name == LOGPROBS and at else value
        for name, value in choice.items()
        if name in _OWN or name == LOGPROBS or at == last or not says(value)
    }


def _flushed(index: int, known: Known) -> list[Choice]:
    return [{"index": index, "delta": delta, "finish_reason": None} for delta in known.rest()]
