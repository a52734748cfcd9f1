"""From journals to the ledger: every row once, whatever dies, is away or is broken on the way."""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from postgresql_server import PostgresqlServer
from prometheus_client import CollectorRegistry
from reading_ledger import rows_in, sums_in, sums_of
from rows import HOUR, marked, row, started
from structlog import get_logger
from structlog.testing import capture_logs

from proxy.journal_frames import frame
from proxy.journal_records import Dropped, Ended, Opened, Record, encode
from proxy.ledger import sink as module
from proxy.ledger.database import Ledger, LedgerUnavailable
from proxy.ledger.journal import Journal
from proxy.ledger.migrations import NewerLedger
from proxy.ledger.segments import DAMAGED, Folder
from proxy.ledger.sink import SET_ASIDE, Sink, Stopped, start_sink
from proxy.metrics_ledger import LedgerMetrics
from proxy.usage_record import UsageRecord

LATER = (HOUR + 60_000) / 1000
"""A minute after the requests of these tests, in Unix seconds."""


class Bench:
    """A journal folder, a ledger, and the sink between them."""

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.root = root
        self.ledger = ledger
        self.registry = CollectorRegistry()
        self.metrics = LedgerMetrics(self.registry)
        self.now = LATER
        self.away: list[str] = []
        """Why the ledger cannot be opened: one word for every time."""
        self.sink = self.new_sink()

    def new_sink(self) -> Sink:
        return Sink(self.root, self._open, self.metrics, get_logger(), lambda: self.now)

    def _open(self) -> Ledger:
        if self.away:
            raise LedgerUnavailable(self.away.pop())
        return self.ledger

    def kill_sink(self) -> None:
        """What the kernel does to a sink that is killed: its locks are free."""
        self.sink._let_go()
        if self.sink._lock is not None:
            os.close(self.sink._lock)
        self.sink = self.new_sink()

    def carry(self) -> None:
        """Carry over all there is."""
        while self.sink.carry():
            pass

    def dead(self, *segments: list[Record], name: str = "dead") -> Folder:
        """The journal of a process that has died."""
        folder, lock = Folder.create(self.root, name)
        for number, records in enumerate(segments, 1):
            folder.segment(number).write_bytes(b"".join(frame(encode(record)) for record in records))
        os.close(lock)
        return folder

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def check(self, *wanted: UsageRecord) -> None:
        """The ledger has these rows and no others, and sums that are theirs."""
        rows = rows_in(self.ledger)
        assert rows == sorted(wanted, key=lambda one: one.request_id)
        assert sums_in(self.ledger) == sums_of(rows)


@pytest.fixture
def bench(tmp_path: Path, ledger: Ledger) -> Bench:
    return Bench(tmp_path / "journal", ledger)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Bench]:
    """The same with SQLite alone, where the kind of database makes no difference."""
    ledger = Ledger.open("embedded", tmp_path)
    yield Bench(tmp_path / "journal", ledger)
    ledger.close()


def quiet(_trouble: str | None) -> None:
    pass


def ended(*numbers: int) -> list[Record]:
    return [record for number in numbers for record in (started(number), Ended(row(number)))]


# what lives


async def test_rows_of_a_living_process_are_carried_over_as_they_are_written(bench: Bench) -> None:
    journal = Journal(bench.root, "one", quiet)
    journal.start(started(1))
    journal.start(started(2))
    bench.carry()
    bench.check()
    journal.end(row(1))
    bench.carry()
    bench.check(row(1))
    journal.end(row(2))
    bench.carry()
    bench.check(row(1), row(2))
    await journal.close()


async def test_the_journals_of_several_processes_are_carried_over_together(quick: Bench) -> None:
    journals = [Journal(quick.root, f"process-{number}", quiet) for number in range(3)]
    for number in range(9):
        journals[number % 3].end(row(number))
    quick.carry()
    quick.check(*(row(number) for number in range(9)))
    for journal in journals:
        await journal.close()


