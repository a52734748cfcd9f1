"""How far an account's counters are from the ledger: pure arithmetic on what both say of one moment.

The two are never written at the same time: a row may be there before its settlement, and a settlement before its row.
What stands between them is known by request id, so the comparison is exact also while requests come and go.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct


class Charge(Struct, frozen=True, gc=False):
    """What limits are charged: tokens of prompt and completion, and nano-dollars rounded up once per request."""

    tokens: int = 0
    nusd: int = 0

    def __add__(self, other: "Charge") -> "Charge":
        """Add up."""
        return Charge(self.tokens + other.tokens, self.nusd + other.nusd)

    def __sub__(self, other: "Charge") -> "Charge":
        """Take the difference, which may be negative."""
        return Charge(self.tokens - other.tokens, self.nusd - other.nusd)

    @classmethod
    def sum(cls, charges: "Sequence[Charge]") -> "Charge":
        """Add up any number of them."""
        return cls(sum(charge.tokens for charge in charges), sum(charge.nusd for charge in charges))


class OpenHold(Struct, frozen=True, gc=False):
    """A request that the store has let in and that is not settled: what it holds."""

    request_id: str
    tokens: int
    nusd: int


class Counters(Struct, frozen=True):
    """What the store says of one account, at one moment."""

    charged: Charge
    """All that was ever settled."""
    corrections: int
    """How often the counters were corrected; it names the state that a correction is meant for."""
    now_ms: int
    forgotten_ms: int
    """Settlements up to this moment may be missing among `settled`; 0: none is."""
    open: tuple[OpenHold, ...]
    settled: Mapping[str, Charge]
    """Requests charged lately, by id: every one that the ledger may not know yet."""
    day: int = 0
    """The last one in which something was settled, in days since 1970."""
    day_began: Charge = Charge()
    """What was charged when it began; what was used since is the difference."""
    month: int = 0
    """The same for the month, 202612 for December 2026."""
    month_began_nusd: int = 0


class Drift(Struct, frozen=True):
    """The comparison of one account."""

    missing: Charge
    """What has to be added to the counters (or, if negative, taken off) so that they say what the ledger says."""
    to_settle: tuple[OpenHold, ...]
    """Requests that have a row and are not settled: whoever should have done that has died, or is about to."""
    arrived: tuple[str, ...]
    """Settled requests that the ledger knows by now."""
    unsettled: Charge
    """What these were charged."""
    on_the_way: Charge
    """What was settled and has no row yet."""


def drift(ledger: Charge, rows: Mapping[str, Charge], counters: Counters) -> Drift:
    """Compare what the ledger has charged in all with an account's counters.

    `rows` are the rows, of the same state of the ledger, of those requests that `counters` names. Both halves of the
    comparison leave out what the other cannot know: rows that are not settled, settlements that have no row.
    """
    to_settle = tuple(hold for hold in counters.open if hold.request_id in rows)
    unsettled = Charge.sum([rows[hold.request_id] for hold in to_settle])
    on_the_way = Charge.sum([counters.settled[name] for name in counters.settled.keys() - rows.keys()])
    arrived = tuple(name for name in counters.settled if name in rows)
    return Drift((ledger - unsettled) - (counters.charged - on_the_way), to_settle, arrived, unsettled, on_the_way)
