"""What the overview shows of the last hour, day or month: sums, how requests went, and points of time between.

Questions only; the page and the admin API show the same answer, each in its way.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.admin.documents import Document, rfc3339
from proxy.admin.usage import sums_document, total_of
from proxy.dashboard.looking import LATEST, Looking
from proxy.ledger.queries import By, Group, Selection, Sums
from proxy.ledger.requests import Filter, Quality
from proxy.ledger.schema import DAY_MS, HOUR_MS, beginning
from proxy.pricing import format_usd

_MINUTE_MS: Final = 60_000
_MOST_GROUPS: Final = 50
# The beginning of a window is the beginning of a minute, an hour or a day: every point between is a whole one.
_WINDOWS: Final[Mapping[str, tuple[int, int, By | None]]] = {
    "hour": (60 * _MINUTE_MS, _MINUTE_MS, None),
    "day": (24 * HOUR_MS, HOUR_MS, By.HOUR),
    "month": (30 * DAY_MS, DAY_MS, By.DAY),
}
WINDOWS: Final = tuple(_WINDOWS)
USUAL: Final = "day"


@dataclass(frozen=True, slots=True)
class Line:
    """One model or account."""

    name: str
    used: Sums
    quality: Quality
    """Of the latest requests of all; nothing if none of them is among those."""


@dataclass(frozen=True, slots=True)
class Point:
    """One minute, hour or day, by the Unix ms of its beginning."""

    at: int
    requests: int
    cost_pusd: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything of one window; groups by their cost, the largest first, and not all of very many."""

    window: str
    total: Sums
    quality: Quality
    by_model: list[Line]
    by_account: list[Line]
    points: list[Point]


async def overview(looking: Looking, window: str) -> Overview:
    """Look at the last `window`, one of `WINDOWS`."""
    length, step, scale = _WINDOWS[window]
    now_ms = looking.operations.desk.now_ms
    since = beginning(now_ms - length, step) + step
    chosen = Selection(since=since)
    by_model, by_account, points, qualities = await asyncio.gather(
        looking.sums(chosen, [By.MODEL]),
        looking.sums(chosen, [By.ACCOUNT]),
        _points(looking, chosen, since, scale),
        looking.quality(Filter(since=since)),
    )
    nothing = Point(0, 0, 0)
    found = [(at, points.get(at, nothing)) for at in range(since, now_ms + 1, step)]
    return Overview(
        window,
        total_of(by_model),
        qualities.together,
        _lines(by_model, qualities.by_model),
        _lines(by_account, qualities.by_account),
        [Point(at, point.requests, point.cost_pusd) for at, point in found],
    )


def overview_document(shown: Overview) -> Document:
    """Describe it."""
    return {
        "window": shown.window,
        "total": {**sums_document(shown.total), **_quality_document(shown.quality)},
        "of_latest": LATEST,
        "by_model": [_line_document("model", line) for line in shown.by_model],
        "by_account": [_line_document("account", line) for line in shown.by_account],
        "points": [
            {"at": rfc3339(point.at), "requests": point.requests, "cost_usd": format_usd(point.cost_pusd)}
            for point in shown.points
        ],
    }


async def _points(looking: Looking, chosen: Selection, since: int, scale: By | None) -> dict[int, Point]:
    if scale is None:
        minutes = await looking.by_minute(since)
        return {at: Point(at, minute.requests, minute.cost_pusd) for at, minute in minutes.items()}
    sums = await looking.sums(chosen, [scale])
    return {int(at): Point(int(at), used.requests, used.cost_pusd) for (at,), used in sums.items()}


def _lines(found: Mapping[Group, Sums], qualities: Mapping[str, Quality]) -> list[Line]:
    """Put what cost most first; of a thousand accounts nobody reads the last."""
    order = sorted(found.items(), key=lambda item: (-item[1].cost_pusd, -item[1].requests, item[0]))
    return [Line(str(name), used, qualities.get(str(name), Quality())) for (name,), used in order[:_MOST_GROUPS]]


def _line_document(what: str, line: Line) -> Document:
    return {what: line.name, **sums_document(line.used), **_quality_document(line.quality)}


def _quality_document(quality: Quality) -> Document:
    return {"looked_at": quality.requests, "failed": quality.failed, "ttft_ms": quality.ttft_ms}
