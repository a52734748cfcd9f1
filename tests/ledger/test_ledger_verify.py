"""`ledger verify` finds every way in which a ledger can disagree with itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_rows import HOUR, NOON, record
from sqlalchemy import text

from proxy.journal_records import LARGEST_COST
from proxy.ledger.database import Ledger
from proxy.ledger.verify import checks, count


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open("embedded", tmp_path)
    rows = [record(str(number), started_at=NOON + number * HOUR // 3, account="ab"[number % 2]) for number in range(9)]
    ledger.insert([*rows, record("free", cost_pusd=0, prompt_tokens=0, cached_tokens=0, completion_tokens=0)])
    yield ledger
    ledger.close()


def broken(ledger: Ledger) -> list[str]:
    with ledger.reading() as connection:
        assert count(connection) == 10
        return [check.name for check in checks(connection) if not check.ok]


def test_a_ledger_that_was_only_written_by_the_gateway_holds(ledger: Ledger):
    assert broken(ledger) == []


def test_a_cost_that_is_cut_at_the_largest_that_can_be_written_is_right(ledger_url: str, tmp_path: Path):
    ledger = Ledger.open(ledger_url, tmp_path)
    ledger.insert([record("1", price_completion="1", completion_tokens=10**9, cost_pusd=LARGEST_COST)])
    with ledger.reading() as connection:
        assert [check for check in checks(connection) if not check.ok] == []
    ledger.close()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE usage SET cost_pusd = cost_pusd + 1 WHERE request_id = '3'", "cost is tokens times prices"),
        ("UPDATE usage SET price_prompt = '0.000001' WHERE request_id = '3'", "cost is tokens times prices"),
        ("UPDATE usage SET price_completion = 'free' WHERE request_id = '3'", "cost is tokens times prices"),
        ("UPDATE usage SET cached_tokens = prompt_tokens + 1 WHERE request_id = '3'", "cost is tokens times prices"),
        ("UPDATE usage_hourly SET requests = requests + 1 WHERE account = 'a'", "hourly sums equal rows"),
        ("UPDATE usage_hourly SET cost_low = cost_low - 1 WHERE account = 'a'", "hourly sums equal rows"),
        ("DELETE FROM usage_hourly WHERE account = 'a'", "hourly sums equal rows"),
        ("UPDATE usage_daily SET completion_tokens = 0 WHERE account = 'a'", "daily sums equal rows"),
        ("DELETE FROM usage_daily WHERE account = 'a'", "daily sums equal rows"),
        ("UPDATE usage SET started_at = started_at + 3600000 WHERE request_id = '3'", "hourly sums equal rows"),
        ("UPDATE usage_account SET tokens = tokens + 1 WHERE account = 'a'", "account totals equal rows"),
        ("UPDATE usage_account SET charged_nusd = 0 WHERE account = 'a'", "account totals equal rows"),
        ("UPDATE usage SET account = 'b' WHERE request_id = '2'", "account totals equal rows"),
    ],
)
def test_damage_is_found(ledger: Ledger, damage: str, found: str):
    with ledger.writing() as connection:
        connection.execute(text(damage))
    assert found in broken(ledger)


def test_what_is_wrong_is_named(ledger: Ledger):
    with ledger.writing() as connection:
        connection.execute(text("UPDATE usage SET cost_pusd = cost_pusd + 1 WHERE request_id < '5'"))
    with ledger.reading() as connection:
        (costs,) = [check for check in checks(connection) if not check.ok and check.name.startswith("cost")]
    assert costs.detail == "10 rows; wrong: 0, 1, 2 and 2 more"
