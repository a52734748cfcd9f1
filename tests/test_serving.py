"""What one configuration is made into, once, for all the requests that it serves."""

import json

import pytest

from proxy import serving
from proxy.configuration import load
from proxy.errors import ErrorType, Refusal
from proxy.limits import UNLIMITED, Limits, Period
from proxy.serving import Serving
from specimens import account

GATEWAY = """\
providers:
  one: {base_url: "http://127.0.0.1:1/v1"}
  two: {base_url: "http://127.0.0.1:2/v1"}
plans:
  small: {requests_per_minute: 10, budget: {usd: "1.00", per: day}}
  large: {requests_per_minute: 1000}
default_plan: small
"""
CATALOG = """\
models:
  - id: lab/model
    name: A model
    date: "2026-01-02"
    context_length: 10
    max_completion_tokens: 10
    pricing: {prompt: "0.000001", completion: "0.000002"}
    routes: [{provider: one, model: m1, weight: 3}, {provider: two, model: m2}]
"""
SMALL = Limits(requests_per_minute=10, budget_nusd=1_000_000_000, budget_per=Period.DAY)


@pytest.fixture
def served(tmp_path) -> Serving:
    (tmp_path / "gateway.yaml").write_text(GATEWAY)
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    return Serving(load(tmp_path / "gateway.yaml", {}), {})


def test_a_models_targets_are_its_routes_with_their_providers(served):
    found = [
        (target.route.provider, target.route.model, target.route.weight, target.provider.base_url)
        for target in served.targets["lab/model"]
    ]
    assert found == [("one", "m1", 3, "http://127.0.0.1:1/v1"), ("two", "m2", 1, "http://127.0.0.1:2/v1")]


def test_the_listing_is_ready(served):
    assert json.loads(served.models_body)["data"][0]["id"] == "lab/model"


def test_an_account_without_a_plan_is_on_the_default_one(served):
    assert served.limits_of(account()) == SMALL


def test_an_account_has_its_plan(served):
    assert served.limits_of(account(plan="large")) == Limits(requests_per_minute=1000)


def test_an_accounts_own_limits_replace_its_plans(served):
    own = account(overrides={"requests_per_minute": 7, "budget_nusd": UNLIMITED})
    found = served.limits_of(own)
    assert (found.requests_per_minute, found.budget_nusd) == (7, None)


def test_an_account_that_changed_is_looked_at_again(served):
    assert served.limits_of(account(version=1)) == SMALL
    assert served.limits_of(account(version=2, plan="large")).requests_per_minute == 1000
    assert served.limits_of(account(version=1)) is served.limits_of(account(version=1))


@pytest.mark.parametrize(
    "unknown", [{"plan": "gone"}, {"overrides": {"requests_per_minute": "many"}}, {"overrides": {"new_limit": 1}}]
)
def test_an_account_whose_limits_cannot_be_told_is_refused_and_never_unlimited(served, unknown):
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            served.limits_of(account(**unknown))
        fault = refused.value.fault
        assert (fault.status, fault.type, fault.code) == (400, ErrorType.CONFIGURATION, "unknown_plan")
        assert "gone" not in fault.message


def test_what_is_kept_of_accounts_is_bounded(served, monkeypatch):
    monkeypatch.setattr(serving, "LIMITS_KEPT", 10)
    for number in range(100):
        assert served.limits_of(account(f"a{number}")) == SMALL
        assert len(served._limits) <= 10
