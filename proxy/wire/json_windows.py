"""A text of JSON in pieces, none of which takes long to look at, and each of which can be decoded for itself.

What is looked for in them is not known here. Pure.
"""

import re
from collections.abc import Iterator
from typing import Final

WINDOW: Final = 256 * 1024
_LONGEST_ESCAPE: Final = 12
"""Bytes of a surrogate pair."""
_ESCAPE: Final = 6
_LONGEST_CHARACTER: Final = 4
_HIGH: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_CONTINUES: Final = range(0x80, 0xC0)


def windows(body: bytes) -> Iterator[bytes]:
    """Yield a text in pieces of at most `WINDOW` bytes, cut between characters: no escape of JSON and no surrogate pair
    is taken apart.
    """
    begin = 0
    while len(body) - begin > WINDOW:
        end = begin + WINDOW
        while end > begin + WINDOW - _LONGEST_CHARACTER and body[end] in _CONTINUES:
            end -= 1
        window = body[begin:end]
        window = window[: _before_escape(window)]
        begin += len(window)
        yield window
    yield body[begin:]


def is_even(text: bytes) -> bool:
    """Tell whether the backslashes at the end of a text are pairs: then none escapes what follows."""
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 0


def _before_escape(window: bytes) -> int:
    """Return where the last escape begins if it may go on behind the window, else where the window ends."""
    at = window.rfind(b"\\", len(window) - _LONGEST_ESCAPE)
    if at < 0 or not is_even(window[:at]):
        return len(window)
    pair = at - _ESCAPE
    return pair if _HIGH.fullmatch(window, pair, at) and is_even(window[:pair]) else at
