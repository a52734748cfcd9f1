"""What a connection told of itself, for a test to wait for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from proxy.stores.opening import store_at
from proxy.stores.store import Store

PATIENCE = 30.0


class Told:
    """Hears everything that a connection tells."""

    def __init__(self) -> None:
        self.changes: list[bool] = []
        self.troubles: list[str] = []
        self.run_ids: list[str] = []
        self._news = asyncio.Event()

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """For a connection."""
        return {"on_change": self._changed, "on_trouble": self._trouble, "on_new_server": self._server}

    def _changed(self, up: bool) -> None:
        self.changes.append(up)
        self._news.set()

    def _trouble(self, detail: str) -> None:
        self.troubles.append(detail)
        self._news.set()

    def _server(self, greeting: Any) -> None:
        self.run_ids.append(greeting.run_id)
        self._news.set()

    async def until(self, is_so: Callable[[], object]) -> None:
        """Wait until something that was told makes it true."""
        async with asyncio.timeout(PATIENCE):
            while not is_so():
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def attached(url: str, told: Told | None = None, **options: Any) -> AsyncIterator[Store]:
    """A store at a URL, connected."""
    store = store_at(url, **(told.callbacks() if told else {}), **options)
    try:
        await store.connect()
        yield store
    finally:
        await store.close()
