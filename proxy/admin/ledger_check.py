"""The one check of the ledger that needs the store as well: whether the counters of limits are what the ledger says.

It blocks, and repairs nothing. What the ledger alone can tell is in `proxy/ledger/verify.py`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final

from proxy.admin.documents import Document, usd
from proxy.drift import Charge, Drift
from proxy.errors import StoreUnavailable
from proxy.ledger.database import Ledger
from proxy.ledger.verify import Check
from proxy.reconcile import OtherLedgers, compare
from proxy.stores.counters import RedisCounters
from proxy.stores.opening import connect_store

_COUNTERS: Final = "counters equal account totals"


def counters_check(ledger: Ledger, store: AbstractContextManager[str]) -> Check:
    """Compare the counters of the store, whose URL `store` gives, with the ledger; a store that cannot be asked is no
    proof of anything.
    """
    try:
        with store as url:
            found = asyncio.run(_compare(url, ledger))
    except OtherLedgers as other:
        return Check(_COUNTERS, ok=True, detail=f"not compared: {other}")
    except StoreUnavailable as away:
        return Check(_COUNTERS, ok=False, detail=f"not compared: {away.detail}")
    missing = {account: found[account].missing for account in sorted(found)}
    wrong = [
        f"{account} {charge.tokens:,} tokens and {usd(charge.nusd)} USD"
        for account, charge in missing.items()
        if charge != Charge()
    ]
    waiting = sum(bool(drift.on_the_way.tokens or drift.on_the_way.nusd) for drift in found.values())
    detail = f"{len(found):,} accounts" + (
        f"; requests of {waiting:,} are on their way to the ledger" if waiting else ""
    )
    detail += f"; to be added to: {', '.join(wrong)} (a running gateway does so within a minute)" if wrong else ""
    return Check(_COUNTERS, ok=not wrong, detail=detail)


def verify_document(found: list[Check], rows: int) -> Document:
    """Describe what every check found."""
    lines = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in found]
    return {"ok": all(check.ok for check in found), "rows": rows, "checks": lines}


async def _compare(url: str, ledger: Ledger) -> Mapping[str, Drift]:
    async with connect_store(url) as connection:
        return await compare(ledger, RedisCounters(connection))
