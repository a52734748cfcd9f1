"""A store that is a Redis Cluster: one connection per primary, and every call on the one that has its keys.

Who has which slot, what is done when a node sends a call elsewhere, and how a changed cluster is noticed. What one
connection does is `connection.py`'s business; that all keys of a call are in one slot is its caller's.
"""

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Unpack

from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError

from proxy.errors import StoreUnavailable
from proxy.store_url import Node
from proxy.stores.connection import Options, StoreConnection
from proxy.stores.packing import Word, pack
from proxy.stores.scripts import Script
from proxy.stores.server import Server
from proxy.stores.slots import Slots, slot_of, tag_of
from proxy.stores.store import Call, fail
from proxy.stores.trouble import Trouble

REFRESH_PAUSE: Final = 0.2
"""Seconds between two questions for the cluster's state while something in it is wrong."""
FORWARD_FOR: Final = 10.0
"""Seconds for which a call waits for one move of its slot. Redis moves a slot key by key and refuses calls meanwhile
whose keys are not all on one side, or of which one does not exist; a slot of thousands of keys takes some seconds."""
FORWARD_IN_ALL: Final = 60.0
"""Seconds for which a call is sent from node to node: a slot that has arrived may soon be on its way again, and nodes
that do not agree send a call to each other."""
_AT_ONCE: Final = 2
"""How often a call is sent on without a pause; more often, the nodes do not agree yet."""
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.2
"""Seconds; many calls may wait for one slot, and must not keep the nodes from moving it. The first of them that learns
that it was moved wakes the others: it may be free only for a moment."""
_ON_ITS_WAY: Final = "a slot has been on its way from one node to another for too long in the cluster"
_NOT_HERE: Final = "Script attempted to access a non local key"
"""What a script is told that removed the last entry of a key and asks for it again while its slot is moved."""
_KEY_AFTER_DIGEST: Final = 3


