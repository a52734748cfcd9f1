"""What is asked of the ledger: sums by account, key, model and time, rows one after the other, and totals.

Sums come from the hourly table wherever whole hours are asked for, and from the rows at both ragged ends: exact to the
millisecond, and quick however many rows there are. Nothing here writes.
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
    HOUR_MS,
    SUMMED,
    hour_of,
    ledger_identity,
    summed_cost,
    usage,
    usage_account,
    usage_hourly,
    whole_cost,
)
from proxy.pricing import nano_usd_ceil
from proxy.usage import UsageSource
from proxy.usage_record import UsageRecord

DAY_MS: Final = 24 * HOUR_MS
ROWS_AT_ONCE: Final = 5_000
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


def rows(connection: Connection, chosen: Selection) -> Iterator[Sequence[Any]]:
    """Yield the chosen rows by the time they began, each as the values of `UsageRecord`'s fields in their order.

    Never more than a few thousand are in memory.
    """
    query = select(*(usage.c[name] for name in UsageRecord.__struct_fields__))
    query = query.order_by(usage.c.started_at, usage.c.request_id)
    query = query.where(*_chosen(usage, chosen, chosen.since, chosen.until))
    yield from connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)


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
    """Return what an account was charged for requests since the beginning of an hour, in Unix ms."""
    tokens = func.sum(usage_hourly.c.prompt_tokens + usage_hourly.c.completion_tokens)
    query = select(tokens, func.sum(usage_hourly.c.charged_nusd))
    row = connection.execute(query.where(usage_hourly.c.account == account, usage_hourly.c.hour >= since)).one()
    return Charge(int(row[0] or 0), int(row[1] or 0))


def charges_of(connection: Connection, request_ids: Sequence[str]) -> dict[str, Charge]:
    """Return what those of these requests were charged that have a row."""
    found: dict[str, Charge] = {}
    columns = (usage.c.request_id, usage.c.prompt_tokens + usage.c.completion_tokens, usage.c.cost_pusd)
    for start in range(0, len(request_ids), _IDS_AT_ONCE):
        some = request_ids[start : start + _IDS_AT_ONCE]
        for request_id, tokens, cost in connection.execute(select(*columns).where(usage.c.request_id.in_(some))):
            found[request_id] = Charge(tokens, nano_usd_ceil(cost))
    return found


def _parts(chosen: Selection, by: Sequence[By]) -> Iterator[Select[Any]]:
    """Cut the time asked for into whole hours and what sticks out of them."""
    since, until = chosen.since, chosen.until
    first = None if since is None else -(-since // HOUR_MS) * HOUR_MS
    last = None if until is None else hour_of(until)
    if first is not None and last is not None and first > last:  # all of it within one hour
        yield _of_rows(chosen, by, since, until)
        return
    yield _of_hours(chosen, by, first, last)
    if since is not None and first != since:
        yield _of_rows(chosen, by, since, first)
    if until is not None and last != until:
        yield _of_rows(chosen, by, last, until)


def _of_hours(chosen: Selection, by: Sequence[By], since: int | None, until: int | None) -> Select[Any]:
    groups = [_group(usage_hourly, name) for name in by]
    summed = [func.sum(usage_hourly.c[name]) for name in SUMMED if name != "charged_nusd"]
    query = select(*groups, *summed).where(*_chosen(usage_hourly, chosen, since, until)).group_by(*groups)
    return query.having(func.count() > 0)  # without groups, an empty table would still give a line


def _of_rows(chosen: Selection, by: Sequence[By], since: int | None, until: int | None) -> Select[Any]:
    groups = [_group(usage, name) for name in by]
    estimated = func.sum(case((usage.c.usage_source == UsageSource.ESTIMATED.value, 1), else_=0))
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    summed = (func.count(), estimated, *(func.sum(usage.c[name]) for name in names), *summed_cost())
    query = select(*groups, *summed).where(*_chosen(usage, chosen, since, until)).group_by(*groups)
    return query.having(func.count() > 0)


def _group(table: Table, name: By) -> ColumnElement[Any]:
    if name in (By.DAY, By.HOUR):
        moment, length = table.c.started_at if table is usage else table.c.hour, DAY_MS if name is By.DAY else HOUR_MS
        return moment - moment % length
    return table.c.key_id if name is By.KEY else table.c[name.value]


def _chosen(table: Table, chosen: Selection, since: int | None, until: int | None) -> Iterator[ColumnElement[bool]]:
    moment = table.c.started_at if table is usage else table.c.hour
    if chosen.account is not None:
        yield table.c.account == chosen.account
    if since is not None:
        yield moment >= since
    if until is not None:
        yield moment < until
