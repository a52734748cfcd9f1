"""The SQL ledger, SQLite and PostgreSQL: a row once, sums that are exact, versions that are respected."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgresql_server import PostgresqlServer
from reading_ledger import rows_in, sums_in, sums_of
from rows import HOUR, row
from sqlalchemy import inspect, select, text

from proxy.ledger.database import FILE, Ledger, LedgerUnavailable, RowsRefused
from proxy.ledger.migrations import MIGRATIONS, NewerLedger
from proxy.ledger.schema import HOUR_MS, metadata, summed_cost, usage, whole_cost

LARGEST = 2**63 - 1


def test_a_row_comes_back_as_it_went_in(ledger: Ledger) -> None:
    rows = [
        row(1),
        row(2, upstream_id=None, price_input_cache_read=None, ttft_ms=None, metadata='{"é": "\\u0000"}', stream=False),
        row(3, cost_pusd=LARGEST, prompt_tokens=10**12),
    ]
    assert ledger.insert(rows) == rows
    assert rows_in(ledger) == rows


def test_a_row_that_is_there_stays_as_it_is_and_counts_once(ledger: Ledger) -> None:
    ledger.insert([row(1), row(2)])
    assert ledger.insert([row(2, completion_tokens=9), row(3)]) == [row(3)]
    assert rows_in(ledger) == [row(1), row(2), row(3)]
    assert sums_in(ledger) == sums_of([row(1), row(2), row(3)])


def test_a_row_twice_in_one_batch_is_inserted_once(ledger: Ledger) -> None:
    assert ledger.insert([row(1), row(1, completion_tokens=9)]) == [row(1)]
    assert sums_in(ledger) == sums_of([row(1)])


def test_no_rows_are_no_work(ledger: Ledger) -> None:
    assert ledger.insert([]) == []


def test_sums_are_told_apart_by_account_key_model_and_hour(ledger: Ledger) -> None:
    rows = [
        row(1),
        row(2, account="other"),
        row(3, key_id="key_2"),
        row(4, model="other/model"),
        row(5, started_at=HOUR + HOUR_MS - 1, usage_source="estimated"),
        row(6, started_at=HOUR + HOUR_MS),
    ]
    ledger.insert(rows)
    assert len(sums_in(ledger)) == 5 + 4
    assert sums_in(ledger) == sums_of(rows)


def test_sums_of_costs_beyond_64_bits_are_exact(ledger: Ledger) -> None:
    rows = [row(number, cost_pusd=LARGEST - number) for number in range(40)]
    for part in (rows[:15], rows[15:16], rows[16:]):
        ledger.insert(part)
    assert sums_in(ledger) == sums_of(rows)
    with ledger.reading() as connection:
        high, low = connection.execute(select(*summed_cost())).one()
    assert whole_cost(high, low) == sum(row.cost_pusd for row in rows) > 2**64


def test_many_rows_fit_into_one_batch(ledger: Ledger) -> None:
    rows = [row(number) for number in range(3_000)]
    assert len(ledger.insert(rows)) == 3_000
    assert sums_in(ledger) == sums_of(rows)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=6))
def test_the_sums_are_those_of_the_rows_whatever_is_inserted_again(ledger: Ledger, batches: list[list[int]]) -> None:
    with ledger.writing() as connection:
        for table in metadata.tables.values():
            connection.execute(table.delete())
    for batch in batches:
        ledger.insert([row(number, account=f"account_{number % 3}") for number in batch])
    assert len(rows_in(ledger)) == len({number for batch in batches for number in batch})
    assert sums_in(ledger) == sums_of(rows_in(ledger))


def test_two_that_insert_the_same_rows_at_the_same_time_insert_each_once(ledger_url: str, tmp_path: Path) -> None:
    Ledger.open(ledger_url, tmp_path).close()
    inserted: list[int] = []

    def work(step: int) -> None:
        mine = Ledger.open(ledger_url, tmp_path)
        for begin in range(0, 300, 20):
            numbers = range(begin, begin + 20)[::step]
            inserted.append(len(mine.insert([row(number, account=f"account_{number % 7}") for number in numbers])))
        mine.close()

    threads = [threading.Thread(target=work, args=(step,)) for step in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ledger = Ledger.open(ledger_url, tmp_path)
    assert sum(inserted) == len(rows_in(ledger)) == 300
    assert sums_in(ledger) == sums_of(rows_in(ledger))
    ledger.close()


@pytest.mark.parametrize("count", [1, 3, 37, 293])
def test_any_number_of_rows_goes_in_whole(ledger: Ledger, count: int) -> None:
    rows = [row(number) for number in range(count)]
    assert sorted(one.request_id for one in ledger.insert(rows)) == sorted(one.request_id for one in rows)
    assert len(rows_in(ledger)) == count


def test_a_row_that_the_database_cannot_hold_is_refused_with_its_whole_batch(ledger: Ledger) -> None:
    with pytest.raises(RowsRefused):
        ledger.insert([row(1), row(2, cost_pusd=2**63)])
    assert rows_in(ledger) == []
    assert sums_in(ledger) == {}


def test_the_tables_are_those_that_queries_are_written_for(ledger: Ledger) -> None:
    found = inspect(ledger.engine)
    for table in metadata.tables.values():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: bool(column.nullable) for column in table.columns}
        key = found.get_pk_constraint(table.name)["constrained_columns"]
        assert key == [column.name for column in table.primary_key]
        assert {index["name"] for index in found.get_indexes(table.name)} == {index.name for index in table.indexes}


def test_rows_of_a_span_of_time_are_found_by_an_index(ledger: Ledger) -> None:
    query = select(usage.c.request_id).where(usage.c.started_at >= HOUR, usage.c.started_at < HOUR + 1)
    explain = "EXPLAIN QUERY PLAN" if ledger.engine.dialect.name == "sqlite" else "EXPLAIN"
    with ledger.reading() as connection:
        if ledger.engine.dialect.name == "postgresql":
            connection.execute(text("SET enable_seqscan = off"))  # an empty table is read faster without
        written = query.compile(ledger.engine, compile_kwargs={"literal_binds": True})
        plan = connection.execute(text(f"{explain} {written}")).all()
    assert "usage_started_at" in str(plan)


def test_opening_a_ledger_again_changes_nothing(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    ledger.insert([row(1)])
    again = Ledger.open(ledger_url, tmp_path)
    assert rows_in(again) == [row(1)]
    with again.reading() as connection:
        assert connection.scalars(text("SELECT version FROM ledger_version")).all() == [*range(1, len(MIGRATIONS) + 1)]
    again.close()


def test_a_ledger_of_the_first_version_gets_its_daily_sums(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    rows = [row(1), row(2, started_at=HOUR + 5 * HOUR_MS), row(3, started_at=HOUR + 30 * HOUR_MS), row(4, account="b")]
    ledger.insert(rows)
    with ledger.writing() as connection:
        connection.execute(text("DROP TABLE usage_daily"))
        for later in ("TABLE dashboard_token", "TABLE audit_log", "INDEX usage_by_account", "INDEX usage_cut_short"):
            connection.execute(text(f"DROP {later}"))
        connection.execute(text("DELETE FROM ledger_version WHERE version > 1"))
    upgraded = Ledger.open(ledger_url, tmp_path)
    assert sums_in(upgraded) == sums_of(rows)
    upgraded.close()


def test_opening_a_ledger_that_is_current_waits_for_nobody_who_writes_to_it(
    ledger: Ledger, ledger_url: str, tmp_path: Path
) -> None:
    with ledger.writing() as connection:
        connection.execute(usage.delete())
        Ledger.open(ledger_url, tmp_path).close()


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(
    ledger: Ledger, ledger_url: str, tmp_path: Path
) -> None:
    ledger.insert([row(1)])
    with ledger.writing() as connection:
        connection.execute(text("INSERT INTO ledger_version (version) VALUES (99)"))
    with pytest.raises(NewerLedger, match=r"version 99.*use the newer aion-proxy"):
        Ledger.open(ledger_url, tmp_path)
    assert rows_in(ledger) == [row(1)]


def test_two_that_open_a_new_ledger_at_the_same_time_make_its_tables_once(ledger_url: str, tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            Ledger.open(ledger_url, tmp_path).close()
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def test_the_embedded_ledger_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = Ledger.open("embedded", tmp_path / "data")
        ledger.insert([row(1)])
    finally:
        os.umask(before)
    files = list((tmp_path / "data").iterdir())
    assert {path.name for path in files} >= {FILE, f"{FILE}-wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    ledger.close()


def test_every_commit_of_the_embedded_ledger_is_on_the_disk(tmp_path: Path) -> None:
    ledger = Ledger.open("embedded", tmp_path)
    with ledger.reading() as connection:
        assert connection.scalar(text("PRAGMA synchronous")) == 2
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
    ledger.close()


def test_an_embedded_ledger_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is not a database, whatever it is" * 40)
    with pytest.raises(LedgerUnavailable, match="not a database"):
        Ledger.open("embedded", tmp_path)


def test_a_data_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LedgerUnavailable, match=r"ledger\.sqlite cannot be made: Not a directory"):
        Ledger.open("embedded", tmp_path / "file" / "data")


def test_a_server_that_is_not_there_is_away_and_its_password_is_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable) as away:
        Ledger.open(f"postgresql://gateway:geheim4711@/ledger?host={tmp_path}", tmp_path)
    assert "geheim4711" not in away.value.detail
    assert "\n" not in away.value.detail


def test_a_server_that_vanishes_is_away_until_it_is_back(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    ledger = Ledger.open(postgresql.url(), tmp_path)
    ledger.insert([row(1)])
    postgresql.kill()
    try:
        with pytest.raises(LedgerUnavailable):
            ledger.insert([row(2)])
    finally:
        postgresql.start()
    assert ledger.insert([row(1), row(2)]) == [row(2)]
    ledger.close()
