"""docker-compose.yml as a test reads it: merged, its variables filled in, with what its services refer to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from gateway_process import ROOT

FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


@dataclass(frozen=True)
class Mount:
    """What a service finds at a path: a folder or file of the project, or a named volume."""

    source: str
    target: str
    read_only: bool

    @property
    def is_volume(self) -> bool:
        return not self.source.startswith(".")


def variables() -> dict[str, str]:
    """Every variable of the file with its default."""
    return dict(VARIABLE.findall(FILE.read_text("utf-8")))


def compose(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file with its variables filled in."""
    filled = VARIABLE.sub(lambda found: (environ or {}).get(found[1]) or found[2], FILE.read_text("utf-8"))
    assert "${" not in filled, "a variable without a default would be empty for whoever has no .env"
    document: dict[str, Any] = yaml.safe_load(filled)
    return document


def mounts(service: Mapping[str, Any]) -> list[Mount]:
    """The bind mounts and volumes of a service."""
    parts = [one.split(":") for one in service.get("volumes", [])]
    return [Mount(part[0], part[1], part[2:] == ["ro"]) for part in parts]


def ports(service: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """What a service opens on the machine: address, port there, port inside."""
    parts = [one.rsplit(":", 2) for one in service.get("ports", [])]
    return [(address, int(outside), int(inside)) for address, outside, inside in parts]


def secret_path(name: str) -> str:
    """Where a container finds a secret."""
    return f"/run/secrets/{name}"
