"""The command `migrate`: everything that one configuration's store and ledger hold, moved to where another's are.

Here are the order of things, who may run meanwhile, and what is told; how a value or a row is copied is in
`proxy/stores/moving.py` and `proxy/ledger/moving.py`. The source is never changed but for what its next start would
have done as well.
"""

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError
from tabulate import tabulate

from proxy.addresses import EMBEDDED
from proxy.admin.documents import Document, as_text
from proxy.admin.refused import OperationRefused, Reason
from proxy.cli_outside import Outside
from proxy.cli_quiet import carry_journals, embedded_source, ensure_quiet, sink_held
from proxy.cli_usage import progress
from proxy.configuration import load
from proxy.ledger.database import FILE, Ledger, LedgerUnavailable, describe
from proxy.ledger.migrations import NewerLedger
from proxy.ledger.moving import Contents, TakenLedger, adopt, compare, contents, copy, is_free
from proxy.ledger.queries import identity
from proxy.ledger.verify import Check
from proxy.pricing import format_usd
from proxy.settings import Settings, StoreEviction
from proxy.stores.keys import RedisKeys
from proxy.stores.moving import Inventory, StoreMove, Target, gateways_of, inventory
from proxy.stores.opening import connect_store
from proxy.stores.store import Store

_DONE: Final = 0
_FAILED: Final = 1
_CALL_SECONDS: Final = 30.0


@dataclass(slots=True)
class Report:
    """What was found and done, for people and for programs."""

    dry_run: bool
    ledger: Contents | None = None
    """What the source's ledger holds; None: the ledger stays where it is."""
    store: Inventory | None = None
    """What the source's store holds; None: the store stays where it is."""
    store_was_done: bool = False
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return all(check.ok for check in self.checks)

    def document(self) -> Document:
        """Describe it for programs."""
        found: Document = {"ok": self.ok, "dry_run": self.dry_run, "ledger": None, "store": None}
        if self.ledger is not None:
            has = self.ledger
            cost = format_usd(has.cost_pusd)
            counted = {"dashboard_tokens": has.tokens, "audit_entries": has.entries}
            found["ledger"] = {"rows": has.rows, "cost_usd": cost, **counted}
        if self.store is not None:
            counts = {"accounts": len(self.store.accounts), "keys": len(self.store.keys)}
            found["store"] = {**counts, "done_before": self.store_was_done}
        found["checks"] = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks]
        return found

    def text(self, to: Path) -> str:
        """Describe it for people, with what comes next."""
        lines = []
        if self.ledger is not None:
            has = self.ledger
            cost = f"{has.rows:,} rows of {format_usd(has.cost_pusd)} USD"
            lines.append(f"ledger  {cost}, {has.tokens:,} dashboard tokens, {has.entries:,} entries of the audit log")
        if self.store is not None:
            lines.append(f"store   {len(self.store.accounts):,} accounts, {len(self.store.keys):,} keys")
        shown = [("ok" if check.ok else "WRONG", check.name, check.detail) for check in self.checks]
        lines += [tabulate(shown, tablefmt="plain", disable_numparse=True)] if shown else []
        if self.dry_run:
            lines.append("Nothing was changed. Without --dry-run this will be moved.")
        elif self.ok:
            lines.append(f"Done. From now on start gateways with --config {to}; the old data are only a copy.")
        else:
            lines.append(
                "Not everything is there: see the lines that say WRONG, correct their cause, and run this again."
            )
        return "\n".join(lines)


def perform(args: argparse.Namespace, config: Path, outside: Outside) -> int:
    """Move what differs between the two configurations, and print what became of it; raises `OperationRefused`."""
    source, target = load(config, outside.environ).settings, load(Path(args.to), outside.environ).settings
    move_store, move_ledger = _plan(source, target, config, args.to)
    report = Report(args.dry_run)
    with ExitStack() as stack:
        store_url = source.store
        if source.store == EMBEDDED:
            store_url = stack.enter_context(embedded_source(source.data_dir))
        ensure_quiet(source.data_dir)
        if not args.dry_run:
            carry_journals(source, outside.clock)
        stack.enter_context(sink_held(source.data_dir))
        name = _ledger(source, target if move_ledger else None, report)
        if move_store:
            asyncio.run(_store(source, store_url, target, name, report, outside.clock()))
    print(as_text(report.document()) if args.json else report.text(Path(args.to)))
    return _DONE if report.ok else _FAILED


def _plan(source: Settings, target: Settings, config: Path, to: str) -> tuple[bool, bool]:
    """Return whether the store and whether the ledger has to be moved; what cannot be, is refused."""
    move_store, move_ledger = source.store != target.store, source.ledger != target.ledger
    if not move_store and not move_ledger:
        raise OperationRefused(
            Reason.MALFORMED,
            f"{config} and {to} name the same store and the same ledger: write the new ones into {to} (a variable "
            "AION_PROXY_STORE or AION_PROXY_LEDGER goes before both files)",
        )
    if move_store and target.store == EMBEDDED:
        raise OperationRefused(Reason.MALFORMED, f"{to} has `store: embedded`: name the URL of a server of yours there")
    if move_ledger and EMBEDDED not in (source.ledger, target.ledger):
        raise OperationRefused(
            Reason.MALFORMED,
            "the ledger is PostgreSQL in both files: move it with pg_dump and pg_restore, then the store",
        )
    if move_ledger and target.ledger == EMBEDDED:
        raise OperationRefused(Reason.MALFORMED, f"{to} has `ledger: embedded`: name the URL of a database there")
    stays = [name for name in ("store", "ledger") if getattr(target, name) == EMBEDDED]
    if stays and source.data_dir.resolve() != target.data_dir.resolve():
        raise OperationRefused(
            Reason.MALFORMED, f"the {stays[0]} stays embedded, but {to} has another `data_dir`: write the same there"
        )
    return move_store, move_ledger


