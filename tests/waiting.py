"""How tests wait for what another task, socket or process does: until it has happened, never for a length of time."""

import asyncio
from collections.abc import Callable

WAIT = 20.0
"""How long anything may take that has to happen; no test passes because of it."""


async def until(condition: Callable[[], object]) -> None:
    """Return when `condition` holds; TimeoutError if it never does."""
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)
