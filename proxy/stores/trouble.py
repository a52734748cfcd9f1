"""What is said about a store that is away: why, again when the reason is another, and never often.

Deciding when to speak, and nothing else; the words come from those who met the trouble.
"""

from collections.abc import Callable
from typing import Final

OnTrouble = Callable[[str], None]

APART: Final = 1.0
"""Seconds between two complaints: a log is read by people."""


class Trouble:
    """Passes reasons on to `told`, each once until the trouble is over, and no two within a second."""

    def __init__(self, told: OnTrouble | None) -> None:
        """Tell `told`, if there is anybody."""
        self._told = told
        self._last = ""
        self._last_at = float("-inf")

    def is_because(self, reason: str, now: float) -> None:
        """Say why the store is away at this moment; a reason that comes too soon is dropped, and may come again."""
        if self._told is not None and reason != self._last and now - self._last_at >= APART:
            self._last, self._last_at = reason, now
            self._told(reason)

    def is_over(self) -> None:
        """Forget the reason: if it comes again, it is news."""
        self._last = ""
