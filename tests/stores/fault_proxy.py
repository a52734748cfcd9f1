"""A way between a connection and a real server on which a test can make happen what happens to networks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class FaultProxy:
    """Passes bytes on, one task per connection and direction, as its fields say at the moment when the bytes come."""

    to_port: int
    delay: float = 0.0
    """Seconds that every answer takes longer."""
    duplicated: int = 0
    """In how many of the next pieces of answers the first list is passed on twice."""
    connections: int = 0
    port: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Accept connections (again)."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close the port and end what came through it."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    def swallow(self) -> None:
        """Become a black hole: connections are accepted, and what comes stays here until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Pass everything on, what was kept first."""
        self._open.set()

    async def cut(self) -> None:
        """End every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
                try:
                    async with asyncio.TaskGroup() as ways:
                        ways.create_task(self._pass_on(reader, server_writer, answers=False))
                        ways.create_task(self._pass_on(server_reader, writer, answers=True))
                finally:
                    server_writer.close()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                if answers:
                    await asyncio.sleep(self.delay)
                    if self.duplicated:
                        self.duplicated -= 1
                        data = data[: data.find(b"\r\n*", 1) + 2] + data
                writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def fault_proxy(to_port: int) -> AsyncIterator[FaultProxy]:
    """A proxy to a server on loopback that passes everything on until it is told otherwise."""
    proxy = FaultProxy(to_port)
    proxy.release()
    await proxy.listen()
    try:
        yield proxy
    finally:
        proxy.release()
        await proxy.refuse()
