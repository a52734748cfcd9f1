"""A whole LiteLLM configuration as our two files, proved by our own reader before anybody writes them.

Values in, texts in; who reads and writes files is the command. What has no counterpart is in the notes, line by line.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from proxy.configuration import load
from proxy.litellm.deployments import Providers
from proxy.litellm.document import Entry, Note, Notes
from proxy.litellm.models import models
from proxy.litellm.sections import settings

GATEWAY: Final = "gateway.yaml"
CATALOG: Final = "catalog.yaml"
# Whatever a variable stands for, this is a value that its place takes.
_STAND_IN: Final = "http://127.0.0.1:1/v1"
_HEADS: Final = {
    GATEWAY: "# Imported from {name}. Credentials come from the environment: NAME, or a file that NAME_FILE names.\n",
    CATALOG: "# Imported from {name}. Prices are in USD per token; look at every one, and at the sizes and dates.\n",
}


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it: the texts of our files by name, the variables that they need, and everything to know."""

    files: dict[str, str]
    """Empty if the file has no model that can be served."""
    models: int
    providers: int
    variables: tuple[str, ...]
    notes: tuple[Note, ...]


def convert(document: Entry, name: str, today: str) -> Imported:
    """Convert a configuration; `name` is what its file is called, `today` the date that models are given.

    Raises ConfigurationError if what came of it is not a configuration of ours, which would be a mistake here.
    """
    notes = Notes()
    providers = Providers(notes, frozenset(_variables(document)))
    catalog = models(document.get("model_list"), providers, notes, today)
    more = settings(document, catalog, providers.found, notes)
    used = {route["provider"] for model in catalog.values() for route in model["routes"]}
    found = {provider: section for provider, section in providers.found.items() if provider in used}
    files: dict[str, str] = {}
    if catalog:
        gateway = {"catalog": CATALOG, "providers": found, **more}
        files = {
            GATEWAY: _text(GATEWAY, name, gateway),
            CATALOG: _text(CATALOG, name, {"models": list(catalog.values())}),
        }
        _prove(files, providers.variables)
    else:
        notes.add(document.get("model_list") or document, "holds no model that this gateway could serve")
    in_order = tuple(sorted(notes.found))
    return Imported(files, len(catalog), len(found), tuple(sorted(providers.variables)), in_order)


def _text(file: str, name: str, content: dict[str, Any]) -> str:
    shown = "".join(one if one.isprintable() else "?" for one in name)
    return _HEADS[file].format(name=shown) + yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False
    )


def _prove(files: dict[str, str], variables: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text, "utf-8")
        load(Path(folder, GATEWAY), dict.fromkeys(variables, _STAND_IN))


def _variables(entry: Entry) -> Iterator[str]:
    variable = entry.variable()
    if variable is not None:
        yield variable
    for inner in (*entry.fields().values(), *entry.items()):
        yield from _variables(inner)
