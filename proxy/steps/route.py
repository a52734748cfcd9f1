"""Targets of a model → the order in which they are tried: drawn by weight, without those that failed lately.

Pure: dice and time are arguments, and what is known of the targets is `provider_health.py`.
"""

from collections.abc import Callable, Sequence

from proxy.call import Call, Target
from proxy.provider_health import Health


def route(
    call: Call, targets: Sequence[Target], dice: Callable[[], float], health: Health, now: float
) -> Sequence[Target]:
    """Return the targets that may be asked, in their order; call it once for each request. A call that cannot be
    translated goes to those alone that speak the Responses API themselves.
    """
    if call.native_only:
        targets = [target for target in targets if target.provider.native_responses]
    return health.order(call.model.id, draw(targets, dice), now)


def draw(targets: Sequence[Target], dice: Callable[[], float]) -> Sequence[Target]:
    """Order targets so that each comes first as often as its share of the weights; the others follow for failover.

    Those of weight 0 share no load: they come last, in the order of the file. `dice` returns numbers from 0 up to 1.
    """
    if len(targets) < 2:  # noqa: PLR2004
        return targets

    def drawn(target: Target) -> float:
        # The largest of u^(1/w) is a draw without replacement by weight (Efraimidis and Spirakis, 2006).
        weight = target.route.weight
        return dice() ** (1 / weight) if weight else -1.0

    return sorted(targets, key=drawn, reverse=True)
