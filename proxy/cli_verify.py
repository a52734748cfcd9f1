"""The command `ledger verify`: whether the ledger agrees with itself, and the store's counters with the ledger.

It reads while gateways write, and repairs nothing. What is checked of the ledger is in `proxy/ledger/verify.py`.
"""

import argparse
from pathlib import Path
from typing import Final

from tabulate import tabulate

from proxy.admin.documents import as_text
from proxy.admin.ledger_check import counters_check, verify_document
from proxy.cli_outside import Outside
from proxy.cli_usage import opened_ledger, progress
from proxy.configuration import load
from proxy.ledger.database import Ledger
from proxy.ledger.verify import checks, count
from proxy.settings import Settings
from proxy.stores.embedded import open_store

_DONE: Final = 0
_FAILED: Final = 1


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
    found.append(counters_check(ledger, open_store(settings.store, settings.data_dir)))
    ok = all(check.ok for check in found)
    if as_json:
        print(as_text(verify_document(found, total)))
    else:
        shown = [("ok" if check.ok else "WRONG", check.name, check.detail) for check in found]
        print(tabulate(shown, tablefmt="plain", disable_numparse=True))
    return _DONE if ok else _FAILED
