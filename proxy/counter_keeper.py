"""Keeps the counters of limits equal to the ledger: compares them every few seconds, in a thread of the supervisor,
and shows what they leave of budgets.

A thread with a loop of its own, because it waits for a database as well as for the store, and nobody waits for it. It
remembers nothing of a round: whatever interrupts it, the next one does the same work.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import OperationalError

from proxy.admin.accounts import Accounts
from proxy.errors import StoreUnavailable
from proxy.health import OwnMetrics
from proxy.ledger.database import Ledger, LedgerUnavailable
from proxy.ledger.migrations import NewerLedger
from proxy.reconcile import OtherLedgers, reconcile
from proxy.settings import Settings
from proxy.stores.counters import RedisCounters
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import store_at
from proxy.stores.store import Store

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

ROUND_SECONDS: Final = 15.0
_CALL_SECONDS: Final = 10.0


class CounterKeeper:
    """One keeper; any number of them may share a store and a ledger."""

    def __init__(
        self, settings: Callable[[], Settings], store_url: str, own: OwnMetrics, logger: "FilteringBoundLogger"
    ) -> None:
        """Name what is to be compared; nothing is opened before `start`. The ledger is that of the settings as they are
        now, plans are those in force.
        """
        now = settings()
        self._ledger_url, self._data_dir = now.ledger, now.data_dir
        self._store_url = store_url
        self._settings = settings
        self._metrics = own.ledger
        self._budgets = own.budgets if now.metrics.account_label else None
        self._logger = logger
        self._stop = threading.Event()
        self._told: str | None = None
        self._ledger: Ledger | None = None
        """Opened once: what SQLAlchemy makes for an engine outlives it, and would be made anew for each round."""

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
            except (StoreUnavailable, LedgerUnavailable, OperationalError):
                pass  # whoever needs them for requests says that they are away
            except (OtherLedgers, NewerLedger) as why:
                self._tell(str(why))
            except Exception as error:  # noqa: BLE001 - the next round may work, and counters must not stay wrong
                self._ledger = None  # to open it is to make the tables that it may have lost
                self._tell(f"{type(error).__name__}: {str(error)[:500]}")

    async def _round(self) -> None:
        ledger = self._ledger = self._ledger or Ledger.open(self._ledger_url, self._data_dir)
        store = store_at(self._store_url, call_timeout=_CALL_SECONDS)
        try:
            with suppress(StoreUnavailable):  # a cluster may have lost a node, which concerns its own accounts only
                await store.connect()
            try:
                corrections = await reconcile(ledger, RedisCounters(store))
            finally:  # a comparison that is refused hides no budget
                await self._show_budgets(store)
        finally:
            await store.close()
            ledger.close()  # its connections; the next round opens others
        self._metrics.corrected(len(corrections))
        for correction in corrections:
            self._logger.warning(
                "counters were moved to what the ledger says",
                account=correction.account,
                tokens=correction.missing.tokens,
                nusd=correction.missing.nusd,
            )

    async def _show_budgets(self, connection: Store) -> None:
        """Tell what accounts have left."""
        if self._budgets is None:
            return
        settings = self._settings()
        plans = settings.limits_by_plan()
        accounts = Accounts(RedisKeys(connection), RedisLimits(connection), plans, settings.default_plan)
        self._budgets.show((state.account.name, state.use) for state in await accounts.all())

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            self._logger.error("counters are not compared with the ledger", detail=why)
