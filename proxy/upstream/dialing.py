"""How a connection to a provider is opened: its name looked up, each address judged, TLS spoken, all in time.

Foreign exceptions end here: whatever goes wrong becomes an `UpstreamError`, whose words leave the host out.
"""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohappyeyeballs

from proxy.egress import literal, may_connect
from proxy.wire.upstream_error import UpstreamError

_HAPPY_EYEBALLS_DELAY: Final = 0.25
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
_IPV4: Final = 4
_P = TypeVar("_P", bound=asyncio.BaseProtocol)

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
Lookup = Callable[[str, int], Awaitable[Sequence[AddressInfo]]]
"""Looks a host's name up, as `getaddrinfo` does."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a provider listens: scheme, host and port of its base URL, and the path in front of every endpoint."""

    tls: bool
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, base_url: str) -> "Origin":
        """Take a checked `http(s)://host[:port][/path]` apart."""
        url = urlsplit(base_url)
        tls = url.scheme == "https"
        return cls(tls, url.hostname or "", url.port or (443 if tls else 80), url.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """The value of the Host header: without the port where it is the scheme's own (RFC 9110, 4.2.3)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Dialer:
    """Opens connections to one provider."""

    def __init__(
        self,
        origin: Origin,
        *,
        timeout: float,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None = None,
        allow_private: bool = False,
        look_up: Lookup | None = None,
    ) -> None:
        """Prepare it; `timeout` is for all of it, in seconds. `allow_private`: wherever the host's name leads."""
        self.origin = origin
        self._timeout = timeout
        self._loop = loop
        self._tls = (tls or ssl.create_default_context()) if origin.tls else None
        self._allow_private = allow_private
        self._look_up = look_up or self._ask_system

    async def dial(self, protocol: Callable[[], _P]) -> _P:
        """Open a connection. Raises `UpstreamError` (`upstream_timeout`, `upstream_unavailable`)."""
        try:
            async with asyncio.timeout(self._timeout):
                sock = await aiohappyeyeballs.start_connection(
                    await self._addresses(), happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY, loop=self._loop
                )
                _, connection = await self._loop.create_connection(
                    protocol,
                    sock=sock,
                    ssl=self._tls,
                    server_hostname=self.origin.host if self._tls else None,
                )
        except TimeoutError:
            raise UpstreamError(kind="upstream_timeout", detail="no connection in time") from None
        except (OSError, UnicodeError) as error:  # refused, unreachable, DNS, TLS; a name that can be none
            detail = f"no connection: {self._reason(error)}"
            raise UpstreamError(kind="upstream_unavailable", detail=detail) from None
        return connection

    async def _addresses(self) -> list[AddressInfo]:
        """Return where the host is, as far as it may be connected to: what is judged is what is connected to, so that
        a name cannot lead elsewhere in between. Raises `UpstreamError`.
        """
        host, port = self.origin.host, self.origin.port
        address = literal(host)
        found: Sequence[AddressInfo]
        if address is None:
            found = await self._look_up(host, port)
        elif address.version == _IPV4:
            found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
        else:
            found = [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]
        allowed = [info for info in found if may_connect(host, info[4][0], allow_private=self._allow_private)]
        if not allowed:
            detail = "its host leads to no public address; set allow_private: true at the provider if it is meant to"
            raise UpstreamError(kind="upstream_unavailable", detail=detail)
        return allowed

    async def _ask_system(self, host: str, port: int) -> Sequence[AddressInfo]:
        return await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]

    def _reason(self, error: OSError | UnicodeError) -> str:
        """Say why there is no connection, for the log, without the host and its addresses."""
        numbers = dict.fromkeys(_ERRNO.findall(str(error)))
        if isinstance(error, ssl.SSLError):
            words = str(error)
        elif numbers:
            words = ", ".join(os.strerror(int(number)) for number in numbers)
        else:
            words = getattr(error, "strerror", None) or ""
        return f"{type(error).__name__}: {words}".replace(self.origin.host, "[host]")
