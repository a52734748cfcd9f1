"""Writes what is installed beside this Python as a CycloneDX bill of materials: names, versions, licences, and who
needs whom.

Read from the packages' own metadata, so that it tells what is in the image and not what was asked for. Only Python's
own library, because it runs where the image is built.
"""

import importlib.metadata
import json
import os
import re
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

PROJECT = "aion-proxy"
Installed = dict[str, importlib.metadata.Distribution]


def bill(only: Collection[str] | None = None) -> dict[str, Any]:
    """The bill of this environment, or of those of its packages that `only` names."""
    found = {normal(one.metadata["Name"]): one for one in importlib.metadata.distributions()}
    if only is not None:
        wanted = {normal(name) for name in only}
        found = {name: one for name, one in found.items() if name in wanted}
    names = sorted(found)
    made = time.gmtime(float(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", made),
            "component": {"type": "application", "bom-ref": "image", "name": PROJECT, "version": version_of(found)},
        },
        "components": [component(found[name]) for name in names],
        "dependencies": [{"ref": "image", "dependsOn": [purl(found[name]) for name in names if name == PROJECT]}]
        + [{"ref": purl(found[name]), "dependsOn": needs(found[name], found)} for name in names],
    }


def component(one: importlib.metadata.Distribution) -> dict[str, Any]:
    """One package of it."""
    licences = licence(one)
    return {
        "type": "library",
        "bom-ref": purl(one),
        "name": one.metadata["Name"],
        "version": one.version,
        "purl": purl(one),
        **({"licenses": [licences]} if licences else {}),
    }


def licence(one: importlib.metadata.Distribution) -> dict[str, Any] | None:
    """What it says of its licence: an SPDX expression or, from older packages, the licence's name."""
    for expression in one.metadata.get_all("License-Expression") or ():
        return {"expression": expression}
    names = [
        text.rpartition(" :: ")[2]
        for text in one.metadata.get_all("Classifier") or ()
        if text.startswith("License :: ") and text.count(" :: ") > 1
    ]
    names += [text for text in one.metadata.get_all("License") or () if text and "\n" not in text]
    return {"license": {"name": names[0]}} if names else None


def needs(one: importlib.metadata.Distribution, found: Installed) -> list[str]:
    """The packages of the bill that this one asks for, whatever the conditions under which it does."""
    asked = {normal(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in one.requires or ()}
    return [purl(found[name]) for name in sorted(asked & found.keys() - {normal(one.metadata["Name"])})]


def purl(one: importlib.metadata.Distribution) -> str:
    """The package's URL, by which other tools know it."""
    return f"pkg:pypi/{normal(one.metadata['Name'])}@{one.version}"


def version_of(found: Installed) -> str:
    """The version of the gateway; raises `SystemExit` where there is none."""
    if PROJECT not in found:
        raise SystemExit(f"{PROJECT} is not installed beside {sys.executable}: install it and run this again.")
    return found[PROJECT].version


def normal(name: str) -> str:
    """A package's name in its one normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(bill(), indent=1) + "\n", "utf-8")
