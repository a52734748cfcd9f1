"""What is asked of the ledger: sums by account, key, model and time, and totals.

Sums come from the daily table wherever whole days are asked for, from the hourly one and from the rows at both ragged
ends: exact to the millisecond, and quick however many rows there are. Nothing here writes.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, case, func, select
from sqlalchemy.sql.elements import ColumnElement

from proxy.drift import Charge
from proxy.ledger.schema import (
    DAY_MS,
    HOUR_MS,
    SUMMED,
    beginning,
    ledger_identity,
    summed_cost,
    usage,
    usage_account,
    usage_daily,
    usage_hourly,
    whole_cost,
)
from proxy.pricing import nano_usd_ceil
from proxy.usage import UsageSource

_IDS_AT_ONCE: Final = 500


class By(StrEnum):
    """What sums can be told apart by."""

    ACCOUNT = "account"
    KEY = "key"
    MODEL = "model"
    DAY = "day"
    HOUR = "hour"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows: those of an account, that began at `since` or later and before `until`, in Unix ms. None: all."""

    account: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(slots=True)
class Sums:
    """What a group of requests has used; `cost_pusd` is exact, whatever its size."""

    requests: int = 0
    estimated_requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_pusd: int = 0

    def add(self, other: "Sums") -> None:
        """Take in what another group has used."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


Group = tuple[str | int, ...]
"""The values that a group has in common, in the order asked for; days and hours as the Unix ms of their beginning."""


def sums(connection: Connection, chosen: Selection, by: Sequence[By]) -> dict[Group, Sums]:
    """Return what the chosen requests have used, by group, in the order of the groups."""
    found: dict[Group, Sums] = defaultdict(Sums)
    for query in _parts(chosen, by):
        for row in connection.execute(query):
            *counts, high, low = (int(value) for value in row[len(by) :])
            part = Sums(*counts)
            part.cost_pusd = whole_cost(high, low)
            found[tuple(row[: len(by)])].add(part)
    return dict(sorted(found.items()))


def identity(connection: Connection) -> str:
    """Return the name of this ledger."""
    return str(connection.execute(select(ledger_identity.c.id)).scalar_one())


def charges(connection: Connection) -> dict[str, Charge]:
    """Return what every account was charged in all."""
    columns = (usage_account.c.account, usage_account.c.tokens, usage_account.c.charged_nusd)
    return {account: Charge(tokens, nusd) for account, tokens, nusd in connection.execute(select(*columns))}


def charged_in_all(connection: Connection, account: str) -> Charge:
    """Return what one account was charged in all."""
    query = select(usage_account.c.tokens, usage_account.c.charged_nusd).where(usage_account.c.account == account)
    row = connection.execute(query).one_or_none()
    return Charge() if row is None else Charge(*row)


def charged_since(connection: Connection, account: str, since: int) -> Charge:
    """Return what an account was charged for requests since the beginning of a day, in Unix ms."""
    tokens = func.sum(usage_daily.c.prompt_tokens + usage_daily.c.completion_tokens)
    query = select(tokens, func.sum(usage_daily.c.charged_nusd))
    row = connection.execute(query.where(usage_daily.c.account == account, usage_daily.c.day >= since)).one()
    return Charge(int(row[0] or 0), int(row[1] or 0))


def charges_of(connection: Connection, request_ids: Sequence[str]) -> dict[str, Charge]:
    """Return what those of these requests were charged that have a row."""
    found: dict[str, Charge] = {}
    columns = (usage.c.request_id, usage.c.prompt_tokens + usage.c.completion_tokens, usage.c.cost_pusd)
    for start in range(0, len(request_ids), _IDS_AT_ONCE):
        some = request_ids[start : start + _IDS_AT_ONCE]
        for request_id, tokens, cost in connection.execute(select(*columns).where(usage.c.request_id.in_(some))).all():
            found[request_id] = Charge(tokens, nano_usd_ceil(cost))
    return found


def _parts(chosen: Selection, by: Sequence[By]) -> Iterator[Select[Any]]:
    coarse = () if By.HOUR in by else ((usage_daily, DAY_MS),)
    for table, since, until in _cut(chosen.since, chosen.until, (*coarse, (usage_hourly, HOUR_MS))):
        yield _of_rows(chosen, by, since, until) if table is usage else _of_sums(table, chosen, by, since, until)


def _cut(
    since: int | None, until: int | None, scales: Sequence[tuple[Table, int]]
) -> Iterator[tuple[Table, int | None, int | None]]:
    """Cut a time into whole days and hours, as `scales` has tables for them, and what sticks out of those."""
    if not scales:
        yield usage, since, until
        return
    (table, length), *finer = scales
    first = None if since is None else -(-since // length) * length
    last = None if until is None else beginning(until, length)
    if first is not None and last is not None and first >= last:  # not a whole one in it
        yield from _cut(since, until, finer)
        return
    yield table, first, last
    if first != since:
        yield from _cut(since, first, finer)
    if last != until:
        yield from _cut(last, until, finer)


def _of_sums(table: Table, chosen: Selection, by: Sequence[By], since: int | None, until: int | None) -> Select[Any]:
    groups = [_group(table, name, since) for name in by]
    summed = [func.sum(table.c[name]) for name in SUMMED if name != "charged_nusd"]
    query = select(*groups, *summed).where(*_chosen(table, chosen, since, until)).group_by(*groups)
    return query.having(func.count() > 0)  # without groups, an empty table would still give a line


def _of_rows(chosen: Selection, by: Sequence[By], since: int | None, until: int | None) -> Select[Any]:
    groups = [_group(usage, name, since) for name in by]
    estimated = func.sum(case((usage.c.usage_source == UsageSource.ESTIMATED.value, 1), else_=0))
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    summed = (func.count(), estimated, *(func.sum(usage.c[name]) for name in names), *summed_cost())
    query = select(*groups, *summed).where(*_chosen(usage, chosen, since, until)).group_by(*groups)
    return query.having(func.count() > 0)


def _group(table: Table, name: By, since: int | None) -> ColumnElement[Any]:
    if name in (By.DAY, By.HOUR):
        return _moment(table) - _moment(table) % (DAY_MS if name is By.DAY else HOUR_MS)
    if name is By.ACCOUNT and since is not None:
        # As a bare column, SQLite would read the whole of an index that is in the order of accounts, for the sake of
        # groups that come sorted, instead of the few lines of the time that was asked for.
        return table.c.account.concat("")
    return table.c.key_id if name is By.KEY else table.c[name.value]


def _chosen(table: Table, chosen: Selection, since: int | None, until: int | None) -> Iterator[ColumnElement[bool]]:
    if chosen.account is not None:
        yield table.c.account == chosen.account
    if since is not None:
        yield _moment(table) >= since
    if until is not None:
        yield _moment(table) < until


def _moment(table: Table) -> ColumnElement[Any]:
    return table.c[{usage: "started_at", usage_hourly: "hour", usage_daily: "day"}[table]]
