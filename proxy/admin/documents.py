"""The JSON documents that describe accounts and keys, the same for the command's `--json` and the admin API.

Shapes only: keys may be added here and never renamed, because scripts read them. Money is a decimal string of US
dollars, a time is RFC 3339 in UTC with milliseconds. Of a key only the hint, except in the document of one just made.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from proxy.accounts import ApiKey
from proxy.admin.accounts import AccountState
from proxy.admin.keys import MintedKey, RotatedKey
from proxy.limits import OVERRIDABLE, UNLIMITED, Limit
from proxy.pricing import format_usd

Document = dict[str, object]

PUSD_PER_NUSD: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def as_text(document: object) -> str:
    """Write a document as every command's `--json` prints it."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def account_document(state: AccountState) -> Document:
    """Describe one account: plan, limits and their use, budget, requests in flight."""
    account = state.account
    return {
        "account": account.name,
        "plan": state.plan,
        "plan_is_default": account.plan is None,
        "disabled": account.disabled,
        "created": rfc3339(account.created_ms),
        "limits": {
            name.value: {
                "limit": use.limit,
                "used": use.used,
                "remaining": use.remaining,
                "resets_at": rfc3339(use.resets_ms),
                **({"held": use.held} if name is Limit.TOKENS_PER_DAY else {}),
            }
            for name, use in state.use.limits.items()
            if name is not Limit.BUDGET
        },
        "budget": budget_document(state),
        "more_budgets": [
            {
                "limit_usd": usd(budget.limit_nusd),
                "spent_usd": usd(budget.spent_nusd),
                "resets_at": rfc3339(budget.resets_ms),
                "per": budget.period.value,
            }
            for budget in state.use.budgets[1:]
        ],
        "in_flight": state.use.in_flight,
        "overrides": overrides_document(account.overrides),
        "problem": state.problem,
    }


def budget_document(state: AccountState) -> Document | None:
    """Describe the first budget; None where the account has none. What is held counts against the others as well."""
    if state.limits.budget_nusd is None:
        return None
    return {
        "limit_usd": usd(state.limits.budget_nusd),
        "spent_usd": usd(state.use.spent_nusd),
        "held_usd": usd(state.use.held_nusd),
        "resets_at": rfc3339(state.use.budget_resets_ms),
        "per": state.limits.budget_per.value,
    }


def overrides_document(overrides: dict[str, int | str]) -> Document:
    """Describe the account's own limits: null for one that is lifted; one that is the plan's is absent."""
    shown: Document = {}
    for name in OVERRIDABLE:
        if name not in overrides:
            continue
        value = overrides[name]
        if name == "budget_nusd":
            shown["budget_usd"] = None if value == UNLIMITED else usd(int(value))
        else:
            shown[name] = None if value == UNLIMITED else value
    return shown


def accounts_document(states: list[AccountState]) -> Document:
    """Describe every account."""
    return {"accounts": [account_document(state) for state in states]}


def key_document(key: ApiKey) -> Document:
    """Describe one key by its hint."""
    return {
        "key_id": key.key_id,
        "account": key.account,
        "name": key.name,
        "hint": key.hint,
        "created": rfc3339(key.created_ms),
        "expires": rfc3339(key.expires_ms),
        "revoked": rfc3339(key.revoked_ms),
        "models": _models(key),
        "last_used": rfc3339(key.last_used_ms),
    }


def keys_document(keys: list[ApiKey]) -> Document:
    """Describe the keys of an account."""
    return {"keys": [key_document(key) for key in keys]}


def minted_key_document(minted: MintedKey) -> Document:
    """Describe a key just made, with the key itself: the only document that ever holds one."""
    record = minted.record
    return {
        "key_id": record.key_id,
        "account": record.account,
        "key": minted.key,
        "name": record.name,
        "expires": rfc3339(record.expires_ms),
        "models": _models(record),
    }


def rotated_key_document(rotated: RotatedKey) -> Document:
    """Describe a rotation: the new key as when it is made, and what becomes of the old one."""
    return {**minted_key_document(rotated.minted), "replaces": key_document(rotated.replaced)}


def rfc3339(ms: int | None) -> str | None:
    """Write Unix milliseconds as RFC 3339, in UTC, such as `2026-01-31T08:00:00.000Z`; None stays None."""
    if ms is None:
        return None
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def usd(nusd: int) -> str:
    """Write nano-dollars as a decimal string of dollars without exponent."""
    return format_usd(nusd * PUSD_PER_NUSD)


def _models(key: ApiKey) -> list[str] | None:
    return None if key.models is None else sorted(key.models)
