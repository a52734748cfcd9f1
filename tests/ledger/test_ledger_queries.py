"""What the ledger answers: sums to the millisecond, whatever the hours, and rows in their order."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_rows import HOUR, NOON, record

from proxy.drift import Charge
from proxy.ledger.database import Ledger
from proxy.ledger.queries import (
    By,
    Selection,
    _parts,
    charged_in_all,
    charged_since,
    charges,
    charges_of,
    identity,
    sums,
)
from proxy.ledger.requests import Filter, rows
from proxy.usage_record import UsageRecord


def record_of(row: Sequence[Any]) -> UsageRecord:
    return UsageRecord(**dict(zip(UsageRecord.__struct_fields__, row, strict=True)))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open("embedded", tmp_path)
    yield ledger
    ledger.close()


def test_usage_is_summed_by_the_columns_asked_for(ledger: Ledger):
    written = [record("a"), record("b", model="demo/other"), record("c", account="zeta", usage_source="estimated")]
    ledger.insert(written)
    with ledger.reading() as connection:
        found = sums(connection, Selection(), [By.ACCOUNT, By.MODEL])
    assert list(found) == [("acme", "demo/echo"), ("acme", "demo/other"), ("zeta", "demo/echo")]
    one = found["zeta", "demo/echo"]
    assert (one.requests, one.estimated_requests, one.prompt_tokens, one.cached_tokens) == (1, 1, 100, 40)
    assert (one.completion_tokens, one.reasoning_tokens, one.cost_pusd) == (10, 3, written[2].cost_pusd)


def test_without_columns_there_is_one_group_and_for_no_rows_none(ledger: Ledger):
    with ledger.reading() as connection:
        assert sums(connection, Selection(), []) == {}
    ledger.insert([record("a"), record("b")])
    with ledger.reading() as connection:
        assert sums(connection, Selection(), [])[()].requests == 2


def test_days_and_hours_are_told_apart_in_utc(ledger: Ledger):
    ledger.insert([record("a"), record("b", started_at=NOON + 11 * HOUR), record("c", started_at=NOON + 12 * HOUR)])
    with ledger.reading() as connection:
        days = sums(connection, Selection(), [By.DAY])
        hours = sums(connection, Selection(), [By.HOUR])
    assert [(day, used.requests) for (day,), used in days.items()] == [(NOON - 12 * HOUR, 2), (NOON + 12 * HOUR, 1)]
    assert [hour for (hour,) in hours] == [NOON, NOON + 11 * HOUR, NOON + 12 * HOUR]


def test_a_cost_beyond_64_bits_is_summed_exactly(ledger: Ledger):
    ledger.insert([record(str(number), cost_pusd=2**63 - 1) for number in range(3)])
    with ledger.reading() as connection:
        assert sums(connection, Selection(), [By.KEY])[("key_1",)].cost_pusd == 3 * (2**63 - 1)


moments = st.one_of(
    st.integers(NOON - 3 * HOUR, NOON + 3 * HOUR),
    st.integers(NOON - 60 * HOUR, NOON + 60 * HOUR),
    st.sampled_from([NOON, NOON - 1, NOON + HOUR, NOON - 12 * HOUR, NOON + 12 * HOUR, NOON + 12 * HOUR - 1]),
)


@given(st.lists(moments, max_size=12), st.none() | moments, st.none() | moments)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_span_of_time_holds_exactly_what_began_in_it(
    tmp_path_factory: pytest.TempPathFactory, started: list[int], since: int | None, until: int | None
):
    ledger = Ledger.open("embedded", tmp_path_factory.mktemp("ledger"))
    try:
        ledger.insert([record(str(number), started_at=moment) for number, moment in enumerate(started)])
        chosen, listing = Selection(since=since, until=until), Filter(since=since, until=until)
        with ledger.reading() as connection:
            summed = sums(connection, chosen, [])
            listed = [record_of(row).started_at for row in rows(connection, listing)]
    finally:
        ledger.close()
    inside = [it for it in started if (since is None or it >= since) and (until is None or it < until)]
    assert listed == sorted(inside)
    assert (summed[()].requests if summed else 0) == len(inside)


def test_only_the_account_asked_for_is_told(ledger: Ledger):
    ledger.insert([record("a"), record("b", account="zeta")])
    with ledger.reading() as connection:
        assert [record_of(row).request_id for row in rows(connection, Filter(account="zeta"))] == ["b"]
        assert list(sums(connection, Selection(account="zeta"), [By.ACCOUNT])) == [("zeta",)]


def test_rows_come_back_as_they_were_written(ledger: Ledger):
    written = [record("a", metadata='{"a":1}'), record("b", ttft_ms=None, upstream_id=None)]
    ledger.insert(written)
    with ledger.reading() as connection:
        assert [record_of(row) for row in rows(connection, Filter())] == written


def test_a_charge_is_rounded_up_once_per_request(ledger: Ledger):
    ledger.insert([record("a", cost_pusd=1), record("b", cost_pusd=1001, started_at=NOON + 13 * HOUR)])
    with ledger.reading() as connection:
        assert charges(connection) == {"acme": Charge(220, 3)}
        assert charged_in_all(connection, "acme") == Charge(220, 3)
        assert charged_in_all(connection, "nobody") == Charge()
        assert charged_since(connection, "acme", NOON - 12 * HOUR) == Charge(220, 3)
        assert charged_since(connection, "acme", NOON + 12 * HOUR) == Charge(110, 2)
        assert charges_of(connection, ["a", "nothing", "b"]) == {"a": Charge(110, 1), "b": Charge(110, 2)}


def test_a_ledger_has_a_name_of_its_own_that_stays(tmp_path: Path):
    names = []
    for folder in ("one", "one", "two"):
        (tmp_path / folder).mkdir(exist_ok=True)
        ledger = Ledger.open("embedded", tmp_path / folder)
        with ledger.reading() as connection:
            names.append(identity(connection))
        ledger.close()
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("column", By)
def test_what_is_asked_since_a_moment_reads_no_whole_table(ledger: Ledger, column: By):
    with ledger.reading() as connection:
        for query in _parts(Selection(since=NOON + 1), [column]):
            text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
            plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
            assert any(step.startswith("SEARCH") for step in plan), plan
            assert not [step for step in plan if step.startswith("SCAN")], plan
