"""`aion-proxy conformance`: runs the checks against an endpoint and shows what came of them, as a table or as JSON.

What is checked is in `proxy/conformance/`. The key is read here, given to the client, and kept out of everything that
is printed.
"""

import argparse
import asyncio
import dataclasses
import re
import ssl
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from tabulate import tabulate

from proxy.addresses import parse_base_url
from proxy.admin.documents import as_text
from proxy.conformance.catalogue import all_checks
from proxy.conformance.check import Check, Failed, Passed, Verdict, chosen
from proxy.conformance.client import Client, Unreachable
from proxy.conformance.exchange import Cost
from proxy.conformance.runner import CannotRun, Line, Plan, Runner
from proxy.upstream.dialing import Origin

KEY_VARIABLES: Final = ("AION_PROXY_API_KEY", "OPENAI_API_KEY")
_DONE, _FAILED, _WRONG = 0, 1, 2
_KEY: Final = re.compile(r"[!-~]{1,512}")
_WIDTHS: Final = (None, 62, None, 44)
_LONGEST: Final = 400
"""Letters of what was seen; an endpoint could make them any number."""
_STEP: Final = 100
"""Letters of a step, so that it stays on one line of a terminal."""
_ERASE: Final = "\r\x1b[K"


def conformance(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run the command; returns 0 if no check failed, 1 if one did, 2 if they could not be run."""
    try:
        checks = chosen(all_checks(), args.only or ())
        if args.list:
            _list(checks, as_json=args.json)
            return _DONE
        origin, key = _origin(args.base_url), _key(args.api_key, environ)
    except ValueError as wrong:
        return _say(str(wrong))
    tls = ssl.create_default_context() if origin.tls else None
    screen = _Screen(key)
    runner = Runner(Client(origin, key, args.timeout, tls), asyncio.sleep, screen.step)
    try:
        plan, lines = asyncio.run(_run(runner, checks, args.model, screen))
    except CannotRun as why:
        return screen.end(str(why))
    except Unreachable as why:
        return screen.end(f"{why}; see that the endpoint runs and that --base-url is right")
    screen.step("")
    if args.json:
        print(as_text(_document(args.base_url, plan, lines, key)))
    else:
        _print_table(lines, key)
    return _FAILED if any(isinstance(line.verdict, Failed) for line in lines) else _DONE


class _Screen:
    """Standard error: where a run is, without the key."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._terminal = sys.stderr.isatty()

    def line(self, text: str) -> None:
        """Show a line that stays."""
        print(_clean(text, self._key), file=sys.stderr, flush=True)

    def step(self, text: str) -> None:
        """Show what is done now: on a terminal in place of the step before."""
        if self._terminal:
            print(f"{_ERASE}{_clean(text, self._key)[:_STEP]}", end="", file=sys.stderr, flush=True)
        elif text:
            self.line(text)

    def end(self, why: str) -> int:
        """Say why a run ends early; returns the exit code."""
        self.step("")
        return _say(_clean(why, self._key))


async def _run(
    runner: Runner, checks: tuple[Check, ...], model: str | None, screen: _Screen
) -> tuple[Plan, list[Line]]:
    found = model or await runner.find_model()
    await runner.prove_key(found)
    plan = Plan.of(checks, found)
    paid, risky = plan.cost(Cost.AN_ANSWER), plan.cost(Cost.IF_TAKEN)
    screen.line(
        f"{len(checks)} checks with {len(plan.asks)} requests. {paid} of them ask {found} for a short answer and cost "
        f"money; {risky} more ought to be refused and cost something only where they are not."
    )
    return plan, await runner.run(plan)


def _origin(base_url: str | None) -> Origin:
    """Take a base URL apart as OpenAI's libraries do; one without a path gets that of this gateway."""
    if base_url is None:
        raise ValueError("name the endpoint with --base-url, such as --base-url http://127.0.0.1:8080/v1")
    try:
        checked = parse_base_url(base_url)
    except ValueError as wrong:
        raise ValueError(f"--base-url {wrong}") from None
    origin = Origin.of(checked or "")
    return origin if origin.path else dataclasses.replace(origin, path="/v1")


def _key(given: str | None, environ: Mapping[str, str]) -> str:
    key = next(filter(None, (given, *map(environ.get, KEY_VARIABLES))), None)
    if key is None:
        raise ValueError(f"a key is needed: set {' or '.join(KEY_VARIABLES)}, or give --api-key")
    if not _KEY.fullmatch(key):
        raise ValueError("the key must be 1 to 512 visible ASCII characters; it is not shown here")
    return key


def _list(checks: Sequence[Check], *, as_json: bool) -> None:
    if as_json:
        print(as_text([{"clause": one.clause, "sentence": one.sentence} for one in checks]))
        return
    rows = [(one.clause, one.sentence) for one in checks]
    print(tabulate(rows, headers=("clause", "what is checked"), tablefmt="simple", disable_numparse=True))


def _print_table(lines: Sequence[Line], key: str) -> None:
    rows = [
        (line.check.clause, line.check.sentence, _word(line.verdict), _clean(line.verdict.seen, key)) for line in lines
    ]
    headers = ("clause", "what is checked", "result", "what was seen")
    print(tabulate(rows, headers, tablefmt="simple", disable_numparse=True, maxcolwidths=list(_WIDTHS)))
    counted = [sum(_word(line.verdict) == word for line in lines) for word in ("pass", "FAIL", "skip")]
    print("\n{} passed, {} failed, {} skipped".format(*counted))


def _document(base_url: str, plan: Plan, lines: Sequence[Line], key: str) -> dict[str, object]:
    checks = [
        {
            "clause": line.check.clause,
            "sentence": line.check.sentence,
            "result": _word(line.verdict).lower(),
            "seen": _clean(line.verdict.seen, key),
        }
        for line in lines
    ]
    results = [one["result"] for one in checks]
    return {
        "base_url": base_url,
        "model": plan.model,
        "requests": len(plan.asks),
        "answers": plan.cost(Cost.AN_ANSWER),
        "passed": results.count("pass"),
        "failed": results.count("fail"),
        "skipped": results.count("skip"),
        "checks": checks,
    }


def _word(verdict: Verdict) -> str:
    return "pass" if isinstance(verdict, Passed) else "FAIL" if isinstance(verdict, Failed) else "skip"


def _clean(text: str, key: str) -> str:
    """Return a text that an endpoint may have written part of: without the key, and without what moves a terminal."""
    shown = re.sub(re.escape(key), "(the key)", text, flags=re.IGNORECASE)
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"


def _say(why: str) -> int:
    print(f"aion-proxy: {why}", file=sys.stderr)
    return _WRONG