async def test_a_segment_goes_when_its_rows_are_in_the_ledger_and_another_has_followed(quick: Bench) -> None:
    journal = Journal(quick.root, "one", quiet, segment_bytes=1)
    journal.start(started(1))
    journal.start(started(2))
    journal.end(row(1))
    quick.carry()
    (folder,) = Folder.all_in(quick.root)
    assert folder.numbers() == [1]
    await journal.tend()
    quick.carry()
    assert folder.numbers() == [2]
    journal.end(row(2))
    quick.carry()
    quick.check(row(1), row(2))
    assert folder.numbers() == [2], "its writer lives"
    await journal.close()


async def test_a_sink_that_was_killed_begins_anew_and_doubles_nothing(bench: Bench) -> None:
    journal = Journal(bench.root, "one", quiet)
    for number in range(5):
        journal.end(row(number))
    bench.carry()
    bench.kill_sink()
    journal.end(row(5))
    bench.carry()
    bench.check(*(row(number) for number in range(6)))
    await journal.close()


async def test_of_two_sinks_on_one_directory_one_works_and_the_other_takes_over_when_it_dies(quick: Bench) -> None:
    journal = Journal(quick.root, "one", quiet)
    journal.end(row(1))
    quick.carry()
    second = quick.new_sink()
    journal.end(row(2))
    assert not second.carry()
    quick.check(row(1))
    quick.kill_sink()
    assert second.carry()
    quick.check(row(1), row(2))
    second._let_go()
    second._close()
    await journal.close()


