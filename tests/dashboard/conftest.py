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


@pytest.fixture
async def operator(bench: Bench) -> Bench:
    """The operator, signed in, beside the account acme."""
    await bench.account()
    await bench.sign_in()
    return bench


@pytest.fixture
async def person(bench: Bench) -> Bench:
    """Somebody of the account acme, signed in, beside another account."""
    await bench.account("acme")
    await bench.account("other")
    await bench.sign_in(await bench.token("acme"))
    return bench
