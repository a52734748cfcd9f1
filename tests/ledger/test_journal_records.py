"""What a journal says becomes exactly one row for every request that a provider may have worked on."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace
from rows import HOUR, PRICES, ROWS, marked, row, started

from proxy.journal_records import (
    LARGEST_COST,
    Carried,
    Dropped,
    Ended,
    Opened,
    Record,
    Replay,
    Started,
    crashed,
    decode,
    encode,
)
from proxy.usage_record import UsageRecord


def replayed(*records: Record) -> list[UsageRecord]:
    """The rows of a journal whose writer has died."""
    replay = Replay()
    return [row for record in records for row in replay.take(record)] + list(replay.lost())


@pytest.mark.parametrize(
    "record", [started(), started(metadata='{"a":1}'), marked(), Dropped("req_1"), Carried(started()), Opened(3)]
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert decode(encode(record)) == record


@given(ROWS)
def test_a_row_is_read_as_it_was_written(record: UsageRecord) -> None:
    assert decode(encode(Ended(record))) == Ended(record)


@given(ROWS)
def test_a_row_is_read_as_it_was_written_when_names_stood_with_its_values(record: UsageRecord) -> None:
    assert decode(msgspec.msgpack.encode(["end", asdict(record)])) == Ended(record)


@given(ROWS, st.sampled_from(UsageRecord.__struct_fields__))
def test_a_row_with_names_is_none_if_one_is_missing_or_has_the_wrong_value(record: UsageRecord, name: str) -> None:
    fields = asdict(record)
    assert decode(msgspec.msgpack.encode(["end", {**fields, name: [fields.pop(name)]}])) is None
    assert decode(msgspec.msgpack.encode(["end", fields])) is None


def test_a_row_of_a_later_release_is_read_as_far_as_it_is_known() -> None:
    values = [getattr(row(1), name) for name in UsageRecord.__struct_fields__]
    assert decode(msgspec.msgpack.encode(["end", [*values, "new"]])) == Ended(row(1))


@given(st.binary(max_size=60))
def test_no_bytes_at_all_make_reading_a_record_fail(payload: bytes) -> None:
    decode(payload)


def test_a_record_of_a_kind_that_is_not_known_is_none() -> None:
    assert decode(msgspec.msgpack.encode(["refund", "req_1", 5])) is None


@pytest.mark.parametrize("kind", [lambda record: record, Carried], ids=["started", "carried"])
def test_a_beginning_without_prices_that_can_be_read_is_none(kind: Callable[[Started], Record]) -> None:
    assert decode(encode(kind(replace(started(), price_prompt="free")))) is None


def test_a_request_that_ended_has_the_row_it_ended_with() -> None:
    assert replayed(started(1), marked(1), Ended(row(1))) == [row(1)]


def test_a_request_that_reached_no_provider_has_no_row() -> None:
    assert replayed(started(1), Dropped(row(1).request_id)) == []


def test_a_row_without_a_start_is_a_row() -> None:
    assert replayed(Ended(row(1))) == [row(1)]


def test_a_request_without_an_end_is_billed_at_its_prompt_s_estimate() -> None:
    (lost,) = replayed(started(1))
    assert (lost.ending, lost.usage_source, lost.status, lost.attempts) == ("crashed", "estimated", 500, 1)
    assert (lost.prompt_tokens, lost.completion_tokens, lost.cost_pusd) == (9, 0, PRICES.cost(9, 0, 0))
    assert (lost.provider, lost.ttft_ms, lost.duration_ms) == ("local", None, 0)


def test_a_request_without_an_end_is_billed_at_its_last_mark() -> None:
    (lost,) = replayed(started(1), marked(1, completion_tokens=3), marked(1))
    assert (lost.ending, lost.usage_source) == ("crashed", "estimated")
    assert (lost.prompt_tokens, lost.cached_tokens, lost.completion_tokens, lost.reasoning_tokens) == (10, 4, 7, 1)
    assert lost.cost_pusd == PRICES.cost(10, 4, 7)
    assert (lost.provider, lost.upstream_model, lost.upstream_id) == ("second", "its-name-there", "chatcmpl-second")
    assert (lost.attempts, lost.ttft_ms, lost.duration_ms) == (2, 20, 3_000)
    assert lost.started_at == HOUR + 1


def test_a_clock_that_was_set_back_makes_no_negative_durations() -> None:
    lost = crashed(Carried(started(1), marked(1, first_byte_at=HOUR - 9, marked_at=HOUR - 5)))
    assert (lost.ttft_ms, lost.duration_ms) == (0, 0)


def test_a_lost_request_that_costs_more_than_can_be_written_down_costs_the_most_that_can() -> None:
    lost = crashed(Carried(started(1, price_prompt="1000000", prompt_tokens=10**9)))
    assert lost.cost_pusd == LARGEST_COST


def test_a_request_that_was_carried_into_another_segment_ends_there() -> None:
    replay = Replay()
    for record in (started(1), started(2), Carried(started(1)), Carried(started(2)), Opened(2)):
        assert replay.take(record) == []
    assert replay.take(Ended(row(2))) == [row(2)]
    assert [lost.request_id for lost in replay.lost()] == [row(1).request_id]


def test_a_request_that_was_carried_keeps_its_mark() -> None:
    (lost,) = replayed(Carried(started(1), marked(1)), Opened(1))
    assert lost.completion_tokens == 7


def test_a_request_that_was_not_carried_was_over_and_its_lost_end_is_estimated() -> None:
    replay = Replay()
    for record in (started(1), marked(1), started(2), Carried(started(2))):
        assert replay.take(record) == []
    (lost,) = replay.take(Opened(1))
    assert (lost.request_id, lost.completion_tokens, lost.ending) == (row(1).request_id, 7, "crashed")
    assert [still.request_id for still in replay.lost()] == [row(2).request_id]


def test_where_a_carried_request_cannot_be_read_none_counts_as_over() -> None:
    replay = Replay()
    assert [replay.take(record) for record in (started(1), started(2), Carried(started(2)), Opened(2))] == [[]] * 4
    assert len(list(replay.lost())) == 2
