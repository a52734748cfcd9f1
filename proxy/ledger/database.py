"""The SQL ledger: opened by the configuration's word or URL, written in batches, read by anyone.

A row that is there stays as it is: inserting it again changes nothing, so whoever is not sure inserts again. The sums
change in the same transaction and only for rows that were really new, so that the two can never disagree.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

from msgspec.structs import astuple
from sqlalchemy import Connection, CursorResult, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from proxy.ledger.migrations import NewerLedger, is_current, migrate
from proxy.ledger.schema import (
    DAY_MS,
    HOUR_MS,
    SUMMED,
    beginning,
    split_cost,
    usage,
    usage_account,
    usage_daily,
    usage_hourly,
)
from proxy.pricing import nano_usd_ceil
from proxy.usage import UsageSource
from proxy.usage_record import UsageRecord

EMBEDDED: Final = "embedded"
FILE: Final = "ledger.sqlite"
_BUSY_MS: Final = 10_000
_CONNECT_SECONDS: Final = 5
_WRITES: Final = "writes"
_AT_ONCE: Final = (256, 32, 4, 1)
"""Rows in one statement. A driver keeps statements that it has prepared, and to prepare one costs more than to run it:
so there are few of them, whatever the number of rows."""
_Cell = tuple[str, int, str, str]
"""What a line of sums is told apart by: account, beginning of the hour or day, key and model."""
# A database that vanishes without a word is noticed within about 15 s.
_LIBPQ: Final = {
    "connect_timeout": _CONNECT_SECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}


class LedgerUnavailable(Exception):  # noqa: N818 - the state of the ledger
    """The ledger cannot be used; `detail` is a sentence for the operator, without credentials."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class RowsRefused(Exception):  # noqa: N818 - the state of rows
    """The database works, and does not take these rows; `detail` says why."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Ledger:
    """One ledger. Its methods block; they may be called from any thread."""

    def __init__(self, engine: Engine) -> None:
        """Use `open`."""
        self.engine = engine
        self._add_hourly, self._add_daily = _adding(usage_hourly, engine), _adding(usage_daily, engine)
        self._add_account = _adding(usage_account, engine)

    @classmethod
    def open(cls, url: str, data_dir: Path, *, prepare: bool = True) -> Self:
        """Open the ledger that the configuration names, and make or upgrade its tables unless told not to `prepare`.

        Raises `LedgerUnavailable`, or `NewerLedger` if a newer version of the gateway has written it.
        """
        try:
            ledger = cls(_embedded(data_dir) if url == EMBEDDED else _postgresql(url))
        except OSError as error:
            raise LedgerUnavailable(f"{data_dir / FILE} cannot be made: {error.strerror}") from None
        try:
            with ledger.reading() as connection:
                current = is_current(connection)
            if prepare and not current:
                with ledger.writing() as connection:
                    migrate(connection)
        except NewerLedger:
            ledger.close()
            raise
        except DBAPIError as error:
            ledger.close()
            raise LedgerUnavailable(describe(error)) from None
        return ledger

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction for queries: all of them see the same state."""
        with self.engine.connect() as plain:
            # SQLite's transactions are such by themselves; PostgreSQL's see every commit between two statements.
            options = {} if self.engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
            connection = plain.execution_options(**options)
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that changes something; committed when the block ends without an exception."""
        with self.engine.connect() as plain:
            connection = plain.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection

    def insert(self, records: Sequence[UsageRecord]) -> list[UsageRecord]:
        """Insert what is not there yet, in one transaction; returns those, the others were there before.

        Raises `LedgerUnavailable`, or `RowsRefused` if no other moment would change that; nothing is inserted then.
        """
        if not records:
            return []
        by_id: dict[str, UsageRecord] = {}
        for record in records:
            by_id.setdefault(record.request_id, record)
        in_order = [by_id[request_id] for request_id in sorted(by_id)]  # so that two writers cannot deadlock
        try:
            with self.writing() as connection:
                inserted = _insert(connection, in_order)
                if inserted:
                    by_hour = _by_hour(inserted)
                    connection.execute(self._add_hourly, _lines("hour", by_hour))
                    connection.execute(self._add_daily, _lines("day", _by_day(by_hour)))
                    connection.execute(self._add_account, list(_by_account(by_hour)))
        except (DataError, IntegrityError, OverflowError, TypeError, ValueError) as error:
            raise RowsRefused(describe(error)) from None
        except DBAPIError as error:
            raise LedgerUnavailable(describe(error)) from None
        return inserted

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def describe(error: BaseException) -> str:
    """Return what a database said, in one line: never the statement, whose values are somebody's data."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split()) or type(cause).__name__


def _insert(connection: Connection, records: Sequence[UsageRecord]) -> list[UsageRecord]:
    """Insert rows; returns those that were not there.

    Nearly always none was, and their number says so: to have the database name them takes a fifth longer, and is done
    where the number is another.
    """
    attempt = connection.begin_nested()
    if sum(result.rowcount for result in _inserting(connection, records)) == len(records):
        attempt.commit()
        return list(records)
    attempt.rollback()
    named = _inserting(connection, records, " RETURNING request_id")
    inserted = {request_id for result in named for request_id in result.scalars()}
    return [record for record in records if record.request_id in inserted]


