"""How often a wrong token may be tried: a few times a minute from one address, and not much oftener from all of them.

Only failures count, so that nobody who has a token is ever slowed down by their own work. The clock comes in.
"""

from collections.abc import Callable
from math import ceil
from typing import Final

PER_ADDRESS: Final = 10
FROM_ALL: Final = 200
WINDOW: Final = 60.0
"""Seconds."""
_MOST_ADDRESSES: Final = 10_000


class Attempts:
    """The failures of the last minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Count from zero; `clock` gives seconds."""
        self._clock = clock
        self._of: dict[str, list[float]] = {}
        self._all: list[float] = []

    def wait(self, address: str) -> int:
        """Return for how many seconds nothing more is tried from there; 0: it may be tried now."""
        now = self._clock()
        waits = [_wait(self._of.get(address, []), PER_ADDRESS, now), _wait(self._all, FROM_ALL, now)]
        return ceil(max(waits))

    def failed(self, address: str) -> None:
        """Count a wrong token."""
        since = self._clock() - WINDOW
        if len(self._of) >= _MOST_ADDRESSES:
            self._of = {other: times for other, times in self._of.items() if times[-1] > since}
        recent = [moment for moment in self._of.get(address, []) if moment > since]
        self._of[address] = [*recent, self._clock()][-PER_ADDRESS:]
        self._all = [*(moment for moment in self._all if moment > since), self._clock()][-FROM_ALL:]


def _wait(failures: list[float], most: int, now: float) -> float:
    """Until the oldest of the last `most` failures is a minute ago."""
    return 0.0 if len(failures) < most else max(0.0, failures[-most] + WINDOW - now)
