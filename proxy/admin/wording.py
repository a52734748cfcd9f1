"""How moments, states and limits are told to people, the same on a terminal and in a browser.

Text only; scripts read the documents of `proxy/admin/documents.py` instead, so a word may change here freely.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.accounts import ApiKey
from proxy.admin.accounts import AccountState
from proxy.admin.documents import rfc3339, usd
from proxy.limits import BudgetUse, Limit


@dataclass(frozen=True, slots=True)
class LimitLine:
    """One limit of an account with its use; `held` is empty where nothing is."""

    name: str
    allowed: str
    used: str
    held: str
    left: str
    free_again: str


def date(ms: int, *, seconds: bool = False) -> str:
    """Write Unix milliseconds in UTC, to the minute or to the second."""
    return f"{str(rfc3339(ms))[: 19 if seconds else 16].replace('T', ' ')} UTC"


def key_state(key: ApiKey, now_ms: int) -> str:
    """Say whether a key is good, and since or until when."""
    return good_until(key.revoked_ms, key.expires_ms, now_ms)


def good_until(revoked_ms: int | None, expires_ms: int | None, now_ms: int) -> str:
    """Say whether something that can be revoked and can expire is good."""
    if revoked_ms is not None:
        return f"revoked {date(revoked_ms)}"
    if expires_ms is None:
        return "good"
    if expires_ms <= now_ms:
        return f"expired {date(expires_ms)}"
    return f"good until {date(expires_ms)}"


def limit_lines(state: AccountState) -> Iterator[LimitLine]:
    """Yield a line for each limit of an account, budgets last."""
    own = state.account.overrides
    for limit, use in state.use.limits.items():
        if limit is not Limit.BUDGET:
            held = str(use.held) if use.held else ""
            numbers = (str(use.limit), str(use.used), held, str(use.remaining))
            yield LimitLine(_name(limit.value.replace("_", " "), limit.value in own), *numbers, _reset(use.resets_ms))
    held_nusd = state.use.held_nusd
    for budget in _budgets(state):
        left = max(0, budget.limit_nusd - budget.spent_nusd - held_nusd)
        held = f"${usd(held_nusd)}" if held_nusd else ""
        amounts = (f"${usd(budget.limit_nusd)}", f"${usd(budget.spent_nusd)}", held, f"${usd(left)}")
        name = _name(f"budget per {budget.period}", "budget_nusd" in own)
        yield LimitLine(name, *amounts, _reset(budget.resets_ms))


def _name(limit: str, own: bool) -> str:  # noqa: FBT001 - said where it is called
    """Say when a limit is the account's, not the plan's."""
    return f"{limit} (its own)" if own else limit


def _budgets(state: AccountState) -> list[BudgetUse]:
    limits, use = state.limits, state.use
    if limits.budget_nusd is None:
        return []
    first = BudgetUse(limits.budget_per, limits.budget_nusd, use.spent_nusd, use.budget_resets_ms)
    return [first, *use.budgets[1:]]


def _reset(ms: int | None) -> str:
    return "-" if ms is None else date(ms, seconds=True)
