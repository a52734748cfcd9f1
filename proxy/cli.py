"""The command `aion-proxy`: runs what was typed, and turns whatever goes wrong into one line and an exit code.

The words and options are in `proxy/cli_parser.py`; what a command does is imported when it is chosen, so that listing
accounts does not load the server. Results go to standard output, messages to standard error.
"""

import argparse
import io
import os
import pwd
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from proxy.cli_outside import Outside
from proxy.cli_parser import build_parser, redact
from proxy.errors import StoreUnavailable

DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2
"""Wrong usage, or a mistake in the configuration."""
INTERRUPTED: Final = 130
"""What a shell reports of a program that Ctrl-C ended."""

_DEFAULT_CONFIG: Final = "config/gateway.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; raises nothing, and lets neither a traceback nor a secret out."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to fail
    return run(sys.argv[1:] if argv is None else argv, Outside(os.environ, _now_ms, secrets.token_bytes, user=_user()))


def run(argv: Sequence[str], outside: Outside) -> int:
    """Run one command in the given surroundings and return its exit code."""
    try:
        args = build_parser().parse_args(argv)
        named = getattr(args, "config", None) or outside.environ.get("AION_PROXY_CONFIG") or _DEFAULT_CONFIG
        code = _command(args, Path(named), outside)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse has said what is wrong, or printed the help
        return stop.code if isinstance(stop.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the result has gone; the interpreter must not find that out once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last line of defence: one line, no traceback
        return _explain(error)
    return code


def _command(args: argparse.Namespace, config: Path, outside: Outside) -> int:
    match args.command:
        case "serve":
            from proxy.app import serve  # noqa: PLC0415 - loads the server

            return serve(config, args.workers)
        case "demo":
            from proxy.demo import demo  # noqa: PLC0415 - loads the server

            return demo(args.port, args.real)
        case "check":
            from proxy.cli_check import check  # noqa: PLC0415 - loads the configuration's models

            return check(config, outside.environ, as_json=args.json)
        case "conformance":
            from proxy.cli_conformance import conformance  # noqa: PLC0415 - loads every check

            return conformance(args, outside.environ)
        case "import":
            from proxy.cli_import import perform  # noqa: PLC0415 - loads the configuration's models
        case "migrate":
            from proxy.cli_migrate import perform  # noqa: PLC0415 - loads the database's library and the stores
        case "ledger" if args.operation == "verify":
            from proxy.cli_verify import perform  # noqa: PLC0415 - loads the database's library and the stores
        case "usage" | "ledger":
            from proxy.cli_usage import perform  # noqa: PLC0415 - loads the database's library
        case _:
            from proxy.cli_accounts import perform  # noqa: PLC0415 - loads the stores
    return perform(args, config, outside)


def _explain(error: Exception) -> int:
    """Say on standard error what went wrong and what to do; return the exit code that goes with it."""
    from proxy.admin.refused import OperationRefused, Reason  # noqa: PLC0415 - loaded only where something failed
    from proxy.mistakes import ConfigurationError  # noqa: PLC0415

    match error:
        case ConfigurationError():
            for mistake in error.mistakes:
                _say(str(mistake))
            return WRONG
        case OperationRefused():
            _say(f"aion-proxy: {error.message}")
            return WRONG if error.reason is Reason.MALFORMED else FAILED
        case StoreUnavailable():
            _say(
                f"aion-proxy: {error.detail} (`store` in the configuration names the server; try again when it answers)"
            )
        case OSError():
            where = f": {error.filename}" if error.filename else ""
            _say(
                f"aion-proxy: {error.strerror or type(error).__name__}{where}; "
                "see that the file or folder is there and that this user may use it"
            )
        case _:
            _say(f"aion-proxy: a mistake in the program ({_place_of(error)}): please report it with what you typed")
    return FAILED


def _place_of(error: Exception) -> str:
    """Name an unforeseen error by its kind and place; its text could hold a secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return f"{type(error).__name__} at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def _say(line: str) -> None:
    print(redact(line), file=sys.stderr)


def _user() -> str:
    """Name who runs the command as the system knows them; the environment would say whatever it was told."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have a number alone
        return str(os.getuid())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
