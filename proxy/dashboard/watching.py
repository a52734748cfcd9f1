"""What the gateway's own metrics say for people: providers, the ledger's lag, and refusals over the last day.

Metrics count from the start of the gateway; what was counted a minute ago is kept here for a day, so that it can be
told when refusals came. It is gone with the process: bills never depend on it.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from aiohttp import web

EVERY: Final = 60.0
_HOURS: Final = 24
_KEPT: Final = _HOURS * 60 + 1
REFUSED: Final = "aion_refused_total"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of the metrics page."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Refusals:
    """How often requests were refused, by reason."""

    since_start: Mapping[str, int]
    by_hour: Mapping[int, Mapping[str, int]]
    """By the Unix second at which an hour began: the last 24, the latest last."""


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
        self._refused.append((self._clock(), _refused(await self.samples())))

    async def refusals(self) -> "Refusals":
        """Say how often, and in which of the last hours, each limit has refused."""
        now = self._clock()
        counted = _refused(await self.samples())
        this_hour = int(now) // 3_600 * 3_600
        by_hour = {this_hour - 3_600 * back: Counter[str]() for back in range(_HOURS - 1, -1, -1)}
        for (_, before), (at, after) in pairwise([*self._refused, (now, counted)]):
            hour = int(at) // 3_600 * 3_600
            if hour in by_hour:
                by_hour[hour].update({reason: max(0, round(after[reason] - before.get(reason, 0))) for reason in after})
        hours = {hour: +counts for hour, counts in by_hour.items()}
        return Refusals({reason: round(count) for reason, count in counted.items() if count}, hours)

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


def _refused(samples: Iterable[Sample]) -> dict[str, float]:
    counted: dict[str, float] = {}
    for sample in samples:
        if sample.name == REFUSED:
            reason = sample.labels.get("reason", "")
            counted[reason] = counted.get(reason, 0) + sample.value
    return counted
