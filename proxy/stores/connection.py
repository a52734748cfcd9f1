"""One connection to the store that many calls share: what is asked in one turn of the loop goes out as one pipeline.

Here are batching, deadlines, reconnecting, and the promise that whatever goes wrong is a `StoreUnavailable`. No key
names, no scripts, no limits: those are in the files beside this one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from proxy.errors import StoreUnavailable
from proxy.stores.scripts import Script
from proxy.stores.server import MISSING, Line, Server, Word, pack

OnChange = Callable[[bool], None]
OnCall = Callable[[str, float], None]

CONNECT_TIMEOUT: Final = 1.0
CALL_TIMEOUT: Final = 1.0
IDLE_CHECK: Final = 1.0
"""Seconds without calls after which the server is asked whether it is still there: `up` is never an old truth."""
BATCH_LIMIT: Final = 512
"""Calls in one pipeline: at 40 µs each the server answers within a fiftieth of the deadline, so a long queue drains
instead of timing out as a whole."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 0.8
"""Seconds between attempts to connect; short enough that the store is used again within a second of its return."""


@dataclass(slots=True)
class _Call:
    """One call on its way: its name for the metric, its bytes, and who waits for the reply."""

    name: str
    packed: bytes
    reply: asyncio.Future[Any]


class StoreConnection:
    """A connection that is kept for ever: lost, it is made anew in the background, and calls fail at once meanwhile.

    A call is never repeated: who made it knows whether that is safe. A call that was cancelled before it went out is
    never sent; one that was cancelled later leaves the replies of others where they belong.
    """

    def __init__(
        self,
        url: str,
        *,
        call_timeout: float = CALL_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        idle_check: float = IDLE_CHECK,
        on_change: OnChange | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        """Prepare a connection to `url` (`redis://`, `rediss://`, `unix://`); nothing is opened before `connect`.

        `on_change(up)` is told when the store comes and goes. `on_call(name, seconds)` is told, once per batch and
        name, how long the batch was under way. Raises ValueError for a URL of another form.
        """
        self._server = Server(url, connect_timeout)
        self._call_timeout = call_timeout
        self._idle_check = idle_check
        self._on_change = on_change
        self._on_call = on_call
        self._queue: list[_Call] = []
        self._wake = asyncio.Event()
        self._lane: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._up = False
        self._detail = "the connection to the store has not been opened yet"
        self._distrust: str | None = None
        self._served = False
        self._quiet = False
        self._ticker: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        """Tell the address and the state; never the user or the password."""
        return f"<StoreConnection {self.address} {'up' if self._up else f'down: {self._detail}'}>"

    @property
    def up(self) -> bool:
        """Whether the store answered when it was last asked."""
        return self._up

    @property
    def detail(self) -> str:
        """Why the store is not `up`, in one sentence without credentials; empty while it is."""
        return "" if self._up else self._detail

    @property
    def address(self) -> str:
        """Where the store is, without credentials."""
        return self._server.address

    async def connect(self) -> None:
        """Start connecting and wait for the first attempt.

        If it fails, StoreUnavailable says why, and the attempts go on all the same, until `close`.
        """
        if self._lane is None:
            self._lane = asyncio.get_running_loop().create_task(self._run(), name="store connection")
        await self._tried.wait()
        if not self._up:
            raise StoreUnavailable(self._detail)

    async def close(self) -> None:
        """Close the connection; calls that wait fail with StoreUnavailable, and so do later ones."""
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.cancel()
            await asyncio.wait([lane])
        self._lose("the connection to the store was closed")

    def call(self, *words: Word, name: str | None = None) -> asyncio.Future[Any]:
        """Queue one command and return the future of its reply (bytes, int, None, or a list of these).

        The future fails with StoreUnavailable when the store is away, too slow, or answers with an error; the server's
        error is then the cause.
        """
        return self.send(name or str(words[0]), pack(words))

    def send(self, name: str, packed: bytes) -> asyncio.Future[Any]:
        """Queue one command that is packed already; else as `call`."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._up:
            reply.set_exception(StoreUnavailable(self._detail))
            return reply
        self._queue.append(_Call(name, packed, reply))
        self._wake.set()
        return reply

    async def script(self, script: Script, keys: Sequence[Word], args: Sequence[Word]) -> Any:  # noqa: ANN401 - a reply
        """Run a script by its digest; a server that does not know it (yet, or any more) gets the text, once."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args, name=script.name)
        except StoreUnavailable as refused:
            if not is_unknown_script(refused):
                raise
        # Not a repetition: the server has just said that it ran nothing.
        return await self.call("EVAL", script.text, len(keys), *keys, *args, name=script.name)

    def distrust(self, detail: str) -> StoreUnavailable:
        """Drop the connection because a reply belonged to another call; returns what the caller is to raise."""
        self._distrust = detail
        self._wake.set()
        return StoreUnavailable(detail)

    async def _run(self) -> None:
        """Connect, serve, and begin again, for ever; nothing but cancelling ends it."""
        pause = 0.0
        while True:
            self._served, self._distrust = False, None
            line: Line | None = None
            try:
                line = await self._server.open()
                self._change(up=True)
                self._tried.set()
                await self._serve(line)
            except Exception as error:  # noqa: BLE001 - if this task died, every later call would wait for ever
                self._lose(self._server.explain(error))
            finally:
                self._tried.set()
                if line is not None:
                    await line.drop()
            pause = 0.0 if self._served else min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _serve(self, line: Line) -> None:
        """Send what is queued and hand out replies; returns when the server ended an idle line that had served."""
        self._watch_idle()
        try:
            while True:
                await self._wake.wait()
                self._check_trust()
                if await line.spoilt():
                    # Nothing was sent: what is queued can wait for the next line.
                    if self._served:
                        return
                    raise RedisError("it ended the connection at once")
                await self._exchange(line, self._next_batch())
        finally:
            if self._ticker is not None:
                self._ticker.cancel()

    def _next_batch(self) -> list[_Call]:
        batch = [call for call in self._queue[:BATCH_LIMIT] if not call.reply.done()]
        del self._queue[:BATCH_LIMIT]
        if not self._queue:
            self._wake.clear()
        return batch

    async def _exchange(self, line: Line, batch: list[_Call]) -> None:
        """Send one batch and read its replies in order; every future of it is done afterwards, also on failure."""
        if not batch:
            return
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(self._call_timeout):
                await line.send([call.packed for call in batch])
                for call in batch:
                    while (answer := line.read_what_came()) is MISSING:
                        await line.wait()
                    self._check_trust()
                    if isinstance(answer, RedisError):
                        self._refused(call, answer)
                    elif not call.reply.done():
                        call.reply.set_result(answer)
        except BaseException as error:
            for call in batch:
                _fail(call, self._server.explain(error), error)
            raise
        self._served, self._quiet = True, False
        if self._on_call is not None:
            seconds = clock() - begun
            for name in {call.name for call in batch}:
                self._on_call(name, seconds)

    def _refused(self, call: _Call, error: RedisError) -> None:
        _fail(call, self._server.explain(error), error)
        if isinstance(error, ReadOnlyError):
            self.distrust("it is a read-only replica; give the address of the primary")

    def _check_trust(self) -> None:
        if self._distrust is not None:
            raise RedisError(self._distrust)

    def _watch_idle(self) -> None:
        """Ask a server that was not spoken to for a while whether it is still there; again and again."""
        if self._quiet and not self._queue:
            self.call("PING").add_done_callback(self._heard)
        self._quiet = True
        self._ticker = asyncio.get_running_loop().call_later(self._idle_check, self._watch_idle)

    def _heard(self, reply: asyncio.Future[Any]) -> None:
        """A server that cannot write answers even a PING with an error; connecting anew finds out what it can do."""
        error = None if reply.cancelled() else reply.exception()
        if isinstance(error, StoreUnavailable) and self._up:
            self.distrust(error.detail)

    def _lose(self, detail: str) -> None:
        """Go down: everything that waits fails, and so does what comes until the store is back."""
        self._detail = detail
        waiting, self._queue = self._queue, []
        self._wake.clear()
        self._change(up=False)
        for call in waiting:
            _fail(call, detail, None)

    def _change(self, *, up: bool) -> None:
        changed, self._up = self._up != up, up
        if changed and self._on_change is not None:
            self._on_change(up)


@contextlib.asynccontextmanager
async def connect_store(url: str, *, call_timeout: float = CALL_TIMEOUT) -> AsyncIterator[StoreConnection]:
    """Connect for the length of a block, for a command that ends soon; StoreUnavailable if the store is not there."""
    connection = StoreConnection(url, call_timeout=call_timeout)
    try:
        await connection.connect()
        yield connection
    finally:
        await connection.close()


def is_unknown_script(refused: StoreUnavailable) -> bool:
    """Tell whether a call failed because the server does not know the script's digest: then it ran nothing."""
    return isinstance(refused.__cause__, NoScriptError)


def _fail(call: _Call, detail: str, cause: BaseException | None) -> None:
    if not call.reply.done():
        error = StoreUnavailable(detail)
        error.__cause__ = cause
        call.reply.set_exception(error)
