"""The story of a request: authenticate → accept → admit → route → record → forward → meter → record → settle, each a
step of its own in `steps/`.

This file only tells it: who goes before whom, and what happens whatever happens. What a step does is in the step.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from secrets import token_hex
from typing import Final

from msgspec import Struct

from proxy.accounts import Identity
from proxy.aside import Aside
from proxy.call import UNUSED, Call, Ending, Endpoint, Outcome, RequestEnd, Target, Underway
from proxy.client_request import ClientRequest
from proxy.errors import Fault, Refusal, StoreUnavailable
from proxy.holds import TypicalOutputs
from proxy.limits import KeyStore, Reservation
from proxy.pricing import format_usd
from proxy.provider_health import Health
from proxy.refuse import refuse, refuse_bug
from proxy.report import Report
from proxy.serving import Serving
from proxy.steps.accept import accept, take_body
from proxy.steps.admit import NotAdmitted, admit
from proxy.steps.authenticate import Memory, authenticate, remembered
from proxy.steps.forward import Exchange, Forwarder, drain, forward
from proxy.steps.meter import meter
from proxy.steps.record import Entry, Recorder, writable
from proxy.steps.route import route
from proxy.steps.settle import Settler, SettlingStore
from proxy.trace import Trace
from proxy.tracing import Tracer
from proxy.translation import Surroundings
from proxy.upstream.pump import Pump
from proxy.wire.headers import ignored_line, rate_limit_lines
from proxy.wire.large_json import LARGE

CLIENT_CLOSED: Final = 499
"""The status of a request whose client left before an answer, in logs and metrics only (nginx's number)."""
DROPPED_AT_ONCE: Final = 8
"""Stalled streams that are dropped together, or a quarter of them if that is more."""
_LIKE_A_KEY: Final = "sk-"
ACCOUNTS_KEPT: Final = 10_000
_ID_BYTES: Final = 12
_COMPLETE: Final = Ending.COMPLETE
_UNASKED: Final = Outcome(Ending.CANCELLED, None, 0, reached=False)


class _Admitted(Struct, frozen=True):
    """A request past admission: whatever happens to it now, it is settled and reported once."""

    entry: Entry
    client: ClientRequest
    reservation: Reservation
    arrived: float
    serving: Serving


class Gateway:
    """Serves chat completions and responses on one worker."""

    def __init__(
        self,
        keys: KeyStore,
        limits: SettlingStore,
        settler: Settler,
        recorder: Recorder,
        report: Report,
        wall_clock: Callable[[], float],
        dice: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Put the parts together; `wall_clock` gives Unix seconds, `dice` numbers from 0 up to 1."""
        self._keys = keys
        self._limits = limits
        self._settler = settler
        self._recorder = recorder
        self._report = report
        self._wall_clock = wall_clock
        self._dice = dice
        self._loop = loop
        self._memory = Memory()
        self._typical = TypicalOutputs()
        self._rates: dict[str, bytes] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self.exchanges: dict[Exchange, Underway] = {}
        """Answers under way from providers; the worker keeps their deadlines."""
        self.streams = 0
        self.health = Health(on_change=report.passed_over)
        """What is known of the routes."""
        self.tracer: Tracer | None = None
        """Set while tracing is on."""
        self._aside = Aside(loop)
        around = Surroundings(new_id, lambda: int(wall_clock()))
        self._forwarder = Forwarder(self.exchanges, report, time.monotonic, around, loop, self._aside, self.health)

    async def complete(
        self, client: ClientRequest, endpoint: Endpoint, request_id: str, serving: Serving, arrived: float, now: float
    ) -> None:
        """Serve a POST to one of the endpoints that has `arrived` (monotonic), which is `now` in Unix seconds. Raises
        `Refusal` for what ends a request before its account is known.
        """
        authorizations, now_ms = client.head.authorizations, int(now * 1000)
        identity = remembered(authorizations, self._memory, now_ms=now_ms)
        if identity is None:
            identity = await authenticate(authorizations, self._memory, self._keys, now_ms=now_ms)
        call = None
        trace = None if self.tracer is None else self.tracer.begin(client.head.headers, arrived, now)
        try:
            body = await take_body(client, serving.max_body)
            read = partial(
                accept, body, endpoint, request_id, identity, serving.catalog, serving.targets, int(now), trace
            )
            call = read() if len(body) <= LARGE else await self._aside.run(read)
            typical = self._typical.of(call, serving.default_hold)
            reservation, identity, limits = await admit(
                call, identity, self._limits, serving.limits_of, typical=typical
            )
        except Refusal as refusal:
            end = await self._refused(client, endpoint, request_id, identity, refusal, serving, arrived, call)
            self._traced(trace, end)
            return
        except asyncio.CancelledError:
            self._traced(trace, refused(client, request_id, endpoint, None, time.monotonic() - arrived, identity, call))
            raise
        self._settler.opened(reservation, limits, arrived)
        entry = Entry(call, identity, int(now * 1000))
        admitted = _Admitted(entry, client, reservation, arrived, serving)
        outcome: Outcome = _UNASKED
        unread: Exchange | None = None
        targets: Sequence[Target] = ()
        self.streams += call.request.stream
        try:
            lines = self._rate_lines(identity, reservation)
            targets = route(call, serving.targets[call.model.id], self._dice, self.health, time.monotonic())
            fault = await self._recorder.begin(entry, targets)
            if fault is None:
                allowance = self._settler.allowance(call, reservation)
                outcome, unread = await forward(
                    call, targets, client, lines, serving.upstreams, self._forwarder, allowance
                )
            else:
                outcome = Outcome(Ending.REFUSED, None, 0, reached=False, fault=fault)
            if outcome.fault is not None:
                refuse(client, outcome.fault, request_id, lines + ignored_line(outcome.ignored))
        except Exception as error:  # noqa: BLE001 - settled and reported like any other ending
            self._report.bug(request_id, error)
            asked = targets[0] if targets else None
            outcome = Outcome(Ending.CANCELLED, asked, 0, reached=True, fault=refuse_bug(client, request_id))
        finally:
            self.streams -= call.request.stream
            if unread is None:
                self._end(admitted, outcome)
            else:
                self._keep(self._drain(admitted, outcome, unread))

    async def finish(self, seconds: float) -> int:
        """Read and settle what is still open, at most this long; returns how many settlements the store has not
        taken.
        """
        if self._draining:
            await asyncio.wait(self._draining, timeout=seconds)
        return await self._settler.flush(seconds)

    def drop_stalled(self) -> None:
        """Give up clients that have not read for the longest: what waits for them takes memory."""
        stalled = {
            pump: at for pump in self.exchanges if isinstance(pump, Pump) and (at := pump.stalled_at) is not None
        }
        for pump in sorted(stalled, key=stalled.__getitem__)[: max(DROPPED_AT_ONCE, len(stalled) // 4)]:
            pump.drop_client()

    async def _refused(
        self,
        client: ClientRequest,
        endpoint: Endpoint,
        request_id: str,
        identity: Identity,
        refusal: Refusal,
        serving: Serving,
        arrived: float,
        call: Call | None,
    ) -> RequestEnd:
        if call is None:  # refused before admission
            lines = await self._known_rates(identity, serving)
        else:
            lines = self._rates.get(identity.account.name, b"")
        if isinstance(refusal, NotAdmitted):
            if refusal.unanswered is not None:
                self._settler.give_back(identity.account.name, *refusal.unanswered)
            if refusal.key_is_bad:
                self._memory.forget(identity.digest)
            if refusal.remaining is not None:
                lines = rate_limit_lines(refusal.remaining)
        refuse(client, refusal.fault, request_id, lines)
        took = time.monotonic() - arrived
        end = refused(client, request_id, endpoint, refusal.fault, took, identity, call, stream=refusal.stream)
        self._report.request_ended(end)
        return end

    async def _known_rates(self, identity: Identity, serving: Serving) -> bytes:
        """Return the lines of the account's limits for a request that never came to them: as last heard, or asked
        for.
        """
        lines = self._rates.get(identity.account.name)
        if lines is None:
            try:
                use = await self._limits.use(identity.account.name, serving.limits_of(identity.account))
            except (Refusal, StoreUnavailable):
                return b""
            lines = self._rates[identity.account.name] = rate_limit_lines(use.remaining(int(self._wall_clock() * 1000)))
        return lines

    def _rate_lines(self, identity: Identity, reservation: Reservation) -> bytes:
        """Remember the account as the store knows it, and what is left of its limits for answers that do not ask the
        store.
        """
        self._memory.put(identity)
        lines = rate_limit_lines(reservation.remaining)
        if len(self._rates) >= ACCOUNTS_KEPT:
            self._rates.clear()
        self._rates[identity.account.name] = lines
        return lines

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self, admitted: _Admitted, outcome: Outcome, unread: Exchange) -> None:
        """Settle a request whose client has left once its provider is done with it."""
        try:
            outcome = await drain(unread, admitted.entry.call, outcome, admitted.serving.upstreams, self._forwarder)
        finally:
            self._end(admitted, outcome)

    def _end(self, admitted: _Admitted, outcome: Outcome) -> None:
        """Meter, record, settle, count and log: the one end of every admitted request."""
        entry, arrived, client = admitted.entry, admitted.arrived, admitted.client
        call, identity = entry.call, entry.identity
        asked_at, began_at = outcome.asked_at, outcome.first_byte_at
        status, duration = client.answered or CLIENT_CLOSED, time.monotonic() - arrived
        ttft = began_at - arrived if began_at is not None and call.request.stream else None
        metered = UNUSED
        try:
            metered = meter(call, outcome)
            self._recorder.end(entry, outcome, metered, status=status, ttft=ttft, duration=duration)
        finally:
            settled = self._settler.settle(admitted.reservation, metered)
        if outcome.ending is _COMPLETE:
            self._typical.learn(call, metered.usage, admitted.serving.default_hold)
        usage, fault = metered.usage, outcome.fault
        end = RequestEnd(
            request_id=call.request_id,
            endpoint=call.endpoint,
            model=call.model.id,
            stream=call.request.stream,
            status=status,
            ending=outcome.ending,
            duration_ms=milliseconds(duration),
            account=identity.account.name,
            key_id=identity.key.key_id,
            provider=None if outcome.target is None else outcome.target.route.provider,
            prompt_tokens=usage.prompt,
            cached_tokens=usage.cached,
            completion_tokens=usage.completion,
            reasoning_tokens=usage.reasoning,
            usage_source=metered.source,
            cost_usd=format_usd(metered.cost_pusd),
            ttft_ms=None if ttft is None else milliseconds(ttft),
            overhead_ms=None if asked_at is None else milliseconds(asked_at - arrived),
            attempts=outcome.attempts,
            code=None if fault is None else fault.code,
            reason=None if fault is None else fault.reason,
            upstream_id=writable(outcome.upstream_id),
            dropped_events=outcome.dropped_events or None,
            stray_close_tags=outcome.stray_close_tags or None,
            client_request_id=_visible(client, "x-client-request-id"),
            retry_count=_number(client, "x-stainless-retry-count"),
        )
        self._report.request_ended(end, metered)
        if call.trace is not None:
            self._traced(call.trace, end, settled)

    def _traced(self, trace: Trace | None, end: RequestEnd, settled: "asyncio.Future[object] | None" = None) -> None:
        if self.tracer is not None and trace is not None:
            self.tracer.ended(trace, end)
            if settled is not None:
                self.tracer.settling(trace, settled)


def refused(
    client: ClientRequest,
    request_id: str,
    endpoint: str,
    fault: Fault | None,
    duration: float,
    identity: Identity | None = None,
    call: Call | None = None,
    *,
    stream: bool = False,
) -> RequestEnd:
    """Describe the end of a request that no provider was asked about; without a fault, its client left. `call` if the
    request was understood, else whether it was read so far that it asked for a `stream`.
    """
    return RequestEnd(
        request_id=request_id,
        endpoint=endpoint,
        model="unknown" if call is None else call.model.id,
        stream=stream if call is None else call.request.stream,
        status=client.answered or CLIENT_CLOSED,
        ending=Ending.CLIENT_GONE if fault is None else Ending.REFUSED,
        duration_ms=milliseconds(duration),
        account=None if identity is None else identity.account.name,
        key_id=None if identity is None else identity.key.key_id,
        code=None if fault is None else fault.code,
        reason=None if fault is None else fault.reason,
        param=None if fault is None else fault.param,
        client_request_id=_visible(client, "x-client-request-id"),
        retry_count=_number(client, "x-stainless-retry-count"),
    )


def milliseconds(seconds: float) -> float:
    """Return a duration as logs show it: to the microsecond."""
    return round(seconds * 1_000_000) / 1_000


def new_id() -> str:
    """Make the random part of an id that a provider left out."""
    return token_hex(_ID_BYTES)


def _visible(client: ClientRequest, name: str) -> str | None:
    """Take a client's header for the log if it is at most 512 visible ASCII characters (anything else could forge
    lines), and none that a key has strayed into.
    """
    value = client.head.headers.get(name)
    if value is None or len(value) > 512 or _LIKE_A_KEY in value:  # noqa: PLR2004
        return None
    return value if value.isascii() and value.isprintable() else None


def _number(client: ClientRequest, name: str) -> str | None:
    """Take a client's header for the log if it is a small number."""
    value = client.head.headers.get(name)
    return value if value is not None and len(value) <= 4 and value.isascii() and value.isdigit() else None  # noqa: PLR2004
