"""The numbers of the ledger: what the supervisor knows, which carries rows into it."""

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from proxy.usage import UsageSource
from proxy.usage_record import UsageRecord


class LedgerMetrics:
    """The families of the ledger and its journals."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create them."""
        self._lag = Gauge(
            "aion_ledger_lag_seconds", "How long the oldest row has waited for the ledger.", registry=registry
        )
        self._bytes = Gauge("aion_journal_bytes", "What the journals have on disk.", registry=registry)
        rows = Counter("aion_ledger_rows", "Rows that the ledger took.", ("source",), registry=registry)
        self._rows: Final = {source.value: rows.labels(source.value) for source in UsageSource}
        self._aside = Counter("aion_ledger_set_aside", "Rows that the ledger refuses.", registry=registry)
        self._damage = Counter("aion_journal_damage", "Places in journals that cannot be read.", registry=registry)

        self._corrections = Counter(
            "aion_counter_corrections", "Times that counters of an account were moved to the ledger.", registry=registry
        )

    def watch(self, lag: Callable[[], float], journal_bytes: Callable[[], float]) -> None:
        """Ask these whenever the page is made."""
        self._lag.set_function(lag)
        self._bytes.set_function(journal_bytes)

    def inserted(self, records: Iterable[UsageRecord]) -> None:
        """Count rows that the ledger took."""
        for record in records:
            self._rows[record.usage_source].inc()

    def set_aside(self) -> None:
        """Count a row that the ledger never takes."""
        self._aside.inc()

    def damaged(self, places: int) -> None:
        """Count places in journals that could not be read."""
        self._damage.inc(places)

    def corrected(self, accounts: int) -> None:
        """Count accounts whose counters were moved."""
        self._corrections.inc(accounts)
