"""Call + targets → an answer on its way to the client, and how it ended.

Another target may be tried until the first byte has gone out, never after. The bytes themselves go from the pump to
the client without passing here.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from proxy.aside import Aside
from proxy.call import Call, Ending, Outcome, Target, Underway
from proxy.errors import ErrorType, Fault
from proxy.holds import Allowance
from proxy.limits import Limit
from proxy.provider_health import Health
from proxy.providers import OnDisconnect
from proxy.translation import Answered, AnswerStream, Surroundings, Translation, translation_of
from proxy.upstream.connections import UpstreamConnection
from proxy.upstream.exchange import SPENT, STOPPING, Answer
from proxy.upstream.providers import Upstream
from proxy.upstream.pump import FINISHED_SECONDS, ClientStream, Pump
from proxy.wire.chat_plain import finish_reasons
from proxy.wire.headers import ignored_line, request_head
from proxy.wire.large_json import LARGE
from proxy.wire.upstream_error import UpstreamError, client_fault, may_try_next, stream_fault

MAX_ATTEMPTS: Final = 3
_COMPLETE: Final = Ending.COMPLETE
_REFUSED: Final = Ending.REFUSED

Exchange = Pump | Answer


class Client(ClientStream, Protocol):
    """What this step needs of the client."""

    def answer(self, status: int, body: bytes, lines: bytes = b"") -> None:
        """Send a whole answer."""

    def stream_with(self, lines: bytes) -> None:
        """Keep header lines for the moment when a stream starts."""


class Watch(Protocol):
    """Told of each attempt as it ends, for the log and the metrics."""

    def attempt(self, call: Call, target: Target, error: UpstreamError | None) -> None:
        """Take note; `error` is None if the target answered."""

    def interrupted(self, call: Call, target: Target, ending: Ending) -> None:
        """Take note of one that was not the target's to end: the client left, or the gateway is stopping."""


class Forwarder(Struct, frozen=True):
    """What forwarding needs of the worker: the exchanges that are open, who watches, monotonic time, what translations
    need, where large ones are made, and what is known of the targets.
    """

    open: dict[Exchange, Underway]
    """The exchanges under way; the worker's sweep keeps their deadlines."""
    watch: Watch
    clock: Callable[[], float]
    around: Surroundings
    loop: asyncio.AbstractEventLoop
    aside: Aside
    health: Health = field(default_factory=Health)


async def forward(
    call: Call,
    targets: Sequence[Target],
    client: Client,
    lines: bytes,
    upstreams: Mapping[str, Upstream],
    forwarder: Forwarder,
    allowance: Allowance | None = None,
) -> tuple[Outcome, Exchange | None]:
    """Serve the call from the first target that answers; `lines` are the client's further header lines. A stream with
    an `allowance` ends where that does.

    Never raises: what went wrong before the first byte is the outcome's `fault`. If the client left while its answer
    is still worth reading (its usage is about to come, or the provider charges anyway), the exchange to drain comes
    with the outcome.
    """
    last: UpstreamError | None = None
    outcome = Outcome(_REFUSED, None, 0, reached=False)
    ignored: tuple[str, ...] = ()
    for target in targets[:MAX_ATTEMPTS]:
        if last is not None and not forwarder.health.may_retry(call.model.id):
            break
        upstream = upstreams[target.route.provider]
        translation = translation_of(call, target, upstream.dialect, forwarder.around, upstream.reasoning_field)
        asked_at, ignored = outcome.asked_at or forwarder.clock(), translation.ignored
        outcome = Outcome(_REFUSED, target, outcome.attempts + 1, reached=False, sent=outcome.sent, asked_at=asked_at)
        all_lines = lines + ignored_line(ignored) if ignored else lines
        attempt = _Attempt(
            call, target, upstream, client, all_lines, forwarder, translation, allowance, forwarder.clock()
        )
        try:
            served = await attempt.run(outcome)
        except UpstreamError as error:
            error.__traceback__ = None  # it keeps the exchange, which keeps the error, until a collector finds them
            outcome = replace(outcome, sent=outcome.sent or error.sent)
            if error.kind == STOPPING:
                forwarder.watch.interrupted(call, target, Ending.CANCELLED)
                return replace(outcome, ending=Ending.CANCELLED, fault=_stopping(), ignored=ignored), None
            attempt.failed(error)
            last = error
            if not may_try_next(error) or (error.sent and error.status is None and not translation.repeatable):
                break
        else:
            if served[0].ending is _COMPLETE:
                forwarder.watch.attempt(call, target, None)
            elif served[0].ending is Ending.CLIENT_GONE:
                forwarder.watch.interrupted(call, target, Ending.CLIENT_GONE)
            return served
    if last is None or outcome.target is None:
        return replace(outcome, fault=_no_route()), None
    secrets = upstreams[outcome.target.route.provider].secrets()
    return replace(outcome, ending=Ending.UPSTREAM_ERROR, fault=client_fault(last, secrets), ignored=ignored), None


