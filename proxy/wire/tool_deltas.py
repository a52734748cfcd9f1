"""The tool calls of one choice of a stream, from deltas as providers write them to the one form that clients can join.

A joining client appends text to text: an id, a type or a name that comes twice is doubled, and a function that is null
or a number that is missing is an error. Arguments stay the bytes that came. Pure.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Raw

from proxy.wire import json
from proxy.wire.chat_text import encode_text, is_text, says, written_out
from proxy.wire.json import Disguise, RawObject

_MOST_DIGITS: Final = 6
_OWN: Final = frozenset({"index", "id", "type", "function"})
_EMPTY: Final = Raw(b'""')

Call = dict[str, object]
Told = tuple[RawObject, RawObject]
"""A delta of a call as its provider wrote it, and the function in it."""


def read_calls(calls: Raw, disguise: Disguise | None = None) -> list[Told]:
    """Take the calls of a delta apart; raises `Malformed` for one that is no object, or whose function is none.

    The disguise comes off, because what waits for a name leaves with an event that wears another one, or none.
    """
    told = [
        (delta, _function(delta["function"], disguise) if says(delta.get("function")) else {})
        for delta in json.split_list(calls)
    ]
    if disguise is None:
        return told
    return [(disguise.take_off_each(delta), disguise.take_off_each(function)) for delta, function in told]


class _Begun:
    """One call: the id it came with, and, until its name has come, what will be sent of it then."""

    __slots__ = ("call_id", "early", "first")

    def __init__(self, call_id: str | None, first: Call) -> None:
        self.call_id = call_id
        self.first: Call | None = first
        self.early: list[Call] = []

    def begin(self) -> list[Call]:
        """Return what was kept, now that there is no more to wait for."""
        if self.first is None:
            return []
        out = [self.first, *self.early]
        self.first = None
        self.early = []
        return out


class ToolDeltas:
    """All calls of one choice: every delta gets its number, and every part of a call is said once."""

    __slots__ = ("_calls", "_new_id", "_numbers", "last")

    def __init__(self, new_id: Callable[[], str]) -> None:
        """Start before the first call; `new_id` makes the end of an id that is missing."""
        self._new_id = new_id
        self._calls: dict[int, _Begun] = {}
        self._numbers: dict[int, int] = {}
        self.last: int | None = None
        """The number of the call that came last."""

    @property
    def as_told(self) -> bool:
        """True while every call has the number that its provider gave it and nothing of it is kept: then a delta that
        has the right form may leave as it came.
        """
        if not self._calls:
            return True
        told = len(self._numbers) == len(self._calls) and all(index == at for index, at in self._numbers.items())
        return told and all(call.first is None for call in self._calls.values())

    def take(self, deltas: list[Told]) -> list[Call]:
        """Return the deltas that a client gets, one call each: of each call first `index`, `id`, `type` and `function`
        with the name and empty arguments, then `index` and `function.arguments`.
        """
        return [call for delta, function in deltas for call in self._one(delta, function)]

    def goes_on(self, told: Raw | None, number: int) -> bool:
        """Take note of a delta with arguments alone; False if the call that `told` means is not `number`, or has no
        name yet.
        """
        index = _index(told)
        now = self.last if index is None else self._numbers.get(index)
        if now != number or self._calls[number].first is not None:
            return False
        self.last = number
        return True

    def end(self) -> list[Call]:
        """Return the calls that never said their name, because the choice is over."""
        for call in self._calls.values():
            if call.first is not None and call.first["type"] == "function":
                call.first["function"] = {"name": "", "arguments": ""}
        return [made for call in self._calls.values() for made in call.begin()]

    def _one(self, delta: RawObject, function: RawObject) -> list[Call]:
        call_id, name = json.text_of(delta.get("id")), json.text_of(function.get("name"))
        number = self._number(delta.get("index"), call_id, name)
        rest: Call = {key: value for key, value in delta.items() if key not in _OWN and says(value)}
        call = self._calls.get(number)
        if call is None:
            first: Call = {
                "index": number,
                "id": delta["id"] if call_id else f"call_{self._new_id()}",
                "type": json.text_of(delta.get("type")) or "function",
                **rest,
            }
            call = self._calls[number] = _Begun(call_id, first)
            known, rest = bool(rest and not function), {}
        else:
            known = False
        further = [{"index": number, **rest, **arguments}] if (arguments := _arguments(function)) or rest else []
        if call.first is None:
            return further
        if name:
            others = {key: value for key, value in function.items() if key not in {"name", "arguments"}}
            call.first["function"] = {"name": function["name"], "arguments": "", **others}
        if name or known:
            return [*call.begin(), *further]
        call.early += further
        return []

    def _number(self, told: Raw | None, call_id: str | None, name: str | None) -> int:
        """Return the call's number. Servers that leave it out begin a call with a new id or a name; some use the same
        number for each call.
        """
        number = self.last
        if (index := _index(told)) is not None:
            number = self._numbers.get(index)
            if number is None:
                taken = index in self._calls and (name or self._is_other(index, call_id))
                number = self._next() if taken else index
            elif name and self._is_other(number, call_id):
                number = self._next()
            self._numbers[index] = number
        elif number is None or self._is_other(number, call_id) or (name and not call_id and self._is_named(number)):
            number = self._next()
        self.last = number
        return number

    def _is_other(self, number: int, call_id: str | None) -> bool:
        known = self._calls[number].call_id
        return bool(call_id and known and call_id != known)

    def _is_named(self, number: int) -> bool:
        return self._calls[number].first is None

    def _next(self) -> int:
        return max(self._calls, default=-1) + 1


def _index(told: Raw | None) -> int | None:
    digits = b"" if told is None else bytes(told)
    return int(digits) if digits.isdigit() and len(digits) <= _MOST_DIGITS else None


def _function(raw: Raw, disguise: Disguise | None) -> RawObject:
    """Take a function apart, its arguments as a text whatever they came as."""
    function = json.split_object(bytes(raw))
    if "arguments" in function and not is_text(function["arguments"]):
        function["arguments"] = encode_text(written_out(function["arguments"], disguise))
    return function


def _arguments(function: RawObject) -> Call:
    """Return what a delta adds to the arguments; nothing if it adds none."""
    raw = function.get("arguments", _EMPTY)
    return {} if bytes(raw) == b'""' else {"function": {"arguments": raw}}
