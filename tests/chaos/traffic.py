"""The clients of a chaos run: each request once, on whichever gateway is next, and what its client saw of it.

A client that is refused because a gateway or the store is away asks no second time: the next request is another one.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
from plan import Planned

PATIENCE = 60.0


@dataclass(slots=True)
class Seen:
    """What the client saw of one request."""

    status: int | None = None
    """None: no answer came."""
    text_bytes: int = 0
    """Bytes of text that arrived, as UTF-8."""
    whole: bool = False
    """The answer came to its orderly end."""
    left: bool = False


class Traffic:
    """Sends planned requests, so many at once; `seen` is what came of them, by number."""

    def __init__(self, plan: Callable[[int], Planned], ports: Sequence[int], keys: Sequence[str], at_once: int) -> None:
        self._plan = plan
        self._ports = ports
        self._keys = keys
        self._at_once = at_once
        self._next = 0
        self.seen: dict[int, Seen] = {}

    async def run(self, more: Callable[[int], bool]) -> None:
        """Send requests as long as `more` says so of the number that is next; returns when the last has ended."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self._at_once):
                group.create_task(self._client(session, more))

    async def _client(self, session: aiohttp.ClientSession, more: Callable[[int], bool]) -> None:
        while more(self._next):
            number, self._next = self._next, self._next + 1
            seen = self.seen[number] = Seen()
            try:
                await self._ask(session, self._plan(number), seen)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                await asyncio.sleep(0.02)
            if seen.status in (429, 503):
                await asyncio.sleep(0.05)

    async def _ask(self, session: aiohttp.ClientSession, plan: Planned, seen: Seen) -> None:
        url = f"http://127.0.0.1:{self._ports[plan.number % len(self._ports)]}/v1/chat/completions"
        headers = {"Authorization": f"Bearer {self._keys[plan.account]}"}
        body = {
            "model": f"chaos/{plan.route}",
            "messages": [{"role": "user", "content": plan.prompt}],
            "stream": plan.stream,
            "max_tokens": plan.max_tokens,
            "metadata": {"number": str(plan.number)},
        }
        async with contextlib.AsyncExitStack() as stack:
            if not plan.stream and plan.leaves_after is not None:
                seen.left = True
                await stack.enter_async_context(asyncio.timeout(plan.pause * plan.leaves_after / len(plan.words)))
            response = await stack.enter_async_context(session.post(url, json=body, headers=headers))
            seen.status = response.status
            if response.status != 200 or not plan.stream:
                text = await response.read()
                if response.status == 200:
                    seen.text_bytes = len(json.loads(text)["choices"][0]["message"]["content"].encode())
                    seen.whole = True
            else:
                await self._read(response, plan, seen)
                if seen.left:
                    response.close()

    async def _read(self, response: aiohttp.ClientResponse, plan: Planned, seen: Seen) -> None:
        events, broken = 0, False
        if plan.leaves_after == 0:
            seen.left = True
            return
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            if line == b"data: [DONE]\n":
                seen.whole = not broken
                continue
            document = json.loads(line[6:])
            broken = broken or "error" in document
            for choice in document.get("choices", ()):
                seen.text_bytes += len((choice["delta"].get("content") or "").encode())
            events += 1
            if events == plan.leaves_after:
                seen.left = True
                return
