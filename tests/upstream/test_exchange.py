"""How a whole answer is collected, and that an exchange ends once even if nobody waits for it any more."""

import asyncio

import pytest

from proxy.upstream import exchange
from proxy.upstream.exchange import MAX_ERROR, Answer, Bounds, retry_after_ms
from proxy.wire.upstream_error import UpstreamError
from specimens import Clock

FIRST_BYTE, IDLE, TOTAL, SIZE = 300.0, 120.0, 3600.0, 1 << 20
BOUNDS = Bounds(first_byte=FIRST_BYTE, idle=IDLE, total=TOTAL, size=SIZE)
TRUNCATED = UpstreamError(kind="upstream_truncated")


class FakeConnection:
    def __init__(self) -> None:
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1


class Bench:
    def __init__(self) -> None:
        self.clock = Clock()
        self.connection = FakeConnection()
        self.answer = Answer(self.connection, bounds=BOUNDS, clock=self.clock, loop=asyncio.get_running_loop())

    def error(self) -> UpstreamError:
        error = self.answer.done.exception()
        assert isinstance(error, UpstreamError)
        return error


async def test_a_body_of_one_piece_is_that_object():
    bench = Bench()
    piece = b'{"a":1}'
    bench.answer.head(200, {})
    bench.answer.body(piece)
    assert not bench.answer.over
    bench.answer.complete()
    assert bench.answer.done.result() is piece


async def test_pieces_are_put_together():
    bench = Bench()
    bench.answer.head(200, {})
    for piece in (b"one", b"two"):
        bench.answer.body(piece)
    bench.answer.complete()
    assert bench.answer.done.result() == b"onetwo"
    assert bench.connection.aborted == 0


async def test_an_empty_body_is_an_answer_too():
    bench = Bench()
    bench.answer.head(200, {})
    bench.answer.complete()
    assert bench.answer.done.result() == b""


async def test_a_status_that_is_no_success_is_an_error_with_what_it_says():
    bench = Bench()
    bench.answer.head(429, {b"retry-after": b"7"})
    bench.answer.body(b'{"error":{"mess')
    bench.answer.body(b'age":"slow down"}}')
    bench.answer.complete()
    error = bench.error()
    assert (error.status, error.body.message, error.retry_after_ms) == (429, "slow down", 7000)


@pytest.mark.parametrize("end", ["complete", "broken", "silence"])
async def test_a_refusal_is_that_refusal_however_its_body_ends(end):
    bench = Bench()
    bench.answer.head(401, {b"content-encoding": b"gzip"})
    bench.answer.body(b"\x1f\x8b")
    if end == "complete":
        bench.answer.complete()
    elif end == "broken":
        bench.answer.broken(TRUNCATED)
    else:
        bench.answer.check(bench.clock.pass_by(IDLE))
    assert (bench.error().status, bench.error().body.message) == (401, "")


async def test_a_body_that_broke_off_is_no_answer():
    bench = Bench()
    bench.answer.head(200, {})
    bench.answer.body(b"half")
    bench.answer.broken(TRUNCATED)
    assert bench.error() is TRUNCATED


async def test_a_compressed_success_cannot_be_read():
    bench = Bench()
    bench.answer.head(200, {b"content-encoding": b"gzip"})
    assert bench.error().kind == "upstream_bad_response"
    assert bench.connection.aborted == 1


async def test_an_answer_that_is_too_large_is_given_up_as_soon_as_it_is(monkeypatch):
    monkeypatch.setattr(exchange, "MAX_WHOLE", 100)
    bench = Bench()
    bench.answer.head(200, {})
    bench.answer.body(b"x" * 100)
    assert not bench.answer.over
    bench.answer.body(b"x")
    assert bench.error().kind == "upstream_bad_response"
    assert bench.connection.aborted == 1


async def test_there_is_a_deadline_for_the_first_byte_and_one_for_silence_after_it():
    bench = Bench()
    bench.answer.check(bench.clock.pass_by(FIRST_BYTE - 1))
    bench.answer.head(200, {})
    bench.answer.check(bench.clock.pass_by(IDLE - 1))
    bench.answer.body(b"\n")
    bench.answer.check(bench.clock.pass_by(IDLE - 1))
    assert not bench.answer.over
    bench.answer.check(bench.clock.pass_by(1))
    assert bench.error().kind == "upstream_timeout"
    assert bench.connection.aborted == 1


