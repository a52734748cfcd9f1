"""Writes what is installed beside this Python as a CycloneDX bill of materials: names, versions, licences.

Read from the packages' own metadata, so that it tells what is in the image and not what was asked for.
"""

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any


def bill() -> dict[str, Any]:
    """The bill of this environment."""
    found = {one.metadata["Name"].lower(): one for one in importlib.metadata.distributions()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": [component(found[name]) for name in sorted(found)],
    }


def component(one: importlib.metadata.Distribution) -> dict[str, Any]:
    """One package of it."""
    name, version = one.metadata["Name"], one.version
    licence = next(iter(one.metadata.get_all("License-Expression") or ()), None)
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}",
        **({"licenses": [{"expression": licence}]} if licence else {}),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(bill(), indent=1) + "\n", "utf-8")
