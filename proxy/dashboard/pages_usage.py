"""The pages that read the ledger: the overview, single requests, files of them, and the audit log."""

from typing import Final
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from proxy.admin.refused import OperationRefused, Reason
from proxy.call import Ending
from proxy.dashboard.api_asks import ExportQuery
from proxy.dashboard.api_server import send_export
from proxy.dashboard.frame import Frame, Visit
from proxy.dashboard.looking import audit_after, place_after, read_audit_place, read_filter, read_place
from proxy.dashboard.overview import USUAL, WINDOWS, overview
from proxy.pricing import Prices, format_usd
from proxy.usage_record import UsageRecord

_ON_A_PAGE: Final = 50
_USD: Final = 10**12


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
    window = visit.query["window"] if visit.query["window"] in WINDOWS else USUAL
    shown = await overview(visit.looking, window)
    points = [(point.at // 1_000, visit.hour(point.at // 1_000), point) for point in shown.points]
    return visit.show(
        "overview.html",
        "Overview",
        windows=WINDOWS,
        shown=shown,
        requests_over_time=[(at, name, one.requests, f"{one.requests:,}") for at, name, one in points],
        cost_over_time=[(at, name, one.cost_pusd / _USD, format_usd(one.cost_pusd)) for at, name, one in points],
    )


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
        export_url=f"/usage/export?{urlencode(known)}",
    )


async def _request(visit: Visit) -> web.Response:
    row = await visit.looking.request(visit.request.match_info["request_id"])
    streamed_ms = 0 if row.ttft_ms is None else row.duration_ms - row.ttft_ms
    speed = f"{row.completion_tokens * 1_000 / streamed_ms:,.0f}" if streamed_ms > 0 else ""
    return visit.show("request.html", "Usage", row=row, costs=_costs(row), speed=speed)


def _costs(row: UsageRecord) -> list[tuple[str, int, str, str]]:
    """Take a cost apart: each kind of tokens with its price and what it came to."""
    prices = Prices.parse(row.price_prompt, row.price_completion, row.price_input_cache_read)
    parts = (
        ("prompt, not cached", row.prompt_tokens - row.cached_tokens, row.price_prompt, (1, 0, 0)),
        ("prompt, cached", row.cached_tokens, row.price_input_cache_read or row.price_prompt, (1, 1, 0)),
        ("completion", row.completion_tokens, row.price_completion, (0, 0, 1)),
    )
    return [
        (kind, tokens, price, format_usd(prices.cost(*(tokens * one for one in counts))))
        for kind, tokens, price, counts in parts
    ]


async def _export(visit: Visit) -> web.StreamResponse:
    try:
        query = msgspec.convert({name: value for name, value in visit.query.items() if value}, ExportQuery)
    except msgspec.ValidationError as wrong:
        raise OperationRefused(Reason.MALFORMED, f"{wrong}: follow a link of the usage page") from None
    return await send_export(visit.request, visit.looking, query)


async def _audit(visit: Visit) -> web.Response:
    before = visit.query["before"]
    entries = await visit.operations.audit(None, _ON_A_PAGE, read_audit_place(before))
    older = audit_after(entries, _ON_A_PAGE)
    return visit.show("audit.html", "Audit log", entries=entries, older=older, before=before)
