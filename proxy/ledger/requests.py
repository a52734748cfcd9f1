"""Single requests of the ledger: the latest first, page by page, how the latest went, and all of them for a file.

Whatever is asked, an index leads to the newest rows and only so many are read: a ledger of a million rows answers as a
small one does. Sums are in `queries.py`. Nothing here writes.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, TextClause, and_, func, or_, select, text
from sqlalchemy.sql.elements import ColumnElement

from proxy.ledger.schema import CUT_SHORT, summed_cost, usage, usage_account, whole_cost
from proxy.usage_record import UsageRecord

ROWS_AT_ONCE: Final = 5_000
_MINUTE_MS: Final = 60_000
_ENDED_WELL: Final = ("complete", "client_gone", "cancelled")
"""Endings that are nobody's fault here or at the provider."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests; None: all. Moments in Unix ms; a request that began at `until` is not among them."""

    account: str | None = None
    key_id: str | None = None
    model: str | None = None
    ending: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: the next one begins with the request before this one."""

    started_at: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Quality:
    """How requests went."""

    requests: int = 0
    failed: int = 0
    ttft_ms: int | None = None
    """The median from arrival to the first byte, of those that were streamed; None where none was."""


@dataclass(frozen=True, slots=True)
class Qualities:
    """How the latest requests went: together, and those of each model and account."""

    together: Quality
    by_model: Mapping[str, Quality]
    by_account: Mapping[str, Quality]


@dataclass(frozen=True, slots=True)
class Minute:
    """What began in one minute."""

    requests: int
    cost_pusd: int


def newest(connection: Connection, chosen: Filter, count: int, before: Place | None = None) -> list[UsageRecord]:
    """Return at most `count` requests, the latest first, that began before `before`."""
    query = select(*(usage.c[name] for name in UsageRecord.__struct_fields__)).where(*_conditions(chosen))
    if before is not None:
        same = and_(usage.c.started_at == before.started_at, usage.c.request_id < before.request_id)
        query = query.where(usage.c.started_at <= before.started_at, or_(usage.c.started_at < before.started_at, same))
    query = query.order_by(usage.c.started_at.desc(), usage.c.request_id.desc()).limit(count)
    return [_record(row) for row in connection.execute(query)]


def one(connection: Connection, request_id: str) -> UsageRecord | None:
    """Return one request."""
    query = select(*(usage.c[name] for name in UsageRecord.__struct_fields__)).where(usage.c.request_id == request_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _record(row)


def quality(connection: Connection, chosen: Filter, of_latest: int) -> Qualities:
    """Say how the latest of the chosen requests went, at most `of_latest` of them."""
    columns = (usage.c.ending, usage.c.ttft_ms, usage.c.model, usage.c.account)
    query = select(*columns).where(*_conditions(chosen)).order_by(usage.c.started_at.desc()).limit(of_latest)
    found: list[tuple[str, int | None]] = []
    models: dict[str, list[tuple[str, int | None]]] = defaultdict(list)
    accounts: dict[str, list[tuple[str, int | None]]] = defaultdict(list)
    for ending, ttft, model, account in connection.execute(query):
        for group in (found, models[model], accounts[account]):
            group.append((ending, ttft))
    of_each = ({name: _quality(group) for name, group in groups.items()} for groups in (models, accounts))
    return Qualities(_quality(found), *of_each)


def _quality(found: Sequence[tuple[str, int | None]]) -> Quality:
    endings, all_waits = zip(*found, strict=True) if found else ((), ())
    failed = sum(ending not in _ENDED_WELL for ending in endings)
    waits = sorted(ttft for ttft in all_waits if ttft is not None)
    return Quality(len(endings), failed, waits[len(waits) // 2] if waits else None)


def by_minute(connection: Connection, chosen: Filter) -> dict[int, Minute]:
    """Return what began in each minute, by the Unix ms of its beginning; it reads rows, so ask for an hour or so."""
    minute = usage.c.started_at - usage.c.started_at % _MINUTE_MS
    query = select(minute, func.count(), *summed_cost()).where(*_conditions(chosen)).group_by(minute)
    return {at: Minute(count, whole_cost(high, low)) for at, count, high, low in connection.execute(query)}


def rows(connection: Connection, chosen: Filter) -> Iterator[Sequence[Any]]:
    """Yield the chosen rows by the time they began, each as the values of `UsageRecord`'s fields in their order.

    Never more than a few thousand are in memory.
    """
    query = select(*(usage.c[name] for name in UsageRecord.__struct_fields__)).where(*_conditions(chosen))
    query = query.order_by(usage.c.started_at, usage.c.request_id)
    yield from connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)


def counts(connection: Connection, account: str | None) -> int:
    """Return how many requests of an account, or of all, have a row: whoever sees it change knows of a new one."""
    query = select(func.sum(usage_account.c.requests))
    if account is not None:
        query = query.where(usage_account.c.account == account)
    return int(connection.scalar(query) or 0)


def _conditions(chosen: Filter) -> Iterator[ColumnElement[bool] | TextClause]:
    for name in ("account", "key_id", "model", "ending"):
        value = getattr(chosen, name)
        if value is not None:
            yield usage.c[name] == value
    if chosen.ending not in {None, "complete"}:
        yield text(CUT_SHORT)
    if chosen.since is not None:
        yield usage.c.started_at >= chosen.since
    if chosen.until is not None:
        yield usage.c.started_at < chosen.until


def _record(row: Any) -> UsageRecord:  # noqa: ANN401 - SQLAlchemy's row, whose columns are the record's fields
    return UsageRecord(**row._mapping)  # noqa: SLF001 - its public name for this
