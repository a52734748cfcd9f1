"""The pages about the gateway itself: its models and providers, its limits, and how it is."""

from math import isnan
from typing import Final

from aiohttp import web

from proxy import __version__
from proxy.admin.refused import OperationRefused
from proxy.admin.wording import date
from proxy.dashboard.configured import configured
from proxy.dashboard.frame import Frame, Visit
from proxy.dashboard.state import FIGURES, figures, near_limits, routes
from proxy.dashboard.watching import Refusals
from proxy.pricing import format_usd

_MILLION: Final = 1_000_000
_SHOWN: Final = 100
_LIMITS: Final = "Limits"
_SYSTEM: Final = "System"


def gateway_routes(frame: Frame) -> list[web.RouteDef]:
    """Return the routes."""
    return [
        web.get("/models", frame.page(_models)),
        web.get("/limits", frame.page(_limits)),
        web.get("/system", frame.page(_system)),
    ]


async def _models(visit: Visit) -> web.Response:
    samples = await visit.frame.watching.samples() if visit.me.is_operator else []
    prices = {
        model.id: [
            "as prompt" if price is None else format_usd(price * _MILLION)
            for price in (model.prices.prompt, model.prices.input_cache_read, model.prices.completion)
        ]
        for model in visit.catalog.models
    }
    found = routes(visit.catalog, samples)
    of_model = {model.id: [one for one in found if one.model == model.id] for model in visit.catalog.models}
    return visit.show("models.html", "Models", models=visit.catalog.models, prices=prices, routes=of_model)


async def _limits(visit: Visit) -> web.Response:
    near = near_limits(await visit.operations.accounts())
    if not visit.me.is_operator:
        return visit.show("limits.html", _LIMITS, near=near[:_SHOWN])
    refusals = await visit.frame.watching.refusals()
    return visit.show("limits.html", _LIMITS, near=near[:_SHOWN], reasons=_reasons(visit, refusals))


def _reasons(visit: Visit, refusals: Refusals) -> list[dict[str, object]]:
    """Tell of each reason how often it was in this hour, the last 24 and since the start, the most frequent first."""
    hours = list(refusals.by_hour.items())
    found = sorted(refusals.since_start.items(), key=lambda item: (-item[1], item[0]))
    return [
        {
            "name": reason.replace("_", " "),
            "this_hour": hours[-1][1].get(reason, 0),
            "day": sum(counts.get(reason, 0) for _, counts in hours),
            "since_start": count,
            "points": [(at, visit.hour(at), counts.get(reason, 0), counts.get(reason, 0)) for at, counts in hours],
        }
        for reason, count in found
    ]


async def _system(visit: Visit) -> web.Response:
    visit.me.must_be_operator("see how the gateway is")
    surroundings = visit.frame.surroundings
    ready, reasons = surroundings.readiness()
    reload = surroundings.last_reload()
    found = figures(await visit.frame.watching.samples())
    return visit.show(
        "system.html",
        _SYSTEM,
        version=__version__,
        ready=ready,
        reasons=reasons,
        ledger=await _ledger(visit),
        reload=reload,
        reload_at="" if reload is None else date(int(reload.at * 1_000), seconds=True),
        told=[(FIGURES[name], _number(value)) for name, value in found.items()],
        configured=configured(visit.settings),
    )


def _number(value: float) -> str:
    return f"{int(value):,}" if value.is_integer() else "not known" if isnan(value) else f"{value:,.4g}"


async def _ledger(visit: Visit) -> str:
    """Say why the ledger cannot be asked, if it cannot."""
    try:
        await visit.looking.count()
    except OperationRefused as refused:
        return refused.message
    return ""
