"""`aion-proxy check`: reads the configuration as the gateway would, and says everything that is wrong with it.

Nothing is started, opened or changed. What is right or wrong is decided by `proxy/configuration.py`, and for the
variables of OpenTelemetry by its library, where tracing is on.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from proxy.admin.documents import as_text
from proxy.configuration import Configuration, load
from proxy.mistakes import ConfigurationError
from proxy.worker_tracing import check_tracing

_GOOD, _BAD = 0, 2


def check(config: Path, environ: Mapping[str, str], *, as_json: bool) -> int:
    """Print a summary, or every mistake on standard error; with `as_json`, one document on standard output."""
    try:
        configuration = load(config, environ)
        if configuration.settings.tracing.enabled:
            asyncio.run(check_tracing(configuration.settings.tracing))
    except ConfigurationError as error:
        if as_json:
            mistakes = [
                {"file": one.file, "path": one.path, "problem": one.problem, "allowed": one.allowed}
                for one in error.mistakes
            ]
            print(as_text({"ok": False, "mistakes": mistakes}))
        else:
            for mistake in error.mistakes:
                print(mistake, file=sys.stderr)
        return _BAD
    if as_json:
        print(as_text({"ok": True, "mistakes": []}))
    else:
        print(f"{config}: good: {_summary(configuration)}")
    return _GOOD


def _summary(configuration: Configuration) -> str:
    settings = configuration.settings
    counted = (
        (len(settings.providers), "provider"),
        (len(configuration.catalog.models), "model"),
        (len(settings.plans), "plan"),
    )
    return ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counted)
