"""The providers of one configuration as they are called: pool, credentials, and whether they were reachable lately."""

import asyncio
from collections.abc import Mapping

from proxy.outbox import Outbox
from proxy.providers import AuthHeader, Provider
from proxy.upstream.connections import UpstreamPool
from proxy.upstream.dialing import Dialer, Origin
from proxy.upstream.exchange import Bounds
from proxy.wire.chat_request import dialect_of


class Upstream:
    """One provider: everything that a request to it needs and that does not depend on the request."""

    def __init__(self, name: str, provider: Provider, base_url: str, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare the pool; nothing is opened yet. `base_url` is where a built-in provider was started, else the
        provider's.
        """
        self.name = name
        self.provider = provider
        self.base_url = base_url
        self.origin = Origin.of(base_url)
        dialer = Dialer(self.origin, timeout=provider.connect_timeout, loop=loop, allow_private=provider.allow_private)
        self.pool = UpstreamPool(dialer, Outbox(loop))
        self.bounds = Bounds(
            first_byte=provider.first_byte_timeout,
            idle=provider.idle_timeout,
            total=provider.total_timeout,
            size=provider.max_answer,
        )
        self.authority = self.origin.authority
        self.head_lines = _credentials(provider) + _own_headers(provider)
        self.dialect = dialect_of(provider)
        self.drains = 0
        """Answers that are read to their end although their client has left."""
        self.reasoning_field = provider.reasoning_field
        """Where earlier reasoning is sent back: the profile's word, else the field in which this provider's last came.
        """

    def __repr__(self) -> str:
        """Name the provider and its host; never its key."""
        return f"<Upstream {self.name} at {self.origin.authority}>"

    def learn(self, reasoning_field: str | None) -> None:
        """Remember the field that reasoning came in, unless the profile names one."""
        if reasoning_field is not None and self.provider.reasoning_field is None:
            self.reasoning_field = reasoning_field

    def secrets(self) -> tuple[str, ...]:
        """Return what must not be seen in anything a client gets: the provider's secrets, and where it is."""
        return (*self.provider.secrets(), self.base_url, self.authority, self.origin.host)


def open_upstreams(
    providers: Mapping[str, Provider],
    builtin_urls: Mapping[str, str],
    loop: asyncio.AbstractEventLoop,
    former: Mapping[str, Upstream] | None = None,
) -> dict[str, Upstream]:
    """Make the upstreams of a configuration; those of `former` whose provider did not change are kept with their
    connections.
    """
    former = former or {}
    upstreams = {}
    for name, provider in providers.items():
        base_url = provider.base_url or builtin_urls[str(provider.builtin)]
        before = former.get(name)
        same = before is not None and before.provider == provider and before.base_url == base_url
        upstreams[name] = before if before is not None and same else Upstream(name, provider, base_url, loop)
    for name, before in former.items():
        if upstreams.get(name) is not before:
            before.pool.close()
    return upstreams


def _credentials(provider: Provider) -> bytes:
    if provider.api_key is None or provider.auth_header is AuthHeader.NONE:
        return b""
    key = provider.api_key.get_secret_value()
    line = f"Authorization: Bearer {key}\r\n" if provider.auth_header is AuthHeader.BEARER else f"api-key: {key}\r\n"
    return line.encode()


def _own_headers(provider: Provider) -> bytes:
    return "".join(f"{name}: {value.get_secret_value()}\r\n" for name, value in provider.headers.items()).encode()
