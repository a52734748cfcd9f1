"""One configuration in force, with everything that is made of it once: providers as they are called, plans, the model
listing.

Replaced whole on a reload; a request keeps the one it began with. Nothing here changes after it was made, but for a
memory of limits that were already computed.
"""

from collections.abc import Mapping
from typing import Final

from proxy.accounts import Account
from proxy.call import Target
from proxy.catalog import Model, models_body
from proxy.configuration import Configuration
from proxy.errors import Refusal
from proxy.limits import Limits, UnknownPlan, limits_of, plan_of
from proxy.providers import Provider
from proxy.refuse import no_plan
from proxy.upstream.providers import Upstream

LIMITS_KEPT: Final = 10_000


class Serving:
    """What requests are served by."""

    def __init__(self, configuration: Configuration, upstreams: Mapping[str, Upstream]) -> None:
        """Prepare what does not depend on a request."""
        self.settings = configuration.settings
        self.max_body = self.settings.server.max_body
        self.default_hold = self.settings.limits.default_hold
        self.catalog = configuration.catalog
        self.upstreams = upstreams
        self.targets = {model.id: _targets(model, self.settings.providers) for model in configuration.catalog.models}
        self.models_body = models_body(configuration.catalog)
        self._plans = self.settings.limits_by_plan()
        self._limits: dict[tuple[str, int], Limits] = {}

    def limits_of(self, account: Account) -> Limits:
        """Return the limits in force for an account. Raises `Refusal` if its plan is not in the configuration (any
        more).
        """
        limits = self._limits.get((account.name, account.version))
        if limits is None:
            try:
                limits = limits_of(account, plan_of(account, self._plans, self.settings.default_plan))
            except (UnknownPlan, ValueError):
                raise Refusal(no_plan()) from None
            if len(self._limits) >= LIMITS_KEPT:
                self._limits.clear()
            self._limits[account.name, account.version] = limits
        return limits


def _targets(model: Model, providers: Mapping[str, Provider]) -> tuple[Target, ...]:
    return tuple(Target(route, providers[route.provider]) for route in model.routes)
