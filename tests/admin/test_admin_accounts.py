"""What an operator can do with accounts, what is refused, and in which words."""

from dataclasses import replace

import pytest

from proxy.accounts import Account
from proxy.admin.accounts import Accounts, Changes, find_account
from proxy.admin.refused import OperationRefused, Reason
from proxy.errors import StoreUnavailable
from proxy.limits import UNLIMITED, Limit, Limits, Period
from tests.memory_stores import MemoryKeys, MemoryLimits

PLANS = {
    "standard": Limits(requests_per_minute=600, budget_nusd=25_000_000_000, budget_per=Period.MONTH),
    "free": Limits(requests_per_minute=6),
}
NOW = 1_700_000_000_000


@pytest.fixture
def records() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def accounts(records) -> Accounts:
    return Accounts(records, MemoryLimits(), PLANS, "standard")


async def refusal(operation) -> OperationRefused:
    with pytest.raises(OperationRefused) as refused:
        await operation
    assert "\n" not in refused.value.message
    return refused.value


async def test_a_new_account_follows_the_default_plan_whatever_it_becomes(accounts, records):
    state = await accounts.create("acme", None, now_ms=NOW)
    assert state.account == Account("acme", None, disabled=False, version=1, created_ms=NOW)
    assert (state.plan, state.limits) == ("standard", PLANS["standard"])
    later = await replace(accounts, default_plan="free").show("acme")
    assert (later.plan, later.limits) == ("free", PLANS["free"])


async def test_a_new_account_can_be_put_on_a_plan(accounts):
    state = await accounts.create("acme", "free", now_ms=NOW)
    assert (state.account.plan, state.limits) == ("free", PLANS["free"])


async def test_a_name_can_be_taken_once(accounts, records):
    await accounts.create("acme", None, now_ms=NOW)
    refused = await refusal(accounts.create("acme", "free", now_ms=NOW + 1))
    assert refused.reason is Reason.CONFLICT
    assert refused.message == "the account 'acme' exists already: `aion-proxy accounts show acme` shows it"
    assert records.by_name["acme"].created_ms == NOW


@pytest.mark.parametrize("name", ["", "Acme", "a-b", "_a", "a b", "a" * 33, "ä", "a\n"])
async def test_a_name_of_another_form_is_refused_with_the_form(accounts, records, name):
    refused = await refusal(accounts.create(name, None, now_ms=NOW))
    assert refused.reason is Reason.MALFORMED
    assert "use 1 to 32 of a-z, 0-9 and _" in refused.message
    assert not records.by_name


async def test_an_unknown_plan_is_refused_with_the_nearest(accounts, records):
    refused = await refusal(accounts.create("acme", "standart", now_ms=NOW))
    assert refused.reason is Reason.NOT_FOUND
    assert refused.message == "the configuration has no plan 'standart'; did you mean 'standard'?"
    assert not records.by_name


async def test_an_unknown_plan_with_nothing_near_is_refused_with_what_there_is(accounts):
    await accounts.create("acme", None, now_ms=NOW)
    refused = await refusal(accounts.change("acme", Changes(plan="zz")))
    assert refused.message == "the configuration has no plan 'zz'; known: free, standard"


async def test_an_account_that_does_not_exist_is_refused_with_the_remedy(accounts):
    await accounts.create("acme", None, now_ms=NOW)
    for operation in (
        accounts.show("acne"),
        accounts.disable("acne"),
        accounts.enable("acne"),
        accounts.change("acne", Changes(plan="free")),
    ):
        refused = await refusal(operation)
        assert refused.reason is Reason.NOT_FOUND
        assert refused.message == (
            "there is no account 'acne' (did you mean 'acme'?); make it with `aion-proxy accounts create acne`"
        )


async def test_a_name_that_no_account_can_have_is_not_looked_up(records):
    records.fail_on = {"account"}
    with pytest.raises(OperationRefused, match=r"there is no account 'a\\nb' \(there are none yet\)"):
        await find_account(records, "a\nb")


async def test_the_listing_has_every_account_by_name(accounts, records):
    for number in range(600):
        await accounts.create(f"a{599 - number:03}", None, now_ms=NOW)
    assert [state.account.name for state in await accounts.all()] == [f"a{number:03}" for number in range(600)]


async def test_a_change_alters_what_it_names_and_keeps_the_rest(accounts):
    await accounts.create("acme", "free", now_ms=NOW)
    await accounts.change("acme", Changes(overrides={"requests_per_minute": 5, "tokens_per_minute": UNLIMITED}))
    state = await accounts.change("acme", Changes(overrides={"concurrent_requests": 3}))
    assert state.account.plan == "free"
    assert state.account.overrides == {
        "requests_per_minute": 5,
        "tokens_per_minute": UNLIMITED,
        "concurrent_requests": 3,
    }
    assert state.limits == Limits(requests_per_minute=5, concurrent_requests=3)


