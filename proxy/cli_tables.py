"""How accounts and keys look to a person: tables and short blocks of text.

Text only, for standard output; scripts read the documents of `proxy/admin/documents.py` instead, so a column may change
here freely.
"""

from collections.abc import Sequence
from typing import Final

from tabulate import tabulate

from proxy.accounts import ApiKey
from proxy.admin.accounts import AccountState
from proxy.admin.documents import usd
from proxy.admin.wording import date, key_state, limit_lines

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
    rows = [
        (
            line.name,
            line.allowed,
            f"{line.used} + {line.held} held" if line.held else line.used,
            line.left,
            line.free_again,
        )
        for line in limit_lines(state)
    ]
    if not rows:
        return "Nothing limits this account."
    return _table(("limit", "allowed", "used", "left", "free again"), rows)


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    # Without number parsing: a key named 1e5 is not a number.
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)
