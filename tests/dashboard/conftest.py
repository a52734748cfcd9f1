"""The admin port for one test, stopped afterwards."""

from collections.abc import AsyncIterator

import pytest
from dashboard_bench import Bench, start_bench


@pytest.fixture
def reasons() -> list[str]:
    """Why the gateway is not ready."""
    return []


@pytest.fixture
async def bench(tmp_path, reasons) -> AsyncIterator[Bench]:
    bench, runner = await start_bench(tmp_path, reasons)
    yield bench
    await bench.session.close()
    await runner.cleanup()
    bench.ledger.close()
