"""Outcome → what was used and what it costs. Pure."""

from typing import Final

from proxy.call import UNUSED, Call, Ending, Metered, Outcome
from proxy.usage import UsageSource

_REFUSED: Final = Ending.REFUSED
"""As a name of this file: Python 3.11 looks the member of an enum up ten times as long (so in other files too)."""


def meter(call: Call, outcome: Outcome) -> Metered:
    """Price an outcome: nothing if no provider began, or if it failed before the first byte; else its usage, else the
    estimate.

    A client that leaves never gets for nothing what was produced for it: closing just before the usage would be a way
    to that.
    """
    if not outcome.reached or outcome.fault is not None or outcome.ending is _REFUSED:
        return UNUSED
    usage, source = outcome.usage, outcome.source
    if usage is None:
        usage, source = call.estimate(0), UsageSource.ESTIMATED
    return Metered(usage, source, call.model.prices.cost(usage.prompt, usage.cached, usage.completion))
