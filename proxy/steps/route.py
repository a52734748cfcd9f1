"""Targets of a model → the order in which they are tried. Pure: the dice are an argument."""

from collections.abc import Callable, Sequence

from proxy.call import Target


def route(targets: Sequence[Target], dice: Callable[[], float], *, native_only: bool = False) -> Sequence[Target]:
    """Order targets so that each comes first as often as its share of the weights; the others follow for failover.

    Those of weight 0 share no load: they come last, in the order of the file. `dice` returns numbers from 0 up to 1.
    `native_only` leaves out those that do not speak the Responses API themselves.
    """
    if native_only:
        targets = [target for target in targets if target.provider.native_responses]
    if len(targets) < 2:  # noqa: PLR2004
        return targets

    def drawn(target: Target) -> float:
        # The largest of u^(1/w) is a draw without replacement by weight (Efraimidis and Spirakis, 2006).
        weight = target.route.weight
        return dice() ** (1 / weight) if weight else -1.0

    return sorted(targets, key=drawn, reverse=True)
