"""What each ending costs: once, exactly, and never nothing for what was produced."""

import pytest

from proxy.call import Ending, Outcome
from proxy.errors import ErrorType, Fault
from proxy.steps.meter import meter
from proxy.usage import Usage, UsageSource
from specimens import PRICES, call, target

USED = Usage(prompt=70, completion=31, cached=64, reasoning=19)
FAULT = Fault(502, ErrorType.PROVIDER, "upstream_error", "failed")
NOTHING = (Usage(), UsageSource.NONE, 0)


def metered(ending: Ending, **fields):
    outcome = Outcome(**{"ending": ending, "target": target(), "attempts": 1, "reached": True, **fields})
    result = meter(call(), outcome)
    return result.usage, result.source, result.cost_pusd


ANSWERED = [
    Ending.COMPLETE, Ending.UPSTREAM_ERROR, Ending.UPSTREAM_TRUNCATED, Ending.CLIENT_GONE, Ending.CANCELLED,
]  # fmt: skip


@pytest.mark.parametrize("ending", ANSWERED)
def test_what_the_provider_told_is_billed_whatever_the_ending(ending):
    """6 prompt tokens, 64 cached ones, 31 of completion; the reasoning is among these."""
    cost = 6 * 800_000 + 64 * 200_000 + 31 * 1_600_000
    assert metered(ending, usage=USED, source=UsageSource.UPSTREAM) == (USED, UsageSource.UPSTREAM, cost)
    assert cost == 67_200_000


@pytest.mark.parametrize("ending", ANSWERED)
def test_what_was_estimated_is_billed_as_an_estimate(ending):
    assert metered(ending, usage=Usage(7, 4), source=UsageSource.ESTIMATED) == (
        Usage(7, 4),
        UsageSource.ESTIMATED,
        PRICES.cost(7, 0, 4),
    )


@pytest.mark.parametrize("ending", ANSWERED)
def test_a_provider_that_was_reached_is_paid_for_the_prompt_at_least(ending):
    """To leave just before the usage comes is no way to free tokens."""
    prompt = call().request.estimate_prompt()
    assert prompt > 0
    assert metered(ending) == (Usage(prompt, 0), UsageSource.ESTIMATED, PRICES.cost(prompt, 0, 0))


@pytest.mark.parametrize("ending", list(Ending))
def test_where_no_provider_began_nothing_is_billed(ending):
    assert metered(ending, reached=False, target=None) == NOTHING


@pytest.mark.parametrize("ending", [Ending.UPSTREAM_ERROR, Ending.CANCELLED])
def test_a_failure_before_the_first_byte_costs_nothing(ending):
    assert metered(ending, fault=FAULT, usage=USED, source=UsageSource.UPSTREAM) == NOTHING


def test_a_refusal_costs_nothing():
    assert metered(Ending.REFUSED, reached=False, fault=FAULT) == NOTHING
    assert metered(Ending.REFUSED) == NOTHING


def test_the_cost_is_a_whole_number():
    assert type(metered(Ending.COMPLETE, usage=USED, source=UsageSource.UPSTREAM)[2]) is int