async def test_an_override_can_be_taken_back(accounts):
    await accounts.create("acme", None, now_ms=NOW)
    await accounts.change("acme", Changes(overrides={"budget_nusd": 7, "budget_per": "day", "requests_per_minute": 1}))
    state = await accounts.change("acme", Changes(overrides={"budget_nusd": None, "budget_per": None}))
    assert state.account.overrides == {"requests_per_minute": 1}
    assert (state.limits.budget_nusd, state.limits.budget_per) == (25_000_000_000, Period.MONTH)


async def test_an_account_can_go_back_to_the_default_plan(accounts):
    await accounts.create("acme", "free", now_ms=NOW)
    state = await accounts.change("acme", Changes(default_plan=True))
    assert (state.account.plan, state.plan) == (None, "standard")


@pytest.mark.parametrize("overrides", [{"requests_per_minute": 0}, {"images": 3}, {"budget_per": "year"}])
async def test_an_override_that_no_gateway_could_read_is_not_stored(accounts, records, overrides):
    await accounts.create("acme", None, now_ms=NOW)
    assert (await refusal(accounts.change("acme", Changes(overrides=overrides)))).reason is Reason.MALFORMED
    assert records.by_name["acme"].overrides == {}


async def test_a_disabled_account_keeps_everything_and_can_be_enabled(accounts):
    created = await accounts.create("acme", "free", now_ms=NOW)
    disabled = await accounts.disable("acme")
    assert disabled.account == replace(created.account, disabled=True, version=2)
    assert (await accounts.enable("acme")).account == replace(created.account, version=3)


async def test_a_change_that_changes_nothing_makes_no_new_version(accounts):
    await accounts.create("acme", "free", now_ms=NOW)
    assert (await accounts.enable("acme")).account.version == 1
    assert (await accounts.change("acme", Changes(plan="free"))).account.version == 1


async def test_two_changes_at_the_same_moment_are_both_kept(accounts, records, monkeypatch):
    await accounts.create("acme", "standard", now_ms=NOW)
    read = records.account

    async def read_then_overtaken(name):
        account = await read(name)
        monkeypatch.setattr(records, "account", read)
        await accounts.disable("acme")
        return account

    monkeypatch.setattr(records, "account", read_then_overtaken)
    state = await accounts.change("acme", Changes(plan="free"))
    assert (state.account.plan, state.account.disabled) == ("free", True)


async def test_a_change_that_never_gets_through_ends_with_a_refusal(accounts, records, monkeypatch):
    async def overtaken(account):
        return replace(account, plan="standard", version=account.version + 1)

    await accounts.create("acme", "standard", now_ms=NOW)
    monkeypatch.setattr(records, "change_account", overtaken)
    assert (await refusal(accounts.change("acme", Changes(plan="free")))).reason is Reason.CONFLICT


async def test_an_account_on_a_plan_that_is_gone_is_shown_with_the_problem_and_can_be_mended(accounts):
    await accounts.create("acme", "free", now_ms=NOW)
    without = replace(accounts, plans={"standard": PLANS["standard"]})
    state = await without.show("acme")
    assert state.plan == "free"
    assert state.problem is not None
    assert "'free', which the configuration does not have" in state.problem
    assert [one.problem for one in await without.all()] == [state.problem]
    assert (await without.change("acme", Changes(plan="standard"))).problem is None


async def test_an_account_with_an_unreadable_override_is_shown_with_the_problem(accounts, records):
    await accounts.create("acme", None, now_ms=NOW)
    records.by_name["acme"] = replace(records.by_name["acme"], overrides={"requests_per_minute": "many"})
    state = await accounts.show("acme")
    assert (
        state.problem == "account 'acme' has requests_per_minute = 'many'; set it anew with `aion-proxy accounts set`"
    )
    mended = await accounts.change("acme", Changes(overrides={"requests_per_minute": 5}))
    assert mended.problem is None


async def test_an_account_that_vanished_meanwhile_is_refused(accounts, records, monkeypatch):
    async def gone(_account):
        return None

    await accounts.create("acme", None, now_ms=NOW)
    monkeypatch.setattr(records, "change_account", gone)
    assert (await refusal(accounts.disable("acme"))).reason is Reason.NOT_FOUND


async def test_what_was_used_is_what_the_limit_store_says(records):
    limits = MemoryLimits()
    limits.used, limits.in_flight = 4, 2
    state = await Accounts(records, limits, PLANS, "free").create("acme", None, now_ms=NOW)
    assert state.use.in_flight == 2
    assert state.use.limits[Limit.REQUESTS_PER_MINUTE].remaining == 2


async def test_a_store_that_is_away_is_told_as_it_is(accounts, records):
    records.fail_on = {"create_account"}
    with pytest.raises(StoreUnavailable):
        await accounts.create("acme", None, now_ms=NOW)
