"""The commands `usage` and `ledger export`: from what was typed to a question to the ledger, and from its answer to a
page or a file.

They read the database while gateways write into it. What is asked is in `proxy/ledger/`.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import DBAPIError
from tabulate import tabulate

from proxy.admin.documents import as_text
from proxy.admin.refused import OperationRefused, Reason
from proxy.admin.usage import named_group, total_of, usage_document
from proxy.cli_outside import Outside
from proxy.configuration import load
from proxy.ledger.database import Ledger, LedgerUnavailable, describe
from proxy.ledger.export import Format, FormatUnavailable, ensure_available, write
from proxy.ledger.migrations import NewerLedger
from proxy.ledger.queries import By, Group, Selection, Sums, sums
from proxy.ledger.requests import Filter, rows
from proxy.pricing import format_usd
from proxy.settings import Settings

_DONE: Final = 0
_SHOW_EVERY: Final = 100_000


def perform(args: argparse.Namespace, config: Path, outside: Outside) -> int:
    """Do what was typed and return the exit code; raises `OperationRefused` if the ledger cannot be used."""
    with opened_ledger(load(config, outside.environ).settings) as ledger:
        return (_usage if args.command == "usage" else _export)(ledger, args, outside.clock())


@contextmanager
def opened_ledger(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger that the configuration names; raises `OperationRefused` if it cannot be used, now or later."""
    try:
        with closing(Ledger.open(settings.ledger, settings.data_dir)) as ledger:
            yield ledger
    except (LedgerUnavailable, DBAPIError) as why:
        detail = why.detail if isinstance(why, LedgerUnavailable) else describe(why)
        message = f"the ledger cannot be used: {detail} (`ledger` in the configuration names it)"
        raise OperationRefused(Reason.UNAVAILABLE, message) from None
    except NewerLedger as why:
        raise OperationRefused(Reason.UNAVAILABLE, str(why)) from None


def _usage(ledger: Ledger, args: argparse.Namespace, now_ms: int) -> int:
    by = [By(name) for name in args.by]
    with ledger.reading() as connection:
        found = sums(connection, _selection(args, now_ms), by)
    if args.json:
        print(as_text(usage_document(by, found)))
    else:
        print(_table(by, found, total_of(found)))
    return _DONE


def _export(ledger: Ledger, args: argparse.Namespace, now_ms: int) -> int:
    how = Format(args.format)
    try:
        ensure_available(how)
    except FormatUnavailable as why:
        raise OperationRefused(Reason.UNAVAILABLE, str(why)) from None
    if args.output is None and how is Format.PARQUET and sys.stdout.isatty():
        raise OperationRefused(Reason.MALFORMED, "Parquet is not for a terminal: name a file with --output")
    chosen = _selection(args, now_ms)
    with ledger.reading() as connection:
        found = _counted(rows(connection, Filter(chosen.account, since=chosen.since, until=chosen.until)))
        if args.output is None:
            write(found, how, sys.stdout.buffer)
        else:
            with Path(args.output).open("wb") as file:
                write(found, how, file)
    return _DONE


def _selection(args: argparse.Namespace, now_ms: int) -> Selection:
    since, until = (None if when is None else when.seen_from(now_ms) for when in (args.since, args.until))
    return Selection(args.account, since, until)


def _table(by: Sequence[By], found: Mapping[Group, Sums], total: Sums) -> str:
    if not found:
        return "The ledger has no requests that match."
    names = [column.value for column in by]
    headers = (*names, "requests", "estimated", "prompt", "cached", "completion", "reasoning", "cost USD")
    lines = [(*named_group(by, group).values(), *_figures(used)) for group, used in found.items()]
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
            progress(f"{number:,} rows")
        yield row


def progress(text: str) -> None:
    """Tell a person who waits; a program that reads both outputs is told nothing."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
