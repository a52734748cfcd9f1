"""Makes sure that nobody writes to a data directory while a command copies it: no gateway, no other command.

The locks are those of whoever writes there, and the kernel drops them when this process dies. What a gateway that died
had not carried into its ledger is carried over first, as its next start would have done.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from proxy.admin.refused import OperationRefused, Reason
from proxy.errors import StoreUnavailable
from proxy.ledger.database import Ledger
from proxy.ledger.segments import ROOT, Folder
from proxy.ledger.sink import LOCK, Sink
from proxy.logs import make_logger
from proxy.metrics_ledger import LedgerMetrics
from proxy.settings import Settings
from proxy.stores.data_dir import DataDir
from proxy.stores.embedded import EmbeddedStore

_CARRIED_WITHIN: Final = 3_600.0
_COMMANDS_END_WITHIN: Final = 10.0


@contextmanager
def embedded_source(data_dir: Path) -> Iterator[str]:
    """Run the embedded store for this process alone, and yield its URL; raises `OperationRefused` if another has it."""
    if not (data_dir / "store").is_dir():
        raise OperationRefused(
            Reason.NOT_FOUND,
            f"there is no store in {data_dir}: run this where the gateway ran, with its configuration (`data_dir` is "
            "relative to the working directory)",
        )
    try:
        store = EmbeddedStore.start(data_dir)
    except StoreUnavailable:
        if DataDir.at(data_dir).is_locked():
            raise _in_use(data_dir) from None
        raise
    try:
        with DataDir.at(data_dir).no_users(_COMMANDS_END_WITHIN):
            yield store.url
    finally:
        store.stop(wait_for_users=0.0)


def ensure_quiet(data_dir: Path) -> None:
    """Raise `OperationRefused` if a process of a gateway writes here."""
    with sink_held(data_dir):
        for folder in Folder.all_in(data_dir / ROOT):
            lock = folder.take()
            if lock is None:
                raise _in_use(data_dir)
            os.close(lock)


def carry_journals(settings: Settings, clock: Callable[[], int]) -> None:
    """Have everything that journals hold in the configuration's ledger; raises `OperationRefused` if some cannot be."""
    root = settings.data_dir / ROOT
    if not Folder.all_in(root):
        return
    sink = Sink(
        root,
        lambda: Ledger.open(settings.ledger, settings.data_dir),
        LedgerMetrics(CollectorRegistry()),
        make_logger(readable=True),
        lambda: clock() / 1_000,
    )
    sink.start()
    if not sink.finish(_CARRIED_WITHIN) or Folder.all_in(root):
        raise OperationRefused(
            Reason.UNAVAILABLE,
            f"journals in {root} could not be carried into the ledger (the lines above say why): correct that, "
            "start the gateway once and stop it, and try again",
        )


@contextmanager
def sink_held(data_dir: Path) -> Iterator[None]:
    """Be the one who may carry journals; raises `OperationRefused` if a gateway is."""
    root = data_dir / ROOT
    if not root.is_dir():
        yield
        return
    lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(data_dir) from None
        yield
    finally:
        os.close(lock)


def _in_use(data_dir: Path) -> OperationRefused:
    return OperationRefused(
        Reason.CONFLICT, f"a gateway (or another command) uses {data_dir}: stop it, so that nothing changes meanwhile"
    )
