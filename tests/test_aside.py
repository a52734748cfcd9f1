"""Work beside the loop: the loop goes on meanwhile, and what comes of the work comes back."""

import asyncio
import threading

import pytest

from proxy.aside import GIVE_WAY_SECONDS, Aside


async def test_the_loop_serves_others_while_work_is_done_aside():
    loop, may_end = asyncio.get_running_loop(), threading.Event()
    loop.call_later(0, may_end.set)  # would never be called if the work held the loop up
    assert await Aside(loop).run(lambda: may_end.wait(20))


async def test_every_thread_gives_way_sooner_than_python_lets_it(monkeypatch):
    told: list[float] = []
    monkeypatch.setattr("sys.setswitchinterval", told.append)
    Aside(asyncio.get_running_loop())
    assert told == [GIVE_WAY_SECONDS]


async def test_one_piece_of_work_is_done_at_a_time():
    aside, busy = Aside(asyncio.get_running_loop()), threading.Lock()

    def work() -> bool:
        free = busy.acquire(blocking=False)
        threading.Event().wait(0)
        busy.release()
        return free

    assert all(await asyncio.gather(*(aside.run(work) for _ in range(20))))


async def test_what_the_work_raises_is_raised_where_it_is_waited_for():
    with pytest.raises(ZeroDivisionError):
        await Aside(asyncio.get_running_loop()).run(lambda: 1 // 0)


async def test_who_waits_may_leave_and_the_next_work_is_done():
    aside, may_end = Aside(asyncio.get_running_loop()), threading.Event()
    waiting = asyncio.ensure_future(aside.run(lambda: may_end.wait(20)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_end.set()
    assert await aside.run(lambda: "done") == "done"
