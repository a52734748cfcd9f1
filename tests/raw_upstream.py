"""A provider made of nothing but a socket: it says exactly the bytes that a test gives it, and remembers what it was
asked.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from waiting import WAIT

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawUpstream:
    """Serves the first connection by the first script and so on; the last script serves all that follow."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self.port = 0
        self.connections = 0
        self.asked: list[tuple[bytes, bytes]] = []
        """The head and the body of every request, in order."""
        self.left = asyncio.Event()
        """Set when the gateway has closed a connection that a script was still busy with, or was waiting on."""
        self._scripts = scripts
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            await script(_Noting(reader, self), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.close()
            self._tasks.discard(task)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=WAIT)


class _Noting:
    """A reader that notes each request that is read through `read_request`."""

    def __init__(self, reader: asyncio.StreamReader, upstream: RawUpstream) -> None:
        self.reader = reader
        self.upstream = upstream


@contextlib.asynccontextmanager
async def raw_upstream(
    *scripts: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawUpstream]:
    """Listen on a free port for the length of a block."""
    upstream = RawUpstream(scripts)
    server = await asyncio.start_server(upstream.serve, host, 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        await upstream.stop()
        await server.wait_closed()


async def read_request(noting: _Noting) -> tuple[bytes, bytes]:
    """Read one request whole and note it. Raises `IncompleteReadError` when there is none any more."""
    head = await noting.reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    body = await noting.reader.readexactly(length)
    noting.upstream.asked.append((head, body))
    return head, body


def answering(*answers: bytes) -> Script:
    """Answer each request on a connection with the next of `answers`, the last again and again; never close."""

    async def script(reader, writer):
        number = 0
        while True:
            await read_request(reader)
            writer.write(answers[min(number, len(answers) - 1)])
            number += 1
            await writer.drain()

    return script


def closing(*pieces: bytes) -> Script:
    """Answer one request with `pieces`, each in a packet of its own as far as the kernel lets it, and close."""

    async def script(reader, writer):
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return script


def resetting(*pieces: bytes) -> Script:
    """As `closing`, but end with a reset."""

    async def script(reader, writer):
        await closing(*pieces)(reader, writer)
        reset(writer)

    return script


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def silent(reader, writer):
    """Take one request and say nothing until the other side leaves."""
    await read_request(reader)
    await reader.reader.readexactly(1)


def http(body: bytes, *lines: str, status: str = "200 OK", length: bool = True) -> bytes:
    """Write an answer."""
    head = [f"HTTP/1.1 {status}", *lines, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    """Write one chunk of a chunked body; of nothing, its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)
