"""One connection to a server that many calls share: what is asked in one turn of the loop goes out as one pipeline.

Here are batching, deadlines, reconnecting, and the promise that whatever goes wrong is a `StoreUnavailable`. No key
names, no scripts, no limits: those are in the files beside this one. Which server it is that answers is the opener's
business, and where a cluster sends a call on to is `cluster.py`'s.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final, TypedDict, Unpack

from redis.exceptions import NoScriptError, RedisError

from proxy.errors import StoreUnavailable
from proxy.stores.breaker import Breaker
from proxy.stores.packing import Word, pack, with_text
from proxy.stores.scripts import Script
from proxy.stores.server import MISSING, Greeting, Line, Opener, Server, is_outage
from proxy.stores.store import Call, begins_with, fail
from proxy.stores.trouble import OnTrouble, Trouble

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
TICK: Final = 0.025
"""Seconds between two looks at what is overdue; there is one timer for all calls, and none while nothing is asked."""


class Options(TypedDict, total=False):
    """How long to wait, in seconds, and whom to tell what."""

    connect_timeout: float
    call_timeout: float
    """A server that is silent for so long while it is asked is given up."""
    patience: float | None
    """A call that is `urgent` fails after so long, and a server that always takes longer is not `up`; None: never."""
    idle_check: float
    on_change: Callable[[bool], None] | None
    """Told when the store comes and goes."""
    on_trouble: OnTrouble | None
    """Told why it went, and again when the reason is another one, at most once a second."""
    on_new_server: Callable[[Greeting], None] | None
    """Told what a server says of itself that is not the one that answered before, the first included: what was written
    last may be lost."""
    on_call: Callable[[str, float], None] | None
    """Told, once per batch and name, how many seconds the batch was under way."""


class StoreConnection:
    """A connection that is kept for ever: lost, it is made anew in the background, and calls fail at once meanwhile.

    A call is never repeated: who made it knows whether that is safe. A call that was cancelled before it went out is
    never sent; one that was cancelled later leaves the replies of others where they belong.
    """

    def __init__(
        self,
        where: str | Opener,
        *,
        forward: Callable[[Call, RedisError], bool] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Prepare a connection to a URL (`redis://`, `rediss://`, `unix://`) or to what an opener finds.

        Nothing is opened before `connect`. `forward` may take a call over that the server refused. Raises ValueError
        for a URL of another form.
        """
        self._server: Opener = (
            Server(where, options.get("connect_timeout", CONNECT_TIMEOUT)) if isinstance(where, str) else where
        )
        self._call_timeout = options.get("call_timeout", CALL_TIMEOUT)
        self._idle_check = options.get("idle_check", IDLE_CHECK)
        self._patience = options.get("patience")
        self._on_change = options.get("on_change")
        self._on_call = options.get("on_call")
        self._on_new_server = options.get("on_new_server")
        self._trouble = Trouble(options.get("on_trouble"))
        self._forward = forward
        self._queue: list[Call] = []
        self._batch: list[Call] = []
        self._wake = asyncio.Event()
        self._lane: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tried = asyncio.Event()
        self._connected = False
        self._up = False
        self._breaker = Breaker()
        self._detail = "the connection to the store has not been opened yet"
        self._cause: BaseException | None = None
        self._run_id: str | None = None
        self._distrust: str | None = None
        self._served = False
        self._quiet = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._due_timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        """Tell the address and the state; never the user or the password."""
        return f"<StoreConnection {self.address} {'up' if self._up else f'down: {self._detail}'}>"

    @property
    def up(self) -> bool:
        """Whether the store answered, and in time, when it was last asked."""
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
        self.start()
        await self._tried.wait()
        if not self._connected:
            raise StoreUnavailable(self._detail) from self._cause

    def start(self) -> None:
        """Start connecting; calls wait for the first attempt."""
        if self._lane is None:
            self._loop = asyncio.get_running_loop()
            self._lane = self._loop.create_task(self._run(), name="store connection")

    async def close(self) -> None:
        """Close the connection; calls that wait fail with StoreUnavailable, and so do later ones."""
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.cancel()
            await asyncio.wait([lane])
        self._lose("the connection to the store was closed")

    def call(self, *words: Word, name: str | None = None, urgent: bool = False) -> asyncio.Future[Any]:
        """Queue one command and return the future of its reply (bytes, int, None, or a list of these).

        The future fails with StoreUnavailable when the store is away, too slow, or answers with an error; the server's
        error is then the cause. An `urgent` call fails after `patience`.
        """
        loop = asyncio.get_running_loop()
        return self._ask(Call(name or str(words[0]), pack(words), loop.create_future()), loop, urgent)

    def script(
        self, script: Script, keys: Sequence[Word], args: Sequence[Word], *, echo: str = "", urgent: bool = False
    ) -> asyncio.Future[Any]:
        """Run a script by its digest; a server that does not know it (yet, or any more) gets the text, once.

        With `echo`, a reply that does not begin with it belongs to another call: the connection is dropped.
        """
        packed = pack(("EVALSHA", script.sha, len(keys), *keys, *args))
        return self.send(script, "", packed, echo=echo, urgent=urgent)

    def send(
        self,
        script: Script,
        key: str,  # noqa: ARG002 - says where to send it, and here is one place
        packed: bytes,
        *,
        echo: str = "",
        urgent: bool = False,
    ) -> asyncio.Future[Any]:
        """Run a script as `script` does, in an EVALSHA that is packed already."""
        loop = self._loop or asyncio.get_running_loop()  # which asks the system each time whether it was forked
        call = Call(script.name, packed, loop.create_future(), script, echo.encode() or None)
        return self._ask(call, loop, urgent)

    def put(self, *calls: Call) -> None:
        """Queue calls one directly after the other; while the store is away they fail, but not before a first attempt
        to connect has.
        """
        if not self._connected and (self._lane is None or self._tried.is_set()):
            for call in calls:
                fail(call, self._detail, None, ran=False)
            return
        if not self._queue:
            self._wake.set()
        self._queue.extend(calls)

    def distrust(self, detail: str) -> StoreUnavailable:
        """Drop the connection because a reply belonged to another call; returns what the caller is to raise."""
        self._distrust = detail
        self._wake.set()
        return StoreUnavailable(detail)

    def _ask(self, call: Call, loop: asyncio.AbstractEventLoop, urgent: bool) -> asyncio.Future[Any]:  # noqa: FBT001 - the hot path of two others
        if urgent and self._patience is not None:
            if self._breaker.is_open:
                fail(call, self._detail, None, ran=False)
                return call.reply
            call.due = loop.time() + self._patience
            if self._due_timer is None:
                self._due_timer = loop.call_later(TICK, self._fail_overdue)
        if self._connected and self._queue:
            self._queue.append(call)
        else:
            self.put(call)
        return call.reply

    async def _run(self) -> None:
        """Connect, serve, and begin again, for ever; nothing but cancelling ends it."""
        pause = 0.0
        while True:
            self._served, self._distrust = False, None
            line: Line | None = None
            try:
                line = await self._server.open()
                self._greet(line.greeting)
                self._connected = True
                self._show()
                self._tried.set()
                await self._serve(line)
            except Exception as error:  # noqa: BLE001 - if this task died, every later call would wait for ever
                self._lose(self._server.explain(error), error)
            finally:
                self._tried.set()
                if line is not None:
                    await line.drop()
            pause = 0.0 if self._served else min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            await asyncio.sleep(pause)

    def _greet(self, greeting: Greeting) -> None:
        """Tell of another server. One that hides its run id may be another one each time."""
        if self._on_new_server is not None and (not greeting.run_id or greeting.run_id != self._run_id):
            self._on_new_server(greeting)
        self._run_id = greeting.run_id

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
            if self._idle_timer is not None:
                self._idle_timer.cancel()

    def _next_batch(self) -> list[Call]:
        batch = [call for call in self._queue[:BATCH_LIMIT] if not call.reply.done()]
        del self._queue[:BATCH_LIMIT]
        if not self._queue:
            self._wake.clear()
        return batch

    async def _exchange(self, line: Line, batch: list[Call]) -> None:
        """Send one batch and read its replies in order; every call of it is answered or forwarded afterwards, also on
        failure.
        """
        if not batch:
            return
        clock = asyncio.get_running_loop().time
        begun, answered = clock(), 0
        self._batch = batch
        try:
            async with asyncio.timeout(self._call_timeout):
                await line.send([call.packed for call in batch])
                for call in batch:
                    while (answer := line.read_what_came()) is MISSING:
                        await line.wait()
                    self._take(call, answer)
                    answered += 1
        except BaseException as error:
            for call in batch[answered:]:
                fail(call, self._server.explain(error), error, ran=True)
            raise
        finally:
            self._batch = []
        self._served, self._quiet = True, False
        self._measure(batch, clock() - begun)

    def _take(self, call: Call, answer: Any) -> None:  # noqa: ANN401 - a reply
        """Hand out a reply that can be believed, and deal with an error that came in place of one."""
        if self._distrust is not None:
            self._check_trust()
        if isinstance(answer, RedisError):
            self._refused(call, answer)
        elif call.echo is not None and not begins_with(answer, call.echo):
            raise RedisError("a reply belonged to another request")
        elif not call.reply.done():
            call.reply.set_result(answer)

    def _measure(self, batch: list[Call], seconds: float) -> None:
        if self._patience is not None and seconds <= self._patience:
            self._breaker.in_time(len(batch))
            if self._up is not self._connected:
                self._show()
        if self._on_call is not None:
            for name in {call.name for call in batch}:
                self._on_call(name, seconds)

    def _refused(self, call: Call, error: RedisError) -> None:
        """Deal with an error in place of a reply: it concerns this call, or all, or another server."""
        if isinstance(error, NoScriptError) and call.again is not None:
            # Not a repetition: the server has just said that it ran nothing.
            call.packed, call.again = with_text(call.packed, call.again), None
            self._queue.append(call)
            self._wake.set()
            return
        if self._forward is not None and self._forward(call, error):
            return
        fail(call, self._server.explain(error), error, ran=True)
        if is_outage(error):
            # Connecting anew finds out whether there is a server that can be used, and says why not until there is.
            self.distrust(str(error))

    def _check_trust(self) -> None:
        if self._distrust is not None:
            raise RedisError(self._distrust)

    def _watch_idle(self) -> None:
        """Ask a server that was not spoken to for a while whether it is still there; again and again."""
        if self._quiet and not self._queue:
            self.call("PING").add_done_callback(self._heard)
        self._quiet = True
        self._idle_timer = asyncio.get_running_loop().call_later(self._idle_check, self._watch_idle)

    def _heard(self, reply: asyncio.Future[Any]) -> None:
        """A server that cannot write answers even a PING with an error; connecting anew finds out what it can do."""
        error = None if reply.cancelled() else reply.exception()
        if isinstance(error, StoreUnavailable) and self._connected:
            self.distrust(error.detail)

    def _fail_overdue(self) -> None:
        """Fail urgent calls that have waited too long: their replies are still read, and thrown away."""
        loop, late, waiting = asyncio.get_running_loop(), 0, False
        detail = f"the store at {self.address} takes longer than {self._patience} s to answer: see whether it is busy"
        sent = len(self._batch)
        for number, call in enumerate(chain(self._batch, self._queue)):
            if call.due is not None and not call.reply.done():
                if call.due <= loop.time():
                    fail(call, detail, None, ran=number < sent)
                    late += 1
                else:
                    waiting = True
        if late:
            self._breaker.late(late)
        if self._breaker.is_open and self._connected:
            self._detail = detail
            self._show()
            if not self._batch and not self._queue:
                self.call("PING").add_done_callback(self._heard)
        again = waiting or self._breaker.is_open
        self._due_timer = loop.call_later(TICK, self._fail_overdue) if again and self._lane is not None else None

    def _lose(self, detail: str, cause: BaseException | None = None) -> None:
        """Go down: everything that waits fails, and so does what comes until the store is back."""
        self._detail, self._cause = detail, cause
        waiting, self._queue = self._queue, []
        self._wake.clear()
        self._connected = False
        self._breaker.reset()
        self._show()
        for call in waiting:
            fail(call, detail, None, ran=False)

    def _show(self) -> None:
        """Tell whoever wants to know, if anything has changed."""
        up = self._connected and not self._breaker.is_open
        changed, self._up = self._up is not up, up
        if changed and self._on_change is not None:
            self._on_change(up)
        if up:
            self._trouble.is_over()
        elif self._lane is not None:
            self._trouble.is_because(self._detail, asyncio.get_running_loop().time())
