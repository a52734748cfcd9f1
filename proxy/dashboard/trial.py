"""One request to this gateway's own API on behalf of somebody who is signed in, over its port like anybody's, so that
limits, prices and the ledger see it as any other. Nothing but the gateway itself can be asked from here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from proxy.admin.refused import OperationRefused, Reason

PATHS: Final = {"chat": "/chat/completions", "responses": "/responses"}
_LONGEST: Final = 8 << 20
"""Bytes of an answer that are passed on; a page that shows more is of no use to anybody."""
_PATIENCE: Final = aiohttp.ClientTimeout(total=900, sock_connect=5)


@dataclass(frozen=True, slots=True)
class Trial:
    """An answer that has begun."""

    status: int
    request_id: str
    content_type: str
    pieces: AsyncIterator[bytes]
    """As they arrive; raises `OperationRefused` when it ends in the middle."""


@asynccontextmanager
async def trial(url: str, key: str, body: bytes) -> AsyncIterator[Trial]:
    """Send it, and hang up at the end. Raises `OperationRefused` when the API's port does not answer."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
        try:
            answer = await session.post(url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _away("did not answer", error) from None
        async with answer:
            request_id = answer.headers.get("x-request-id", "")
            yield Trial(answer.status, request_id, answer.content_type, _pieces(answer))


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    count = 0
    try:
        async for piece in answer.content.iter_any():
            yield piece
            count += len(piece)
            if count > _LONGEST:
                raise OperationRefused(Reason.UNAVAILABLE, "The answer is longer than what is shown here: ask for less")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _away("stopped in the middle", error) from None


def _away(what: str, error: Exception) -> OperationRefused:
    return OperationRefused(
        Reason.UNAVAILABLE, f"the API's port {what} ({type(error).__name__}): the system page says why"
    )
