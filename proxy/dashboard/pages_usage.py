"""The pages that read the ledger: the overview, single requests, files of them, and the audit log."""

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from proxy.admin.refused import OperationRefused, Reason
from proxy.admin.usage import named_group, total_of
from proxy.call import Ending
from proxy.dashboard.api_asks import ExportQuery
from proxy.dashboard.api_server import send_export
from proxy.dashboard.frame import Frame, Visit
from proxy.dashboard.looking import place_after, read_filter, read_place
from proxy.ledger.queries import By, Group, Selection, Sums
from proxy.ledger.requests import Filter
from proxy.ledger.schema import DAY_MS, HOUR_MS, beginning
from proxy.pricing import format_usd

_ON_A_PAGE: Final = 50
_MINUTE_MS: Final = 60_000
_MOST_GROUPS: Final = 50
_USD: Final = 10**12
# The beginning of a window is the beginning of an hour or a day, so that every point of its chart is a whole one.
_WINDOWS: Final[Mapping[str, tuple[int, int, By | None]]] = {
    "hour": (60 * _MINUTE_MS, _MINUTE_MS, None),
    "day": (24 * HOUR_MS, HOUR_MS, By.HOUR),
    "month": (30 * DAY_MS, DAY_MS, By.DAY),
}
_Point = tuple[int, str, float, str]


def usage_routes(frame: Frame) -> list[web.RouteDef]:
    """Return the routes."""
    return [
        web.get("/", frame.page(_overview)),
        web.get("/usage", frame.page(_requests)),
        web.get("/usage/export", frame.page(_export)),
        web.get("/usage/{request_id}", frame.page(_request)),
        web.get("/audit", frame.page(_audit)),
    ]


async def _overview(visit: Visit) -> web.Response:
    window = visit.query["window"] if visit.query["window"] in _WINDOWS else "day"
    length, step, scale = _WINDOWS[window]
    since = beginning(visit.frame.gate.desk.now_ms - length, step) + step
    chosen, looking = Selection(since=since), visit.looking
    by_model, by_account, over_time, quality = await asyncio.gather(
        looking.sums(chosen, [By.MODEL]),
        looking.sums(chosen, [By.ACCOUNT]),
        looking.sums(chosen, [] if scale is None else [scale]),
        looking.quality(Filter(since=since)),
    )
    moments = [] if scale is None else range(since, visit.frame.gate.desk.now_ms + 1, step)
    used = [(moment, over_time.get((moment,), Sums())) for moment in moments]
    return visit.show(
        "overview.html",
        "Overview",
        windows=list(_WINDOWS),
        window=window,
        total=total_of(by_model),
        quality=quality,
        by_model=_largest(by_model),
        by_account=_largest(by_account),
        requests_over_time=[_point(at, scale, sums.requests, f"{sums.requests:,}") for at, sums in used],
        cost_over_time=[_point(at, scale, sums.cost_pusd / _USD, format_usd(sums.cost_pusd)) for at, sums in used],
    )


def _largest(found: Mapping[Group, Sums]) -> list[tuple[Group, Sums]]:
    """Put what cost most first; of a thousand accounts nobody reads the last."""
    order = sorted(found.items(), key=lambda item: (-item[1].cost_pusd, -item[1].requests, item[0]))
    return order[:_MOST_GROUPS]


def _point(at: int, scale: By | None, value: float, shown: str) -> _Point:
    name = "" if scale is None else named_group([scale], (at,))[scale.value][: len("2026-01-31T08:00")]
    return at // 1_000, name.replace("T", " "), value, shown


async def _requests(visit: Visit) -> web.Response:
    query = visit.query
    known = {name: query[name] for name in ("account", "key_id", "model", "ending", "since", "until") if query[name]}
    found, wrong = [], None
    try:
        chosen = read_filter(visit.looking, known)
        found = await visit.looking.requests(chosen, _ON_A_PAGE, read_place(query["before"]))
    except OperationRefused as refused:
        if refused.reason is not Reason.MALFORMED:
            raise
        wrong = refused
    after = place_after(found, _ON_A_PAGE)
    operator = visit.me.is_operator
    accounts = [account.name for account in await visit.frame.gate.desk.records.accounts()] if operator else []
    export: dict[str, str] = {name: known[name] for name in ("account", "since", "until") if name in known}
    return visit.show(
        "usage.html",
        "Usage",
        refused=wrong,
        typed=query,
        accounts=accounts,
        models=[model.id for model in visit.catalog.models],
        endings=[ending.value for ending in Ending if ending is not Ending.REFUSED],
        requests=found,
        here_url=f"/usage?{urlencode(known)}",
        next_url=None if after is None else f"/usage?{urlencode({**known, 'before': after})}",
        export_url=f"/usage/export?{urlencode(export)}",
    )


async def _request(visit: Visit) -> web.Response:
    return visit.show("request.html", "Usage", row=await visit.looking.request(visit.request.match_info["request_id"]))


async def _export(visit: Visit) -> web.StreamResponse:
    try:
        query = msgspec.convert({name: value for name, value in visit.query.items() if value}, ExportQuery)
    except msgspec.ValidationError as wrong:
        raise OperationRefused(Reason.MALFORMED, f"{wrong}: follow a link of the usage page") from None
    looking = visit.looking
    times = (looking.moment(query.since, "since"), looking.moment(query.until, "until"))
    chosen = Selection(visit.me.scope(query.account), *times)
    return await send_export(visit.request, visit.frame.gate, chosen, query)


async def _audit(visit: Visit) -> web.Response:
    before = visit.query["before"]
    place = int(before) if before.isascii() and before.isdigit() and len(before) < len("9" * 18) else None
    entries = await visit.operations.audit(None, _ON_A_PAGE, place)
    older = entries[-1].at if len(entries) == _ON_A_PAGE else None
    return visit.show("audit.html", "Audit log", entries=entries, older=older)