def test_a_segment_goes_only_when_the_next_one_is_on_the_disk(quick: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = quick.dead(ended(1), ended(2))
    done: list[str] = []
    fsync, unlink = os.fsync, os.unlink
    monkeypatch.setattr(
        os, "fsync", lambda file: (done.append(str(Path(f"/proc/self/fd/{file}").readlink())), fsync(file))
    )
    monkeypatch.setattr(os, "unlink", lambda path: (done.append(f"remove {path}"), unlink(path)))
    quick.carry()
    first, second = folder.segment(1), folder.segment(2)
    assert done[:4] == [str(second), str(folder.path), f"remove {first}", f"remove {second}"]


async def test_damage_is_told_as_soon_as_it_is_found(quick: Bench) -> None:
    folder, lock = Folder.create(quick.root, "one")
    folder.segment(1).write_bytes(b"damage" + frame(encode(Ended(row(1)))))
    with capture_logs() as logs:
        quick.carry()
    quick.check(row(1))
    assert quick.metric("aion_journal_damage_total") == 1
    assert "cannot be read" in logs[0]["event"]
    assert folder.numbers() == [1], "its writer lives"
    os.close(lock)


def test_a_segment_that_ends_in_half_a_record_is_damaged_when_another_has_followed(quick: Bench) -> None:
    folder, lock = Folder.create(quick.root, "one")
    half = frame(encode(Ended(row(2))))[:-1]
    folder.segment(1).write_bytes(frame(encode(Ended(row(1)))) + half)
    quick.carry()
    assert quick.metric("aion_journal_damage_total") == 0, "its writer may be in the middle of it"
    folder.segment(2).write_bytes(frame(encode(Opened(0))))
    quick.carry()
    quick.check(row(1))
    assert quick.metric("aion_journal_damage_total") == 1
    assert len(list((quick.root / DAMAGED).iterdir())) == 1
    os.close(lock)


# what died


def test_what_a_dead_process_left_becomes_rows_and_its_journal_goes(bench: Bench) -> None:
    folder = bench.dead([*ended(1), started(2), marked(2), started(3), started(4), Dropped(row(4).request_id)])
    bench.carry()
    rows = {found.request_id: found for found in rows_in(bench.ledger)}
    assert rows.keys() == {row(number).request_id for number in (1, 2, 3)}
    assert rows[row(1).request_id] == row(1)
    assert (rows[row(2).request_id].ending, rows[row(2).request_id].completion_tokens) == ("crashed", 7)
    assert (rows[row(3).request_id].ending, rows[row(3).request_id].prompt_tokens) == ("crashed", 9)
    assert sums_in(bench.ledger) == sums_of(list(rows.values()))
    assert not folder.path.exists()


async def test_a_process_that_dies_while_it_is_followed_is_taken_over(quick: Bench) -> None:
    journal = Journal(quick.root, "one", quiet)
    journal.start(started(1))
    journal.start(started(2))
    journal.end(row(2))
    quick.carry()
    await journal.close()
    quick.carry()
    assert [found.ending for found in rows_in(quick.ledger)] == ["crashed", "complete"]
    assert Folder.all_in(quick.root) == []


async def test_a_journal_that_was_closed_in_order_leaves_nothing(quick: Bench) -> None:
    journal = Journal(quick.root, "one", quiet)
    journal.start(started(1))
    journal.end(row(1))
    await journal.close()
    quick.carry()
    quick.check(row(1))
    assert [path.name for path in quick.root.iterdir()] == ["sink.lock"]


class Killed(BaseException):
    """The process is gone."""


STEPS = ("rename", "unlink", "rmdir", "fsync")


def killing(monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> Callable[[], int]:
    """Have the process die at its step number `at`: before or after it is done. Returns how many steps there were."""
    steps = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == at and not after:
                raise Killed
            result = real(*arguments, **named)
            if steps == at:
                raise Killed
            return result

        return step

    for name in STEPS:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    monkeypatch.setattr(Ledger, "insert", wrap(Ledger.insert))
    return lambda: steps


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_recovery_that_is_killed_at_any_step_loses_and_doubles_nothing(
    quick: Bench, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    torn = frame(encode(Ended(row(99))))[:-1]
    at, steps = 0, math.inf
    while at <= steps:
        at += 1
        with quick.ledger.writing() as connection:
            for table in ("usage", "usage_hourly", "usage_daily"):
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - a constant
        a = quick.dead([*ended(1, 2), started(3), started(4), started(5)], name="a")
        carried = [*ended(4), Dropped(row(5).request_id), started(6)]
        a.segment(2).write_bytes(b"".join(frame(encode(record)) for record in carried) + torn)
        quick.dead([*ended(7), started(8)], name="b")
        with monkeypatch.context() as killer, suppress(Killed):
            count = killing(killer, at, after=after)
            quick.carry()
            steps = count()
        quick.kill_sink()
        quick.carry()
        endings = {found.request_id: found.ending for found in rows_in(quick.ledger)}
        complete, crashed = (1, 2, 4, 7), (3, 6, 8)
        assert endings == {
            **{row(number).request_id: "complete" for number in complete},
            **{row(number).request_id: "crashed" for number in crashed},
        }, f"killed at step {at}"
        assert sums_in(quick.ledger) == sums_of(rows_in(quick.ledger)), f"killed at step {at}"
        assert Folder.all_in(quick.root) == []
    assert at > 10, "there are that many steps to die at"


def test_a_removal_that_was_interrupted_is_finished(quick: Bench) -> None:
    (quick.root / "half-removed").mkdir(parents=True)
    quick.carry()
    assert not (quick.root / "half-removed").exists()


# what is broken


def test_a_torn_last_record_is_passed_over_counted_and_kept_for_a_person(quick: Bench) -> None:
    folder = quick.dead(ended(1))
    whole = folder.segment(1).read_bytes()
    folder.segment(1).write_bytes(whole + frame(encode(Ended(row(2))))[:-1])
    with capture_logs() as logs:
        quick.carry()
    quick.check(row(1))
    assert quick.metric("aion_journal_damage_total") == 1
    assert [log["log_level"] for log in logs] == ["error"]
    (kept,) = (quick.root / DAMAGED).iterdir()
    assert kept.read_bytes().startswith(whole)


def test_the_lost_end_of_a_request_is_estimated_even_while_its_writer_lives(quick: Bench) -> None:
    folder, lock = Folder.create(quick.root, "one")
    broken = bytearray(frame(encode(Ended(row(1)))))
    broken[40] ^= 1
    folder.segment(1).write_bytes(frame(encode(started(1))) + broken + frame(encode(Ended(row(2)))))
    quick.carry()
    quick.check(row(2))
    folder.segment(2).write_bytes(frame(encode(Opened(0))))
    quick.carry()
    assert [found.ending for found in rows_in(quick.ledger)] == ["crashed", "complete"]
    os.close(lock)


def test_a_record_that_cannot_be_understood_is_counted_and_others_go_on(quick: Bench) -> None:
    folder = quick.dead([])
    folder.segment(1).write_bytes(frame(b"\x93\x01\x02\x03") + frame(encode(Ended(row(1)))))
    quick.carry()
    quick.check(row(1))
    assert quick.metric("aion_journal_damage_total") == 1


def test_a_lost_request_that_cannot_be_priced_is_counted_and_others_go_on(quick: Bench) -> None:
    quick.dead([replace(started(1), price_prompt="free"), started(2)])
    quick.dead([Ended(row(3))], name="other")
    quick.carry()
    assert [found.request_id for found in rows_in(quick.ledger)] == [row(2).request_id, row(3).request_id]
    assert quick.metric("aion_journal_damage_total") == 1


def test_a_row_that_the_ledger_refuses_is_set_aside_after_three_tries_and_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = row(3, provider="a\0b" if bench.ledger.engine.dialect.name == "postgresql" else "p", cost_pusd=2**63 + 5)
    tries: list[int] = []
    insert = Ledger.insert
    monkeypatch.setattr(Ledger, "insert", lambda self, rows: (tries.append(len(rows)), insert(self, rows))[1])
    folder = bench.dead([])
    records = b"".join(frame(encode(Ended(row(number)))) for number in (1, 2, 4, 5))
    unwritten = frame(encode(Ended(poison)))
    folder.segment(1).write_bytes(records + unwritten)
    with capture_logs() as logs:
        bench.carry()
    bench.check(row(1), row(2), row(4), row(5))
    (line,) = (bench.root / SET_ASIDE).read_text().splitlines()
    assert json.loads(line)["row"]["request_id"] == poison.request_id
    assert json.loads(line)["why"]
    assert tries.count(1) >= 3
    assert bench.metric("aion_ledger_set_aside_total") == 1
    assert [log["request_id"] for log in logs] == [poison.request_id]
    assert bench.sink.lag() == 0


def test_a_journal_of_a_newer_version_is_left_alone_and_told_of(quick: Bench) -> None:
    folder = quick.dead(ended(1), name="newer")
    (folder.path / "00000002.j2").write_bytes(b"?")
    quick.dead(ended(2), name="ours")
    with capture_logs() as logs:
        quick.carry()
    quick.check(row(2))
    assert "newer aion-proxy" in logs[0]["event"]
    assert folder.numbers() == [1]


def test_a_bug_costs_nothing_but_beginning_anew(quick: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    quick.dead(ended(1, 2))
    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr(Ledger, "insert", lambda *_: 1 / 0)
        assert not quick.sink._pass()
    assert logs[0]["error"] == "ZeroDivisionError"
    quick.carry()
    quick.check(row(1), row(2))


# what is away


def test_while_the_ledger_is_away_rows_wait_and_nothing_of_the_journal_goes(
    quick: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    folder = quick.dead(ended(1), ended(2))
    seen: list[tuple[float, list[int]]] = []
    quick.away = ["away"] * 3
    opening = quick._open

    def watched() -> Ledger:
        quick.now += 1
        seen.append((quick.sink.lag(), folder.numbers()))
        return opening()

    quick.sink._open_ledger = watched
    with capture_logs() as logs:
        quick.carry()
    quick.check(row(1), row(2))
    assert seen == [(pytest.approx(lag, abs=1), [1, 2]) for lag in (60, 61, 62, 63)]
    assert [log["event"] for log in logs] == ["the ledger is away: rows wait in the journal", "the ledger is back"]
    assert logs[0]["detail"] == "away"
    assert quick.sink.lag() == 0


def test_a_sink_that_is_stopped_while_the_ledger_is_away_leaves_the_rows_for_the_next(quick: Bench) -> None:
    quick.dead(ended(1))
    quick.away = ["away"]
    quick.sink._stop.set()
    with pytest.raises(Stopped):
        quick.sink.carry()
    quick.kill_sink()
    quick.carry()
    quick.check(row(1))


def test_a_database_that_vanishes_is_waited_for(
    postgresql: PostgresqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    ledger = Ledger.open(postgresql.url(), tmp_path)
    bench = Bench(tmp_path / "journal", ledger)
    bench.dead(ended(1, 2), name="a")
    bench.carry()
    bench.dead(ended(3, 4), name="b")
    postgresql.kill()
    bench.sink.start()
    try:
        while bench.sink.lag() == 0:
            pass
    finally:
        postgresql.start()
    assert bench.sink.finish(60)
    ledger = Ledger.open(str(ledger.engine.url.render_as_string()).replace("+psycopg", ""), tmp_path)
    assert len(rows_in(ledger)) == 4
    ledger.close()


# its life


def test_in_its_thread_it_carries_over_what_there_is_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    metrics = LedgerMetrics(CollectorRegistry())
    sink = start_sink("embedded", tmp_path, metrics, get_logger(), lambda: LATER)
    folder, lock = Folder.create(tmp_path / "journal", "one")
    folder.segment(1).write_bytes(b"".join(frame(encode(record)) for record in ended(1)))
    os.close(lock)
    assert sink.finish(30)
    ledger = Ledger.open("embedded", tmp_path)
    assert rows_in(ledger) == [row(1)]
    ledger.close()


def test_it_does_not_start_on_a_ledger_of_a_newer_version(tmp_path: Path) -> None:
    ledger = Ledger.open("embedded", tmp_path)
    with ledger.writing() as connection:
        connection.exec_driver_sql("INSERT INTO ledger_version (version) VALUES (99)")
    ledger.close()
    with pytest.raises(NewerLedger):
        start_sink("embedded", tmp_path, LedgerMetrics(CollectorRegistry()), get_logger(), lambda: LATER)


def test_it_starts_while_the_ledger_is_away(tmp_path: Path) -> None:
    metrics = LedgerMetrics(CollectorRegistry())
    url = f"postgresql://gateway@/ledger?host={tmp_path}"
    with capture_logs() as logs:
        sink = start_sink(url, tmp_path, metrics, get_logger(), lambda: LATER)
        assert sink.finish(30), "there are no rows that wait for it"
    assert logs[0]["event"] == "the ledger is away: rows wait in the journal"


def test_the_page_of_metrics_tells_of_rows_and_journals(quick: Bench) -> None:
    quick.dead([*ended(1), started(2)])
    assert (quick.metric("aion_journal_bytes") or 0) > 400
    quick.carry()
    assert quick.metric("aion_ledger_rows_total", source="upstream") == 1
    assert quick.metric("aion_ledger_rows_total", source="estimated") == 1
    assert quick.metric("aion_journal_bytes") == 0
    assert quick.metric("aion_ledger_lag_seconds") == 0


def test_a_sink_that_no_longer_moves_shows_as_lag(quick: Bench) -> None:
    quick.carry()
    quick.now += 100
    assert quick.metric("aion_ledger_lag_seconds") == 100
