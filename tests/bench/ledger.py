"""What the record of a request costs: a worker's journal, in processor time, and the way from there into SQLite.

In this process, without sockets; the disk is the one that temporary files are on.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from structlog import get_logger

from proxy.journal_frames import frame
from proxy.journal_records import Ended, Started, encode
from proxy.ledger.journal import Journal
from proxy.metrics_ledger import LedgerMetrics
from proxy.usage_record import UsageRecord

RECORDS: Final = 20_000
ROWS: Final = 60_000
APPEND_TARGET_US: Final = 5.0
ROW_TARGET_US: Final = 50.0
"""Twenty thousand rows a second."""


def row(number: int) -> UsageRecord:
    """A row as most are, of one of fifty accounts."""
    return UsageRecord(
        request_id=f"req_{number:026x}",
        upstream_id="chatcmpl-9a7741c2d8f04e0b",
        account=f"account_{number % 50}",
        key_id="key_AaRgopLtxU3ZVYYc",
        endpoint="chat",
        model="lab/model",
        provider="local",
        upstream_model="model-fp8",
        stream=True,
        status=200,
        ending="complete",
        usage_source="upstream",
        prompt_tokens=1_200,
        cached_tokens=1_000,
        completion_tokens=300,
        reasoning_tokens=0,
        cost_pusd=840_000_000,
        price_prompt="0.0000008",
        price_completion="0.0000016",
        price_input_cache_read="0.0000002",
        attempts=1,
        started_at=1_795_424_400_000 + number,
        ttft_ms=212,
        duration_ms=5_340,
        metadata=None,
    )


def _as_written(of: UsageRecord) -> bytes:
    """What a request leaves in a journal."""
    return frame(encode(_started(of))) + frame(encode(Ended(of)))


def _started(of: UsageRecord) -> Started:
    return Started(**{name: getattr(of, name) for name in Started.__struct_fields__})


def appends(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Microseconds of processor time for a request's start and for its row, by round."""
    journal = Journal(folder / "appends", "bench", lambda _trouble: None, segment_bytes=2**40)
    rows = [row(number) for number in range(RECORDS)]
    starts = [_started(one) for one in rows]
    found: dict[str, list[float]] = {"start": [], "row": []}
    for _ in range(rounds):
        found["start"].append(_each(lambda: [journal.start(one) for one in starts], RECORDS))
        found["row"].append(_each(lambda: [journal.end(one) for one in rows], RECORDS))
    return found


def carried(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Microseconds for a row's way from a journal into the embedded ledger, by round: real and processor time."""
    # The ledger's libraries are loaded for this figure alone.
    from proxy.ledger.database import Ledger  # noqa: PLC0415
    from proxy.ledger.segments import ROOT, Folder  # noqa: PLC0415
    from proxy.ledger.sink import Sink  # noqa: PLC0415

    found: dict[str, list[float]] = {"real": [], "processor": []}
    for turn in range(rounds):
        data_dir = folder / f"carried-{turn}"
        dead, lock = Folder.create(data_dir / ROOT, "bench")
        dead.segment(1).write_bytes(b"".join(_as_written(row(number)) for number in range(ROWS)))
        os.close(lock)
        ledger = Ledger.open("embedded", data_dir)
        sink = Sink(data_dir / ROOT, lambda: ledger, LedgerMetrics(CollectorRegistry()), get_logger(), time.time)  # noqa: B023 - called in this round only
        begin, begin_processor = time.perf_counter(), time.process_time()
        while sink.carry():
            pass
        found["real"].append((time.perf_counter() - begin) / ROWS * 1e6)
        found["processor"].append((time.process_time() - begin_processor) / ROWS * 1e6)
        ledger.close()
    return found


def _each(work: Callable[[], object], number: int) -> float:
    begin = time.process_time()
    work()
    return (time.process_time() - begin) / number * 1e6
