"""How an operation says no: a reason from a closed set, and one sentence with the remedy.

Only the refusal and the wording that all operations share; what is refused, and when, stands with the operation.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

_SHOWN: Final = 8
"""Known names listed when none is near: enough to recognise a small configuration, one line even in a large one."""


class Reason(StrEnum):
    """Why an operation was refused, for whoever turns it into an exit code or a status."""

    MALFORMED = "malformed"
    """What was asked is wrong in itself, whatever is stored."""
    NOT_FOUND = "not_found"
    """It names something that does not exist."""
    FORBIDDEN = "forbidden"
    """Whoever asks may not do it."""
    CONFLICT = "conflict"
    """It contradicts what is stored now."""
    UNAVAILABLE = "unavailable"
    """What it needs cannot be had."""


class OperationRefused(Exception):  # noqa: N818 - a refusal is an answer, not a malfunction
    """Nothing was changed, or the message says what was; the message is one line and holds no secret."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the part of a sentence that offers the known names nearest to `name`, or else some known names."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3)
    if near:
        return f"did you mean {_either(near)}?"
    if not names:
        return "there are none yet"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"known: {', '.join(names[:_SHOWN])}{more}"


def _either(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
