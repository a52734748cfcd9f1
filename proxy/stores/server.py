"""One server and how it is opened: redis-py's part, and the one place where its errors become sentences.

Addresses, TLS, users and databases are redis-py's business; its command objects and pools cost five times the CPU per
call and are not used. Which server it is (`sentinel.py`, `cluster.py`) and what is asked of it once it is open
(`connection.py`) is decided elsewhere.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, Self, TypeGuard

from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from proxy.store_url import Node
from proxy.stores.packing import pack
from proxy.stores.scripts import load_script

MISSING: Final = NOT_ENOUGH_DATA
OLDEST_SERVER: Final = 7
"""Major version of the server; older ones do not know the flags in the first line of a script."""
KEEPS_ALL: Final = "noeviction"
_PROBE_KEY: Final = "aion:{s00}:probe"
_SLOT_OF_NOBODY: Final = "Hash slot not served"
_SHOWN_CHARACTERS: Final = 200
_OUTAGE_WORDS: Final = ("MISCONF ", "BUSY ", "NOREPLICAS ", "The cluster is down")
"""How errors begin that redis-py has no class for, and that every other call would meet too."""


class EvictingStore(RedisError):  # noqa: N818 - the name of a state
    """The server throws keys away when its memory is full, and the configuration does not allow that."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server says of itself when a connection is made; a field that it does not show is empty."""

    version: str = ""
    run_id: str = ""
    role: str = ""
    in_cluster: bool = False
    eviction: str = ""

    @classmethod
    def read(cls, info: object) -> Self:
        """Read an INFO reply; all is empty if the server does not let us see it."""
        pairs = (line.partition(b":") for line in info.split(b"\r\n")) if isinstance(info, bytes) else ()
        said = {name.decode("ascii", "replace"): value.decode("ascii", "replace") for name, _, value in pairs}
        return cls(
            said.get("redis_version", ""),
            said.get("run_id", ""),
            said.get("role", ""),
            said.get("cluster_enabled") == "1",
            said.get("maxmemory_policy", ""),
        )

    @property
    def evicts(self) -> bool:
        """Whether the server may throw counters away."""
        return self.eviction not in ("", KEEPS_ALL)


class Line:
    """One open connection to the server, as bytes go in and replies come out."""

    __slots__ = ("_connection", "_parser", "greeting", "read")

    def __init__(self, connection: AbstractConnection) -> None:
        """Take over a connection, open or about to be opened."""
        self._connection = connection
        self.greeting = Greeting()
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
        """Close without waiting for the server: one that is gone would keep a TLS connection open for half a minute."""
        writer: asyncio.StreamWriter | None = self._connection._writer  # noqa: SLF001 - see `_reply_parser`
        if writer is not None:
            writer.transport.abort()
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)


class Opener(Protocol):
    """Knows how to find a server and open a line to it, again and again."""

    @property
    def address(self) -> str:
        """Where the server is looked for, without credentials."""

    async def open(self) -> Line:
        """Open a line that can be used. Raises RedisError or OSError."""

    def explain(self, error: BaseException) -> str:
        """Say in one sentence what is wrong and what to do, without credentials."""


