"""The commands `accounts …` and `keys …`: from what was typed to an operation, and from its result to what is printed.

What an operation does and refuses is in `proxy/admin/`, how results look in `proxy/cli_tables.py` and
`proxy/admin/documents.py`. Here the stores are opened, once per command, in the way the configuration says.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from proxy.admin import documents
from proxy.admin.accounts import Accounts, AccountState, Changes
from proxy.admin.audit import AuditLog
from proxy.admin.documents import Document, as_text
from proxy.admin.keys import Keys, RotatedKey
from proxy.admin.operations import Administration
from proxy.admin.overrides import overrides_of
from proxy.admin.people import Person
from proxy.admin.refused import OperationRefused, Reason
from proxy.admin.wording import key_state
from proxy.cli_audit import CommandAudit
from proxy.cli_outside import Outside
from proxy.cli_parser import LIMITS
from proxy.cli_tables import account_text, accounts_table, keys_table
from proxy.configuration import Configuration, load
from proxy.limits import KeyStore, LimitStore
from proxy.settings import Settings
from proxy.stores.embedded import open_store
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.opening import connect_store

_DONE: Final = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command prints: `text` for people or `document` for programs, and `notes` that help people go on."""

    document: Document
    text: str
    notes: tuple[str, ...] = ()


_ResultT = TypeVar("_ResultT")
Work = Callable[[KeyStore, LimitStore], Awaitable[_ResultT]]


@dataclass(frozen=True, slots=True)
class Desk:
    """What every command works with."""

    accounts: Accounts
    keys: Keys
    log: AuditLog
    now_ms: int
    random: Callable[[int], bytes]


def perform(args: argparse.Namespace, config: Path, outside: Outside) -> int:
    """Do one operation and print its result; raises what the operation, the configuration or the store raises."""
    configuration = load(config, outside.environ)
    log = CommandAudit(configuration.settings, outside.clock(), outside.random)

    async def work(records: KeyStore, limits: LimitStore) -> Answer:
        desk = _desk(configuration, records, limits, log, outside)
        who = Person(f"cli ({outside.user})")
        return await _COMMANDS[args.command, args.operation](Administration(desk, who), args)

    answer = (outside.with_stores or _with_configured_stores)(configuration.settings, work)
    print(as_text(answer.document) if args.json else answer.text)
    for note in (*(() if args.json else answer.notes), *log.warnings):
        print(note, file=sys.stderr)
    return _DONE


def _desk(configuration: Configuration, records: KeyStore, limits: LimitStore, log: AuditLog, outside: Outside) -> Desk:
    settings = configuration.settings
    plans = settings.limits_by_plan()
    return Desk(
        Accounts(records, limits, plans, settings.default_plan),
        Keys(records, configuration.catalog),
        log,
        outside.clock(),
        outside.random,
    )


def _with_configured_stores(settings: Settings, work: Work[_ResultT]) -> _ResultT:
    # The embedded server is started outside the loop: waiting for it blocks, and must end at once on Ctrl-C.
    with open_store(settings.store, settings.data_dir) as url:
        return asyncio.run(_connected(url, work))


async def _connected(url: str, work: Work[_ResultT]) -> _ResultT:
    async with connect_store(url) as connection:
        return await work(RedisKeys(connection), RedisLimits(connection))


# accounts


async def _create_account(doing: Administration, args: argparse.Namespace) -> Answer:
    state = await doing.create_account(args.subject, args.plan)
    return _account(state, f"Now make a key for it: aion-proxy keys create {state.account.name}")


async def _list_accounts(doing: Administration, _: argparse.Namespace) -> Answer:
    states = await doing.accounts()
    return Answer(documents.accounts_document(states), accounts_table(states))


async def _show_account(doing: Administration, args: argparse.Namespace) -> Answer:
    return _account(await doing.account(args.subject))


async def _set_account(doing: Administration, args: argparse.Namespace) -> Answer:
    overrides = _overrides(args)
    if not overrides and args.plan is None and not args.default_plan:
        raise OperationRefused(
            Reason.MALFORMED,
            f"nothing to change: say what, such as `aion-proxy accounts set {args.subject} --requests-per-minute 60`",
        )
    return _account(await doing.change_account(args.subject, Changes(args.plan, args.default_plan, overrides)))


async def _disable_account(doing: Administration, args: argparse.Namespace) -> Answer:
    return _account(await doing.switch_account(args.subject, disabled=True))


async def _enable_account(doing: Administration, args: argparse.Namespace) -> Answer:
    return _account(await doing.switch_account(args.subject, disabled=False))


def _account(state: AccountState, *notes: str) -> Answer:
    return Answer(documents.account_document(state), account_text(state), notes)


def _overrides(args: argparse.Namespace) -> Mapping[str, int | str | None]:
    given = {name: getattr(args, name) for name in LIMITS if getattr(args, name) is not None}
    return overrides_of(given, args.budget_usd, args.budget_per)


# keys


async def _create_key(doing: Administration, args: argparse.Namespace) -> Answer:
    minted = await doing.create_key(args.subject, name=args.name, lifetime_ms=args.expires, models=args.models)
    record = minted.record
    return Answer(
        documents.minted_key_document(minted),
        minted.key,
        (f"This is {record.key_id}, {key_state(record, doing.desk.now_ms)}. Keep the key: it is shown this once.",),
    )


async def _list_keys(doing: Administration, args: argparse.Namespace) -> Answer:
    keys = await doing.keys(args.subject)
    return Answer(documents.keys_document(keys), keys_table(args.subject, keys, doing.desk.now_ms))


async def _revoke_key(doing: Administration, args: argparse.Namespace) -> Answer:
    key = await doing.revoke_key(args.subject)
    return Answer(
        documents.key_document(key),
        f"{key.key_id} ({key.hint}) of account {key.account}: {key_state(key, doing.desk.now_ms)}.",
    )


async def _rotate_key(doing: Administration, args: argparse.Namespace) -> Answer:
    rotated = await doing.rotate_key(args.subject, args.grace)
    return Answer(
        documents.rotated_key_document(rotated), rotated.minted.key, _rotation_notes(rotated, doing.desk.now_ms)
    )


def _rotation_notes(rotated: RotatedKey, now_ms: int) -> tuple[str, str]:
    new, old = rotated.minted.record, rotated.replaced
    return (
        f"This is {new.key_id}, {key_state(new, now_ms)}. Keep the key: it is shown this once.",
        f"The key it replaces, {old.key_id}: {key_state(old, now_ms)}.",
    )


Command = Callable[[Administration, argparse.Namespace], Awaitable[Answer]]

_COMMANDS: Final[Mapping[tuple[str, str], Command]] = {
    ("accounts", "create"): _create_account,
    ("accounts", "list"): _list_accounts,
    ("accounts", "show"): _show_account,
    ("accounts", "set"): _set_account,
    ("accounts", "disable"): _disable_account,
    ("accounts", "enable"): _enable_account,
    ("keys", "create"): _create_key,
    ("keys", "list"): _list_keys,
    ("keys", "revoke"): _revoke_key,
    ("keys", "rotate"): _rotate_key,
}