# the ledger


def _ledger(source: Settings, target: Settings | None, report: Report) -> str | None:
    """Move the ledger if there is a target; returns the source's name, None if it has none yet."""
    if report.dry_run and source.ledger == EMBEDDED and not (source.data_dir / FILE).exists():
        report.ledger = None if target is None else Contents()
        return None
    with _opened(source, prepare=not report.dry_run) as ours:
        with ours.reading() as connection:
            name = identity(connection)
            has = contents(connection)
        if target is None:
            return name
        report.ledger = has
        with _opened(target, prepare=not report.dry_run) as theirs:
            if report.dry_run:
                with theirs.reading() as connection:
                    free = is_free(connection, name)
                if not free:
                    raise _taken_ledger()
                return name
            try:
                adopt(ours, theirs)
            except TakenLedger:
                raise _taken_ledger() from None
            refused = copy(ours, theirs, lambda done, total: progress(f"ledger: {done:,} of {total:,} rows"))
            if refused:
                shown = ", ".join(refused[:3])
                report.checks.append(Check("the database takes every row", ok=False, detail=f"not: {shown}"))
            progress("ledger: comparing every row")
            report.checks += compare(ours, theirs)
    return name


def _taken_ledger() -> OperationRefused:
    return OperationRefused(
        Reason.CONFLICT, "the target's ledger has rows of another gateway: name an empty database as its `ledger`"
    )


@contextmanager
def _opened(settings: Settings, *, prepare: bool) -> Iterator[Ledger]:
    try:
        with closing(Ledger.open(settings.ledger, settings.data_dir, prepare=prepare)) as ledger:
            yield ledger
    except (LedgerUnavailable, DBAPIError) as why:
        detail = why.detail if isinstance(why, LedgerUnavailable) else describe(why)
        which = "in data_dir" if settings.ledger == EMBEDDED else "that the configuration names"
        raise OperationRefused(
            Reason.UNAVAILABLE, f"the ledger {which} cannot be used: {detail} (mend that, and run this again)"
        ) from None
    except NewerLedger as why:
        raise OperationRefused(Reason.UNAVAILABLE, str(why)) from None


# the store


async def _store(
    source: Settings, source_url: str, target: Settings, name: str | None, report: Report, now_ms: int
) -> None:
    warn = target.store_eviction is StoreEviction.WARN
    async with (
        connect_store(source_url, call_timeout=_CALL_SECONDS) as ours,
        connect_store(target.store, call_timeout=_CALL_SECONDS, allow_eviction=warn) as theirs,
    ):
        if source_url == source.store:  # the lock of an embedded one is ours
            await _no_gateways(ours, now_ms, "the source's store: stop them")
        having = report.store = await inventory(ours)
        move = StoreMove(ours, theirs, name or "")
        match await move.state(having):
            case Target.OTHERS:
                raise OperationRefused(
                    Reason.CONFLICT,
                    "the target's store has accounts or keys that are not from here: name an empty server or database",
                )
            case Target.DONE:
                report.store_was_done = True
                detail = "nothing was written now: what its gateways have done since stays"
                report.checks.append(Check("the store was moved before", ok=True, detail=detail))
                return
        await _no_gateways(theirs, now_ms, "the target's store already: stop them until it is filled")
        await _same_plans(ours, target)
        if report.dry_run:
            return
        await move.copy(having, lambda done, total: progress(f"store: {done:,} of {total:,} values"))
        differing = await move.differing(having)
        detail = f"{len(having.accounts):,} accounts, {len(having.keys):,} keys, with their limits and counters"
        detail += f"; not: {', '.join(differing[:3])}" if differing else ""
        report.checks.append(Check("every value of the store is in the target", not differing, detail))
        if not differing:  # whatever the ledger still lacks: from now on its gateways may write there
            await move.finish()


async def _no_gateways(store: Store, now_ms: int, what: str) -> None:
    count = await gateways_of(store, now_ms)
    if count:
        raise OperationRefused(
            Reason.CONFLICT, f"{count} workers of gateways use {what} (one that was killed counts for a minute)"
        )


async def _same_plans(store: Store, target: Settings) -> None:
    """Refuse a target whose configuration lacks a plan that an account is on: all its requests would be refused."""
    for account in await RedisKeys(store).accounts():
        if account.plan is not None and account.plan not in target.plans:
            raise OperationRefused(
                Reason.CONFLICT,
                f"the account {account.name} is on the plan {account.plan!r}, which the target's configuration "
                "does not have: add it under `plans`",
            )
