"""What JSON may hold, looked at before the decoder sees it: one call of that cannot be interrupted.

Small bodies are looked at in one go. Large ones are in windows, between which others can be served, and whatever would
make a single call of the decoder long is bounded. Knows nothing of what a field means. Pure.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from msgspec import Raw, Struct

from proxy.wire.json_windows import windows

LARGE: Final = 64 * 1024
"""Up to this size a body is read in one go; a larger one beside the loop."""
MAX_DEPTH: Final = 100
MAX_CONTAINERS: Final = 16_000
MAX_STRINGS: Final = 64_000
"""Bounds of what a body may hold, names of fields among the strings: beyond them, reading it would hold up everybody
else, and take many times its size. Long conversations with many tools have a tenth of it.
"""
MAX_FIELDS: Final = 1_000
"""Of the body itself, and of each object of an answer: every one is kept by its name."""
MAX_ITEMS: Final = 100_000
"""Of each list of an answer."""
MAX_VALUES: Final = 100_000
"""Commas between values."""
MAX_ESCAPES: Final = 2_000_000
MAX_CODES: Final = 1_000_000
r"""Of the escapes, those of the form `\u0000`: the decoder takes ten times as long for each as for a plain byte."""
MAX_AROUND: Final = 4 * 2**20
"""Bytes outside of strings: numbers, blanks, brackets."""
_PAIR: Final = b"\\\\"
_ESCAPED_QUOTE: Final = b'\\"'
"""To be taken out behind the pairs: what is left of it then is one."""
_OPENING: Final = b"[{"
_COMMA: Final = ord(",")
_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b"[]{},")
_NOT_BRACKETS: Final = _NOT_STRUCTURE + b","
# Brackets as signed bytes: one level up, one level down; a comma stays on its level.
_UP: Final = b"\x01"
_DOWN: Final = b"\xff"
_STAY: Final = b"\x00"
_AS_STEPS: Final = bytes.maketrans(b"[{]},", _UP + _UP + _DOWN + _DOWN + _STAY)
_PEELED: Final = 4
"""Levels of nesting that are taken off with a quick search before the rest is counted bracket by bracket."""


class Malformed(ValueError):  # noqa: N818 - what the bytes are
    """The bytes are not what JSON allows here; the text says why without quoting them."""


class _Bounds(Struct, frozen=True):
    containers: int
    strings: int
    values: int


_OF_BODIES: Final = _Bounds(MAX_CONTAINERS, MAX_STRINGS, MAX_VALUES)
_OF_ANSWERS: Final = _Bounds(250_000, 500_000, 600_000)
"""Room for five thousand tokens with the log probabilities of twenty others each, which nobody decodes."""


def check_body(body: bytes | Raw) -> None:
    """Raise `Malformed` for a body that nobody else may be sent, or that costs too much to read: nested too deep, of
    too many parts, or not in UTF-8.
    """
    if len(body) <= LARGE:
        steps = _steps(bytes(body))
        if steps:
            if len(steps) > 2 * MAX_CONTAINERS:
                raise Malformed(f"it holds more than {MAX_CONTAINERS:,} lists and objects")
            _check_depth(steps)
        if not is_utf8(bytes(body)):
            raise Malformed("it is not valid UTF-8")
    else:
        steps = _Count(_OF_BODIES).structure(bytes(body)).translate(_AS_STEPS)
        _check_depth(steps.replace(_STAY, b""))
        if _fields(steps) > MAX_FIELDS:
            raise Malformed(f"it has more than {MAX_FIELDS:,} fields")


def check_answer(body: bytes) -> None:
    """Raise `Malformed` for an answer, or an event of one, that is not in UTF-8, or that costs too much to take apart;
    no part of it that is `LARGE` may be decoded whole before it has been checked as a body.
    """
    if len(body) <= LARGE:
        if not is_utf8(body):
            raise Malformed("it is not valid UTF-8")
        return
    structure = _Count(_OF_ANSWERS).structure(body)
    _check_depth(structure.translate(_AS_STEPS, b","))
    for opening, commas in _widths(structure):
        if commas >= (MAX_FIELDS if opening == _OPENING[1] else MAX_ITEMS):
            raise Malformed(f"an object of it has more than {MAX_FIELDS:,} fields, or a list more than {MAX_ITEMS:,}")


def is_utf8(body: bytes) -> bool:
    """Tell whether bytes are UTF-8, as JSON that goes to somebody else has to be (RFC 8259, 8.1)."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def too_deep(body: bytes) -> bool:
    """Tell whether arrays and objects are nested deeper than `MAX_DEPTH`, in a time that grows with the size alone."""
    return _too_deep(_steps(body))


