"""Tells open pages that something has moved, over server-sent events; they then ask anew for what they show.

A few questions a second for all pages together, and none while no page is open. No figure travels here: what somebody
may see is decided where pages are made.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from aiohttp import web

from proxy.admin.refused import OperationRefused
from proxy.dashboard.frame import HEADERS, Frame, Visit
from proxy.dashboard.marks import Mark, Marks

EVERY: Final = 1.0
"""Seconds between two questions."""
_COMES_BACK: Final = 70
_SOMETIMES: Final = 5
"""So many questions after a move, what was used of a limit per minute has come back: until then, every few questions
count as a move."""
_STILL_THERE: Final = 15.0
_MOST_PAGES: Final = 500
_MOVED: Final = b"event: moved\ndata: \n\n"


@dataclass(eq=False, slots=True)
class _Listener:
    account: str | None
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False


class Live:
    """The pages that are open now, and the task that watches the ledger for them."""

    def __init__(self, marks: Marks) -> None:
        """Watch nothing yet."""
        self._marks = marks
        self._listeners: set[_Listener] = set()
        self._watching: asyncio.Task[None] | None = None

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Be there while the application is."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        yield
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching

    async def hang_up(self, _: web.Application) -> None:
        """Let every page go, so that the application can end."""
        for listener in self._listeners:
            listener.gone = True
            listener.moved.set()

    async def listen(self, visit: Visit) -> web.StreamResponse:
        """Tell one page until it is closed."""
        if len(self._listeners) >= _MOST_PAGES:
            return web.Response(status=503, headers={**HEADERS, "Retry-After": "30"})
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        listener = _Listener(visit.me.account)
        self._listeners.add(listener)
        try:
            await response.prepare(visit.request)
            await response.write(b"retry: 3000\n\n" + _MOVED)  # it may have, since the page was made
            while await self._next(listener, visit, response):
                pass
        except ConnectionError:
            pass
        finally:
            self._listeners.discard(listener)
        return response

    async def _next(self, listener: _Listener, visit: Visit, response: web.StreamResponse) -> bool:
        """Wait for the next move; False: there will be none for this page."""
        told = _MOVED
        try:
            async with asyncio.timeout(_STILL_THERE):
                await listener.moved.wait()
        except TimeoutError:
            told = b": still there\n\n"
        listener.moved.clear()
        if listener.gone or not await _still_signed_in(visit):
            return False
        await response.write(told)
        return True

    async def _watch(self) -> None:
        seen: dict[str | None, Mark] = {}
        moved_ago = _COMES_BACK
        for tick in count():
            await asyncio.sleep(EVERY)
            wanted = {listener.account for listener in self._listeners}
            found = {account: await self._marks.of(account, tick) for account in wanted}
            unseen = wanted - seen.keys()  # what moved between a page's opening and this look, nobody can tell
            moved = {account for account in wanted - unseen if seen[account] != found[account]}
            moved_ago = 0 if moved else moved_ago + 1
            if moved_ago <= _COMES_BACK and tick % _SOMETIMES == 0:
                moved |= wanted
            for listener in self._listeners:
                if listener.account in moved | unseen:
                    listener.moved.set()
            seen = found


async def _still_signed_in(visit: Visit) -> bool:
    """Ask anew: a token may have been revoked, or somebody have signed out, since the page was opened."""
    try:
        return await visit.frame.gate.session(visit.request) is not None
    except OperationRefused:  # the ledger is away: nobody can tell, and nothing is shown here
        return visit.session.expires > visit.frame.gate.desk.clock()


def live_routes(frame: Frame, live: Live) -> list[web.RouteDef]:
    """Return the route."""
    return [web.get("/live", frame.page(live.listen))]
