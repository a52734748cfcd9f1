"""The command `ledger verify`: whether the ledger agrees with itself, and the store's counters with the ledger.

It reads while gateways write, and repairs nothing. What is checked of the ledger is in `proxy/ledger/verify.py`.
"""

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tabulate import tabulate

from proxy.admin.documents import as_text, usd
from proxy.cli_outside import Outside
from proxy.cli_usage import opened_ledger, progress
from proxy.configuration import load
from proxy.drift import Charge, Drift
from proxy.errors import StoreUnavailable
from proxy.ledger.database import Ledger
from proxy.ledger.verify import Check, checks, count
from proxy.reconcile import OtherLedgers, compare
from proxy.settings import Settings
from proxy.stores.counters import RedisCounters
from proxy.stores.embedded import open_store
from proxy.stores.opening import connect_store

_DONE: Final = 0
_FAILED: Final = 1
_COUNTERS: Final = "counters equal account totals"


def perform(args: argparse.Namespace, config: Path, outside: Outside) -> int:
    """Check everything, print what was found, and return the exit code; raises `OperationRefused` if the ledger cannot
    be used.
    """
    settings = load(config, outside.environ).settings
    with opened_ledger(settings) as ledger:
        return _verify(ledger, settings, as_json=args.json)


def _verify(ledger: Ledger, settings: Settings, *, as_json: bool) -> int:
    found = []
    with ledger.reading() as connection:
        total = count(connection)
        progress(f"checking {total:,} rows")
        for check in checks(connection):
            found.append(check)
            progress(f"{check.name}: {'holds' if check.ok else 'DOES NOT HOLD'}")
    found.append(_counters_check(ledger, settings))
    ok = all(check.ok for check in found)
    if as_json:
        lines = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in found]
        print(as_text({"ok": ok, "rows": total, "checks": lines}))
    else:
        shown = [("ok" if check.ok else "WRONG", check.name, check.detail) for check in found]
        print(tabulate(shown, tablefmt="plain", disable_numparse=True))
    return _DONE if ok else _FAILED


def _counters_check(ledger: Ledger, settings: Settings) -> Check:
    """Compare the store's counters with the ledger; a store that cannot be asked is no proof of anything."""
    try:
        with open_store(settings.store, settings.data_dir) as url:
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


async def _compare(url: str, ledger: Ledger) -> Mapping[str, Drift]:
    async with connect_store(url) as connection:
        return await compare(ledger, RedisCounters(connection))
