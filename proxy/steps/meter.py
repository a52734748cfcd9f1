"""Outcome → what was used and what it costs. Pure."""

from proxy.call import Call, Ending, Metered, Outcome
from proxy.usage import Usage, UsageSource


def meter(call: Call, outcome: Outcome) -> Metered:
    """Price an outcome: nothing if no provider began, or if it failed before the first byte; else its usage, else the
    estimate.

    A client that leaves never gets for nothing what was produced for it: closing just before the usage would be a way
    to that.
    """
    if not outcome.reached or outcome.fault is not None or outcome.ending is Ending.REFUSED:
        return Metered(Usage(), UsageSource.NONE, 0)
    usage, source = outcome.usage, outcome.source
    if usage is None:
        usage, source = call.estimate(0), UsageSource.ESTIMATED
    return Metered(usage, source, call.model.prices.cost(usage.prompt, usage.cached, usage.completion))
