"""The URL of a store as a value: one server, or the sentinels or the nodes through which one is found.

Only the form of the text. Nothing is looked up or connected to, and what a server's options mean is the client
library's business.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode

from proxy.mistakes import Wrong

_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z+]+)://(?P<netloc>[^/?#\x00-\x20\x7f]*)(?P<path>[^?#\x00-\x20\x7f]*)"
    r"(\?(?P<query>[^#\x00-\x20\x7f]*))?"
)
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\s]+)(?::(?P<port>[0-9]{1,5}))?")
_SENTINELS_OWN: Final = ("sentinel_username", "sentinel_password")
_LARGEST_PORT: Final = 65535


class Topology(StrEnum):
    """How the server that has the data is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Node(NamedTuple):
    """One server's host and port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """What a store's URL says; the parts that hold passwords are in no representation.

    `nodes` are the addresses in it (none for a socket), `server` is the URL of a server with the data, with the first
    of these as its host: another host needs the same credentials and options. `sentinel` is the same for a sentinel.
    """

    topology: Topology
    nodes: tuple[Node, ...]
    server: str = field(repr=False)
    sentinel: str = field(default="", repr=False)
    service: str = ""


def read_store_url(text: object) -> StoreUrl:
    """Take a store's URL apart. Raises `Wrong`, which says what is allowed and quotes nothing."""
    parts = _split(text)
    if parts.scheme == "unix":
        if len(parts.path) <= 1:
            raise Wrong("must name the socket's absolute path, such as unix:///run/redis.sock")
        return StoreUrl(Topology.SINGLE, (), str(text))
    scheme, _, topology = parts.scheme.partition("+")
    credentials, _, hosts = parts.netloc.rpartition("@")
    nodes = tuple(_node(host, 26379 if topology == "sentinel" else 6379) for host in hosts.split(","))
    if topology == "sentinel":
        return _of_sentinels(parts, scheme, credentials, nodes)
    if topology == "cluster":
        if parts.path not in ("", "/", "/0"):
            raise Wrong("must end after the nodes: a cluster has no numbered databases")
        return StoreUrl(Topology.CLUSTER, nodes, _url(scheme, credentials, nodes[0], "", parts.query))
    if len(nodes) > 1:
        raise Wrong("must name one host; several are written after redis+sentinel:// or redis+cluster://")
    if not re.fullmatch(r"/?[0-9]{0,5}", parts.path):
        raise Wrong("must end with the number of a database or nothing, such as redis://127.0.0.1:6379/0")
    return StoreUrl(Topology.SINGLE, nodes, str(text))


def _split(text: object) -> SplitResult:
    """Take a URL apart as `urlsplit` does, which knows one host at most."""
    match = _URL.fullmatch(text) if isinstance(text, str) and text.isascii() else None
    if match is None or match["scheme"].lower() not in _SCHEMES:
        raise Wrong(f"must be embedded, or a URL that starts with {', '.join(f'{one}://' for one in _SCHEMES)}")
    return SplitResult(match["scheme"].lower(), match["netloc"], match["path"], match["query"] or "", "")


def _of_sentinels(parts: SplitResult, scheme: str, credentials: str, nodes: tuple[Node, ...]) -> StoreUrl:
    match = re.fullmatch(r"/(?P<service>[^/]+)(?P<db>/[0-9]{0,5})?", parts.path)
    if match is None:
        raise Wrong("must name the service after the sentinels, such as redis+sentinel://127.0.0.1:26379/mymaster/0")
    options = parse_qsl(parts.query, keep_blank_values=True)
    of_data = urlencode([pair for pair in options if pair[0] not in _SENTINELS_OWN])
    of_tls = urlencode([pair for pair in options if pair[0].startswith("ssl_")])
    own = dict(options)
    user, password = (quote(own.get(name, ""), safe="") for name in _SENTINELS_OWN)
    return StoreUrl(
        Topology.SENTINEL,
        nodes,
        server=_url(scheme, credentials, nodes[0], match["db"] or "", of_data),
        sentinel=_url(scheme, f"{user}:{password}" if password else "", nodes[0], "", of_tls),
        service=unquote(match["service"]),
    )


def _node(text: str, port: int) -> Node:
    match = _HOST.fullmatch(text)
    if match is None or int(match["port"] or port) > _LARGEST_PORT:
        raise Wrong("must name a host or several, each with its port, such as redis://127.0.0.1:6379/0")
    return Node(unquote(match["host"].strip("[]")), int(match["port"] or port))


def _url(scheme: str, credentials: str, node: Node, path: str, query: str) -> str:
    return f"{scheme}://{f'{credentials}@' if credentials else ''}{node}{path}{f'?{query}' if query else ''}"
