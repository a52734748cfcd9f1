"""The words and options of `aion-proxy`, and the form of each value.

What is wrong in itself, whatever is stored, is refused here: exit code 2, before a file is read or a store is opened.
What the words do is not known here, and nothing is imported that costs time.
"""

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from proxy.moments import When

COLUMNS: Final = ("account", "key", "model", "day", "hour")
"""What usage can be told apart by."""
FORMATS: Final = ("csv", "jsonl", "parquet")
LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "concurrent_requests", "tokens_per_day")
PLAN: Final = "plan"
"""Written instead of a limit: back to what the plan says."""
NONE: Final = "none"
"""Written instead of a limit: not limited."""

_KEY: Final = re.compile(r"(sk-(?:aion-)?)[0-9A-Za-z_-]+")
_DEMO_PORT: Final = 8080
_HIGHEST_PORT: Final = 65_535
_MOST_WORKERS: Final = 1_024
# The same bounds as in a plan.
_HIGHEST_LIMIT: Final = 10**15
_LONGEST_WAIT_MS: Final = 3_600_000

Adder = Callable[..., argparse.ArgumentParser]
"""What adds one word to a parser's words and returns the parser of what follows."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that never repeats a key on the screen, where logs and screenshots would keep it."""

    def error(self, message: str) -> NoReturn:
        super().error(redact(message))


