"""Keeps the counters of limits equal to the ledger: compares them every few seconds, in a thread of the supervisor.

A thread with a loop of its own, because it waits for a database as well as for the store, and nobody waits for it. It
keeps nothing in memory: whatever interrupts it, the next round does the same work.
"""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.errors import StoreUnavailable
from proxy.ledger.database import Ledger, LedgerUnavailable
from proxy.ledger.migrations import NewerLedger
from proxy.metrics_ledger import LedgerMetrics
from proxy.reconcile import OtherLedgers, reconcile
from proxy.stores.counters import RedisCounters
from proxy.stores.opening import store_at

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

ROUND_SECONDS: Final = 15.0
_CALL_SECONDS: Final = 10.0


class CounterKeeper:
    """One keeper; any number of them may share a store and a ledger."""

    def __init__(
        self, ledger_url: str, data_dir: Path, store_url: str, metrics: LedgerMetrics, logger: "FilteringBoundLogger"
    ) -> None:
        """Name what is to be compared; nothing is opened before `start`."""
        self._ledger_url = ledger_url
        self._data_dir = data_dir
        self._store_url = store_url
        self._metrics = metrics
        self._logger = logger
        self._stop = threading.Event()
        self._told: str | None = None

    def start(self) -> None:
        """Begin, in a thread that ends with the process."""
        threading.Thread(target=self._run, name="counters", daemon=True).start()

    def stop(self) -> None:
        """Begin no further round."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(ROUND_SECONDS):
            try:
                asyncio.run(self._round())
                self._told = None
            except (StoreUnavailable, LedgerUnavailable):
                pass  # whoever needs them for requests says that they are away
            except (OtherLedgers, NewerLedger) as why:
                self._tell(str(why))
            except Exception as error:  # noqa: BLE001 - the next round may work, and counters must not stay wrong
                self._tell(f"{type(error).__name__}: {str(error)[:500]}")

    async def _round(self) -> None:
        ledger = Ledger.open(self._ledger_url, self._data_dir)
        store = store_at(self._store_url, call_timeout=_CALL_SECONDS)
        try:
            with suppress(StoreUnavailable):  # a cluster may have lost a node, which concerns its own accounts only
                await store.connect()
            corrections = await reconcile(ledger, RedisCounters(store))
        finally:
            await store.close()
            ledger.close()
        self._metrics.corrected(len(corrections))
        for correction in corrections:
            self._logger.warning(
                "counters were moved to what the ledger says",
                account=correction.account,
                tokens=correction.missing.tokens,
                nusd=correction.missing.nusd,
            )

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            self._logger.error("counters are not compared with the ledger", detail=why)
