"""What one gateway may let in by itself while the store is away: its share of every limit, as the store last told it.

Integers and given times only. Nothing here asks how long the store has been away or what becomes of what was let in;
that is `stores/fallback.py`. What is not known is closed: the worst mistake would be a limit that is none.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from proxy.limits import Hold, Limit, LimitReached, Limits, Remaining, Reservation

WINDOW_US: Final = 60_000_000
HONOURED_US: Final = 10 * WINDOW_US
"""How long a key counts as good after the store last said so."""
GRACE_DIVISOR: Final = 100
"""A hundredth of what the store last told to be left of a day's tokens or of a budget may be used without asking."""
MOST: Final = 10_000
"""Keys, and accounts, that are remembered."""
_CONCURRENCY_WAIT_MS: Final = 1_000
_MS: Final = 1_000


class _Rate(Struct):
    """A bucket that leaks: `level` is what was taken and has not come back, in units × WINDOW_US.

    In this measure a microsecond gives back exactly the limit, so nothing is ever rounded.
    """

    level: int = 0
    at: int = 0

    def leak(self, share: int, now: int, reset_ms: int, told_at: int) -> None:
        """Come to `now`; the store's word of when all is back (the same for every share) is a lower bound."""
        left = self.level - share * (now - self.at)
        told = share * (reset_ms * _MS - (now - told_at))
        self.level, self.at = max(left, told, 0), now

    def wait_ms(self, share: int, cost: int) -> int:
        """Return how long until `cost` units fit; 0: now."""
        over = self.level + cost * WINDOW_US - share * WINDOW_US
        return max(0, -(-over // (share * _MS)))

    def show(self, share: int) -> tuple[int, int]:
        """Return the units that are left, and the ms until all are back."""
        return max(0, (share * WINDOW_US - self.level) // WINDOW_US), -(-self.level // (share * _MS))


class _Word(Struct, frozen=True):
    """What the store last said of an account: of its rates, and (longer ago, where it refused since) of the rest."""

    at: int
    remaining: Remaining
    left_at: int
    tokens_left: int
    nusd_left: int


class _Alone(Struct):
    """What an account was let in without the store: its rates, and what it took of its grace.

    The grace is not renewed by a store that comes and goes: it stays taken until the store has charged everything and
    has then told anew what is left.
    """

    requests: _Rate
    tokens: _Rate
    taken_tokens: int = 0
    taken_nusd: int = 0
    unsettled: int = 0
    settled_at: int = 0


class LocalLimits:
    """The limits of all accounts of one worker while it is on its own; times are µs of any clock that only goes on."""

    def __init__(self) -> None:
        """Know nothing, and so let nothing in."""
        self.gateways = 1
        """How many share the limits, this one included, as last heard."""
        self._seen: dict[str, int] = {}
        self._words: dict[str, _Word] = {}
        self._alone: dict[str, _Alone] = {}
        self._told_at: int | None = None

    def told(self, digest: str, reservation: Reservation, now: int) -> None:
        """Remember that the store admitted a request of this key, and what it said is left of the account's limits."""
        _keep(self._seen, digest)
        _keep(self._words, reservation.account)
        self._seen[digest] = self._told_at = now
        self._words[reservation.account] = _Word(
            now, reservation.remaining, now, reservation.tokens_left, reservation.nusd_left
        )

    def told_refusal(self, digest: str, account: str, remaining: Remaining, now: int) -> None:
        """Remember that the store knew the key and refused its request by a limit: at that moment little was left."""
        word = self._words.get(account)
        if word is not None and digest in self._seen:
            self._seen[digest] = self._told_at = now
            self._words[account] = _Word(now, remaining, word.left_at, word.tokens_left, word.nusd_left)

    def knows_somebody(self, now: int) -> bool:
        """Whether there is a key that could be honoured."""
        return self._told_at is not None and now - self._told_at < HONOURED_US

    def admit(
        self, digest: str, account: str, limits: Limits, hold: Hold, in_flight: int, now: int
    ) -> Remaining | LimitReached | None:
        """Decide about one request of which `in_flight` others of its account run here; None: it cannot be let in
        without the store. What is let in is taken, and has to be `ended` and `settled`.
        """
        seen, word = self._seen.get(digest), self._words.get(account)
        if seen is None or word is None or now - seen >= HONOURED_US:
            return None
        alone = self._state(account, word, limits, now)
        if alone is None or self._is_closed(alone, word, limits, hold):
            return None
        refusing = list(self._refusals(alone, limits, hold, in_flight))
        if refusing:
            limit, allowed, asked, wait = max(refusing, key=lambda refusal: refusal[3])
            remaining = self._remaining(alone, limits)
            left = {Limit.REQUESTS_PER_MINUTE: remaining.requests, Limit.TOKENS_PER_MINUTE: remaining.tokens}
            return LimitReached(limit, allowed, left.get(limit, 0), asked, wait, remaining)
        if limits.requests_per_minute is not None:
            alone.requests.level += WINDOW_US
        if limits.tokens_per_minute is not None:
            alone.tokens.level += hold.tokens * WINDOW_US
        alone.taken_tokens += hold.tokens
        alone.taken_nusd += hold.nusd
        alone.unsettled += 1
        return self._remaining(alone, limits)

    def ended(self, account: str, limits: Limits, hold: Hold, tokens: int, nusd: int, now: int) -> None:
        """Correct what was taken for a request by what it used."""
        alone = self._alone[account]
        alone.taken_tokens += tokens - hold.tokens
        alone.taken_nusd += nusd - hold.nusd
        if limits.tokens_per_minute is not None:
            rate, share = alone.tokens, self._share(limits.tokens_per_minute)
            rate.leak(share, now, 0, now)
            rate.level = min(max(0, rate.level + (tokens - hold.tokens) * WINDOW_US), 2 * share * WINDOW_US)

    def settled(self, account: str, now: int) -> None:
        """Note that the store has charged a request."""
        alone = self._alone[account]
        alone.unsettled -= 1
        alone.settled_at = now

    def _share(self, limit: int) -> int:
        """Return this gateway's part of a limit: at least one, or an outage would be the end of small accounts."""
        return max(1, limit // self.gateways)

    def _state(self, account: str, word: _Word, limits: Limits, now: int) -> _Alone | None:
        """Return what the account took here, at `now`; None if there are too many accounts to keep account of."""
        alone = self._alone.get(account)
        if alone is None:
            if len(self._alone) >= MOST and not self._forget_idle(now):
                return None
            alone = self._alone[account] = _Alone(_Rate(at=now), _Rate(at=now))
        if alone.unsettled == 0 and word.left_at > alone.settled_at:
            alone.taken_tokens = alone.taken_nusd = 0
        told = word.remaining
        if limits.requests_per_minute is not None:
            alone.requests.leak(self._share(limits.requests_per_minute), now, told.requests_reset_ms, word.at)
        if limits.tokens_per_minute is not None:
            alone.tokens.leak(self._share(limits.tokens_per_minute), now, told.tokens_reset_ms, word.at)
        return alone

    def _forget_idle(self, now: int) -> bool:
        """Make room: an account whose rates are full again and whose grace was told anew is like one never seen."""
        idle = [
            name
            for name, alone in self._alone.items()
            if alone.unsettled == 0
            and now - max(alone.settled_at, alone.requests.at) > 2 * WINDOW_US
            and (name not in self._words or self._words[name].left_at > alone.settled_at)
        ]
        for name in idle:
            del self._alone[name]
        return bool(idle)

    def _is_closed(self, alone: _Alone, word: _Word, limits: Limits, hold: Hold) -> bool:
        """Whether only the store could let it in: no grace is left, or it is larger than the whole share of a rate."""
        grace_of = GRACE_DIVISOR * self.gateways
        return (
            (limits.tokens_per_day is not None and alone.taken_tokens + hold.tokens > word.tokens_left // grace_of)
            or (limits.budgets and alone.taken_nusd + hold.nusd > word.nusd_left // grace_of)
            or (limits.tokens_per_minute is not None and hold.tokens > self._share(limits.tokens_per_minute))
        )

    def _refusals(
        self, alone: _Alone, limits: Limits, hold: Hold, in_flight: int
    ) -> Iterator[tuple[Limit, int, int, int]]:
        """Yield every limit that is in the way: which, its value for the whole account, what was asked, the wait."""
        allowed = limits.requests_per_minute
        if allowed is not None and (wait := alone.requests.wait_ms(self._share(allowed), 1)):
            yield Limit.REQUESTS_PER_MINUTE, allowed, 1, wait
        allowed = limits.tokens_per_minute
        if allowed is not None and (wait := alone.tokens.wait_ms(self._share(allowed), hold.tokens)):
            yield Limit.TOKENS_PER_MINUTE, allowed, hold.tokens, wait
        allowed = limits.concurrent_requests
        if allowed is not None and in_flight >= self._share(allowed):
            yield Limit.CONCURRENT_REQUESTS, allowed, 1, _CONCURRENCY_WAIT_MS

    def _remaining(self, alone: _Alone, limits: Limits) -> Remaining:
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        return Remaining(
            requests,
            *((0, 0) if requests is None else alone.requests.show(self._share(requests))),
            tokens,
            *((0, 0) if tokens is None else alone.tokens.show(self._share(tokens))),
        )


def _keep(known: dict[str, int] | dict[str, _Word], name: str) -> None:
    """Make room for a name: the longest-known goes first."""
    if len(known) >= MOST and name not in known:
        del known[next(iter(known))]
