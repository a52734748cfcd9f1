"""How accounts and keys look to a person: tables and short blocks of text.

Text only, for standard output; scripts read the documents of `proxy/admin/documents.py` instead, so a column may change
here freely.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from tabulate import tabulate

from proxy.accounts import ApiKey
from proxy.admin.accounts import AccountState
from proxy.admin.documents import rfc3339, usd
from proxy.limits import BudgetUse, Limit, LimitUse

_NO_ACCOUNTS: Final = "There are no accounts yet: make one with `aion-proxy accounts create NAME`."


def accounts_table(states: Sequence[AccountState]) -> str:
    """Lay out every account on a line of its own; of none, say how to make one."""
    if not states:
        return _NO_ACCOUNTS
    rows = [
        (
            state.account.name,
            _plan(state),
            _state(state),
            date(state.account.created_ms),
            state.use.in_flight,
            _money(state),
        )
        for state in states
    ]
    return _table(("account", "plan", "state", "created", "in flight", "budget"), rows)


def account_text(state: AccountState) -> str:
    """Lay out one account: a block about it, then a line for each of its limits."""
    facts = [
        ("account", state.account.name),
        ("plan", _plan(state)),
        ("state", _state(state)),
        ("created", date(state.account.created_ms)),
        ("in flight", str(state.use.in_flight)),
    ]
    block = tabulate(facts, tablefmt="plain", disable_numparse=True)
    if state.problem is not None:
        return f"{block}\n\nWARNING: {state.problem}"
    return f"{block}\n\n{_limits(state)}"


def keys_table(account: str, keys: Sequence[ApiKey], now_ms: int) -> str:
    """Lay out the keys of an account by their hints; of none, say how to make one."""
    if not keys:
        return f"The account {account} has no keys yet: make one with `aion-proxy keys create {account}`."
    rows = [
        (
            key.key_id,
            key.name,
            key.hint,
            key_state(key, now_ms),
            date(key.created_ms),
            "never" if key.last_used_ms is None else date(key.last_used_ms),
            "all" if key.models is None else ", ".join(sorted(key.models)),
        )
        for key in keys
    ]
    return _table(("key id", "name", "hint", "state", "created", "last used", "models"), rows)


def key_state(key: ApiKey, now_ms: int) -> str:
    """Say whether a key is good, and since or until when."""
    if key.revoked_ms is not None:
        return f"revoked {date(key.revoked_ms)}"
    if key.expires_ms is None:
        return "good"
    if key.expires_ms <= now_ms:
        return f"expired {date(key.expires_ms)}"
    return f"good until {date(key.expires_ms)}"


def date(ms: int, *, seconds: bool = False) -> str:
    """Write Unix milliseconds in UTC, to the minute or to the second."""
    return f"{str(rfc3339(ms))[: 19 if seconds else 16].replace('T', ' ')} UTC"


def _plan(state: AccountState) -> str:
    return f"{state.plan} (the default)" if state.account.plan is None else state.plan


def _state(state: AccountState) -> str:
    if state.account.disabled:
        return "disabled"
    return "enabled" if state.problem is None else "refused: see `accounts show`"


def _money(state: AccountState) -> str:
    if state.limits.budget_nusd is None:
        return "-"
    period = "in all" if state.limits.budget_per == "total" else f"a {state.limits.budget_per}"
    return f"${usd(state.use.spent_nusd)} of ${usd(state.limits.budget_nusd)} {period}"


def _limits(state: AccountState) -> str:
    own = state.account.overrides
    rows: list[tuple[object, ...]] = [
        (_name(name, own), use.limit, _used(use), use.remaining, _reset(use.resets_ms))
        for name, use in state.use.limits.items()
        if name is not Limit.BUDGET
    ]
    rows += [_budget_row(state, budget) for budget in _budgets(state)]
    if not rows:
        return "Nothing limits this account."
    return _table(("limit", "allowed", "used", "left", "free again"), rows)


def _budgets(state: AccountState) -> list[BudgetUse]:
    limits, use = state.limits, state.use
    if limits.budget_nusd is None:
        return []
    first = BudgetUse(limits.budget_per, limits.budget_nusd, use.spent_nusd, use.budget_resets_ms)
    return [first, *use.budgets[1:]]


def _budget_row(state: AccountState, budget: BudgetUse) -> tuple[object, ...]:
    held = state.use.held_nusd
    left = max(0, budget.limit_nusd - budget.spent_nusd - held)
    name = f"{_name(Limit.BUDGET, state.account.overrides)} per {budget.period}"
    spent = f"${usd(budget.spent_nusd)}" + (f" + ${usd(held)} held" if held else "")
    return name, f"${usd(budget.limit_nusd)}", spent, f"${usd(left)}", _reset(budget.resets_ms)


def _used(use: LimitUse) -> str:
    return f"{use.used} + {use.held} held" if use.held else str(use.used)


def _name(limit: Limit, own: Mapping[str, int | str]) -> str:
    """Name a limit in words, and say when it is not the plan's."""
    key = "budget_nusd" if limit is Limit.BUDGET else limit.value
    return limit.value.replace("_", " ") + (" (its own)" if key in own else "")


def _reset(ms: int | None) -> str:
    return "-" if ms is None else date(ms, seconds=True)


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    # Without number parsing: a key named 1e5 is not a number.
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)
