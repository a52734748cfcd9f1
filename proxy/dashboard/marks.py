"""By what one sees that figures of open pages have moved: a mark that changes with them, of one account or of all.

Cheap questions only, since they are asked every second; which figures somebody may see is not decided here.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from proxy.admin.accounts import AccountState
from proxy.admin.refused import OperationRefused
from proxy.dashboard.operations import Desk
from proxy.dashboard.state import figures, routes
from proxy.dashboard.watching import REFUSED, Watching
from proxy.errors import StoreUnavailable
from proxy.ledger import people, requests

Mark = tuple[object, ...]
_METRICS_EVERY: Final = 3
"""Questions: collecting metrics takes some tens of milliseconds."""
_RESTLESS: Final = frozenset({"aion_journal_disk_free_bytes", "aion_ledger_lag_seconds"})
"""Figures that move while nothing happens here."""


@dataclass(slots=True)
class Marks:
    """Asks the ledger, the store and the metrics."""

    desk: Desk
    watching: Watching
    gateway: Callable[[], Hashable]
    """What is known of the gateway without asking: readiness, the last reload."""
    _metrics: Mark = field(default=())

    async def of(self, account: str | None, tick: int) -> Mark:
        """Return the mark of an account, or of everything; `tick` counts the questions."""
        if account is not None:
            return await self._ledger(account), await self._use(account)
        if not self._metrics or tick % _METRICS_EVERY == 0:
            self._metrics = await self._numbers()
        return await self._ledger(None), self._metrics, self.gateway()

    async def _ledger(self, account: str | None) -> object:
        def ask(connection: Connection) -> object:
            return requests.counts(connection, account), people.entries(connection, account, 1)

        try:
            return await self.desk.ledger.read(ask)
        except OperationRefused as away:
            return away.message

    async def _use(self, account: str) -> AccountState | str:
        try:
            return await self.desk.accounts.show(account)
        except (OperationRefused, StoreUnavailable) as away:
            return str(away)

    async def _numbers(self) -> Mark:
        samples = await self.watching.samples()
        moving = {name: value for name, value in figures(samples).items() if name not in _RESTLESS}
        refused = sum(sample.value for sample in samples if sample.name == REFUSED)
        return moving, refused, routes(self.desk.configuration().catalog, samples)
