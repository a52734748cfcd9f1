"""How short memory is, and what that means: from two sizes to one of three states.

Values only: where the sizes come from is in `memory.py`, what a worker does about it in `worker.py`.
"""

from enum import IntEnum
from typing import Final

CALM_BELOW: Final = {1: 0.80, 2: 0.90}
"""A state is left only some way below the share at which it began, so that it does not come and go."""
BEGINS_AT: Final = {1: 0.85, 2: 0.95}


class Pressure(IntEnum):
    """The states, by what is done: nothing, refuse what is new, and cut what is stalled as well."""

    NONE = 0
    HIGH = 1
    CRITICAL = 2


def pressure(used: int, limit: int, before: Pressure) -> Pressure:
    """Return the state when `used` of `limit` bytes are taken and it was `before` at the last look."""
    share = used / limit
    now = max((Pressure(state) for state, start in BEGINS_AT.items() if share >= start), default=Pressure.NONE)
    while before > now and share < CALM_BELOW[before]:
        before = Pressure(before - 1)
    return max(now, before)