class _Asked(Struct, frozen=True):
    """What is ready before a connection is taken: the body, and the translation of a stream if one is to come."""

    body: bytes
    stream: AnswerStream | None


class _Attempt(Struct, frozen=True):
    """One target asked once (twice, if the connection had gone stale while it was idle)."""

    call: Call
    target: Target
    upstream: Upstream
    client: Client
    lines: bytes
    forwarder: Forwarder
    translation: Translation
    allowance: Allowance | None
    began_at: float

    def failed(self, error: UpstreamError) -> None:
        """Tell everybody who has to know that the target failed."""
        forwarder = self.forwarder
        forwarder.health.failed(self.target, error, self.began_at, forwarder.clock())
        forwarder.watch.attempt(self.call, self.target, error)

    def answered(self) -> None:
        """Take note that the target answers."""
        self.forwarder.health.succeeded(self.target, self.began_at)

    async def run(self, outcome: Outcome) -> tuple[Outcome, Exchange | None]:
        """Return how it ended. Raises `UpstreamError` if nothing was sent to the client."""
        upstream = self.upstream
        try:
            asked = self._asked() if self.call.size <= LARGE else await self.forwarder.aside.run(self._asked)
        except asyncio.CancelledError:
            return replace(outcome, ending=Ending.CLIENT_GONE), None
        connection = upstream.pool.take_idle()
        while True:
            kept = connection is not None
            if connection is None:
                try:
                    connection = await upstream.pool.connect()
                except asyncio.CancelledError:
                    return replace(outcome, ending=Ending.CLIENT_GONE), None
            exchange = self._ask(connection, asked, outcome.attempts)
            try:
                result = await exchange.done
            except asyncio.CancelledError:
                return self._client_gone(exchange, outcome)
            except UpstreamError as error:
                # The provider closed the idle connection as the request was on its way: it has not begun to work on it.
                if not kept or error.kind != "upstream_unavailable" or connection.answered:
                    error.sent = True
                    raise
                connection = None
            else:
                if isinstance(result, bytes) and max(len(result), self.call.size) > LARGE:
                    return await self._serve_aside(exchange, result, outcome)
                return self._served(exchange, result, outcome), None
            finally:
                self.forwarder.open.pop(exchange, None)

    def _asked(self) -> _Asked:
        if self.call.trace is not None:
            origin, route = self.upstream.origin, self.target.route
            self.call.trace.asks(route.provider, route.model, origin.host, origin.port)
        stream = self.translation.stream() if self.call.request.stream else None
        return _Asked(self.translation.request(), stream)

    def _ask(self, connection: UpstreamConnection, asked: _Asked, attempts: int) -> Exchange:
        body, stream, trace = asked.body, asked.stream, self.call.trace
        head = request_head(
            self.upstream.origin.path + self.translation.path,
            self.upstream.authority,
            self.upstream.head_lines if trace is None else self.upstream.head_lines + trace.lines(),
            len(body),
            stream=stream is not None,
        )
        exchange = self._answer(connection) if stream is None else self._pump(connection, stream)
        connection.send(head, body, exchange)
        self.forwarder.open[exchange] = Underway(self.call, self.target, attempts)
        return exchange

    def _served(self, exchange: Exchange, result: Ending | bytes, outcome: Outcome) -> Outcome:
        if isinstance(exchange, Pump):
            assert isinstance(result, Ending)  # noqa: S101 - what a pump resolves to
            if self.call.trace is not None:
                self.call.trace.finish_reasons = exchange.stream.finish_reasons
            self.upstream.learn(exchange.stream.reasoning_field)
            return stream_outcome(outcome, result, exchange)
        assert isinstance(result, bytes)  # noqa: S101 - what an answer resolves to
        return self._serve_answer(self._read(result), outcome)

    def _read(self, answer: bytes) -> Answered:
        try:
            return self.translation.answer(answer)
        except UpstreamError as error:
            error.sent = True
            raise

    async def _serve_aside(
        self, exchange: Exchange, answer: bytes, outcome: Outcome
    ) -> tuple[Outcome, Exchange | None]:
        """Serve an answer that is large, or that may repeat a large request."""
        try:
            answered = await self.forwarder.aside.run(partial(self._read, answer))
        except asyncio.CancelledError:
            return self._client_gone(exchange, outcome)
        return self._serve_answer(answered, outcome), None

    def _answer(self, connection: UpstreamConnection) -> Answer:
        return Answer(
            connection,
            bounds=self.upstream.bounds,
            clock=self.forwarder.clock,
            loop=self.forwarder.loop,
        )

    def _pump(self, connection: UpstreamConnection, stream: AnswerStream) -> Pump:
        forwarder = self.forwarder
        self.client.stream_with(self.lines)
        pump = Pump(
            connection,
            stream,
            self.client,
            bounds=self.upstream.bounds,
            fail=partial(self._error_events, stream),
            beside=forwarder.aside.start,
            clock=forwarder.clock,
            loop=forwarder.loop,
        )
        pump.on_start = self.answered
        if self.allowance is not None:
            pump.watch(self.allowance)
        return pump

    def _error_events(self, stream: AnswerStream, error: UpstreamError) -> bytes:
        if error.kind == STOPPING:
            self.forwarder.watch.interrupted(self.call, self.target, Ending.CANCELLED)
            return stream.fail(_stopping(), self.call.request_id)
        if error.kind == SPENT:
            self.forwarder.watch.interrupted(self.call, self.target, Ending.CUT)
            limit = None if self.allowance is None else self.allowance.spent
            return stream.fail(_spent(limit or Limit.BUDGET), self.call.request_id)
        error.sent = error.begun = True
        self.failed(error)
        return stream.fail(stream_fault(error), self.call.request_id)

    def _serve_answer(self, answered: Answered, outcome: Outcome) -> Outcome:
        self.answered()
        if self.call.trace is not None:
            self.call.trace.finish_reasons = finish_reasons(answered.body)
        self.upstream.learn(answered.reasoning_field)
        self.client.answer(200, answered.body, self.lines)
        return Outcome(
            _COMPLETE,
            outcome.target,
            outcome.attempts,
            reached=True,
            usage=answered.usage,
            source=answered.source,
            upstream_id=answered.upstream_id,
            asked_at=outcome.asked_at,
            first_byte_at=self.forwarder.clock(),
        )

    def _client_gone(self, exchange: Exchange, outcome: Outcome) -> tuple[Outcome, Exchange | None]:
        gone = replace(outcome, ending=Ending.CLIENT_GONE, reached=True)
        busy = exchange.busy
        if isinstance(exchange, Pump) and not busy:
            gone = stream_outcome(gone, Ending.CLIENT_GONE, exchange)
        finished = isinstance(exchange, Pump) and exchange.stream.all_finished and not exchange.stream.ended
        provider = self.target.provider
        drains = provider.on_disconnect is OnDisconnect.DRAIN and self.upstream.drains < provider.max_drains
        if finished or exchange.over or drains or busy:
            self.upstream.drains += 1
            exchange.leave()
            if not (finished or exchange.over or drains):
                exchange.abort()  # what it reads now, it reads to the end
            return gone, exchange
        exchange.abort()
        return gone, None


