"""From the URL of a store to a connection of the kind that it asks for: one server, behind sentinels, or a cluster.

Only the choice and the putting together; each kind is in a file of its own.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Unpack

from proxy.accounts import SHARDS
from proxy.errors import StoreUnavailable
from proxy.store_url import Topology, read_store_url
from proxy.stores.cluster import ClusterConnection
from proxy.stores.connection import CALL_TIMEOUT, CONNECT_TIMEOUT, Options, StoreConnection
from proxy.stores.limits import shard_prefix
from proxy.stores.sentinel import SentinelServer
from proxy.stores.server import EvictingStore, Server
from proxy.stores.slots import tag_of
from proxy.stores.store import Store


def store_at(url: str, *, allow_eviction: bool = True, **options: Unpack[Options]) -> Store:
    """Prepare a connection to the store at `url`; nothing is opened before `connect`.

    Of a cluster, `on_change` and `on_trouble` are about all of it, and `on_new_server` is about each node. A server
    that evicts is refused unless `allow_eviction`. Raises ValueError for a URL that is none of a store.
    """
    found = read_store_url(url)
    clustered = found.topology is Topology.CLUSTER
    timeout = options.get("connect_timeout", CONNECT_TIMEOUT)
    if found.topology is Topology.SENTINEL:
        return StoreConnection(SentinelServer(found, timeout, allow_eviction=allow_eviction), **options)
    server = Server(found.server, timeout, in_cluster=clustered, allow_eviction=allow_eviction)
    if not clustered:
        return StoreConnection(server, **options)
    tags = [tag_of(shard_prefix(shard)) for shard in range(SHARDS)]
    return ClusterConnection(found.nodes, server, tags, **options)


@contextlib.asynccontextmanager
async def connect_store(
    url: str, *, call_timeout: float = CALL_TIMEOUT, allow_eviction: bool = True
) -> AsyncIterator[Store]:
    """Connect for the length of a block, for a command that ends soon; StoreUnavailable if the store is not there."""
    connection = store_at(url, call_timeout=call_timeout, allow_eviction=allow_eviction)
    try:
        await connection.connect()
        yield connection
    finally:
        await connection.close()


async def mistake_at(url: str, *, allow_eviction: bool) -> str | None:
    """Say what is wrong with a store that no waiting will mend: its URL, or that it evicts; None if it is just away."""
    try:
        async with connect_store(url, allow_eviction=allow_eviction):
            return None
    except ValueError as error:
        return str(error)
    except StoreUnavailable as away:
        return away.detail if isinstance(away.__cause__, EvictingStore) else None
