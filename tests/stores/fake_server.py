"""A server that does to a connection what a real one does only on bad days: silence, a cut, a reply too many."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import hiredis

Answer = Callable[[list[bytes]], bytes | None]
"""What to send for a command; None: nothing, ever."""


def pong(command: list[bytes]) -> bytes | None:
    return b"+PONG\r\n"


def echo(command: list[bytes]) -> bytes | None:
    return b"$%d\r\n%s\r\n" % (len(command[-1]), command[-1])


@dataclass
class FakeServer:
    """Answers the two questions of a new connection by itself and everything else as told."""

    url: str
    answer: Answer = echo
    info: bytes = b"redis_version:7.2.4\r\n"
    pieces: list[list[list[bytes]]] = field(default_factory=list)
    """The commands of each piece that was read after the greeting."""
    connections: list[asyncio.StreamWriter] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once anything was asked after the greeting."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        parser = hiredis.Reader()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                parser.feed(data)
                commands = []
                while (command := parser.gets()) is not False:
                    commands.append(command)
                if not self.greet(writer, commands):
                    self.pieces.append(commands)
                    self.asked.set()
                    for command in commands:
                        writer.write(self.answer(command) or b"")
        writer.close()

    def greet(self, writer: asyncio.StreamWriter, commands: list[list[bytes]]) -> bool:
        if not commands or commands[0][0] != b"INFO":
            return False
        writer.write(b"$%d\r\n%s\r\n:1\r\n" % (len(self.info), self.info))
        return True

    def cut(self) -> None:
        """End every connection."""
        for writer in self.connections:
            writer.close()


@contextlib.asynccontextmanager
async def fake_server(tmp_path: Path, answer: Answer = echo, **options: bytes) -> AsyncIterator[FakeServer]:
    path = tmp_path / "fake.sock"
    others = asyncio.all_tasks()
    fake = FakeServer(f"unix://{path}", answer, **options)
    server = await asyncio.start_unix_server(fake.serve, path)
    try:
        yield fake
    finally:
        server.close()
        await server.wait_closed()
        # A client may have come at the last moment: its task begins after the listening socket is closed.
        for _ in range(1000):
            fake.cut()
            if not still_serving(asyncio.all_tasks() - others):
                break
            await asyncio.sleep(0.001)


def still_serving(tasks: set[asyncio.Task[object]]) -> bool:
    """Whether one of the fake's own tasks is still there; what a failed test left running is not its business."""
    return any("serve" in repr(task) or "_accept_connection2" in repr(task) for task in tasks)
