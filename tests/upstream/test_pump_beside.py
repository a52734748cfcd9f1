"""A large event is read beside the loop: what happens meanwhile waits, and nothing is asked of the stream."""

import asyncio

import pytest
from test_pump import OK, TRUNCATED, Bench

from proxy.call import Ending
from proxy.wire.large_json import LARGE
from specimens import DONE, FINISH, ROLE, text

PART = LARGE // 2
SAID = "word " * (LARGE // 2)
EVENT = text(SAID)
PIECES = [EVENT[at : at + PART] for at in range(0, len(EVENT), PART)]


async def reading() -> Bench:
    """A stream whose large event has come, and of which the last piece is read beside the loop."""
    bench = Bench().begun()
    for piece in PIECES:
        bench.pump.body(piece)
        while bench.beside and piece is not PIECES[-1]:
            await bench.work_beside()
    assert bench.pump.busy
    return bench


async def test_what_is_large_is_read_beside_the_loop_and_nothing_more_is_taken_meanwhile():
    bench = await reading()
    assert SAID.encode() not in bench.client.data
    assert bench.connection.told[-1] == "pause"
    await bench.work_beside()
    assert SAID.encode() in bench.client.data
    assert bench.connection.told[-1] == "resume"
    assert not bench.pump.busy
    bench.pump.body(FINISH + DONE)
    assert await bench.pump.done is Ending.COMPLETE


async def test_the_end_of_the_body_waits_for_what_is_read():
    bench = await reading()
    bench.pump.broken(TRUNCATED)
    assert not bench.pump.done.done()
    await bench.work_beside()
    assert SAID.encode() in bench.client.data
    assert await bench.pump.done is Ending.UPSTREAM_TRUNCATED


async def test_a_connection_that_has_given_its_whole_answer_is_let_alone():
    """It is in its pool by then, and may serve somebody else."""
    bench = await reading()
    bench.pump.complete()
    told = list(bench.connection.told)
    assert told[-1] == "resume"
    bench.pump.abort()
    await bench.work_beside()
    assert bench.connection.told == told
    assert bench.pump.over


async def test_a_stream_that_is_cut_meanwhile_ends_with_an_error_behind_what_was_read():
    bench = await reading()
    bench.pump.cut()
    assert bench.client.finished == 0
    await bench.work_beside()
    assert bench.client.data.index(SAID.encode()) < bench.client.data.index(b"data: ERROR")
    assert await bench.pump.done is Ending.CANCELLED


async def test_a_client_that_leaves_meanwhile_closes_the_connection_at_once_and_the_exchange_ends_when_it_can():
    bench = await reading()
    bench.pump.leave()
    bench.pump.abort()
    assert bench.connection.told[-1] == "abort"
    assert not bench.pump.over
    await bench.work_beside()
    assert await bench.pump.done is Ending.CLIENT_GONE
    assert bench.pump.stream.progress()[1] >= len(SAID)


async def test_no_deadline_passes_meanwhile():
    bench = await reading()
    bench.tick(10_000)
    assert not bench.pump.over


async def test_a_bug_in_what_is_read_is_told_to_who_waits():
    bench = await reading()
    _, future = bench.beside.pop()
    future.set_exception(ZeroDivisionError())
    await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        await bench.pump.done


async def test_a_last_event_without_its_end_is_read_beside_the_loop_too():
    bench = await reading()
    bench.beside.clear()
    bench = Bench()
    bench.pump.head(*OK)
    bench.pump.body(ROLE)
    for piece in [EVENT.rstrip()[at : at + PART] for at in range(0, len(EVENT) - 2, PART)]:
        bench.pump.body(piece)
        while bench.beside:
            await bench.work_beside()
    bench.pump.complete()
    assert bench.pump.busy
    await bench.work_beside()
    assert bench.pump.over
    assert SAID.encode() in bench.client.data


async def test_small_events_are_read_in_the_loop():
    bench = Bench().begun()
    for _ in range(100):
        bench.pump.body(text("word " * 1000))
    assert not bench.beside
