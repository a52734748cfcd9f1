"""What accounts have left of their budgets, as the store last told: refreshed every few seconds, not by requests.

At most so many accounts as other families show, those with the least left first: they are the ones to look at.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from proxy.limits import AccountUse
from proxy.metrics import ACCOUNTS_SHOWN

_NUSD_PER_USD: Final = 10**9


class BudgetMetrics:
    """The families of budgets."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create them."""
        labels = ("account", "period")
        self._limit = Gauge("aion_budget_usd", "The budget.", labels, registry=registry)
        self._left = Gauge(
            "aion_budget_remaining_usd",
            "What is neither spent nor held of it; below zero when overdrawn.",
            labels,
            registry=registry,
        )
        self._shown: set[tuple[str, str]] = set()

    def show(self, uses: Iterable[tuple[str, AccountUse]]) -> None:
        """Show the budgets of these accounts and no others."""
        found = [
            (budget.limit_nusd - budget.spent_nusd - use.held_nusd, budget.limit_nusd, (account, budget.period.value))
            for account, use in uses
            for budget in use.budgets
        ]
        found.sort(key=lambda one: one[0] / max(one[1], 1))
        del found[ACCOUNTS_SHOWN:]
        for left, limit, labels in found:
            self._limit.labels(*labels).set(limit / _NUSD_PER_USD)
            self._left.labels(*labels).set(left / _NUSD_PER_USD)
        shown = {labels for _, _, labels in found}
        for labels in self._shown - shown:
            self._limit.remove(*labels)
            self._left.remove(*labels)
        self._shown = shown
