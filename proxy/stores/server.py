"""Where the store is and how it is opened: redis-py's part, and the one place where its errors become sentences.

Addresses, TLS, users and databases are redis-py's business; its command objects and pools cost five times the CPU per
call and are not used. What is asked of the server once it is open is `connection.py`'s business.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import hiredis
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from proxy.stores.scripts import load_script


class Command:
    """A command that is sent again and again with a few other words in the middle: the rest of it is packed once.

    For ASCII alone, whose characters are its bytes; `pack` takes three times as long.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, before: Sequence[str | int], count: int, after: Sequence[str | int] = ()) -> None:
        """Begin with `before`, leave room for `count` words, and end with `after`."""
        self._before = f"*{len(before) + count + len(after)}\r\n{_bulks(map(str, before))}"
        self._after = _bulks(map(str, after))

    def packed(self, words: Sequence[str]) -> bytes:
        """Write the command with these words, exactly as many as there is room for."""
        return f"{self._before}{_bulks(words)}{self._after}".encode("ascii")


Word = bytes | str | int

MISSING: Final = NOT_ENOUGH_DATA
OLDEST_SERVER: Final = 7
"""Major version of the server; older ones do not know the flags in the first line of a script."""


class Line:
    """One open connection to the server, as bytes go in and replies come out."""

    __slots__ = ("_connection", "_parser", "read")

    def __init__(self, connection: AbstractConnection) -> None:
        """Take over a connection, open or about to be opened."""
        self._connection = connection
        self._parser = _reply_parser(connection)
        self.read: Callable[[], Awaitable[Any]] = partial(self._parser.read_response, disable_decoding=True)

    def read_what_came(self) -> Any:  # noqa: ANN401 - a reply
        """Return the next reply if it has come, else `MISSING`; an error reply is returned, not raised."""
        reply = self._parser._reader.gets(False)  # noqa: SLF001, FBT003 - see `_reply_parser`; not decoded
        if isinstance(reply, RedisConnectionError):
            raise reply
        return reply

    async def wait(self) -> None:
        """Wait for more of a reply. Raises RedisError when the server ends the connection."""
        await self._parser.read_from_socket()

    async def send(self, commands: Sequence[bytes]) -> None:
        """Write packed commands, as one piece."""
        await self._connection.send_packed_command(commands, check_health=False)

    async def spoilt(self) -> bool:
        """Whether something came that nobody asked for: the end of the connection, or a reply to somebody else."""
        return await self._connection.can_read()

    async def drop(self) -> None:
        """Close without waiting for the server."""
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)


class Server:
    """The configured server: opens lines to it, and explains what went wrong without telling the password."""

    def __init__(self, url: str, connect_timeout: float) -> None:
        """Read the URL (`redis://`, `rediss://`, `unix://`); ValueError if it has another form or unknown options."""
        self._options: dict[str, Any] = {
            **parse_url(url),
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": connect_timeout,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "driver_info": None,
        }
        self._kind: type[AbstractConnection] = self._options.pop("connection_class", Connection)
        self._connect_timeout = connect_timeout
        self._probe = load_script("probe")
        try:
            self._kind(**self._options)
        except TypeError:
            raise ValueError(
                f"the URL of the store at {self.address} has options after its `?` that mean nothing: remove them"
            ) from None

    @property
    def address(self) -> str:
        """Where the store is, without credentials: a socket's path, or host and port."""
        if "path" in self._options:
            return str(self._options["path"])
        return f"{self._options.get('host', 'localhost')}:{self._options.get('port', 6379)}"

    async def open(self) -> Line:
        """Connect, and make sure that the server is new enough and lets this user run scripts that write.

        Raises RedisError or OSError; `explain` turns either into a sentence.
        """
        connection = self._kind(**self._options)
        line = Line(connection)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
                probe = pack(("EVAL", self._probe.text, 1, "aion:{s00}:probe"))
                await line.send([pack(("INFO", "server")), probe])
                _check(await line.read(), await line.read())
        except BaseException:
            await line.drop()
            raise
        return line

    def explain(self, error: BaseException) -> str:
        """Say in one sentence what is wrong and what to do; the server's own words are kept, credentials are not."""
        where = f"the store at {self.address}"
        while isinstance(error.__cause__, RedisError):
            error = error.__cause__
        if isinstance(error, AuthenticationError):
            return f"{where} refused the user name or password: correct them in `store`"
        if isinstance(error, NoPermissionError):
            return f"{where} does not allow its user what is needed: grant that user all commands on the keys aion:*"
        if isinstance(error, TimeoutError | RedisTimeout):
            return f"{where} did not answer in time: see whether it is overloaded, stopped or unreachable"
        words = " ".join(str(error).split())[:200] or type(error).__name__
        password = self._options.get("password")
        if password:
            words = words.replace(password, "***")
        return f"{where} cannot be used: {words}; see that it runs there and accepts writes"


def _reply_parser(connection: AbstractConnection) -> Any:  # noqa: ANN401 - redis-py's, and not typed
    """Return what reads replies, as bytes; an error reply is returned, not raised.

    The one private part of redis-py that is used. Its public `Connection.read_response` does the same, but builds a
    timeout, and the text of an error that did not happen, for every single reply: half of what a call costs here.
    """
    return connection._parser  # noqa: SLF001


def pack(words: Sequence[Word]) -> bytes:
    """Write a command as the server reads it: any number of words."""
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type] # its types say: exactly one word
    return packed


def _bulks(words: Iterable[str]) -> str:
    return "".join([f"${len(word)}\r\n{word}\r\n" for word in words])


def _check(info: object, probe: object) -> None:
    version = _major_version(info)
    if version is not None and version < OLDEST_SERVER:
        raise RedisError(f"it is Redis {version}, which is too old: version {OLDEST_SERVER}.0 or newer is needed")
    if isinstance(probe, RedisError):
        raise probe


def _major_version(info: object) -> int | None:
    """Read the version out of an INFO reply; None if the server does not let us see it."""
    if isinstance(info, bytes):
        for line in info.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"redis_version":
                return int(value.split(b".")[0])
    return None