def _inserting(
    connection: Connection, records: Sequence[UsageRecord], and_then: str = ""
) -> Iterator[CursorResult[Any]]:
    """Insert what is not there, many rows at a time.

    Written out for the driver: to compile a statement for each row costs more than the database takes for it.
    """
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    columns = UsageRecord.__struct_fields__
    one = f"({', '.join([mark] * len(columns))})"
    begin = 0
    for size in _AT_ONCE:
        statement = (
            f"INSERT INTO {usage.name} ({', '.join(columns)}) VALUES {', '.join([one] * size)} "  # noqa: S608 - names of ours
            f"ON CONFLICT (request_id) DO NOTHING{and_then}"
        )
        while begin + size <= len(records):
            values = tuple(chain.from_iterable(map(astuple, records[begin : begin + size])))
            yield connection.exec_driver_sql(statement, values)
            begin += size


def _adding(table: Table, engine: Engine) -> Any:  # noqa: ANN401 - the two dialects share no type that knows ON CONFLICT
    """Return the statement that adds to a table of sums whatever is no part of its key."""
    insert: Any = (sqlite if engine.dialect.name == "sqlite" else postgresql).insert(table)
    summed = {column.name: column + insert.excluded[column.name] for column in table.c if not column.primary_key}
    return insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=summed)


def _by_hour(records: Sequence[UsageRecord]) -> Mapping[_Cell, tuple[int, ...]]:
    cells: dict[_Cell, list[UsageRecord]] = defaultdict(list)
    for record in records:
        cells[record.account, beginning(record.started_at, HOUR_MS), record.key_id, record.model].append(record)
    return {cell: _sums(of_cell) for cell, of_cell in cells.items()}


def _sums(records: Sequence[UsageRecord]) -> tuple[int, ...]:
    """Add rows up, in the order of `SUMMED`; each column by itself, which is quicker than row by row."""
    estimated = UsageSource.ESTIMATED
    costs = [record.cost_pusd for record in records]
    return (
        len(records),
        sum([record.usage_source == estimated for record in records]),
        sum([record.prompt_tokens for record in records]),
        sum([record.cached_tokens for record in records]),
        sum([record.completion_tokens for record in records]),
        sum([record.reasoning_tokens for record in records]),
        *split_cost(sum(costs)),
        sum(map(nano_usd_ceil, costs)),
    )


def _by_day(by_hour: Mapping[_Cell, tuple[int, ...]]) -> Mapping[_Cell, tuple[int, ...]]:
    added: dict[_Cell, list[tuple[int, ...]]] = defaultdict(list)
    for (account, hour, key_id, model), amounts in by_hour.items():
        added[account, beginning(hour, DAY_MS), key_id, model].append(amounts)
    return {cell: _added_up(amounts) for cell, amounts in added.items()}


def _by_account(by_hour: Mapping[_Cell, tuple[int, ...]]) -> Iterator[Mapping[str, object]]:
    added: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for (account, *_), amounts in by_hour.items():
        added[account].append(amounts)
    for account, of_account in sorted(added.items()):
        sums = dict(zip(SUMMED, _added_up(of_account), strict=True))
        sums["tokens"] = sums["prompt_tokens"] + sums["completion_tokens"]
        yield {"account": account, **{column.name: sums[column.name] for column in list(usage_account.c)[1:]}}


def _added_up(amounts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*amounts, strict=True)))


def _lines(period: str, sums: Mapping[_Cell, tuple[int, ...]]) -> list[Mapping[str, object]]:
    """Name the values, in the order of the primary key so that two writers cannot deadlock."""
    names = ("account", period, "key_id", "model", *SUMMED)
    return [dict(zip(names, (*key, *of_key), strict=True)) for key, of_key in sorted(sums.items())]


def _embedded(data_dir: Path) -> Engine:
    """Open SQLite in the data directory.

    WAL: readers wait for nobody. Every commit reaches the disk, because the journal forgets what was committed.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data_dir / FILE).touch(mode=0o600)  # SQLite gives its other files the same rights
    engine = create_engine(f"sqlite:///{data_dir / FILE}", connect_args={"timeout": _BUSY_MS / 1000})

    def connected(connection: Any, _record: object) -> None:  # noqa: ANN401 - sqlite3's, which SQLAlchemy wraps
        connection.isolation_level = None  # transactions begin where `begun` says so, tables included
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")

    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def _postgresql(url: str) -> Engine:
    """Open PostgreSQL; what the URL says of timeouts goes before ours."""
    target = make_url(url).set(drivername="postgresql+psycopg")
    arguments = {name: value for name, value in _LIBPQ.items() if name not in target.query}
    return create_engine(target, connect_args=arguments, pool_pre_ping=True, pool_size=2)
