"""One ledger copied into a database of PostgreSQL, and the proof that nothing was lost on the way.

A row that the target has stays as it is, so that a copy may be begun again at any time, also when gateways write there
already. The target takes over the source's name: the counters of limits are compared with the ledger of that name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, func, inspect, select, text, update
from sqlalchemy.dialects.postgresql import insert

from proxy.ledger.database import Ledger, RowsRefused
from proxy.ledger.queries import identity
from proxy.ledger.schema import (
    audit_log,
    dashboard_token,
    ledger_identity,
    summed_cost,
    usage,
    usage_account,
    usage_daily,
    usage_hourly,
    whole_cost,
)
from proxy.ledger.verify import Check, checks
from proxy.usage_record import UsageRecord

_AT_ONCE: Final = 2_000
_SHOWN: Final = 3
_TABLES: Final = (usage, usage_hourly, usage_daily, usage_account, dashboard_token, audit_log)


class TakenLedger(Exception):  # noqa: N818 - the state of the target
    """The target holds rows that are not of this source."""


@dataclass(frozen=True, slots=True)
class Contents:
    """How much is in a ledger."""

    rows: int = 0
    cost_pusd: int = 0
    tokens: int = 0
    """Dashboard tokens."""
    entries: int = 0
    """Entries of the audit log."""


def contents(connection: Connection) -> Contents:
    """Count what is there; a ledger whose tables were never made holds nothing."""
    if not inspect(connection).has_table(audit_log.name):
        return Contents()
    rows, high, low = connection.execute(select(func.count(), *summed_cost()).select_from(usage)).one()
    tokens, entries = (connection.scalar(select(func.count()).select_from(table)) for table in _TABLES[-2:])
    return Contents(rows, whole_cost(high or 0, low or 0), tokens or 0, entries or 0)


def is_free(target: Connection, source_name: str | None) -> bool:
    """Tell whether a ledger is empty, or this source's already; changes nothing."""
    if not inspect(target).has_table(ledger_identity.name):
        return True
    return identity(target) == source_name or _is_empty(target)


def adopt(source: Ledger, target: Ledger) -> str:
    """Give an empty target the source's name, and return it; raises `TakenLedger` if it is not empty, and not his."""
    with source.reading() as connection:
        name = identity(connection)
    with target.writing() as connection:
        connection.execute(text(f"LOCK TABLE {ledger_identity.name} IN EXCLUSIVE MODE"))
        if not is_free(connection, name):
            raise TakenLedger
        connection.execute(update(ledger_identity).values(id=name))
    return name


def copy(source: Ledger, target: Ledger, progress: Callable[[int, int], None]) -> list[str]:
    """Copy rows, tokens and the audit log; returns the ids of rows that the target's database refuses.

    `progress` hears how many of how many rows are there. Raises what the databases raise.
    """
    refused: list[str] = []
    with source.reading() as connection:
        total = connection.scalar(select(func.count()).select_from(usage)) or 0
        done = 0
        for some in _batches(connection, usage):
            _insert(target, [UsageRecord(**row) for row in map(_named, some)], refused)
            done += len(some)
            progress(done, total)
        for some in _batches(connection, dashboard_token):
            _merge_tokens(target, some)
        for some in _batches(connection, audit_log):
            with target.writing() as writing:
                entries = insert(audit_log).on_conflict_do_nothing(index_elements=["entry_id"])
                writing.execute(entries, list(map(_named, some)))
    return refused


def compare(source: Ledger, target: Ledger) -> Iterator[Check]:
    """Prove that the target has everything: every row, and sums that are the source's, or those of more rows."""
    with source.reading() as ours, target.reading() as theirs:
        have, has = contents(ours), contents(theirs)
        lost = _lost(ours, theirs, usage)
        detail = f"{have.rows:,} rows, {has.rows:,} in the target" + _some(lost)
        yield Check("every row of the ledger is in the target", not lost, detail)
        if have.rows == has.rows:
            same = have.cost_pusd == has.cost_pusd and all(_all(ours, one) == _all(theirs, one) for one in _TABLES[1:4])
            yield Check("sums are equal", same, f"hourly, daily, by account; {have.cost_pusd:,} pico-dollars in all")
        else:  # gateways have gone on there
            yield from checks(theirs)
        for table, what in ((dashboard_token, "dashboard token"), (audit_log, "entry of the audit log")):
            lost = _lost(ours, theirs, table)
            number = have.tokens if table is dashboard_token else have.entries
            yield Check(f"every {what} is in the target", not lost, f"{number:,}" + _some(lost))


def _is_empty(connection: Connection) -> bool:
    return all(connection.execute(select(table).limit(1)).first() is None for table in _TABLES)


def _insert(target: Ledger, records: Sequence[UsageRecord], refused: list[str]) -> None:
    """Insert rows; of those that are refused, each is found and the others are inserted all the same."""
    try:
        target.insert(records)
    except RowsRefused:
        if len(records) == 1:
            refused.append(records[0].request_id)
            return
        middle = len(records) // 2
        _insert(target, records[:middle], refused)
        _insert(target, records[middle:], refused)


def _merge_tokens(target: Ledger, rows: Sequence[Row[Any]]) -> None:
    """Add tokens; one that was revoked on either side is revoked."""
    tokens = insert(dashboard_token)
    revoked = func.coalesce(dashboard_token.c.revoked_at, tokens.excluded.revoked_at)
    with target.writing() as connection:
        merged = tokens.on_conflict_do_update(index_elements=["token_id"], set_={"revoked_at": revoked})
        connection.execute(merged, list(map(_named, rows)))


def _lost(ours: Connection, theirs: Connection, table: Table) -> list[str]:
    """Return the keys of rows that the target does not have as they are; what it revoked or finished since counts."""
    (key,) = table.primary_key
    # What may go on in the target: a token is revoked, an entry hears what came of it.
    fixed = [column.name for column in table.c if column.name not in ("revoked_at", "outcome", "subject")]
    found: list[str] = []
    for some in _batches(ours, table):
        wanted = {row[key.name]: [row[name] for name in fixed] for row in map(_named, some)}
        there = map(_named, theirs.execute(select(table).where(key.in_(list(wanted)))))
        has = {row[key.name]: [row[name] for name in fixed] for row in there}
        found += [name for name, row in wanted.items() if has.get(name) != row]
    return found


def _batches(connection: Connection, table: Table) -> Iterator[Sequence[Row[Any]]]:
    """Yield all rows of a table, some at a time, in the order of its key."""
    query = select(table).order_by(*table.primary_key)
    yield from connection.execution_options(yield_per=_AT_ONCE).execute(query).partitions()


def _named(row: Row[Any]) -> dict[str, Any]:
    return dict(row._mapping)  # noqa: SLF001 - its public name for this


def _all(connection: Connection, table: Table) -> set[tuple[Any, ...]]:
    """Return a table of sums as it can be compared: the two numbers of a cost may be carried over differently."""
    names = [column.name for column in table.c if column.name not in ("cost_high", "cost_low")]
    found = connection.execute(select(table)).mappings()
    return {(*(row[name] for name in names), whole_cost(row["cost_high"], row["cost_low"])) for row in found}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"; not: {', '.join(names[:_SHOWN])}{more}" if names else ""