class Server:
    """A server at one address: opens lines to it, and explains what went wrong without telling the password."""

    def __init__(
        self, url: str, connect_timeout: float, *, in_cluster: bool = False, allow_eviction: bool = True
    ) -> None:
        """Read the URL (`redis://`, `rediss://`, `unix://`); ValueError if it has another form or unknown options.

        `in_cluster` says whether it has to be a node of a cluster.
        """
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
        self._url = url
        self._connect_timeout = connect_timeout
        self._in_cluster = in_cluster
        self._allow_eviction = allow_eviction
        self._probe = load_script("probe")
        self._wants_primary = False
        try:
            self._kind(**self._options)
        except (TypeError, RedisError):
            raise ValueError(
                f"the URL of the store at {self.address} has options after its `?` that mean nothing: correct or "
                "remove them"
            ) from None

    def at(self, node: Node, *, primary: bool = False) -> "Server":
        """Return the server at another address with the same credentials and options; `primary`: it has to be one."""
        other = Server(
            self._url, self._connect_timeout, in_cluster=self._in_cluster, allow_eviction=self._allow_eviction
        )
        other._options |= {"host": node.host, "port": node.port}
        other._wants_primary = primary
        return other

    @property
    def address(self) -> str:
        """Where the store is, without credentials: a socket's path, or host and port."""
        if "path" in self._options:
            return str(self._options["path"])
        return f"{self._options.get('host', 'localhost')}:{self._options.get('port', 6379)}"

    async def open(self) -> Line:
        """Connect, and make sure that the server is fit for use and lets this user run scripts that write.

        Raises RedisError or OSError; `explain` turns either into a sentence.
        """
        line = await self.connect()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await line.send([pack(("INFO",)), pack(("EVAL", self._probe.text, 1, _PROBE_KEY))])
                info, probe = await line.read(), await line.read()
            line.greeting = Greeting.read(info)
            self._check(line.greeting, info, probe)
        except BaseException:
            await line.drop()
            raise
        return line

    async def connect(self) -> Line:
        """Connect and log in, and ask nothing."""
        connection = self._kind(**self._options)
        line = Line(connection)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await line.drop()
            raise
        return line

    def explain(self, error: BaseException) -> str:
        """Say in one sentence what is wrong and what to do; the server's own words are kept, credentials are not."""
        where = f"the store at {self.address}"
        while isinstance(error.__cause__, RedisError):
            error = error.__cause__
        if isinstance(error, EvictingStore):
            return f"{where} has {evicting(str(error))}, or write `store_eviction: warn` to take the risk"
        if isinstance(error, AuthenticationError):
            return f"{where} refused the user name or password: correct them in `store`"
        if isinstance(error, NoPermissionError):
            return f"{where} does not allow its user what is needed: grant that user all commands on the keys aion:*"
        if isinstance(error, TimeoutError | RedisTimeout):
            return f"{where} did not answer in time: see whether it is overloaded, stopped or unreachable"
        words = self.without_password(" ".join(str(error).split()))[:_SHOWN_CHARACTERS] or type(error).__name__
        return f"{where} cannot be used: {words}; see that it runs there and accepts writes"

    def without_password(self, words: str) -> str:
        """Return a text with stars in the password's place."""
        password = self._options.get("password")
        return words.replace(password, "***") if password else words

    def _check(self, greeting: Greeting, info: object, probe: object) -> None:
        if is_outage(info):
            raise info
        major = int(greeting.version.partition(".")[0] or OLDEST_SERVER)
        if major < OLDEST_SERVER:
            raise RedisError(f"it is Redis {major}, which is too old: version {OLDEST_SERVER}.0 or newer is needed")
        if greeting.in_cluster and not self._in_cluster:
            raise RedisError("it is a node of a cluster: write its URL with redis+cluster:// in place of redis://")
        if self._wants_primary and greeting.role != "master":
            raise ReadOnlyError(f"it is no primary but a {greeting.role or 'server that does not tell its role'}")
        # Of a key that another node of the cluster has, a node that is well says where it is.
        elsewhere = self._in_cluster and (isinstance(probe, AskError | TryAgainError) or _SLOT_OF_NOBODY in str(probe))
        if isinstance(probe, RedisError) and not elsewhere:
            raise probe
        if greeting.evicts and not self._allow_eviction:
            raise EvictingStore(greeting.eviction)


def evicting(policy: str) -> str:
    """Say what an evicting policy does, and the remedy."""
    return (
        f"maxmemory-policy {policy} and throws accounts, keys and limits away when its memory is full: "
        f"set maxmemory-policy {KEEPS_ALL} there"
    )


def is_outage(reply: object) -> TypeGuard[RedisError]:
    """Whether an error concerns everything that is asked of the server, and not one call alone."""
    return isinstance(reply, ReadOnlyError | BusyLoadingError | MasterDownError) or (
        isinstance(reply, RedisError) and str(reply).startswith(_OUTAGE_WORDS)
    )


def _reply_parser(connection: AbstractConnection) -> Any:  # noqa: ANN401 - redis-py's, and not typed
    """Return what reads replies, as bytes; an error reply is returned, not raised.

    One of two private parts of redis-py that are used, with `_writer`. Its public `Connection.read_response` does the
    same, but builds a timeout, and the text of an error that did not happen, for every single reply: half of what a
    call costs here.
    """
    return connection._parser  # noqa: SLF001
