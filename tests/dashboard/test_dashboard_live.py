"""What open pages are told: that something of theirs has moved, and nothing else."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientTimeout
from dashboard_bench import Bench, row, start_bench

from proxy.dashboard import live
from proxy.dashboard.marks import Mark, Marks
from proxy.dashboard.watching import REFUSED, Sample
from proxy.health import Reloaded


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.01)


MOVED = b"event: moved\ndata: \n\n"
OWN = {
    "a row": lambda bench: bench.rows(row(1)),
    "a key, which is no row": lambda bench: bench.key(),
}
"""What an operator and those whose account it is are told of."""
OF_THE_GATEWAY = {
    "a refusal": lambda bench, _: bench.samples.append(Sample(REFUSED, {"reason": "budget"}, 1.0)),
    "a figure": lambda bench, _: bench.samples.append(Sample("aion_in_flight_requests", {}, 1.0)),
    "a provider": lambda bench, _: bench.samples.append(Sample("aion_upstream_up", {"provider": "one"}, 1.0)),
    "a store that is away": lambda _, reasons: reasons.append("the store is away"),
    "a reload": lambda bench, _: bench.reloads.append(Reloaded(1.0, success=True, told="")),
}


class Page:
    """A page that is open, and what it is told."""

    def __init__(self, answer: ClientResponse) -> None:
        self._answer = answer

    async def told(self) -> bytes:
        """The next event or comment."""
        async with asyncio.timeout(10):
            return await self._answer.content.readuntil(b"\n\n")

    async def nothing_for(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._answer.content.readuntil(b"\n\n")
        except TimeoutError:
            return True
        return False

    async def ends(self) -> bytes:
        """What comes until it ends."""
        async with asyncio.timeout(10):
            return await self._answer.content.read()

    def close(self) -> None:
        self._answer.close()


async def unwatched(bench: Bench) -> Page:
    """A page of whoever is signed in, told that something may have moved since it was made, and not looked at yet."""
    headers = {"Cookie": bench.cookie}
    answer = await bench.session.get(f"{bench.base}/live", headers=headers, timeout=ClientTimeout(total=20))
    assert answer.content_type == "text/event-stream"
    page = Page(answer)
    assert await page.told() == b"retry: 3000\n\n"
    assert await page.told() == MOVED
    return page


async def opened(bench: Bench) -> Page:
    """The same after the first look: whatever moves from now on is seen by it."""
    page = await unwatched(bench)
    assert await page.told() == MOVED
    return page


async def test_what_moves_before_the_first_look_at_a_page_is_told_too(bench: Bench, monkeypatch):
    looks, look = asyncio.Event(), Marks.of

    async def later(*asked: Any) -> Mark:
        await looks.wait()
        return await look(*asked)

    monkeypatch.setattr(Marks, "of", later)
    await bench.sign_in()
    page = await unwatched(bench)
    await bench.rows(row(1))
    looks.set()
    assert await page.told() == MOVED
    page.close()


@pytest.mark.parametrize("who", ["operator", "person"])
@pytest.mark.parametrize("move", OWN.values(), ids=OWN)
async def test_a_page_is_told_of_what_its_reader_may_see(bench: Bench, move, who: str):
    await bench.account()
    token = await bench.token()
    await bench.sign_in(*([token] if who == "person" else []))
    page = await opened(bench)
    await move(bench)
    assert await page.told() == MOVED
    page.close()


async def test_people_of_an_account_are_told_of_their_own_requests_alone(bench: Bench):
    await bench.account()
    await bench.sign_in(await bench.token())
    page = await opened(bench)
    await bench.rows(row(1, account="other"))
    assert await page.nothing_for(0.3)
    await bench.rows(row(2))
    assert await page.told() == MOVED
    page.close()


async def test_a_page_of_an_account_is_told_of_what_is_held(bench: Bench):
    await bench.account()
    await bench.sign_in(await bench.token())
    page = await opened(bench)
    bench.limits.held_nusd = 7
    assert await page.told() == MOVED
    page.close()


@pytest.mark.parametrize("change", OF_THE_GATEWAY.values(), ids=OF_THE_GATEWAY)
async def test_an_operator_s_page_is_told_of_the_gateway(bench: Bench, reasons: list[str], change):
    await bench.sign_in()
    page = await opened(bench)
    change(bench, reasons)
    assert await page.told() == MOVED
    page.close()


async def test_a_page_of_a_gateway_where_nothing_happens_is_left_alone(bench: Bench):
    bench.samples += [Sample("aion_in_flight_requests", {}, 1.0), Sample("aion_ledger_lag_seconds", {}, 1.0)]
    await bench.sign_in()
    page = await opened(bench)
    bench.samples[1] = Sample("aion_ledger_lag_seconds", {}, 2.0)
    assert await page.nothing_for(0.5)
    page.close()


async def test_what_comes_back_with_time_is_shown_for_a_while_after_a_move(bench: Bench):
    await bench.sign_in()
    page = await opened(bench)
    await bench.rows(row(1))
    for _ in range(5):  # one for the row, the others for what it has used of limits per minute
        assert await page.told() == MOVED
    page.close()


async def test_a_page_of_somebody_whose_session_ended_is_let_go(bench: Bench, monkeypatch):
    monkeypatch.setattr(live, "_STILL_THERE", 0.05)
    await bench.sign_in()
    page = await unwatched(bench)
    assert b": still there\n\n" in [await page.told(), await page.told()]
    bench.clock.pass_by(13 * 3_600)
    await page.ends()


async def test_only_so_many_pages_are_told(bench: Bench, monkeypatch):
    monkeypatch.setattr(live, "_MOST_PAGES", 1)
    await bench.sign_in()
    page = await opened(bench)
    refused = await bench.page("/live")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
    page.close()


async def test_an_open_page_does_not_keep_the_admin_port_from_closing(tmp_path):
    bench, runner = await start_bench(tmp_path, [])
    await bench.sign_in()
    page = await opened(bench)
    async with asyncio.timeout(10):
        await runner.cleanup()
    assert await page.ends() == b""
    await bench.session.close()
    bench.ledger.close()


@pytest.mark.parametrize("ended", ["revoked", "signed out"])
async def test_a_page_of_somebody_who_may_not_see_it_any_more_is_let_go_with_the_next_move(bench: Bench, ended: str):
    await bench.account()
    token = await bench.token()
    await bench.sign_in(token)
    page = await opened(bench)
    if ended == "revoked":
        token_id = (await bench.api("GET", "/accounts/acme/tokens")).document["tokens"][0]["token_id"]
        await bench.api("POST", f"/tokens/{token_id}/revoke")
    else:
        await bench.send("/sign-out")
    await bench.rows(row(1))
    await page.ends()
