"""A way to the store on which replies get lost: what was asked arrives and is done, and nobody hears of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path


class LossyRelay:
    """Passes bytes on in both directions; `lose` is asked at each piece of replies whether to cut the line instead."""

    def __init__(self, socket: Path) -> None:
        self.url = f"unix://{socket}"
        self.lost = 0
        self.lose: Callable[[], bool] = lambda: False

    async def serve(self, store: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_unix_connection(store)
        asking = asyncio.ensure_future(_pass_on(reader, to_store))
        try:
            while data := await from_store.read(65536):
                if self.lose():
                    self.lost += 1
                    break
                writer.write(data)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            to_store.close()
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)


@contextlib.asynccontextmanager
async def lossy_relay(store_url: str, folder: Path) -> AsyncIterator[LossyRelay]:
    relay = LossyRelay(folder / "relay.sock")
    store = store_url.removeprefix("unix://")
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(relay.serve(store, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(accept, folder / "relay.sock")
    try:
        yield relay
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
