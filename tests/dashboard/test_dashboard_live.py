"""What open pages are told: that something of theirs has moved, and nothing else."""

import asyncio

import pytest
from aiohttp import ClientTimeout
from dashboard_bench import Bench, row, start_bench

from proxy.dashboard import live
from proxy.dashboard.watching import REFUSED, Sample
from proxy.health import Reloaded


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.01)


async def opened(bench: Bench, cookie: str):
    """The events of a page that is open; the first says that something may have moved before."""
    answer = await bench.session.get(f"{bench.base}/live", headers={"Cookie": cookie}, timeout=ClientTimeout(total=20))
    assert answer.content_type == "text/event-stream"
    assert await answer.content.readuntil(b"data: \n\n") == b"retry: 3000\n\nevent: moved\ndata: \n\n"
    return answer


async def moved(answer) -> bytes:
    async with asyncio.timeout(10):
        return await answer.content.readuntil(b"data: \n\n")


async def test_a_page_is_told_when_a_request_reaches_the_ledger(bench: Bench):
    await bench.sign_in()
    page = await opened(bench, bench.cookie)
    await asyncio.sleep(0.1)
    await bench.rows(row(1))
    assert await moved(page) == b"event: moved\ndata: \n\n"
    page.close()


async def test_people_of_an_account_are_told_of_their_own_requests_alone(bench: Bench):
    await bench.account()
    await bench.sign_in(await bench.token())
    page = await opened(bench, bench.cookie)
    await asyncio.sleep(0.1)
    await bench.rows(row(1, account="other"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await page.content.readuntil(b"data: \n\n")
    await bench.rows(row(2))
    assert await moved(page)
    page.close()


@pytest.mark.parametrize("who", ["operator", "person"])
async def test_a_page_is_told_of_changes_that_leave_no_row(bench: Bench, who: str):
    await bench.account()
    token = await bench.token()
    await bench.sign_in(*([token] if who == "person" else []))
    page = await opened(bench, bench.cookie)
    await asyncio.sleep(0.1)
    await bench.key()
    assert await moved(page)
    page.close()


async def test_a_page_of_an_account_is_told_of_what_is_held(bench: Bench):
    await bench.account()
    await bench.sign_in(await bench.token())
    page = await opened(bench, bench.cookie)
    await asyncio.sleep(0.1)
    bench.limits.held_nusd = 7
    assert await moved(page)
    page.close()


async def test_a_page_is_told_of_refusals_and_of_the_gateway_s_own_figures(bench: Bench, reasons: list[str]):
    await bench.sign_in()
    for change in (
        lambda: bench.samples.append(Sample(REFUSED, {"reason": "budget"}, 1.0)),
        lambda: bench.samples.append(Sample("aion_in_flight_requests", {}, 1.0)),
        lambda: bench.samples.append(Sample("aion_upstream_up", {"provider": "one"}, 1.0)),
        lambda: reasons.append("the store is away"),
        lambda: bench.reloads.append(Reloaded(1.0, success=True, told="")),
    ):
        page = await opened(bench, bench.cookie)
        await asyncio.sleep(0.1)
        change()
        assert await moved(page)
        page.close()


async def test_a_page_of_a_gateway_where_nothing_happens_is_left_alone(bench: Bench):
    bench.samples += [Sample("aion_in_flight_requests", {}, 1.0), Sample("aion_ledger_lag_seconds", {}, 1.0)]
    await bench.sign_in()
    page = await opened(bench, bench.cookie)
    await asyncio.sleep(0.1)
    bench.samples[1] = Sample("aion_ledger_lag_seconds", {}, 2.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await page.content.readuntil(b"data: \n\n")
    page.close()


async def test_what_comes_back_with_time_is_shown_for_a_while_after_a_move(bench: Bench):
    await bench.sign_in()
    page = await opened(bench, bench.cookie)
    await asyncio.sleep(0.1)
    await bench.rows(row(1))
    for _ in range(5):  # one for the row, the others for what it has used of limits per minute
        assert await moved(page)
    page.close()


async def test_a_page_of_somebody_whose_session_ended_is_let_go(bench: Bench, monkeypatch):
    monkeypatch.setattr(live, "_STILL_THERE", 0.05)
    await bench.sign_in()
    page = await opened(bench, bench.cookie)
    assert await page.content.readuntil(b"\n\n") == b": still there\n\n"
    bench.clock.pass_by(13 * 3_600)
    async with asyncio.timeout(10):
        assert (await page.content.read()).startswith((b"", b": still there"))


async def test_only_so_many_pages_are_told(bench: Bench, monkeypatch):
    monkeypatch.setattr(live, "_MOST_PAGES", 1)
    await bench.sign_in()
    page = await opened(bench, bench.cookie)
    refused = await bench.page("/live")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
    page.close()


async def test_an_open_page_does_not_keep_the_admin_port_from_closing(tmp_path):
    bench, runner = await start_bench(tmp_path, [])
    await bench.sign_in()
    page = await opened(bench, bench.cookie)
    async with asyncio.timeout(10):
        await runner.cleanup()
        assert await page.content.read() == b""
    await bench.session.close()
    bench.ledger.close()


@pytest.mark.parametrize("ended", ["revoked", "signed out"])
async def test_a_page_of_somebody_who_may_not_see_it_any_more_is_let_go_with_the_next_move(bench: Bench, ended: str):
    await bench.account()
    token = await bench.token()
    await bench.sign_in(token)
    page = await opened(bench, bench.cookie)
    if ended == "revoked":
        token_id = (await bench.api("GET", "/accounts/acme/tokens")).document["tokens"][0]["token_id"]
        await bench.api("POST", f"/tokens/{token_id}/revoke")
    else:
        await bench.send("/sign-out")
    await bench.rows(row(1))
    async with asyncio.timeout(10):
        await page.content.read()  # which ends
