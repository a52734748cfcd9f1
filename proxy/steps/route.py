"""Targets of a model → the order in which they are tried. Pure: the dice are an argument."""

from collections.abc import Callable, Sequence

from proxy.call import Target


def route(targets: Sequence[Target], dice: Callable[[], float]) -> Sequence[Target]:
    """Order targets so that each comes first as often as its share of the weights; the others follow for failover.

    `dice` returns numbers from 0 up to 1.
    """
    if len(targets) < 2:  # noqa: PLR2004
        return targets
    # The largest of u^(1/w) is a draw without replacement by weight (Efraimidis and Spirakis, 2006).
    return sorted(targets, key=lambda target: dice() ** (1 / target.route.weight), reverse=True)
