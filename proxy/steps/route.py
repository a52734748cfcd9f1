"""Call + catalog → targets in the order in which they are tried. Pure: the dice are an argument."""

from collections.abc import Callable, Mapping, Sequence

from proxy.call import Target
from proxy.catalog import Model
from proxy.providers import Provider


def route(model: Model, providers: Mapping[str, Provider], dice: Callable[[], float]) -> Sequence[Target]:
    """Order a model's routes so that each comes first as often as its share of the weights; the others follow for failover.

    `dice` returns numbers from 0 up to 1. A route whose provider does not exist (any more) is left out.
    """
    routes = [known for known in model.routes if known.provider in providers]
    if len(routes) > 1:
        # The k-th largest of u^(1/w) is a draw without replacement by weight (Efraimidis and Spirakis, 2006).
        drawn = {known: dice() ** (1 / known.weight) for known in routes}
        routes.sort(key=drawn.__getitem__, reverse=True)
    return [Target(known, providers[known.provider]) for known in routes]
