"""What is written of a request: its start before anybody is asked, marks while it lasts, one row or none."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.call import Ending, Metered, Outcome, Target, Underway
from proxy.errors import Fault
from proxy.journal_records import LARGEST_COST, Marked, Started
from proxy.settings import JournalFull, JournalSync
from proxy.steps.record import Entry, Recorder, writable
from proxy.upstream.exchange import Answer
from proxy.upstream.pump import Pump
from proxy.usage import Usage, UsageSource
from proxy.usage_record import UsageRecord
from specimens import call, identity, target

BEGAN = 1_800_000_000_500
ENTRY = Entry(call(metadata={"order": 7}), identity(), BEGAN)
TWO = (target("one", called="its-name"), target("two"))
SERVED = Outcome(
    Ending.COMPLETE, TWO[1], 2, reached=True, usage=Usage(10, 5), source=UsageSource.UPSTREAM, upstream_id="chatcmpl-9"
)
METERED = Metered(Usage(10, 5, cached=4, reasoning=2), UsageSource.UPSTREAM, 1_234)


class NotingJournal:
    """Keeps what it is told; what it answers is what a test says."""

    def __init__(self, *, writes: bool = True, syncs: bool = True) -> None:
        self.said: list[Any] = []
        self._writes = writes
        self._syncs = syncs

    def start(self, started: Started) -> bool:
        self.said.append(started)
        return self._writes

    def mark(self, marked: Marked) -> None:
        self.said.append(marked)

    def end(self, record: UsageRecord) -> None:
        self.said.append(record)

    def drop(self, request_id: str) -> None:
        self.said.append(request_id)

    async def synced(self) -> bool:
        self.said.append("synced")
        return self._syncs


def begin(
    journal: NotingJournal,
    sync: JournalSync = JournalSync.GROUP,
    full: JournalFull = JournalFull.BLOCK,
    targets: Sequence[Target] = TWO,
) -> Fault | None:
    return asyncio.run(Recorder(journal, sync, full).begin(ENTRY, targets))


def end(outcome: Outcome, metered: Metered = METERED, **changes: Any) -> Any:
    journal = NotingJournal()
    recorder = Recorder(journal, JournalSync.GROUP, JournalFull.BLOCK)
    recorder.end(ENTRY, outcome, metered, **{"status": 200, "ttft": 0.0126, "duration": 1.5, **changes})
    (said,) = journal.said
    return said


def test_a_start_says_who_asks_for_what_at_which_prices() -> None:
    journal = NotingJournal()
    assert begin(journal) is None
    (said,) = journal.said
    assert said == Started(
        request_id="req_1",
        account="acme",
        key_id="key_1",
        endpoint="chat",
        model="lab/model",
        provider="one",
        upstream_model="its-name",
        stream=False,
        prompt_tokens=7,
        price_prompt="0.0000008",
        price_completion="0.0000016",
        price_input_cache_read="0.0000002",
        started_at=BEGAN,
        metadata='{"order": 7}',
    )


def test_a_call_that_nobody_will_be_asked_about_has_no_start() -> None:
    journal = NotingJournal()
    assert begin(journal, targets=()) is None
    assert journal.said == []


def test_a_start_that_cannot_be_written_refuses_the_request() -> None:
    fault = begin(NotingJournal(writes=False))
    assert fault is not None
    assert (fault.status, fault.code, fault.reason) == (503, "overloaded", "journal_unavailable")


def test_a_start_that_cannot_be_written_lets_the_request_continue_if_the_operator_says_so() -> None:
    assert begin(NotingJournal(writes=False), full=JournalFull.CONTINUE) is None


def test_the_disk_is_waited_for_only_if_the_operator_says_so() -> None:
    group, always = NotingJournal(), NotingJournal()
    begin(group)
    begin(always, JournalSync.ALWAYS)
    assert "synced" not in group.said
    assert always.said[-1] == "synced"


@pytest.mark.parametrize(("full", "refused"), [(JournalFull.BLOCK, True), (JournalFull.CONTINUE, False)])
def test_a_disk_that_takes_too_long_is_as_one_that_is_full(full: JournalFull, refused: bool) -> None:
    assert (begin(NotingJournal(syncs=False), JournalSync.ALWAYS, full) is not None) is refused


def test_a_request_that_reached_a_provider_is_a_row() -> None:
    assert end(SERVED) == UsageRecord(
        request_id="req_1",
        upstream_id="chatcmpl-9",
        account="acme",
        key_id="key_1",
        endpoint="chat",
        model="lab/model",
        provider="two",
        upstream_model="lab/model",
        stream=False,
        status=200,
        ending="complete",
        usage_source="upstream",
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=5,
        reasoning_tokens=2,
        cost_pusd=1_234,
        price_prompt="0.0000008",
        price_completion="0.0000016",
        price_input_cache_read="0.0000002",
        attempts=2,
        started_at=BEGAN,
        ttft_ms=13,
        duration_ms=1_500,
        metadata='{"order": 7}',
    )


@pytest.mark.parametrize("outcome", [replace(SERVED, reached=False), replace(SERVED, target=None)])
def test_a_request_that_reached_no_provider_has_no_row(outcome: Outcome) -> None:
    assert end(outcome) == "req_1"


def test_what_is_not_known_is_left_out() -> None:
    row = end(SERVED, Metered(Usage(10, 5), UsageSource.UPSTREAM, 0), ttft=None)
    assert (row.ttft_ms, row.reasoning_tokens) == (None, 0)


def test_a_cost_that_no_database_can_hold_is_the_largest_that_one_can() -> None:
    assert end(SERVED, Metered(Usage(10, 5), UsageSource.UPSTREAM, 2**70)).cost_pusd == LARGEST_COST


@pytest.mark.parametrize("upstream_id", ["chatcmpl-9", "gen-1733:a/b+c=.d@e", "x" * 256, None])
def test_an_id_that_is_a_name_is_written_down(upstream_id: str | None) -> None:
    assert writable(upstream_id) == upstream_id


@pytest.mark.parametrize("upstream_id", ["a\0b", "a\nb", "\ud83d", "é世", "a b", "", "-", "x" * 257])
def test_an_id_that_is_no_name_is_left_out(upstream_id: str) -> None:
    assert writable(upstream_id) is None


class Standing(Pump):
    """A stream that stands still."""

    def __init__(self, first_byte_at: float | None) -> None:
        self.first_byte_at = first_byte_at
        self._stream = self

    upstream_id = "chatcmpl-9"
    busy = False

    def usage(self) -> tuple[Usage, UsageSource]:
        return Usage(10, 5, cached=4), UsageSource.ESTIMATED


class Waiting(Answer):
    """A whole answer that has not come."""

    def __init__(self) -> None:
        pass


def marks(exchange: Pump | Answer, before: float, now: float) -> list[Any]:
    journal = NotingJournal()
    recorder = Recorder(journal, JournalSync.GROUP, JournalFull.BLOCK)
    recorder.mark({exchange: Underway(ENTRY.call, TWO[1], 2)}, before, now, BEGAN + 5_000)
    return journal.said


def test_a_mark_says_how_far_a_stream_is() -> None:
    (mark,) = marks(Standing(100.0), 101.95, 102.05)
    assert mark == Marked(
        request_id="req_1",
        provider="two",
        upstream_model="lab/model",
        upstream_id="chatcmpl-9",
        attempts=2,
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=5,
        reasoning_tokens=0,
        first_byte_at=BEGAN + 5_000 - 2_050,
        marked_at=BEGAN + 5_000,
    )


def test_a_stream_is_marked_once_every_two_seconds() -> None:
    stream, sweeps = Standing(100.0), [100 + number / 10 for number in range(1, 101)]
    made = [now for before, now in itertools.pairwise(sweeps) if marks(stream, before, now)]
    assert len(made) == 5
    assert all(later - earlier == pytest.approx(2) for earlier, later in itertools.pairwise(made))


@pytest.mark.parametrize("exchange", [Standing(None), Waiting()])
def test_what_has_not_begun_and_what_is_no_stream_is_not_marked(exchange: Pump | Answer) -> None:
    assert marks(exchange, 0.0, 1_000.0) == []


def test_a_stream_that_began_between_two_looks_is_not_marked_for_it() -> None:
    assert marks(Standing(100.05), 100.0, 100.1) == []