def _steps(body: bytes) -> bytes:
    """Return the brackets that stand outside of strings as steps up and down; none at all for so few that no bound on
    them can be passed.
    """
    if _few(body, b"[", MAX_DEPTH // 2) and _few(body, b"{", MAX_DEPTH // 2):
        return b""
    outside = body.replace(_PAIR, b"").replace(_ESCAPED_QUOTE, b"").split(b'"')[::2]
    return b"".join(outside).translate(_AS_STEPS, _NOT_BRACKETS)


def _few(body: bytes, character: bytes, most: int) -> bool:
    """Tell whether a character occurs at most so often. Where it is rare, as in text, replacing finds it many times
    faster than `count` does.
    """
    return len(body) - len(body.replace(character, b"", most + 1)) <= most


def _check_depth(steps: bytes) -> None:
    if _too_deep(steps):
        raise Malformed(f"it is nested deeper than {MAX_DEPTH} levels")


def _too_deep(steps: bytes) -> bool:
    """Tell it of brackets alone, as steps up and down."""
    if len(steps) <= MAX_DEPTH:
        return False
    for _ in range(_PEELED):
        steps = steps.replace(_UP + _DOWN, b"")  # one level less, everywhere
    left = MAX_DEPTH - _PEELED
    return _UP * (left + 1) in steps or max(accumulate(memoryview(steps).cast("b")), default=0) > left


def _fields(steps: bytes) -> int:
    """Count the fields of the outermost object."""
    levels = accumulate(memoryview(steps).cast("b"))
    return 1 + sum(level == 1 for level, step in zip(levels, steps, strict=True) if not step)


def _widths(structure: bytes) -> Iterator[tuple[int, int]]:
    """Yield of each list and object its opening bracket and how many commas stand between its values."""
    above: list[tuple[int, int]] = []
    opening = commas = 0
    for sign in structure:
        if sign == _COMMA:
            commas += 1
        elif sign in _OPENING:
            above.append((opening, commas))
            opening, commas = sign, 0
        else:
            yield opening, commas
            opening, commas = above.pop() if above else (0, 0)
    yield opening, commas


class _Count:
    """What a large body holds, as far as it has been looked at."""

    __slots__ = ("_around", "_bounds", "_codes", "_containers", "_escapes", "_inside", "_quotes", "_values")

    def __init__(self, bounds: _Bounds) -> None:
        self._bounds = bounds
        self._inside = False
        self._quotes = self._escapes = self._codes = self._values = self._around = self._containers = 0

    def structure(self, body: bytes) -> bytes:
        """Return the brackets and commas outside of strings; raises `Malformed` as soon as there is too much of
        anything.
        """
        parts = []
        for window in windows(body):
            if not is_utf8(window):
                raise Malformed("it is not valid UTF-8")
            if self._inside and window.find(b'"') < 0 and window.find(b"\\") < 0:
                continue
            parts.append(self._look(window))
        return b"".join(parts)

    def _look(self, window: bytes) -> bytes:
        # In this order: pairs of backslashes first, so that what is left of `\"` really is an escaped quote.
        bare = window.replace(_PAIR, b"")
        self._escapes += (len(window) - len(bare)) // 2 + bare.count(b"\\")
        self._codes += bare.count(b"\\u")
        pieces = bare.replace(_ESCAPED_QUOTE, b"").split(b'"')
        around = b"".join(pieces[self._inside :: 2])
        self._quotes += len(pieces) - 1
        self._inside = bool(self._quotes % 2)
        structure = around.translate(None, _NOT_STRUCTURE)
        commas = structure.count(_COMMA)
        self._containers += len(structure) - commas
        self._around += len(around)
        self._values += commas
        self._check()
        return structure

    def _check(self) -> None:
        bounds = self._bounds
        if self._quotes > 2 * bounds.strings:
            raise Malformed(f"it holds more than {bounds.strings:,} strings and names of fields")
        if self._containers > 2 * bounds.containers:
            raise Malformed(f"it holds more than {bounds.containers:,} lists and objects")
        if self._values > bounds.values:
            raise Malformed(f"it holds more than {bounds.values:,} values")
        if self._escapes > MAX_ESCAPES or self._codes > MAX_CODES:
            raise Malformed(
                f"it holds more than {MAX_ESCAPES:,} escaped characters, or {MAX_CODES:,} of the form \\u0000, where"
                " UTF-8 says the same"
            )
        if self._around > MAX_AROUND:
            raise Malformed(f"more than {MAX_AROUND:,} bytes of it are blanks, numbers and brackets")
