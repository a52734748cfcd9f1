"""The audit log for commands, opened only by those that change something.

Whoever may run commands holds the configuration with the store's address: a ledger that is away does not keep them from
revoking a key. They are told, since the log then misses what they did.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from proxy.admin.audit import Asked
from proxy.admin.refused import OperationRefused, Reason
from proxy.settings import Settings

if TYPE_CHECKING:
    from proxy.dashboard.audit_log import LedgerAudit

_NOWHERE: Final = ""


class CommandAudit:
    """`AuditLog` over the ledger that the configuration names; `warnings` say what is missing in it."""

    def __init__(self, settings: Settings, now_ms: int, random: Callable[[int], bytes]) -> None:
        """Open nothing yet."""
        self._settings = settings
        self._now_ms = now_ms
        self._random = random
        self._log: LedgerAudit | None = None
        self._closing = AsyncExitStack()
        self.warnings: list[str] = []

    async def begin(self, asked: Asked) -> str:
        """Write down that it was asked for, where that is possible."""
        from proxy.dashboard.audit_log import LedgerAudit  # noqa: PLC0415 - loads the database's library
        from proxy.dashboard.ledger_threads import LedgerThreads  # noqa: PLC0415

        ledger = LedgerThreads(self._settings.ledger, self._settings.data_dir)
        self._closing.push_async_callback(asyncio.to_thread, ledger.close)
        self._log = LedgerAudit(ledger, lambda: self._now_ms / 1_000, self._random)
        try:
            return await self._log.begin(asked)
        except OperationRefused as refused:
            if refused.reason is not Reason.UNAVAILABLE:
                raise
            self.warnings.append(f"This is not in the audit log: {refused.message}")
            return _NOWHERE

    async def end(self, entry_id: str, outcome: str, subject: str) -> None:
        """Write down what came of it."""
        if self._log is not None and entry_id != _NOWHERE:
            await self._log.end(entry_id, outcome, subject)
        await self._closing.aclose()