def redact(message: str) -> str:
    """Return the message with whatever looks like a key cut down to its prefix."""
    return _KEY.sub(r"\1…", message)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser: `command` is the first word, `operation` the second; `config` is there only if it was given."""
    parser = _Parser(
        prog="aion-proxy",
        description="A self-hosted gateway for language models.",
        epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration.",
        parents=[_config_option()],
        allow_abbrev=False,
    )
    add = parser.add_subparsers(dest="command", metavar="COMMAND", required=True).add_parser
    serve = _word(add, "serve", "run the gateway")
    serve.add_argument(
        "--workers", type=_whole(1, _MOST_WORKERS), metavar="N", help="processes (default: as configured)"
    )
    demo = _word(add, "demo", "run the gateway with everything built in; reads no configuration file")
    demo.add_argument(
        "--port", type=_whole(0, _HIGHEST_PORT), default=_DEMO_PORT, metavar="N", help="default: %(default)s"
    )
    demo.add_argument("--real", action="store_true", help="put a small real model behind it")
    _json_option(_word(add, "check", "read the configuration and report every mistake at once"))
    _add_conformance(
        _word(add, "conformance", "check that an endpoint speaks as this gateway promises; reads no configuration file")
    )
    _add_accounts(_group(add, "accounts", "make, show, change, switch off and on the accounts that may call"))
    _add_keys(_group(add, "keys", "make, list, revoke and rotate the API keys of an account"))
    _add_usage(_word(add, "usage", "show what was used and what it cost"))
    _add_ledger(_group(add, "ledger", "prove the record of usage, or write it out"))
    _add_import(_group(add, "import", "make our two files of another gateway's configuration"))
    _add_migrate(_word(add, "migrate", "move accounts, keys, counters and the ledger to other servers"))
    return parser


def _add_conformance(conformance: argparse.ArgumentParser) -> None:
    conformance.add_argument("--base-url", metavar="URL", help="the API up to its version: http://127.0.0.1:8080/v1")
    conformance.add_argument(
        "--api-key",
        metavar="KEY",
        help="others can see a key on a command line: rather set $AION_PROXY_API_KEY or $OPENAI_API_KEY",
    )
    conformance.add_argument("--model", metavar="M", help="the model that is asked (default: the first of the listing)")
    conformance.add_argument(
        "--only", type=_names, metavar="CLAUSE,…", help="these clauses and all below them, such as A1,E1.2,F"
    )
    conformance.add_argument(
        "--timeout",
        type=_seconds,
        default="60s",
        metavar="60s",
        help="how long an answer may take (default: %(default)s)",
    )
    conformance.add_argument("--list", action="store_true", help="show what is checked, and ask nothing")
    _json_option(conformance)


def _add_accounts(add: Adder) -> None:
    create = _operation(add, "create", "make an account", "NAME")
    create.add_argument("--plan", metavar="P", help="default: the configuration's default plan")
    _operation(add, "list", "list every account")
    _operation(add, "show", "show an account, its limits and what it has used of them", "NAME")
    change = _operation(add, "set", "change an account's plan and limits; running gateways follow at once", "NAME")
    plan = change.add_mutually_exclusive_group()
    plan.add_argument("--plan", metavar="P", help="put the account on this plan")
    plan.add_argument("--default-plan", action="store_true", help="follow the configuration's default plan")
    for name in LIMITS:
        option = f"--{name.replace('_', '-')}"
        change.add_argument(option, type=_limit, metavar="N|none|plan", help="its own, none at all, or the plan's")
    change.add_argument("--budget-usd", type=_budget, metavar="X|none|plan", help="its own, none at all, or the plan's")
    change.add_argument("--budget-per", choices=("day", "month", "total"), help="how long its own budget lasts (UTC)")
    _operation(add, "disable", "refuse every request of an account; its records and keys stay", "NAME")
    _operation(add, "enable", "let a disabled account in again", "NAME")


def _add_keys(add: Adder) -> None:
    create = _operation(add, "create", "make a key; it is printed this once", "ACCOUNT")
    create.add_argument("--name", default="", metavar="N", help="what the key is for, in your words")
    create.add_argument(
        "--expires", type=_duration_ms, metavar="90d", help="how long it is good (default: until revoked)"
    )
    create.add_argument("--models", type=_names, metavar="A,B", help="the only models it may ask for (default: all)")
    _operation(add, "list", "list the keys of an account, by their hints", "ACCOUNT")
    _operation(add, "revoke", "refuse a key from the next request on", "KEY_ID")
    rotate = _operation(add, "rotate", "make a key like this one, and let this one end", "KEY_ID")
    rotate.add_argument(
        "--grace",
        type=_duration_ms,
        default="24h",
        metavar="24h",
        help="how long the old key stays good; 0s: not at all",
    )


def _add_usage(usage: argparse.ArgumentParser) -> None:
    _selection(usage)
    usage.add_argument(
        "--by",
        type=_columns,
        default="account",
        metavar="A,B",
        help=f"what is told apart, of {', '.join(COLUMNS)} (default: %(default)s)",
    )
    _json_option(usage)


def _add_ledger(add: Adder) -> None:
    _operation(add, "verify", "compare every row with its prices, and every sum and counter with the rows")
    export = _word(add, "export", "write the rows out")
    _selection(export)
    export.add_argument("--format", choices=FORMATS, required=True, help="how they are written")
    export.add_argument("--output", metavar="FILE", help="write into this file (default: standard output)")


def _add_import(add: Adder) -> None:
    litellm = _word(add, "litellm", "import the configuration of a LiteLLM proxy, and say what has no counterpart")
    litellm.add_argument("file", metavar="FILE", help="its config.yaml")
    litellm.add_argument(
        "--out",
        default="imported",
        metavar="FOLDER",
        help="where gateway.yaml and catalog.yaml go (default: %(default)s)",
    )
    litellm.add_argument("--force", action="store_true", help="replace files that are there")
    _json_option(litellm)


def _add_migrate(migrate: argparse.ArgumentParser) -> None:
    migrate.add_argument(
        "--to", required=True, metavar="FILE", help="the new configuration: its `store` and `ledger` are the targets"
    )
    migrate.add_argument("--dry-run", action="store_true", help="look at both sides, and change nothing")
    _json_option(migrate)


def _selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="A", help="only this account (default: all)")
    for name, what in (("--since", "only requests that began then or later"), ("--until", "only those before then")):
        parser.add_argument(name, type=_when, metavar="WHEN", help=f"{what}: 7d (ago), 2026-01-31, 2026-01-31T08:00Z")


def _group(add: Adder, name: str, what: str) -> Adder:
    group = _word(add, name, what)
    return group.add_subparsers(dest="operation", metavar="OPERATION", required=True).add_parser


def _operation(add: Adder, name: str, what: str, subject: str | None = None) -> argparse.ArgumentParser:
    operation = _word(add, name, what)
    _json_option(operation)
    if subject is not None:
        operation.add_argument("subject", metavar=subject)
    return operation


def _word(add: Adder, name: str, what: str) -> argparse.ArgumentParser:
    sentence = f"{what[0].upper()}{what[1:]}."
    return add(name, help=what, description=sentence, parents=[_config_option()], allow_abbrev=False)


def _config_option() -> argparse.ArgumentParser:
    # Without a default, so that it may stand before or after the words: an inner parser then overwrites nothing.
    option = _Parser(add_help=False, allow_abbrev=False)
    option.add_argument(
        "--config",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="the configuration (default: $AION_PROXY_CONFIG, else config/gateway.yaml)",
    )
    return option


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")


# The form of values. argparse prints an ArgumentTypeError's own sentence after the option's name.


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        # int() alone would take "1_000", " 5" and digits of other scripts.
        value = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest} to {highest}")
        return value

    return read


def _limit(text: str) -> int | str:
    if text in (NONE, PLAN):
        return text
    try:
        return _whole(1, _HIGHEST_LIMIT)(text)
    except argparse.ArgumentTypeError as wrong:
        raise argparse.ArgumentTypeError(
            f"{wrong}, nor `none` or `plan` (to let no request through, use `aion-proxy accounts disable`)"
        ) from None


def _budget(text: str) -> int | str:
    from proxy.admin.overrides import read_budget  # noqa: PLC0415 - loaded only where an amount is given

    try:
        return read_budget(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None


def _duration_ms(text: str) -> int:
    from proxy.quantities import parse_duration  # noqa: PLC0415 - loaded only where a duration is given

    try:
        return round(parse_duration(text) * 1_000)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(f"{text!r}: {wrong}") from None


def _seconds(text: str) -> float:
    milliseconds = _duration_ms(text)
    if not 0 < milliseconds <= _LONGEST_WAIT_MS:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 1h")
    return milliseconds / 1_000


def _when(text: str) -> "When":
    from proxy.moments import parse_when  # noqa: PLC0415 - loaded only where a moment is given

    try:
        return parse_when(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None


def _columns(text: str) -> list[str]:
    names = _names(text)
    for name in names:
        if name not in COLUMNS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(COLUMNS)}")
    if len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a column twice")
    return names


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name in it; write A or A,B")
    return names
