"""The audit log in the ledger's database, beside the bill, since a store may be lost and is then filled again."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.admin.audit import BEGUN, Asked, written
from proxy.admin.refused import OperationRefused
from proxy.dashboard.ledger_threads import LedgerThreads
from proxy.ledger import people
from proxy.ledger.people import AuditEntry

_ID_BYTES: Final = 9


@dataclass(frozen=True, slots=True)
class LedgerAudit:
    """`AuditLog` over a ledger; `clock` gives Unix seconds."""

    ledger: LedgerThreads
    clock: Callable[[], float]
    random: Callable[[int], bytes]

    async def begin(self, asked: Asked) -> str:
        """Write down that it was asked for. Raises `OperationRefused` if that cannot be."""
        entry_id, now_ms = self.random(_ID_BYTES).hex(), int(self.clock() * 1_000)
        about = (asked.person, asked.action, written(asked.account), written(asked.subject), asked.told)
        entry = AuditEntry(entry_id, now_ms, *about, BEGUN)
        await self.ledger.write(lambda connection: people.add_entry(connection, entry))
        return entry_id

    async def end(self, entry_id: str, outcome: str, subject: str) -> None:
        """Write down what came of it."""
        with contextlib.suppress(OperationRefused):  # it stays `begun`, which is what is known of it
            await self.ledger.write(
                lambda connection: people.set_outcome(connection, entry_id, outcome, written(subject))
            )
