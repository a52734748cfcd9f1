"""The story of a request: authenticate → accept → admit → route → forward → meter → settle, each a step of its own in `steps/`.

This file only tells it: who goes before whom, and what happens whatever happens. What a step does is in the step.
"""

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.accounts import ALPHABET, Identity
from proxy.call import Call, Ending, Outcome, RequestEnd, Target
from proxy.errors import Fault, Refusal
from proxy.http_server import ClientRequest
from proxy.limits import KeyStore, Limits, Reservation
from proxy.logs import log_request
from proxy.metrics import Metrics
from proxy.refuse import refuse
from proxy.serving import Serving
from proxy.steps.accept import accept
from proxy.steps.admit import NotAdmitted, admit
from proxy.steps.authenticate import Memory, authenticate
from proxy.steps.forward import Exchange, Forwarder, drain, forward
from proxy.steps.meter import meter
from proxy.steps.route import route
from proxy.steps.settle import Settler, SettlingStore
from proxy.wire.headers import ignored_line, rate_limit_lines
from proxy.wire.upstream_error import UpstreamError, scrub

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

CLIENT_CLOSED: Final = 499
"""The status of a request whose client left before an answer, in logs and metrics only (nginx's number)."""
ACCOUNTS_KEPT: Final = 10_000
_ID_DIGITS: Final = 24
_SERVER_ERROR: Final = 500
_UNREACHABLE: Final = frozenset({"upstream_unavailable", "upstream_timeout"})


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request past admission: whatever happens to it now, it is settled and reported once."""

    call: Call
    client: ClientRequest
    identity: Identity
    reservation: Reservation
    limits: Limits
    arrived: float


class Gateway:
    """Serves chat completions on one worker."""

    def __init__(
        self, keys: KeyStore, limits: SettlingStore, settler: Settler, metrics: Metrics, logger: "FilteringBoundLogger",
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        """Put the parts together; nothing is opened here."""
        self._keys = keys
        self._limits = limits
        self._settler = settler
        self._metrics = metrics
        self._logger = logger
        self._loop = loop
        self._memory = Memory()
        self._rates: dict[str, bytes] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self.exchanges: set[Exchange] = set()
        """Answers under way from providers; the worker keeps their deadlines."""
        self.streams = 0

    async def chat(self, client: ClientRequest, request_id: str, serving: Serving, arrived: float) -> None:
        """Serve `POST /v1/chat/completions`. Raises `Refusal` for what ends a request before its account is known."""
        now = time.time()
        identity = await authenticate(client.authorizations(), self._memory, self._keys, now_ms=int(now * 1000))
        try:
            limit = serving.settings.server.max_body
            call = await accept(client, request_id, identity, serving.catalog, max_body=limit, now=int(now))
            hold = serving.settings.limits.default_hold
            reservation, identity, limits = await admit(call, identity, self._limits, serving.limits_of, default_hold=hold)
        except Refusal as refusal:
            self._refused(client, request_id, identity, refusal, arrived)
            return
        self._settler.opened(reservation)
        admitted = _Admitted(call, client, identity, reservation, limits, arrived)
        outcome, unread = Outcome(Ending.CANCELLED, None, 0, reached=False), None
        self.streams += call.request.stream
        try:
            lines = self._rate_lines(identity, reservation) + ignored_line(call.request.ignored)
            targets = route(call.model, serving.settings.providers, random.random)
            outcome, unread = await forward(call, targets, client, lines, self._forwarder(serving))
            if outcome.fault is not None:
                refuse(client, outcome.fault, request_id, lines)
        finally:
            self.streams -= call.request.stream
            if unread is None:
                self._end(admitted, outcome)
            else:
                self._keep(self._drain(admitted, outcome, unread, self._forwarder(serving)))

    async def finish(self, seconds: float) -> int:
        """Read and settle what is still open, at most this long; returns how many settlements the store has not taken."""
        if self._draining:
            await asyncio.wait(self._draining, timeout=seconds)
        return await self._settler.flush(seconds)

    def report(self, end: RequestEnd) -> None:
        """Count and log a request that is over."""
        self._metrics.request_ended(end)
        log_request(self._logger, end)

    def attempt(self, call: Call, target: Target, error: UpstreamError | None) -> None:
        """Count and log one call to a provider (`proxy.steps.forward.Watch`)."""
        provider = target.route.provider
        if error is None:
            self._metrics.attempt(provider, "ok", reachable=True)
            return
        self._metrics.attempt(provider, error.kind, reachable=error.status is not None or error.kind not in _UNREACHABLE)
        # What a provider says about a request it found wrong may quote the request: that is for its client alone.
        said = scrub(error.body.message, ()) if error.status is None or error.status >= _SERVER_ERROR else None
        self._logger.warning(
            "upstream attempt failed", request_id=call.request_id, provider=provider, kind=error.kind, upstream_status=error.status,
            detail=error.detail or None, said=said or None,
        )  # fmt: skip

    def _refused(self, client: ClientRequest, request_id: str, identity: Identity, refusal: Refusal, arrived: float) -> None:
        lines = self._rates.get(identity.account.name, b"")
        if isinstance(refusal, NotAdmitted):
            if refusal.key_is_bad:
                self._memory.forget(identity.digest)
            if refusal.remaining is not None:
                lines = rate_limit_lines(refusal.remaining)
        refuse(client, refusal.fault, request_id, lines)
        self.report(
            refused(client, request_id, "chat", refusal.fault, time.monotonic() - arrived, identity)
        )

    def _rate_lines(self, identity: Identity, reservation: Reservation) -> bytes:
        """Remember the account as the store knows it, and what is left of its limits for answers that do not ask the store."""
        self._memory.put(identity)
        lines = rate_limit_lines(reservation.remaining)
        if len(self._rates) >= ACCOUNTS_KEPT:
            self._rates.clear()
        self._rates[identity.account.name] = lines
        return lines

    def _forwarder(self, serving: Serving) -> Forwarder:
        return Forwarder(serving.upstreams, self.exchanges, self, time.monotonic, new_id, self._loop)

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self, admitted: _Admitted, outcome: Outcome, unread: Exchange, forwarder: Forwarder) -> None:
        """Settle a request whose client has left once its provider is done with it."""
        try:
            outcome = await drain(unread, admitted.call, outcome, forwarder)
        finally:
            self._end(admitted, outcome)

    def _end(self, admitted: _Admitted, outcome: Outcome) -> None:
        """Meter, settle, count and log: the one end of every admitted request. A journal of these belongs before the settlement."""
        call, arrived, client = admitted.call, admitted.arrived, admitted.client
        metered = meter(call, outcome)
        self._settler.settle(admitted.reservation, admitted.limits, metered)
        self.report(
            RequestEnd(
                request_id=call.request_id,
                endpoint=call.endpoint.value,
                model=call.model.id,
                stream=call.request.stream,
                status=client.answered or CLIENT_CLOSED,
                ending=outcome.ending,
                duration=time.monotonic() - arrived,
                account=admitted.identity.account.name,
                key_id=admitted.identity.key.key_id,
                provider=None if outcome.target is None else outcome.target.route.provider,
                usage=metered.usage,
                source=metered.source,
                cost_pusd=metered.cost_pusd,
                attempts=outcome.attempts,
                ttft=None if outcome.first_byte_at is None else outcome.first_byte_at - arrived,
                overhead=None if outcome.asked_at is None else outcome.asked_at - arrived,
                fault=outcome.fault,
                upstream_id=outcome.upstream_id,
                client_request_id=_visible(client.header("X-Client-Request-Id")),
                retry_count=_visible(client.header("x-stainless-retry-count")),
            )
        )


def refused(
    client: ClientRequest, request_id: str, endpoint: str, fault: Fault | None, duration: float, identity: Identity | None = None
) -> RequestEnd:
    """Describe the end of a request that no provider was asked about; without a fault, its client left."""
    return RequestEnd(
        request_id=request_id,
        endpoint=endpoint,
        model="unknown",
        stream=False,
        status=client.answered or CLIENT_CLOSED,
        ending=Ending.CLIENT_GONE if fault is None else Ending.REFUSED,
        duration=duration,
        account=None if identity is None else identity.account.name,
        key_id=None if identity is None else identity.key.key_id,
        fault=fault,
        client_request_id=_visible(client.header("X-Client-Request-Id")),
    )


def new_id() -> str:
    """Make the random part of an id that a provider left out."""
    return "".join(random.choices(ALPHABET, k=_ID_DIGITS))  # noqa: S311 - unique, not secret


def _visible(value: str | None) -> str | None:
    """Take a client's header for the log if it is at most 512 visible ASCII characters (anything else could forge lines)."""
    return value if value is not None and len(value) <= 512 and value.isascii() and value.isprintable() else None  # noqa: PLR2004
