"""Which limits an account has: its plan's, and its own where it has one; and what happens when that cannot be known."""

import pytest

from proxy.accounts import Account
from proxy.limits import OVERRIDABLE, UNLIMITED, Limits, OnBudgetEnd, Period, UnknownPlan, limits_of, plan_of

PLAN = Limits(
    requests_per_minute=600,
    tokens_per_minute=200_000,
    concurrent_requests=32,
    tokens_per_day=5_000_000,
    budget_nusd=25_000_000_000,
    budget_per=Period.MONTH,
)


def account(plan: str | None = None, **overrides: int | str) -> Account:
    return Account("acme", plan, disabled=False, version=1, created_ms=0, overrides=overrides)


def test_without_overrides_the_plan_itself_is_returned():
    assert limits_of(account(), PLAN) is PLAN


@pytest.mark.parametrize("name", [name for name in OVERRIDABLE if name != "budget_per"])
def test_a_limit_of_its_own_replaces_the_plans_and_no_other(name):
    own = limits_of(account(**{name: 7}), PLAN)
    assert getattr(own, name) == 7
    assert {other: getattr(own, other) for other in OVERRIDABLE if other != name} == {
        other: getattr(PLAN, other) for other in OVERRIDABLE if other != name
    }


@pytest.mark.parametrize("name", [name for name in OVERRIDABLE if name != "budget_per"])
def test_a_limit_can_be_lifted_for_one_account(name):
    own = limits_of(account(**{name: UNLIMITED}), PLAN)
    assert getattr(own, name) is None
    assert sum(getattr(own, other) is None for other in OVERRIDABLE) == 1


def test_an_account_can_have_a_limit_where_its_plan_has_none():
    assert limits_of(account(concurrent_requests=2), Limits()) == Limits(concurrent_requests=2)


def test_a_budget_of_its_own_brings_its_own_period():
    own = limits_of(account(budget_nusd=5, budget_per="day"), PLAN)
    assert (own.budget_nusd, own.budget_per) == (5, Period.DAY)


@pytest.mark.parametrize(
    "overrides",
    [
        {"requests_per_minute": 0},
        {"tokens_per_minute": -1},
        {"concurrent_requests": "many"},
        {"tokens_per_day": "5"},
        {"budget_nusd": 0},
        {"budget_nusd": 5, "budget_per": "year"},
        {"images_per_minute": 5},
    ],
)
def test_an_override_that_cannot_be_read_is_an_error_and_never_a_lifted_limit(overrides):
    with pytest.raises(ValueError, match=r"acme|year"):
        limits_of(account(**overrides), PLAN)


def test_the_plan_of_an_account_is_its_own_or_else_the_default():
    plans = {"standard": PLAN, "free": Limits(requests_per_minute=1)}
    assert plan_of(account("free"), plans, "standard") is plans["free"]
    assert plan_of(account(), plans, "standard") is PLAN


def test_a_plan_that_the_configuration_no_longer_has_is_an_error_with_the_remedy():
    with pytest.raises(UnknownPlan) as refused:
        plan_of(account("gold"), {"standard": PLAN}, "standard")
    assert (refused.value.account, refused.value.plan) == ("acme", "gold")
    assert "accounts set acme --plan" in str(refused.value)


SEVERAL = Limits(
    budget_nusd=25,
    budget_per=Period.MONTH,
    more_budgets=((Period.DAY, 1),),
    on_budget_end=OnBudgetEnd.CUT,
)


def test_all_budgets_of_a_plan_are_those_of_its_accounts():
    assert SEVERAL.budgets == ((Period.MONTH, 25), (Period.DAY, 1))
    assert limits_of(account(requests_per_minute=1), SEVERAL).budgets == SEVERAL.budgets
    assert Limits().budgets == ()


@pytest.mark.parametrize(
    ("own", "budgets"),
    [({"budget_nusd": 7, "budget_per": "total"}, ((Period.TOTAL, 7),)), ({"budget_nusd": UNLIMITED}, ())],
)
def test_a_budget_of_its_own_takes_the_place_of_all_of_them(own, budgets):
    assert limits_of(account(**own), SEVERAL).budgets == budgets


def test_what_ends_a_stream_is_the_plans_word():
    assert limits_of(account(budget_nusd=7, budget_per="day"), SEVERAL).on_budget_end is OnBudgetEnd.CUT
