"""Why a store cannot be used, as an operator reads it."""

import pytest

from proxy.errors import StoreUnavailable
from proxy.stores.opening import store_at


async def explained(url: str) -> str:
    """What is said of a URL to which no connection can be made."""
    store = store_at(url)
    with pytest.raises(StoreUnavailable) as refused:
        await store.connect()
    await store.close()
    return refused.value.detail
