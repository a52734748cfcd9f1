"""Limits of an account's own as they are asked for: `none` lifts one, `plan` goes back to the plan, else a number.

Values only; the command line, the admin API and the dashboard's form say the same words.
"""

from collections.abc import Mapping
from typing import Final

from proxy.admin.refused import OperationRefused, Reason
from proxy.limits import UNLIMITED
from proxy.pricing import parse_usd

PLAN: Final = "plan"
"""Asked for instead of a limit: back to what the plan says."""
NONE: Final = "none"
"""Asked for instead of a limit: not limited."""
_WORDS: Final[Mapping[str, str | None]] = {NONE: UNLIMITED, PLAN: None}
_PUSD_PER_NUSD: Final = 1_000
_HIGHEST_BUDGET_PUSD: Final = 10**9 * 10**12


def read_budget(text: str) -> int | str:
    """Read an amount in USD as nano-dollars, or one of the two words; ValueError otherwise."""
    if text in _WORDS:
        return text
    try:
        pusd = parse_usd(text)
    except ValueError as wrong:
        raise ValueError(f"{text!r} {wrong}, or `none` or `plan`") from None
    if pusd % _PUSD_PER_NUSD or not 0 < pusd <= _HIGHEST_BUDGET_PUSD:
        raise ValueError(
            f"{text!r} is not above 0 and at most 1000000000 with at most 9 decimals; or write `none` or `plan`"
        )
    return pusd // _PUSD_PER_NUSD


def overrides_of(
    limits: Mapping[str, int | str], budget: int | str | None, budget_per: str | None
) -> Mapping[str, int | str | None]:
    """Return what `Changes.overrides` holds; refuses an amount of money without its period and the reverse.

    `limits` by the names of `limits.OVERRIDABLE`, `budget` in nUSD or a word, None where nothing was asked for.
    """
    if isinstance(budget, int) != (budget_per is not None):
        raise OperationRefused(Reason.MALFORMED, "a budget is an amount and a period: give both together")
    overrides = {name: _WORDS.get(value, value) if isinstance(value, str) else value for name, value in limits.items()}
    if budget is not None:
        overrides["budget_nusd"] = _WORDS.get(budget, budget) if isinstance(budget, str) else budget
        overrides["budget_per"] = budget_per
    return overrides
