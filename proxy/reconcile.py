"""Counters follow the ledger: what the store has lost is added again, what nobody settled is settled.

The ledger is the record of what was used; counters are there to be fast. Every account's counters are compared with
the sum of its rows and moved to it, and so is the beginning of its day and month: a clock that jumped over midnight
and back has begun them anew.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from sqlalchemy import Connection

from proxy.drift import Charge, Counters, Drift, OpenHold, drift
from proxy.errors import StoreUnavailable
from proxy.ledger.database import Ledger
from proxy.ledger.queries import charged_in_all, charged_since, charges, charges_of, identity
from proxy.ledger.schema import DAY_MS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TRIES: Final = 3
FORGOTTEN_FOR_MS: Final = DAY_MS
"""So long after settlements were forgotten counters are not lowered: what seems too much may not have a row yet."""


class CounterStore(Protocol):
    """The counters; `proxy/stores/counters.py` keeps its promises."""

    async def ledgers(self, ours: str) -> set[str]:
        """Register this ledger; returns the names of all that ever were."""

    async def read(self, account: str) -> Counters | None:
        """Return an account's counters at one moment."""

    async def settle(self, account: str, hold: OpenHold, used: Charge) -> None:
        """Settle a request, once."""

    async def arrived(self, account: str, settled: list[tuple[str, Charge]]) -> None:
        """Forget settlements that the ledger knows."""

    async def correct(
        self, account: str, read: Counters, missing: Charge, *, day: tuple[int, Charge], month: tuple[int, Charge]
    ) -> bool:
        """Move the counters, unless somebody else did."""


@dataclass(frozen=True, slots=True)
class Correction:
    """Counters of an account that were moved by so much."""

    account: str
    missing: Charge


class OtherLedgers(Exception):  # noqa: N818 - the state of the store
    """Gateways with other ledgers charge the same store, so that none of these ledgers knows all that was used."""

    def __init__(self) -> None:
        super().__init__(
            "gateways that share this store have ledgers of their own, so counters cannot be compared with any of "
            "them: name one PostgreSQL database as `ledger` in the configuration of all of them"
        )


async def compare(ledger: Ledger, counters: CounterStore) -> Mapping[str, Drift]:
    """Return how far the counters of every account of the ledger are from it, and change nothing.

    Raises `OtherLedgers`, `StoreUnavailable`, and what the database raises.
    """
    with ledger.reading() as connection:
        await _alone(connection, counters)
        found = {}
        for account, charged in charges(connection).items():
            read = await counters.read(account)
            if read is not None:
                found[account] = drift(charged, _rows(connection, read), read)
        return found


async def reconcile(ledger: Ledger, counters: CounterStore) -> list[Correction]:
    """Settle what has a row and was never settled, and move the counters of every account to the ledger's sums.

    Raises as `compare`, but passes over accounts that are on a lost node of a cluster. May run in any number of
    gateways at once: a correction is applied by one of them.
    """
    with ledger.reading() as connection:
        await _alone(connection, counters)
        accounts = list(charges(connection))
    found = []
    for account in accounts:
        with suppress(StoreUnavailable):
            missing = await _reconcile_account(ledger, counters, account)
            if missing is not None:
                found.append(Correction(account, missing))
    return found


async def _reconcile_account(ledger: Ledger, counters: CounterStore, account: str) -> Charge | None:
    for _ in range(_TRIES):
        with ledger.reading() as connection:
            charged = charged_in_all(connection, account)
            read = await counters.read(account)
            if read is None:
                return None
            rows = _rows(connection, read)
            found = drift(charged, rows, read)
            periods = _periods(connection, account, read, found)
            forgotten = _forgotten(read, found, periods)
        if found.arrived:
            await counters.arrived(account, [(name, read.settled[name]) for name in found.arrived])
        for hold in found.to_settle:
            await counters.settle(account, hold, rows[hold.request_id])
        lowers = min(found.missing.tokens, found.missing.nusd) < 0
        if lowers and read.now_ms - read.forgotten_ms < FORGOTTEN_FOR_MS:
            return None
        if found.missing == Charge() and not forgotten:
            return None
        if found.to_settle:
            continue  # compare again without them
        if await counters.correct(account, read, found.missing, day=periods[0], month=periods[1]):
            return found.missing
    return None


def _forgotten(read: Counters, found: Drift, periods: tuple[tuple[int, Charge], tuple[int, Charge]]) -> bool:
    """Tell whether the day or the month of the store's clock has more rows than the counters have charged in it.

    Never the other way round: what began before midnight and was settled after it is charged to the later day.
    """
    (day, day_began), (month, month_began) = periods
    known = found.unsettled + found.on_the_way
    total = read.charged + found.missing - known
    today, this_month = total - day_began, total.nusd - month_began.nusd
    charged = read.charged - read.day_began if read.day == day else Charge()
    charged_this_month = read.charged.nusd - read.month_began_nusd if read.month == month else 0
    return today.tokens > charged.tokens or today.nusd > charged.nusd or this_month > charged_this_month


async def _alone(connection: Connection, counters: CounterStore) -> None:
    ours = identity(connection)
    if await counters.ledgers(ours) != {ours}:
        raise OtherLedgers


def _rows(connection: Connection, read: Counters) -> Mapping[str, Charge]:
    return charges_of(connection, [*(hold.request_id for hold in read.open), *read.settled])


def _periods(
    connection: Connection, account: str, read: Counters, found: Drift
) -> tuple[tuple[int, Charge], tuple[int, Charge]]:
    """Return the day and the month of the store's clock, and where the corrected totals stood when these began."""
    total = read.charged + found.missing
    now = _EPOCH + timedelta(milliseconds=read.now_ms)
    month_began = int(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1000
    day = read.now_ms // DAY_MS
    used_today, used_this_month = (
        charged_since(connection, account, began) + found.on_the_way for began in (day * DAY_MS, month_began)
    )
    return (day, total - used_today), (now.year * 100 + now.month, total - used_this_month)
