"""The way to an endpoint: one request on a connection of its own, and the answer as it came.

A library would hide what has to be checked: headers that come twice, a body that ends early, the bytes of a stream.
The key is known here alone and is put in at the last moment.
"""

import asyncio
import os
import socket
import ssl
from http import HTTPStatus
from typing import Final

import httptools

from proxy.conformance.exchange import KEY, SWAPPED_KEY, Ask, NoReply, Reply
from proxy.upstream.dialing import Origin

MOST_BODY: Final = 64 * 1024 * 1024
"""Bytes of an answer; nothing that is asked for comes near it."""
_PIECE: Final = 64 * 1024


class Unreachable(Exception):  # noqa: N818 - the name of a state
    """No connection can be made; the text says to where, and why."""


class Client:
    """Asks one endpoint with one key."""

    def __init__(self, origin: Origin, key: str, timeout: float, tls: ssl.SSLContext | None) -> None:
        """Ask with `key`; an answer has `timeout` seconds to its last byte. `tls` where it is https."""
        self._origin = origin
        self._key = key
        self._timeout = timeout
        self._tls = tls

    async def ask(self, ask: Ask) -> Reply | NoReply:
        """Ask once. Raises `Unreachable` if no connection can be made."""
        reader, writer = await self._connect()
        answer = _Answer()
        try:
            async with asyncio.timeout(self._timeout):
                await self._exchange(reader, writer, self._written(ask), answer)
        except TimeoutError:
            return NoReply(ask, f"{answer.progress} within {self._timeout:g} s")
        except httptools.HttpParserError:
            return NoReply(ask, "the answer is not HTTP")
        except OSError:
            return NoReply(ask, f"the connection broke: {answer.progress}")
        finally:
            writer.transport.abort()
        return answer.reply(ask)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        there = self._origin
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.open_connection(there.host, there.port, ssl=self._tls)
        except TimeoutError:
            raise Unreachable(f"cannot connect to {there.authority} within {self._timeout:g} s") from None
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"cannot connect to {there.authority}: {_reason(error)}") from None

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, answer: "_Answer"
    ) -> None:
        try:
            writer.write(request)
            await writer.drain()
        except ConnectionError:
            pass  # who refuses early may have answered all the same
        while not answer.complete and not answer.too_large and (piece := await reader.read(_PIECE)):
            answer.feed(piece)

    def _written(self, ask: Ask) -> bytes:
        lines = [f"{ask.method} {self._origin.path}{ask.path} HTTP/1.1", f"Host: {self._origin.authority}"]
        lines += [f"{name}: {self._with_key(value)}" for name, value in ask.headers]
        lines += ["User-Agent: aion-proxy-conformance", "Connection: close"]
        lines += [f"Content-Length: {len(ask.body)}"] if ask.body or ask.method == "POST" else []
        return "\r\n".join(lines).encode() + b"\r\n" + ask.raw_lines + b"\r\n" + ask.body

    def _with_key(self, value: str) -> str:
        return value.replace(KEY, self._key).replace(SWAPPED_KEY, self._key.swapcase())


def _reason(error: OSError | UnicodeError) -> str:
    """Say in a few words why there is no connection; the system's words for it, where it has any."""
    if isinstance(error, ssl.SSLError | socket.gaierror):
        return error.strerror or type(error).__name__
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else type(error).__name__


class _Answer:
    """What has come of an answer; the parser calls the methods that begin with `on_`."""

    def __init__(self) -> None:
        self.complete = False
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take the next piece; raises `HttpParserError`."""
        self._parser.feed_data(piece)

    @property
    def too_large(self) -> bool:
        return len(self._body) > MOST_BODY

    @property
    def progress(self) -> str:
        """How far it came, as half a sentence about an end that came too early."""
        return "the answer was not complete" if self._status else "there was no answer"

    def reply(self, ask: Ask) -> Reply | NoReply:
        """Return the answer if it is all there; one without a length ends with its connection."""
        framed = any(name in {"content-length", "transfer-encoding"} for name, _ in self._headers)
        if not self._status or self.too_large or (framed and not self.complete):
            return NoReply(ask, f"the connection ended and {self.progress}")
        return Reply(ask, self._status, tuple(self._headers), bytes(self._body))

    def on_message_begin(self) -> None:
        self._headers.clear()  # of an answer such as 100 that goes before the real one

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip()))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._status = status if status >= HTTPStatus.OK else 0

    def on_body(self, piece: bytes) -> None:
        self._body += piece

    def on_message_complete(self) -> None:
        self.complete = self._status != 0