async def drain(
    exchange: Exchange, call: Call, outcome: Outcome, upstreams: Mapping[str, Upstream], forwarder: Forwarder
) -> Outcome:
    """Read an answer to its end although its client has left, as long as its provider allows; returns the outcome by
    then.
    """
    target = outcome.target
    assert target is not None  # noqa: S101 - somebody answered
    upstream = upstreams[target.route.provider]
    drains = target.provider.on_disconnect is OnDisconnect.DRAIN
    forwarder.open[exchange] = Underway(call, target, outcome.attempts)
    try:
        async with asyncio.timeout(target.provider.drain_max if drains else FINISHED_SECONDS):
            result = await exchange.done
        if isinstance(result, bytes):
            translation = translation_of(call, target, upstream.dialect, forwarder.around)
            return answer_outcome(outcome, await forwarder.aside.run(partial(translation.answer, result)))
    except (UpstreamError, TimeoutError) as error:
        error.__traceback__ = None  # as in `forward`
        exchange.abort()
        if exchange.busy:
            exchange.leave()
            with suppress(UpstreamError):
                await exchange.done  # what it reads now is billed, and not known before it is read
    finally:
        upstream.drains -= 1
        forwarder.open.pop(exchange, None)
    return stream_outcome(outcome, Ending.CLIENT_GONE, exchange) if isinstance(exchange, Pump) else outcome


def stream_outcome(outcome: Outcome, ending: Ending, pump: Pump) -> Outcome:
    """Add to an outcome what a stream has shown so far."""
    usage, source = pump.stream.usage()
    return replace(
        outcome,
        ending=ending,
        reached=True,
        usage=usage,
        source=source,
        upstream_id=pump.stream.upstream_id,
        dropped_events=pump.stream.dropped,
        stray_close_tags=pump.stream.stray_close_tags,
        first_byte_at=pump.first_byte_at,
    )


def answer_outcome(outcome: Outcome, answered: Answered) -> Outcome:
    """Add to an outcome what a whole answer has shown."""
    return replace(outcome, usage=answered.usage, source=answered.source, upstream_id=answered.upstream_id)


def _stopping() -> Fault:
    message = "The gateway is stopping; try again."
    return Fault(503, ErrorType.INTERNAL, "overloaded", message, retry_after_ms=1_000)


def _spent(limit: Limit) -> Fault:
    used_up = "budget" if limit is Limit.BUDGET else limit.value
    code = "insufficient_quota" if limit is Limit.BUDGET else "rate_limit_exceeded"
    message = f"The answer ends here, because the account's {used_up} was used up while it was being written."
    return Fault(429, ErrorType.RATE_LIMIT, code, message, should_retry=False, reason=limit.value)


def _no_route() -> Fault:
    message = "No provider is configured for this model; the operator of this gateway has to add one."
    return Fault(400, ErrorType.CONFIGURATION, "no_route", message)
