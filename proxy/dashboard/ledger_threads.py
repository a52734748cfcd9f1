"""The ledger for code on an event loop: every question runs in one of a few threads, and an outage is a refusal.

The ledger is opened with the first question, and again with each one until it can be: the dashboard comes up whether
or not a database does.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from proxy.admin.refused import OperationRefused, Reason
from proxy.ledger.database import Ledger, LedgerUnavailable, describe
from proxy.ledger.migrations import NewerLedger

_THREADS: Final = 4
_NICE: Final = 10
_ResultT = TypeVar("_ResultT")


class LedgerThreads:
    """One ledger. Every method raises `OperationRefused` when the ledger cannot be used."""

    def __init__(self, url: str, data_dir: Path) -> None:
        """Open nothing yet."""
        self._url = url
        self._data_dir = data_dir
        self._ledger: Ledger | None = None
        self._opening = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "dashboard-ledger", _be_nice)

    async def read(self, work: Callable[[Connection], _ResultT]) -> _ResultT:
        """Do what only reads, in one transaction that sees one state."""
        return await self.use(lambda ledger: self._reading(ledger, work))

    async def write(self, work: Callable[[Connection], _ResultT]) -> _ResultT:
        """Do what changes something, in one transaction."""
        return await self.use(lambda ledger: self._writing(ledger, work))

    async def use(self, work: Callable[[Ledger], _ResultT]) -> _ResultT:
        """Do anything with the ledger itself."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._with_ledger, work)

    def close(self) -> None:
        """Close the ledger; what is being asked may finish first."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._ledger is not None:
            self._ledger.close()

    @staticmethod
    def _reading(ledger: Ledger, work: Callable[[Connection], _ResultT]) -> _ResultT:
        with ledger.reading() as connection:
            return work(connection)

    @staticmethod
    def _writing(ledger: Ledger, work: Callable[[Connection], _ResultT]) -> _ResultT:
        with ledger.writing() as connection:
            return work(connection)

    def _with_ledger(self, work: Callable[[Ledger], _ResultT]) -> _ResultT:
        try:
            with self._opening:
                if self._ledger is None:
                    self._ledger = Ledger.open(self._url, self._data_dir)
            return work(self._ledger)
        except LedgerUnavailable as away:
            detail = away.detail
        except DBAPIError as error:
            detail = describe(error)
        except NewerLedger as newer:
            detail = str(newer)
        raise OperationRefused(
            Reason.UNAVAILABLE, f"the ledger cannot be used: {detail} (`ledger` in the configuration names it)"
        ) from None


def _be_nice() -> None:
    """Let workers go first where a core is short; Linux knows priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
