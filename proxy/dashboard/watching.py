"""What the gateway's own metrics say for people: providers, the ledger's lag, and refusals over the last day.

Metrics count from the start of the gateway; what was counted a minute ago is kept here for a day, so that it can be
told when refusals came. It is gone with the process: bills never depend on it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from aiohttp import web

EVERY: Final = 60.0
_KEPT: Final = 24 * 60 + 1
REFUSED: Final = "aion_refused_total"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of the metrics page."""

    name: str
    labels: Mapping[str, str]
    value: float


ReadSamples = Callable[[], Iterable[Sample]]
"""Collects all metrics; blocks for some tens of milliseconds."""


class Watching:
    """The metrics now, and the refusals of the last day."""

    def __init__(self, read: ReadSamples, clock: Callable[[], float]) -> None:
        """Know nothing yet; `clock` gives Unix seconds."""
        self._read = read
        self._clock = clock
        self._refused: deque[tuple[float, dict[str, float]]] = deque(maxlen=_KEPT)

    async def samples(self) -> list[Sample]:
        """Return every number of the metrics page."""
        return await asyncio.get_running_loop().run_in_executor(None, lambda: list(self._read()))

    async def look(self) -> None:
        """Remember how often each limit has refused until now."""
        counted: dict[str, float] = {}
        for sample in await self.samples():
            if sample.name == REFUSED:
                reason = sample.labels.get("reason", "")
                counted[reason] = counted.get(reason, 0) + sample.value
        self._refused.append((self._clock(), counted))

    def refused_by_hour(self, hours: int = 24) -> list[tuple[int, int]]:
        """Return how many were refused in each of the last hours, with the Unix second at which it began."""
        this_hour = int(self._clock()) // 3_600 * 3_600
        by_hour = {this_hour - 3_600 * back: 0.0 for back in range(hours - 1, -1, -1)}
        looks = list(self._refused)
        for (_, before), (at, after) in pairwise(looks):
            hour = int(at) // 3_600 * 3_600
            if hour in by_hour:
                by_hour[hour] += sum(max(0.0, count - before.get(reason, 0)) for reason, count in after.items())
        return [(hour, round(count)) for hour, count in by_hour.items()]

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Look every minute, while the application is there."""
        task = asyncio.get_running_loop().create_task(self._run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(EVERY)