class ClusterConnection:
    """`Store` over the primaries of a cluster."""

    def __init__(
        self, seeds: Sequence[Node], any_node: Server, tags: Sequence[str], **options: Unpack[Options]
    ) -> None:
        """Prepare connections to the cluster of which `seeds` are nodes; `any_node` has its credentials and options.

        It is `up` while every one of `tags` has a node that is.
        """
        self._seeds = seeds
        self._any_node = any_node
        self._tags = tags
        self._on_change = options.pop("on_change", None)
        self._trouble = Trouble(options.pop("on_trouble", None))
        self._options = options
        self._slots = Slots()
        self._lanes: dict[Node, StoreConnection] = {}
        self._of_tag: dict[str, StoreConnection] = {}
        self._waiting: dict[int, tuple[asyncio.TimerHandle, Call, Node]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._stale = asyncio.Event()
        self._tried = asyncio.Event()
        self._up = False
        self._detail = "the connection to the store has not been opened yet"
        self._cause: BaseException | None = None

    def __repr__(self) -> str:
        """Tell the addresses and the state; never the user or the password."""
        return f"<ClusterConnection {self.address} {'up' if self._up else f'down: {self._detail}'}>"

    @property
    def up(self) -> bool:
        """Whether every account's node answered when it was last asked."""
        return self._up

    @property
    def detail(self) -> str:
        """Why the store is not `up`, in one sentence without credentials; empty while it is."""
        return "" if self._up else self._detail

    @property
    def address(self) -> str:
        """The nodes of the URL, without credentials."""
        return ",".join(map(str, self._seeds))

    async def connect(self) -> None:
        """Start connecting and wait for the first attempt. Raises StoreUnavailable, and goes on trying."""
        if self._keeper is None:
            self._stale.set()
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="store cluster")
        await self._tried.wait()
        if not self._up:
            raise StoreUnavailable(self._detail) from self._cause

    async def close(self) -> None:
        """Close everything; calls that wait fail with StoreUnavailable, and so do later ones."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        lanes, self._lanes = self._lanes, {}
        self._of_tag.clear()
        self._slots = Slots()
        await asyncio.gather(*[lane.close() for lane in lanes.values()], *self._closing)
        self._detail = "the connection to the store was closed"
        self._show()

    def call(self, *words: Word, name: str | None = None, urgent: bool = False) -> asyncio.Future[Any]:
        """Queue one command on the node that has its key, and return the future of its reply."""
        key = words[_KEY_AFTER_DIGEST if words[0] in ("EVAL", "EVALSHA") else 1]
        lane = self._lane_of(key)
        return self._nowhere() if lane is None else lane.call(*words, name=name, urgent=urgent)

    def script(
        self, script: Script, keys: Sequence[Word], args: Sequence[Word], *, echo: str = "", urgent: bool = False
    ) -> asyncio.Future[Any]:
        """Run a script on the node that has its keys, and return the future of its reply."""
        lane = self._lane_of(keys[0])
        return self._nowhere() if lane is None else lane.script(script, keys, args, echo=echo, urgent=urgent)

    def send(
        self, script: Script, key: str, packed: bytes, *, echo: str = "", urgent: bool = False
    ) -> asyncio.Future[Any]:
        """Run a script that is packed already on the node that has its keys, and return the future of its reply."""
        lane = self._lane_of(key)
        return self._nowhere() if lane is None else lane.send(script, key, packed, echo=echo, urgent=urgent)

    def distrust(self, detail: str) -> StoreUnavailable:
        """Drop all connections, because a reply belonged to another call; returns what the caller is to raise."""
        for lane in self._lanes.values():
            lane.distrust(detail)
        return StoreUnavailable(detail)

    def _lane_of(self, key: Word) -> StoreConnection | None:
        tag = tag_of(str(key))
        lane = self._of_tag.get(tag)
        if lane is None:
            node = self._slots.owner(slot_of(tag))
            lane = None if node is None else self._lanes.get(node)
            if lane is not None:
                self._of_tag[tag] = lane
        return lane

    def _nowhere(self) -> asyncio.Future[Any]:
        self._stale.set()
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        reply.set_exception(StoreUnavailable(self._detail))
        return reply

    # calls that a node refuses

    def _forward(self, node: Node, call: Call, error: RedisError) -> bool:
        """Take over a call that a node refused without having run it; False: it has failed, as errors do."""
        call.due = None  # whoever waits for it is not served sooner by giving up
        if isinstance(error, ClusterDownError):
            self._stale.set()
            return False
        if self._keeper is None or call.reply.done():
            return False
        if isinstance(error, MovedError):
            target = Node(error.host or node.host, error.port)
            self._slots.move(error.slot_id, target)
            self._of_tag.clear()
            self._stale.set()
            call.asked_by = None
            if call.forward_until:  # that move is over
                call.forwarded, call.forward_until = 0, 0.0
            for waiting in list(self._waiting):
                self._wake(waiting)
            self._send(call, target)
        elif isinstance(error, AskError):
            self._wait_for_move(call, Node(error.host or node.host, error.port), asked_by=node)
        elif isinstance(error, TryAgainError) or _NOT_HERE in str(error):
            call.forwarded = max(call.forwarded, _AT_ONCE)
            self._wait_for_move(call, call.asked_by or node)  # the slot's owner knows when the move is over
        else:
            return False
        return True

    def _wait_for_move(self, call: Call, node: Node, asked_by: Node | None = None) -> None:
        call.forward_until = call.forward_until or asyncio.get_running_loop().time() + FORWARD_FOR
        call.asked_by = asked_by
        self._send(call, node)

    def _send(self, call: Call, node: Node) -> None:
        loop = asyncio.get_running_loop()
        call.forwarded += 1
        call.forward_since = call.forward_since or loop.time()
        if loop.time() > min(call.forward_until or math.inf, call.forward_since + FORWARD_IN_ALL):
            fail(call, f"{_ON_ITS_WAY} at {self.address}: see `CLUSTER NODES` there", None, ran=False)
        elif call.forwarded <= _AT_ONCE:
            self._put(call, node)
        else:
            pause = min(_FIRST_PAUSE * 2.0 ** (call.forwarded - _AT_ONCE - 1), _LONGEST_PAUSE)
            if call.forward_until:
                self._waiting[id(call)] = (loop.call_later(pause, self._wake, id(call)), call, node)
            else:
                loop.call_later(pause, self._put, call, node)

    def _wake(self, waiting: int) -> None:
        timer, call, node = self._waiting.pop(waiting)
        timer.cancel()
        self._put(call, node)

    def _put(self, call: Call, node: Node) -> None:
        if call.reply.done() or self._keeper is None:
            fail(call, self._detail, None, ran=False)
        elif call.asked_by is None:
            self._lane(node).put(call)
        else:
            admission = Call("ASKING", pack(("ASKING",)), asyncio.get_running_loop().create_future())
            admission.reply.add_done_callback(_heard)
            self._lane(node).put(admission, call)

    # the state of the cluster

    async def _keep(self) -> None:
        """Find out about the cluster whenever something in it is not as it was thought to be."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                await self._refresh()
            except Exception as error:  # noqa: BLE001 - if this task died, no change would ever be noticed again
                away = error if isinstance(error, StoreUnavailable) else None
                self._detail = self._any_node.explain(error) if away is None else away.detail
                self._cause = error if away is None else away.__cause__
            self._tried.set()
            self._show()
            if not self._up:
                self._stale.set()
            await asyncio.sleep(REFRESH_PAUSE)

    async def _refresh(self) -> None:
        """Ask who has which slots, and have a connection to each of them."""
        self._slots = await self._ask_any()
        self._of_tag.clear()
        lanes = [self._lane(node) for node in self._slots.nodes()]
        if not self._tried.is_set():
            for done in await asyncio.gather(*[lane.connect() for lane in lanes], return_exceptions=True):
                self._cause = done.__cause__ if isinstance(done, StoreUnavailable) else self._cause
        for node in self._lanes.keys() - set(self._slots.nodes()):
            self._retire(self._lanes.pop(node))

    async def _ask_any(self) -> Slots:
        """Ask nodes one after the other until one answers: the connected ones, then all that were ever heard of."""
        trouble: Exception = StoreUnavailable("no node of the cluster is known")
        for node, lane in list(self._lanes.items()):
            if lane.up:
                self._lanes[node] = self._lanes.pop(node)  # another one is first the next time: this one may be cut off
                try:
                    return Slots.read(await lane.call("CLUSTER", "SLOTS"), node)
                except (StoreUnavailable, RedisError) as away:
                    trouble = away
        for node in dict.fromkeys((*self._seeds, *self._slots.nodes())):
            server = self._any_node.at(node)
            try:
                line = await server.connect()
                try:
                    await line.send([pack(("CLUSTER", "SLOTS"))])
                    async with asyncio.timeout(1.0):
                        return Slots.read(await line.read(), node)
                finally:
                    await line.drop()
            except (RedisError, OSError, TimeoutError) as error:
                trouble = StoreUnavailable(server.explain(error))
                trouble.__cause__ = error
        raise trouble

    def _lane(self, node: Node) -> StoreConnection:
        """Return the connection to a node; a new one takes calls at once and sends them when it is open."""
        lane = self._lanes.get(node)
        if lane is None:
            here = partial(self._forward, node)
            server = self._any_node.at(node)
            options: Options = {**self._options, "on_change": self._lane_changed}
            lane = StoreConnection(server, forward=here, **options)
            self._lanes[node] = lane
            lane.start()
        return lane

    def _lane_changed(self, _up: bool) -> None:  # noqa: FBT001 - called back with one word
        self._show()
        if not self._up:
            self._stale.set()

    def _retire(self, lane: StoreConnection) -> None:
        """Close the connection to a node that has no slots any more, when it has answered what it was asked."""

        async def close() -> None:
            last = lane.call("PING")
            last.add_done_callback(_heard)
            await asyncio.wait([last])
            await lane.close()

        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _show(self) -> None:
        """Work out whether all accounts can be served, and tell whoever wants to know if that has changed."""
        down = [lane for lane in map(self._lane_of, self._tags) if lane is None or not lane.up]
        if down and down[0] is not None:
            self._detail = down[0].detail
        elif down and self._slots:
            self._detail = f"the cluster at {self.address} has no node for some accounts: see `CLUSTER INFO` there"
        changed, self._up = self._up is bool(down), not down
        if changed and self._on_change is not None:
            self._on_change(self._up)
        if self._up:
            self._trouble.is_over()
        elif self._keeper is not None and self._tried.is_set():
            self._trouble.is_because(self._detail, asyncio.get_running_loop().time())


def _heard(reply: asyncio.Future[Any]) -> None:
    """What becomes of an ASKING or a PING is nobody's business but that of the calls beside it."""
    if not reply.cancelled():
        reply.exception()
