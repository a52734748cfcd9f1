"""JSON of any allowed size, looked at piece by piece: what a body may hold, and how long its texts are.

One call of the decoder cannot be interrupted, so what such a call may meet is bounded here; whatever grows with the
size alone is done in windows, between which others can be served. Knows nothing of what a field means. Pure.
"""

from itertools import accumulate
from typing import Final

from msgspec import Raw

from proxy.wire import json
from proxy.wire.json import MAX_CONTAINERS, MAX_DEPTH, MAX_STRINGS, Malformed
from proxy.wire.json_windows import windows

LARGE: Final = 64 * 1024
"""Up to this size a body is read in one go; a larger one beside the loop."""
MAX_FIELDS: Final = 1_000
"""Of the body itself: each is kept by its name."""
MAX_VALUES: Final = 100_000
"""Commas between values."""
MAX_ESCAPES: Final = 2_000_000
MAX_CODES: Final = 1_000_000
r"""Of the escapes, those of the form `\u0000`: the decoder takes ten times as long for each as for a plain byte."""
MAX_AROUND: Final = 4 * 2**20
"""Bytes outside of strings: numbers, blanks, brackets."""
_PAIR: Final = b"\\\\"
_AS_STEPS: Final = bytes.maketrans(b"[{]},", b"\x01\x01\xff\xff\x00")
"""Brackets as signed bytes: one level up, one level down; a comma stays on its level."""
_NOT_STEPS: Final = bytes(byte for byte in range(256) if byte not in b"[]{},")
_COMMA: Final = b"\x00"


def check_body(body: bytes) -> None:
    """Raise `Malformed` for a body that nobody else may be sent, or that costs too much to read."""
    if len(body) <= LARGE:
        json.check_document(body)
    else:
        steps = _Count().steps(body)
        if json.steps_too_deep(steps.replace(_COMMA, b"")):
            raise Malformed(f"it is nested deeper than {MAX_DEPTH} levels")
        if _fields(steps) > MAX_FIELDS:
            raise Malformed(f"it has more than {MAX_FIELDS:,} fields")


def text_size(text: bytes | Raw) -> int:
    """Return the UTF-8 bytes of a JSON string that is decoded."""
    inside = memoryview(text)[1:-1]
    return sum(_size(window) for window in windows(bytes(inside)))


def _fields(steps: bytes) -> int:
    """Count the fields of the outermost object."""
    levels = accumulate(memoryview(steps).cast("b"))
    return 1 + sum(level == 1 for level, step in zip(levels, steps, strict=True) if not step)


def _size(window: bytes) -> int:
    if window.find(b"\\") < 0:
        return len(window)
    text = str(json.decode(b'"%b"' % window))
    return len(text) if text.isascii() else len(text.encode())


class _Count:
    """What a body holds, as far as it has been looked at."""

    __slots__ = ("_around", "_codes", "_escapes", "_inside", "_quotes", "_steps", "_values")

    def __init__(self) -> None:
        self._inside = False
        self._quotes = self._escapes = self._codes = self._values = self._around = self._steps = 0

    def steps(self, body: bytes) -> bytes:
        """Return the brackets and commas outside of strings as steps; raises `Malformed` as soon as there is too much
        of anything.
        """
        parts = []
        for window in windows(body):
            if not json.is_utf8(window):
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
        pieces = bare.replace(b'\\"', b"").split(b'"')
        around = b"".join(pieces[self._inside :: 2])
        self._quotes += len(pieces) - 1
        self._inside = bool(self._quotes % 2)
        steps = around.translate(_AS_STEPS, _NOT_STEPS)
        commas = steps.count(_COMMA)
        self._steps += len(steps) - commas
        self._around += len(around)
        self._values += commas
        self._bound()
        return steps

    def _bound(self) -> None:
        if self._quotes > 2 * MAX_STRINGS:
            raise Malformed(f"it holds more than {MAX_STRINGS:,} strings and names of fields")
        if self._steps > 2 * MAX_CONTAINERS:
            raise Malformed(f"it holds more than {MAX_CONTAINERS:,} lists and objects")
        if self._values > MAX_VALUES:
            raise Malformed(f"it holds more than {MAX_VALUES:,} values")
        if self._escapes > MAX_ESCAPES or self._codes > MAX_CODES:
            raise Malformed(
                f"it holds more than {MAX_ESCAPES:,} escaped characters, or {MAX_CODES:,} of the form \\u0000, where"
                " UTF-8 says the same"
            )
        if self._around > MAX_AROUND:
            raise Malformed(f"more than {MAX_AROUND:,} bytes of it are blanks, numbers and brackets")
