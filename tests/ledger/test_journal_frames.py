"""Frames are found again whatever happened to the bytes around them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.journal_frames import HEAD_BYTES, LONGEST, MARK, frame, scan

PAYLOADS = st.lists(st.binary(max_size=40), max_size=6)


@given(PAYLOADS)
def test_what_was_framed_is_found_in_its_order(payloads: list[bytes]) -> None:
    data = b"".join(map(frame, payloads))
    found = scan(data, final=True)
    assert (found.payloads, found.consumed, found.skipped) == (payloads, len(data), 0)


@given(PAYLOADS, st.binary(min_size=1, max_size=40))
def test_a_last_frame_that_is_torn_anywhere_leaves_those_before_it(payloads: list[bytes], last: bytes) -> None:
    before, torn = b"".join(map(frame, payloads)), frame(last)
    for length in range(len(torn)):
        found = scan(before + torn[:length], final=True)
        assert found.payloads == payloads
        assert (found.consumed, found.skipped) == (len(before) + length, length)


@given(PAYLOADS, st.binary(min_size=1, max_size=40))
def test_a_frame_that_is_still_being_written_is_waited_for(payloads: list[bytes], last: bytes) -> None:
    before, torn = b"".join(map(frame, payloads)), frame(last)
    for length in range(len(torn)):
        found = scan(before + torn[:length], final=False)
        assert (found.payloads, found.consumed, found.skipped) == (payloads, len(before), 0)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.data(), st.booleans())
def test_a_bit_that_turned_over_costs_the_frame_that_it_is_in_and_no_other(
    payloads: list[bytes], data: st.DataObject, final: bool
) -> None:
    frames = [frame(payload) for payload in payloads]
    broken = data.draw(st.integers(0, len(frames) - 1))
    bit = data.draw(st.integers(0, 8 * len(frames[broken]) - 1))
    damaged = bytearray(frames[broken])
    damaged[bit // 8] ^= 1 << bit % 8
    found = scan(b"".join([*frames[:broken], damaged, *frames[broken + 1 :]]), final=final)
    assert found.payloads == payloads[:broken] + payloads[broken + 1 :]
    if final or broken < len(frames) - 1:
        assert found.skipped == len(damaged)


@given(PAYLOADS, st.binary(max_size=60), PAYLOADS)
def test_garbage_between_frames_is_passed_over_and_counted(
    before: list[bytes], garbage: bytes, after: list[bytes]
) -> None:
    data = b"".join([*map(frame, before), garbage, *map(frame, after)])
    found = scan(data, final=True)
    assert found.payloads == before + after
    assert found.skipped == len(garbage)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_at_all_are_read_without_an_error(data: bytes, final: bool) -> None:
    found = scan(data, final=final)
    assert 0 <= found.skipped <= found.consumed <= len(data)
    assert not final or found.consumed == len(data)


@given(PAYLOADS, st.lists(st.integers(0, 300), max_size=4))
def test_reading_in_pieces_finds_what_reading_at_once_finds(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(frame, payloads)) + b"torn"
    read, at = [], 0
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        found = scan(data[at:end], final=False)
        read += found.payloads
        at += found.consumed
    assert read == payloads


@given(st.text())
def test_no_text_can_be_taken_for_a_frame(text: str) -> None:
    assert MARK[:1] not in text.encode()
    assert MARK[1:] not in text.encode()


def test_a_length_that_nobody_wrote_is_not_waited_for() -> None:
    endless = MARK + b"\xff\xff\xff\xff" + b"\0" * 4
    data = endless + b"x" * (LONGEST + HEAD_BYTES)
    assert scan(data, final=False).consumed == len(endless)


def test_a_record_that_no_reader_would_believe_is_not_written() -> None:
    assert len(frame(b"x" * LONGEST)) == LONGEST + HEAD_BYTES
    with pytest.raises(ValueError, match="does not fit"):
        frame(b"x" * (LONGEST + 1))


def test_zeros_where_a_frame_was_to_be_are_no_frame() -> None:
    """What a power cut leaves of a file that had grown but was not filled."""
    data = frame(b"one") + MARK + bytes(4_000)
    found = scan(data, final=True)
    assert (found.payloads, found.skipped) == ([b"one"], len(data) - len(frame(b"one")))
