"""The JSON shapes that scripts read, whole and exact."""

from proxy.accounts import Account, ApiKey
from proxy.admin.accounts import AccountState
from proxy.admin.documents import (
    account_document,
    accounts_document,
    keys_document,
    minted_key_document,
    rfc3339,
    rotated_key_document,
    usd,
)
from proxy.admin.keys import MintedKey, RotatedKey
from proxy.limits import UNLIMITED, AccountUse, BudgetUse, Limit, Limits, LimitUse, Period

CREATED = 1_769_846_400_007
KEY = ApiKey("key_0123456789abcdef", "acme", "ci", "sk-aion-acme-…Ab3d", CREATED)


def test_an_account_with_everything():
    account = Account(
        "acme",
        "standard",
        disabled=True,
        version=4,
        created_ms=CREATED,
        overrides={"tokens_per_day": UNLIMITED, "requests_per_minute": 600, "budget_nusd": 25_000_000_000},
    )
    limits = Limits(requests_per_minute=600, concurrent_requests=2, budget_nusd=25_000_000_000, budget_per=Period.MONTH)
    use = AccountUse(
        limits={
            Limit.REQUESTS_PER_MINUTE: LimitUse(600, 1, 599, CREATED + 100),
            Limit.CONCURRENT_REQUESTS: LimitUse(2, 1, 1, None),
        },
        spent_nusd=120_000_001,
        held_nusd=1,
        budget_resets_ms=CREATED + 60_000,
        in_flight=1,
    )
    assert account_document(AccountState(account, "standard", limits, use)) == {
        "account": "acme",
        "plan": "standard",
        "plan_is_default": False,
        "disabled": True,
        "created": "2026-01-31T08:00:00.007Z",
        "limits": {
            "requests_per_minute": {
                "limit": 600,
                "used": 1,
                "remaining": 599,
                "resets_at": "2026-01-31T08:00:00.107Z",
            },
            "concurrent_requests": {"limit": 2, "used": 1, "remaining": 1, "resets_at": None},
        },
        "budget": {
            "limit_usd": "25",
            "spent_usd": "0.120000001",
            "held_usd": "0.000000001",
            "resets_at": "2026-01-31T08:01:00.007Z",
            "per": "month",
        },
        "more_budgets": [],
        "in_flight": 1,
        "overrides": {"requests_per_minute": 600, "tokens_per_day": None, "budget_usd": "25"},
        "problem": None,
    }


def test_an_account_with_nothing():
    state = AccountState(
        Account("acme", None, disabled=False, version=1, created_ms=CREATED),
        "unlimited",
        Limits(),
        AccountUse({}, spent_nusd=7, held_nusd=0, budget_resets_ms=None, in_flight=0),
    )
    document = account_document(state)
    assert document == {
        "account": "acme",
        "plan": "unlimited",
        "plan_is_default": True,
        "disabled": False,
        "created": "2026-01-31T08:00:00.007Z",
        "limits": {},
        "budget": None,
        "more_budgets": [],
        "in_flight": 0,
        "overrides": {},
        "problem": None,
    }
    assert accounts_document([state, state]) == {"accounts": [document, document]}


def test_what_is_held_stands_apart_from_what_is_used_and_every_budget_is_told():
    limits = Limits(tokens_per_day=1000, budget_nusd=10**10, more_budgets=((Period.DAY, 10**9),))
    use = AccountUse(
        limits={Limit.TOKENS_PER_DAY: LimitUse(1000, 30, 870, CREATED + 60_000, held=100)},
        spent_nusd=3,
        held_nusd=2,
        budget_resets_ms=None,
        in_flight=1,
        budgets=(BudgetUse(Period.TOTAL, 10**10, 3, None), BudgetUse(Period.DAY, 10**9, 1, CREATED + 60_000)),
    )
    account = Account("acme", None, disabled=False, version=1, created_ms=CREATED)
    document = account_document(AccountState(account, "standard", limits, use))
    midnight = "2026-01-31T08:01:00.007Z"
    assert document["limits"] == {
        "tokens_per_day": {"limit": 1000, "used": 30, "remaining": 870, "resets_at": midnight, "held": 100}
    }
    assert document["budget"] == {
        "limit_usd": "10", "spent_usd": "0.000000003", "held_usd": "0.000000002", "resets_at": None, "per": "total"
    }  # fmt: skip
    assert document["more_budgets"] == [
        {"limit_usd": "1", "spent_usd": "0.000000001", "resets_at": midnight, "per": "day"}
    ]


def test_the_budget_is_told_once_even_if_the_store_lists_it_among_the_limits():
    state = AccountState(
        Account("acme", None, disabled=False, version=1, created_ms=CREATED),
        "standard",
        Limits(budget_nusd=5),
        AccountUse({Limit.BUDGET: LimitUse(5, 0, 5, None)}, 0, 0, None, 0),
    )
    assert account_document(state)["limits"] == {}


def test_keys_are_listed_by_their_hints():
    used = ApiKey(
        "key_fedcba9876543210",
        "acme",
        "",
        "sk-aion-acme-…Zz9z",
        CREATED,
        expires_ms=CREATED + 1,
        revoked_ms=CREATED + 2,
        models=frozenset({"b", "a"}),
        last_used_ms=CREATED + 3,
    )
    assert keys_document([KEY, used]) == {
        "keys": [
            {
                "key_id": "key_0123456789abcdef",
                "account": "acme",
                "name": "ci",
                "hint": "sk-aion-acme-…Ab3d",
                "created": "2026-01-31T08:00:00.007Z",
                "expires": None,
                "revoked": None,
                "models": None,
                "last_used": None,
            },
            {
                "key_id": "key_fedcba9876543210",
                "account": "acme",
                "name": "",
                "hint": "sk-aion-acme-…Zz9z",
                "created": "2026-01-31T08:00:00.007Z",
                "expires": "2026-01-31T08:00:00.008Z",
                "revoked": "2026-01-31T08:00:00.009Z",
                "models": ["a", "b"],
                "last_used": "2026-01-31T08:00:00.010Z",
            },
        ]
    }


def test_a_new_key_is_told_with_the_key():
    minted = minted_key_document(MintedKey(KEY, "sk-aion-acme-secret"))
    assert minted == {
        "key_id": "key_0123456789abcdef",
        "account": "acme",
        "key": "sk-aion-acme-secret",
        "name": "ci",
        "expires": None,
        "models": None,
    }
    rotated = rotated_key_document(RotatedKey(MintedKey(KEY, "sk-aion-acme-secret"), KEY))
    assert rotated == {**minted, "replaces": keys_document([KEY])["keys"][0]}


def test_times_are_exact_to_the_millisecond_as_far_as_keys_live():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(4_102_444_799_999) == "2099-12-31T23:59:59.999Z"
    assert rfc3339(None) is None


def test_money_is_a_decimal_string_without_exponent():
    assert [usd(0), usd(1), usd(10**18)] == ["0", "0.000000001", "1000000000"]