async def test_a_provider_that_never_answers_has_until_the_first_byte_deadline():
    bench = Bench()
    bench.answer.check(bench.clock.pass_by(FIRST_BYTE))
    assert bench.error().kind == "upstream_timeout"


async def test_stopping_is_not_the_providers_fault():
    bench = Bench()
    bench.answer.cut()
    assert bench.error().kind == "gateway_stopping"
    assert bench.connection.aborted == 1


async def test_what_has_ended_is_not_ended_again_and_its_connection_is_left_alone():
    bench = Bench()
    bench.answer.head(200, {})
    bench.answer.body(b"{}")
    bench.answer.complete()
    bench.answer.cut()
    bench.answer.abort()
    bench.answer.check(bench.clock.pass_by(FIRST_BYTE + IDLE))
    assert bench.answer.done.result() == b"{}"
    assert bench.connection.aborted == 0


async def test_it_can_be_waited_for_again_after_the_one_who_waited_was_cancelled():
    bench = Bench()
    bench.answer.head(200, {})
    bench.answer.done.cancel()
    bench.answer.leave()
    bench.answer.body(b"{}")
    bench.answer.complete()
    assert await bench.answer.done == b"{}"


async def test_an_end_between_the_cancellation_and_the_leaving_is_not_lost():
    bench = Bench()
    bench.answer.head(200, {})
    bench.answer.body(b"{}")
    bench.answer.done.cancel()
    bench.answer.complete()
    bench.answer.leave()
    assert await bench.answer.done == b"{}"


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (b"7", 7000),
        (b"0", 0),
        (b"999999", 999_999_000),
        (None, None),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"9999999", None),
        (b"Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("٣".encode(), None),
    ],
)
def test_retry_after_is_read_where_it_is_a_number_of_seconds(value, wait):
    assert retry_after_ms({} if value is None else {b"retry-after": value}) == wait


@pytest.mark.parametrize(
    ("exact", "wait"), [(b"500", 500), (b" 1500 ", 1500), (b"-5", 7000), (b"1.5", 7000), (b"", 7000), (b"9" * 99, 7000)]
)
def test_milliseconds_go_before_seconds_where_a_provider_tells_them(exact, wait):
    assert retry_after_ms({b"retry-after": b"7", b"retry-after-ms": exact}) == wait


def test_a_date_to_retry_after_counts_from_the_answers_own_date():
    headers = {b"retry-after": b"Wed, 21 Oct 2026 07:28:30 GMT", b"date": b"Wed, 21 Oct 2026 07:28:00 GMT"}
    assert retry_after_ms(headers) == 30_000
    assert retry_after_ms({**headers, b"date": b"Wed, 21 Oct 2026 08:00:00 GMT"}) == 0


async def test_an_answer_that_never_ends_is_given_up_although_it_is_never_silent():
    bench = Bench()
    bench.answer.head(200, {})
    for _ in range(int(TOTAL) - 1):
        bench.answer.body(b"x")
        bench.answer.check(bench.clock.pass_by(1))
    assert not bench.answer.over
    bench.answer.check(bench.clock.pass_by(1))
    assert bench.error().kind == "upstream_timeout"
    assert bench.connection.aborted == 1


async def test_an_answer_larger_than_its_provider_s_bound_is_given_up():
    bench = Bench()
    bench.answer.head(200, {})
    bench.answer.body(b"x" * SIZE)
    assert not bench.answer.over
    bench.answer.body(b"x")
    assert bench.error().kind == "upstream_bad_response"


async def test_a_refusal_that_never_ends_is_told_as_soon_as_enough_of_it_is_known():
    bench = Bench()
    bench.answer.head(503, {})
    bench.answer.body(b"x" * (MAX_ERROR - 1))
    assert not bench.answer.over
    bench.answer.body(b"xx")
    assert bench.error().status == 503
    assert bench.connection.aborted == 1


async def test_a_refusal_that_drips_is_told_after_the_time_of_one_silence():
    bench = Bench()
    bench.answer.head(503, {})
    for _ in range(int(IDLE) - 1):
        bench.answer.body(b"x")
        bench.answer.check(bench.clock.pass_by(1))
    assert not bench.answer.over
    bench.answer.check(bench.clock.pass_by(1))
    assert bench.error().status == 503
