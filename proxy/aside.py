"""Work on large bodies, beside the loop: one piece of work at a time, in a thread that gives way to the loop.

Python changes between threads only between two steps of its own: how long a single step may take is bounded where it is
taken (`wire/large_json.py`). What the work is, nobody here knows.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_T = TypeVar("_T")
_ONE: Final = 1
GIVE_WAY_SECONDS: Final = 0.0005
"""How long the loop waits for another thread between two of its steps, instead of Python's 5 ms: for this one, and for
the one that writes spans.
"""


class Aside:
    """One worker's thread for what would hold up everybody else. It is started when it is first needed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give results to `loop`. From now on every thread of the process gives way as soon as that one does."""
        self._loop = loop
        self._thread = ThreadPoolExecutor(_ONE, "large-bodies")
        sys.setswitchinterval(GIVE_WAY_SECONDS)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns, or raise what it raises; if nobody waits for it any more, it is done in vain."""
        return await self.start(work)

    def start(self, work: Callable[[], _T]) -> "asyncio.Future[_T]":
        """Begin some work; what comes of it comes in a future."""
        return self._loop.run_in_executor(self._thread, work)
