"""The pages about the gateway itself: its models and providers, its limits, and how it is."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from proxy import __version__
from proxy.admin.accounts import AccountState
from proxy.dashboard.configured import configured
from proxy.dashboard.frame import Frame, Visit
from proxy.dashboard.watching import REFUSED, Sample
from proxy.limits import Limit
from proxy.pricing import format_usd

_NEAR: Final = 0.8
_MILLION: Final = 1_000_000
_SHOWN: Final = 100
_TOLD: Final[Mapping[str, str]] = {
    "aion_store_up": "store is there (workers)",
    "aion_ledger_lag_seconds": "oldest row not in the ledger, in seconds",
    "aion_journal_bytes": "journal, in bytes",
    "aion_ledger_rows_total": "rows written to the ledger",
    "aion_in_flight_requests": "requests in flight",
    "aion_open_streams": "open streams",
    "aion_worker_restarts": "workers that died and were replaced",
    "aion_config_reload_success": "files on disk are in force (1: yes)",
}


def gateway_routes(frame: Frame) -> list[web.RouteDef]:
    """Return the routes."""
    return [
        web.get("/models", frame.page(_models)),
        web.get("/limits", frame.page(_limits)),
        web.get("/system", frame.page(_system)),
    ]


async def _models(visit: Visit) -> web.Response:
    up = {}
    if visit.me.is_operator:
        samples = await visit.frame.watching.samples()
        up = {
            sample.labels.get("provider", ""): sample.value for sample in samples if sample.name == "aion_upstream_up"
        }
    prices = {
        model.id: [
            "as prompt" if price is None else format_usd(price * _MILLION)
            for price in (model.prices.prompt, model.prices.input_cache_read, model.prices.completion)
        ]
        for model in visit.catalog.models
    }
    return visit.show("models.html", "Models", models=visit.catalog.models, prices=prices, up=up)


async def _limits(visit: Visit) -> web.Response:
    near = sorted(
        (
            (share, state.account.name, name)
            for state in await visit.operations.accounts()
            for name, share in _used(state)
        ),
        key=lambda line: (-line[0], line[1:]),
    )
    refusals: dict[str, int] = {}
    by_hour: list[tuple[int, int]] = []
    if visit.me.is_operator:
        for sample in await visit.frame.watching.samples():
            if sample.name == REFUSED and sample.value:
                reason = sample.labels.get("reason", "")
                refusals[reason] = refusals.get(reason, 0) + int(sample.value)
        by_hour = visit.frame.watching.refused_by_hour()
    return visit.show(
        "limits.html",
        "Limits",
        near=[line for line in near if line[0] >= _NEAR][:_SHOWN],
        refusals=sorted(refusals.items(), key=lambda item: (-item[1], item[0])),
        by_hour=[(at, visit.hour(at), count, f"{count:,}") for at, count in by_hour],
    )


def _used(state: AccountState) -> list[tuple[str, float]]:
    shares = [
        (limit.value, (use.used + use.held) / use.limit)
        for limit, use in state.use.limits.items()
        if limit is not Limit.BUDGET
    ]
    budget = state.limits.budget_nusd
    if budget is not None:
        shares.append((Limit.BUDGET.value, (state.use.spent_nusd + state.use.held_nusd) / budget))
    return [(name.replace("_", " "), share) for name, share in shares]


async def _system(visit: Visit) -> web.Response:
    visit.me.must_be_operator("see how the gateway is")
    ready, reasons = visit.frame.surroundings.readiness()
    return visit.show(
        "system.html",
        "System",
        version=__version__,
        ready=ready,
        reasons=reasons,
        told=_told(await visit.frame.watching.samples()),
        configured=configured(visit.settings),
    )


def _told(samples: list[Sample]) -> list[tuple[str, str]]:
    found: dict[str, float] = {}
    for sample in samples:
        if sample.name in _TOLD:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return [(words, f"{found[name]:,.10g}") for name, words in _TOLD.items() if name in found]
