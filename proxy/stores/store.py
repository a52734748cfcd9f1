"""What a store is to those who ask it, and what a call on its way to a server is made of.

Only the words that one connection and many have in common. How a server is reached, and what happens to a call that
it refuses, is in the files beside this one.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from proxy.errors import StoreUnavailable
from proxy.store_url import Node
from proxy.stores.packing import Word
from proxy.stores.scripts import Script


class Call(Struct, eq=False):
    """One call on its way: its name for the metric, its bytes, and who waits for the reply.

    `again` is the script that its bytes name by a digest; `echo` is what the reply has to begin with; `due` is when
    whoever waits gives up.

    The others are of calls that a cluster sends from one node to the next: how often in a row, since when, until when
    the present move of its slot is waited for (0: none is), and who sent it elsewhere while the slot is on its way.
    """

    name: str
    packed: bytes
    reply: asyncio.Future[Any]
    again: Script | None = None
    echo: bytes | None = None
    due: float | None = None
    forwarded: int = 0
    forward_since: float = 0.0
    forward_until: float = 0.0
    asked_by: Node | None = None


class Store(Protocol):
    """What the records and the limits ask of a store, whether it is one server or many."""

    @property
    def up(self) -> bool:
        """Whether the store answered when it was last asked."""

    @property
    def detail(self) -> str:
        """Why the store is not `up`, in one sentence without credentials; empty while it is."""

    @property
    def address(self) -> str:
        """Where the store is, without credentials."""

    async def connect(self) -> None:
        """Start connecting and wait for the first attempt. Raises StoreUnavailable, and goes on trying."""

    async def close(self) -> None:
        """Close everything; calls that wait fail with StoreUnavailable, and so do later ones."""

    def call(self, *words: Word, name: str | None = None, urgent: bool = False) -> asyncio.Future[Any]:
        """Queue one command and return the future of its reply; it fails with StoreUnavailable."""

    def script(
        self, script: Script, keys: Sequence[Word], args: Sequence[Word], *, echo: str = "", urgent: bool = False
    ) -> asyncio.Future[Any]:
        """Queue a script and return the future of its reply, which begins with `echo` if that is given; it fails
        with StoreUnavailable.
        """

    def send(
        self, script: Script, key: str, packed: bytes, *, echo: str = "", urgent: bool = False
    ) -> asyncio.Future[Any]:
        """Queue a script as `script` does, in an EVALSHA that is packed already; `key` is one of its keys."""

    def distrust(self, detail: str) -> StoreUnavailable:
        """Drop the connection because a reply belonged to another call; returns what the caller is to raise."""


def begins_with(answer: object, echo: bytes) -> bool:
    """Tell whether a reply is a text or a list that begins with `echo`."""
    if type(answer) is list:
        return bool(answer) and answer[0] == echo
    return type(answer) is bytes and answer.startswith(echo)


def fail(call: Call, detail: str, cause: BaseException | None, *, ran: bool) -> None:
    """Let a call fail; `ran`: the server may have done what was asked."""
    if not call.reply.done():
        error = StoreUnavailable(detail, may_have_run=ran)
        error.__cause__ = cause
        call.reply.set_exception(error)
