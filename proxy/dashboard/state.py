"""How the gateway is, for people and for the admin API alike: who is near a limit, where models run, what the metrics
say of store, ledger, journal and workers.

From values to values; what is asked of whom stands with the page and the API's operation.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.admin.accounts import AccountState
from proxy.catalog import Catalog
from proxy.dashboard.watching import Sample
from proxy.limits import Limit

NEAR: Final = 0.8
"""The share of a limit that is used or held from which on somebody is near it."""
_UP: Final = "aion_upstream_up"
_PASSED_OVER: Final = "aion_upstream_passed_over"
FIGURES: Final[Mapping[str, str]] = {
    "aion_workers": "workers that serve",
    "aion_worker_restarts": "workers that died and were replaced",
    "aion_gateways": "workers of all gateways on this store",
    "aion_in_flight_requests": "requests in flight",
    "aion_open_streams": "open streams",
    "aion_held_tokens": "tokens held by them",
    "aion_store_up": "workers that reach the store",
    "aion_local_admissions_total": "requests let in while it was away",
    "aion_ledger_rows_total": "rows written to the ledger since the start",
    "aion_ledger_lag_seconds": "oldest row not in the ledger, in seconds",
    "aion_ledger_set_aside_total": "rows that the ledger refuses",
    "aion_counter_corrections_total": "counters moved to what the ledger says",
    "aion_journal_bytes": "journal, in bytes",
    "aion_journal_writable": "journals that can be written",
    "aion_journal_damage_total": "places in journals that cannot be read",
    "aion_journal_disk_free_bytes": "room for the journal, in bytes",
}


@dataclass(frozen=True, slots=True)
class NearLimit:
    """Somebody by whom 0.8 or more of a limit is used or held."""

    account: str
    limit: str
    share: float


@dataclass(frozen=True, slots=True)
class RouteState:
    """Where a model runs; `up` null, or None: that provider was not asked yet."""

    model: str
    provider: str
    upstream_model: str
    weight: int
    up: bool | None
    passed_over: bool


def near_limits(states: Iterable[AccountState]) -> list[NearLimit]:
    """Return who is near a limit, the nearest first."""
    near = [one for state in states for one in _used(state) if one.share >= NEAR]
    return sorted(near, key=lambda one: (-one.share, one.account, one.limit))


def routes(catalog: Catalog, samples: Iterable[Sample]) -> list[RouteState]:
    """Return every route of the catalog in its order."""
    found = list(samples)
    up = {one.labels.get("provider", ""): bool(one.value) for one in found if one.name == _UP}
    passed = {one.labels.get("provider", "") for one in found if one.name == _PASSED_OVER and one.value}
    return [
        RouteState(
            model.id, route.provider, route.model, route.weight, up.get(route.provider), route.provider in passed
        )
        for model in catalog.models
        for route in model.routes
    ]


def figures(samples: Iterable[Sample]) -> dict[str, float]:
    """Add up each of `FIGURES` over all workers, in their order; one that nobody has told is absent."""
    found: dict[str, float] = {}
    for sample in samples:
        if sample.name in FIGURES:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return {name: found[name] for name in FIGURES if name in found}


def _used(state: AccountState) -> Iterator[NearLimit]:
    name = state.account.name
    for limit, use in state.use.limits.items():
        if limit is not Limit.BUDGET:
            yield NearLimit(name, limit.value, (use.used + use.held) / use.limit)
    held = state.use.held_nusd
    if state.limits.budget_nusd is not None:
        yield NearLimit(name, Limit.BUDGET.value, (state.use.spent_nusd + held) / state.limits.budget_nusd)
    for budget in state.use.budgets[1:]:
        yield NearLimit(name, f"budget per {budget.period}", (budget.spent_nusd + held) / budget.limit_nusd)
