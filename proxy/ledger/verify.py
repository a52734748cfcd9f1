"""Proof that the ledger agrees with itself: every row with its own prices, and every sum with its rows.

Each check reads what is there and says what it looked at; none repairs anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, case, distinct, func, select

from proxy.journal_records import LARGEST_COST
from proxy.ledger.requests import ROWS_AT_ONCE
from proxy.ledger.schema import COST_UNIT, DAY_MS, HOUR_MS, usage, usage_account, usage_daily, usage_hourly
from proxy.pricing import Prices
from proxy.usage import UsageSource

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, whether it does, and what was looked at."""

    name: str
    ok: bool
    detail: str


def count(connection: Connection) -> int:
    """Return how many rows there are."""
    return connection.execute(select(func.count()).select_from(usage)).scalar_one()


def checks(connection: Connection) -> Iterator[Check]:
    """Check everything that the ledger alone can tell, in one transaction."""
    yield _ids(connection)
    yield _costs(connection)
    yield _sums(connection, "hourly sums equal rows", usage_hourly, _times_of_rows(HOUR_MS))
    yield _sums(connection, "daily sums equal rows", usage_daily, _times_of_rows(DAY_MS))
    yield _sums(connection, "account totals equal rows", usage_account, _accounts_of_rows())


def _ids(connection: Connection) -> Check:
    rows, ids = connection.execute(select(func.count(), func.count(distinct(usage.c.request_id)))).one()
    return Check("no request id twice", rows == ids, f"{ids:,} ids in {rows:,} rows")


def _costs(connection: Connection) -> Check:
    """Multiply every row's tokens by its prices."""
    names = ("request_id", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_pusd")
    prices = ("price_prompt", "price_completion", "price_input_cache_read")
    query = select(*(usage.c[name] for name in (*names, *prices)))
    parsed = lru_cache(maxsize=1024)(_prices)
    seen, wrong = 0, []
    for request_id, prompt, cached, completion, cost, *text in connection.execution_options(
        yield_per=ROWS_AT_ONCE
    ).execute(query):
        seen += 1
        paid = parsed(*text)
        if paid is None or cached > prompt or min(paid.cost(prompt, cached, completion), LARGEST_COST) != cost:
            wrong.append(request_id)
    detail = f"{seen:,} rows" + (f"; wrong: {_some(wrong)}" if wrong else "")
    return Check("cost is tokens times prices", not wrong, detail)


def _prices(*text: Any) -> Prices | None:  # noqa: ANN401 - whatever stands in the row
    """Read a row's prices; None if they cannot be read, so that nothing is what they make."""
    try:
        return Prices.parse(*text)
    except (ValueError, TypeError):
        return None


def _sums(connection: Connection, name: str, table: Table, of_rows: Select[Any]) -> Check:
    """Compare a table of sums with the sums of the rows, line by line."""
    keys = len(table.primary_key)
    kept = {tuple(row[:keys]): _numbers(row[keys:]) for row in connection.execute(select(table))}
    true = {tuple(row[:keys]): _numbers(row[keys:]) for row in connection.execute(of_rows)}
    wrong = sorted(key for key in kept.keys() | true.keys() if kept.get(key) != true.get(key))
    detail = f"{len(true):,} sums" + (f"; wrong: {_some([' '.join(map(str, key)) for key in wrong])}" if wrong else "")
    return Check(name, not wrong, detail)


def _numbers(values: Sequence[Any]) -> tuple[int, ...]:
    """Take a line's numbers; the two of a cost as one, because what carries over between them is not fixed."""
    *counts, high, low, charged = (int(value) for value in values)
    return (*counts, high * COST_UNIT + low, charged)


def _times_of_rows(length: int) -> Select[Any]:
    began = usage.c.started_at - usage.c.started_at % length
    groups = (usage.c.account, began, usage.c.key_id, usage.c.model)
    estimated = func.sum(case((usage.c.usage_source == UsageSource.ESTIMATED.value, 1), else_=0))
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    summed = (func.count(), estimated, *(func.sum(usage.c[name]) for name in names), *_money())
    return select(*groups, *summed).group_by(*groups)


def _accounts_of_rows() -> Select[Any]:
    tokens = func.sum(usage.c.prompt_tokens + usage.c.completion_tokens)
    return select(usage.c.account, func.count(), tokens, *_money()).group_by(usage.c.account)


def _money() -> tuple[Any, Any, Any]:
    cost = usage.c.cost_pusd
    nusd = cost // 1000 + case((cost % 1000 > 0, 1), else_=0)  # rounded up, and never above the largest number
    return func.sum(cost // COST_UNIT), func.sum(cost % COST_UNIT), func.sum(nusd)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
