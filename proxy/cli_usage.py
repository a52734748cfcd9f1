"""The commands `usage` and `ledger …`: from what was typed to a question to the ledger, and from its answer to a page.

They read the database while gateways write into it, and only `ledger verify` also asks the store. What is asked is in
`proxy/ledger/`.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tabulate import tabulate

from proxy.admin.documents import as_text, rfc3339, usd
from proxy.admin.refused import OperationRefused, Reason
from proxy.cli_outside import Outside
from proxy.configuration import load
from proxy.drift import Charge, Drift
from proxy.errors import StoreUnavailable
from proxy.ledger.database import Ledger, LedgerUnavailable
from proxy.ledger.export import Format, write
from proxy.ledger.migrations import NewerLedger
from proxy.ledger.queries import By, Group, Selection, Sums, rows, sums
from proxy.ledger.verify import Check, checks, count
from proxy.pricing import format_usd
from proxy.reconcile import OtherLedgers, compare
from proxy.settings import Settings
from proxy.stores.counters import RedisCounters
from proxy.stores.embedded import open_store
from proxy.stores.opening import connect_store

_DONE: Final = 0
_FAILED: Final = 1
_SHOW_EVERY: Final = 100_000
_COUNTERS: Final = "counters equal account totals"


def perform(args: argparse.Namespace, config: Path, outside: Outside) -> int:
    """Do what was typed and return the exit code; raises `OperationRefused` if the ledger cannot be used."""
    settings = load(config, outside.environ).settings
    try:
        with closing(Ledger.open(settings.ledger, settings.data_dir)) as ledger:
            if args.command == "usage":
                return _usage(ledger, args, outside.clock())
            if args.operation == "verify":
                return _verify(ledger, settings, as_json=args.json)
            return _export(ledger, args, outside.clock())
    except LedgerUnavailable as why:
        message = f"the ledger cannot be used: {why.detail} (`ledger` in the configuration names it)"
        raise OperationRefused(Reason.UNAVAILABLE, message) from None
    except NewerLedger as why:
        raise OperationRefused(Reason.UNAVAILABLE, str(why)) from None


def _usage(ledger: Ledger, args: argparse.Namespace, now_ms: int) -> int:
    by = [By(name) for name in args.by]
    with ledger.reading() as connection:
        found = sums(connection, _selection(args, now_ms), by)
    total = Sums()
    for group in found.values():
        total.add(group)
    if args.json:
        lines = [{**_named(by, group), **_document(used)} for group, used in found.items()]
        print(as_text({"rows": lines, "total": _document(total)}))
    else:
        print(_table(by, found, total))
    return _DONE


def _export(ledger: Ledger, args: argparse.Namespace, now_ms: int) -> int:
    how = Format(args.format)
    if args.output is None and how is Format.PARQUET and sys.stdout.isatty():
        raise OperationRefused(Reason.MALFORMED, "Parquet is not for a terminal: name a file with --output")
    with ledger.reading() as connection:
        found = _counted(rows(connection, _selection(args, now_ms)))
        if args.output is None:
            write(found, how, sys.stdout.buffer)
        else:
            with Path(args.output).open("wb") as file:
                write(found, how, file)
    return _DONE


def _verify(ledger: Ledger, settings: Settings, *, as_json: bool) -> int:
    found = []
    with ledger.reading() as connection:
        total = count(connection)
        _progress(f"checking {total:,} rows")
        for check in checks(connection):
            found.append(check)
            _progress(f"{check.name}: {'holds' if check.ok else 'DOES NOT HOLD'}")
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


def _selection(args: argparse.Namespace, now_ms: int) -> Selection:
    since, until = (None if when is None else when.seen_from(now_ms) for when in (args.since, args.until))
    return Selection(args.account, since, until)


def _named(by: Sequence[By], group: Group) -> Mapping[str, str]:
    """Name what a group has in common; a day is a date, an hour the moment when it begins."""
    named = {}
    for column, value in zip(by, group, strict=True):
        text = rfc3339(value) if isinstance(value, int) else value
        named[column.value] = str(text)[:10] if column is By.DAY else str(text)
    return named


def _document(used: Sums) -> dict[str, object]:
    return {
        "requests": used.requests,
        "prompt_tokens": used.prompt_tokens,
        "cached_tokens": used.cached_tokens,
        "completion_tokens": used.completion_tokens,
        "reasoning_tokens": used.reasoning_tokens,
        "cost_usd": format_usd(used.cost_pusd),
        "estimated_requests": used.estimated_requests,
    }


def _table(by: Sequence[By], found: Mapping[Group, Sums], total: Sums) -> str:
    if not found:
        return "The ledger has no requests that match."
    names = [column.value for column in by]
    headers = (*names, "requests", "estimated", "prompt", "cached", "completion", "reasoning", "cost USD")
    lines = [(*_named(by, group).values(), *_figures(used)) for group, used in found.items()]
    lines.append(("in all", *("" for _ in names[1:]), *_figures(total)))
    right = ("right",) * (len(headers) - len(names))
    return tabulate(
        lines, headers=headers, tablefmt="simple", disable_numparse=True, colalign=(*("left" for _ in names), *right)
    )


def _figures(used: Sums) -> tuple[str, ...]:
    counts = (
        *(used.requests, used.estimated_requests, used.prompt_tokens),
        *(used.cached_tokens, used.completion_tokens, used.reasoning_tokens),
    )
    return (*(f"{number:,}" for number in counts), format_usd(used.cost_pusd))


def _counted(found: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """Hand rows on, and say now and then how many it were."""
    for number, row in enumerate(found, 1):
        if number % _SHOW_EVERY == 0:
            _progress(f"{number:,} rows")
        yield row


def _progress(text: str) -> None:
    """Tell a person who waits; a program that reads both outputs is told nothing."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
