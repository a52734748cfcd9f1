"""A request → its records in the journal: that it begins, how far it is, and the row of the ledger that it ends with.

The journal comes first: before the provider is asked, and before the account is charged. What cannot be written down is
refused or goes on, as the operator chose; it is never silent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from proxy.accounts import Identity
from proxy.call import Call, Metered, Outcome, Target, Underway
from proxy.errors import ErrorType, Fault
from proxy.journal_records import LARGEST_COST, Marked, Started
from proxy.settings import JournalFull, JournalSync
from proxy.upstream.exchange import Answer
from proxy.upstream.pump import Pump
from proxy.usage_record import UsageRecord

MARK_SECONDS: Final = 2.0
"""How often a stream that lasts is marked."""
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.:/+=@-]{0,255}", re.ASCII)
_RETRY_MS: Final = 5_000


class JournalWriter(Protocol):
    """What this step needs of a journal."""

    def start(self, started: Started) -> bool:
        """Write that a request is about to be sent; False if that cannot be written now."""

    def mark(self, marked: Marked) -> None:
        """Write how far a request is."""

    def end(self, record: UsageRecord) -> None:
        """Write a request's row."""

    def drop(self, request_id: str) -> None:
        """Write that a request has no row."""

    async def synced(self) -> bool:
        """Wait until everything written so far is on the disk; False if that takes too long."""


class Entry(Struct, frozen=True, gc=False):
    """What is written of a request both when it begins and when it ends."""

    call: Call
    identity: Identity
    started_at: int
    """Unix ms."""


class Recorder:
    """Writes down the requests of one worker."""

    def __init__(self, journal: JournalWriter, sync: JournalSync, full: JournalFull) -> None:
        """Write to `journal`; wait for the disk, and refuse what cannot be written, as the configuration says."""
        self._journal = journal
        self._waits = sync is JournalSync.ALWAYS
        self._blocks = full is JournalFull.BLOCK

    async def begin(self, entry: Entry, targets: Sequence[Target]) -> Fault | None:
        """Write that a call is about to be sent to these targets, in this order. Returns the refusal if that cannot be
        written and has to be.
        """
        if not targets:
            return None
        call, route = entry.call, targets[0].route
        prices = call.model.prices.text
        written = self._journal.start(
            Started(
                request_id=call.request_id,
                account=entry.identity.account.name,
                key_id=entry.identity.key.key_id,
                endpoint=call.endpoint,
                model=call.model.id,
                provider=route.provider,
                upstream_model=route.model,
                stream=call.request.stream,
                prompt_tokens=call.estimate_prompt(),
                price_prompt=prices[0],
                price_completion=prices[1],
                price_input_cache_read=prices[2],
                started_at=entry.started_at,
                metadata=_metadata(call),
            )
        )
        if written and self._waits:
            written = await self._journal.synced()
        return None if written or not self._blocks else _cannot_record()

    def mark(self, underway: "Mapping[Pump | Answer, Underway]", before: float, now: float, wall_ms: int) -> None:
        """Write how far those streams are whose time for it came after `before` and until `now`, both on the monotonic
        clock.
        """
        for exchange, asked in underway.items():
            if isinstance(exchange, Pump) and not exchange.busy and _is_due(exchange.first_byte_at, before, now):
                self._journal.mark(_marked(exchange, asked, now, wall_ms))

    def end(
        self, entry: Entry, outcome: Outcome, metered: Metered, *, status: int, ttft: float | None, duration: float
    ) -> None:
        """Write a call's row, or that it has none; times in seconds."""
        call, target = entry.call, outcome.target
        if not (outcome.reached or outcome.sent) or target is None:
            self._journal.drop(call.request_id)
            return
        usage, prices = metered.usage, call.model.prices.text
        self._journal.end(
            UsageRecord(
                request_id=call.request_id,
                upstream_id=writable(outcome.upstream_id),
                account=entry.identity.account.name,
                key_id=entry.identity.key.key_id,
                endpoint=call.endpoint,
                model=call.model.id,
                provider=target.route.provider,
                upstream_model=target.route.model,
                stream=call.request.stream,
                status=status,
                ending=outcome.ending,
                usage_source=metered.source,
                prompt_tokens=usage.prompt,
                cached_tokens=usage.cached,
                completion_tokens=usage.completion,
                reasoning_tokens=usage.reasoning or 0,
                cost_pusd=min(metered.cost_pusd, LARGEST_COST),
                price_prompt=prices[0],
                price_completion=prices[1],
                price_input_cache_read=prices[2],
                attempts=outcome.attempts,
                started_at=entry.started_at,
                ttft_ms=None if ttft is None else round(ttft * 1000),
                duration_ms=round(duration * 1000),
                metadata=_metadata(call),
            )
        )


def writable(upstream_id: str | None) -> str | None:
    """Return a provider's id if it is a name: it may be anything that JSON can say, a text of the request too."""
    return upstream_id if upstream_id is not None and _NAME.fullmatch(upstream_id) else None


def _metadata(call: Call) -> str | None:
    metadata = call.request.metadata
    return None if metadata is None else metadata.decode()


def _is_due(begun: float | None, before: float, now: float) -> bool:
    """Tell whether another two seconds of a stream were full at some moment between the two."""
    return begun is not None and (now - begun) // MARK_SECONDS > max(0.0, before - begun) // MARK_SECONDS


def _marked(pump: Pump, underway: Underway, now: float, wall_ms: int) -> Marked:
    usage, _ = pump.stream.usage()
    begun = pump.first_byte_at
    return Marked(
        request_id=underway.call.request_id,
        provider=underway.target.route.provider,
        upstream_model=underway.target.route.model,
        upstream_id=writable(pump.stream.upstream_id),
        attempts=underway.attempts,
        prompt_tokens=usage.prompt,
        cached_tokens=usage.cached,
        completion_tokens=usage.completion,
        reasoning_tokens=usage.reasoning or 0,
        first_byte_at=None if begun is None else wall_ms - round((now - begun) * 1000),
        marked_at=wall_ms,
    )


def _cannot_record() -> Fault:
    message = "The gateway cannot record usage at the moment; try again in a few seconds."
    return Fault(503, ErrorType.INTERNAL, "overloaded", message, retry_after_ms=_RETRY_MS, reason="journal_unavailable")
