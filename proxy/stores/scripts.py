"""The Lua scripts as values: text and digest, read from `lua/` when somebody asks, never at import.

What a script does is told in its own header. A line `-- include: name` stands for the file `lua/name.lua`, so that
arithmetic that several scripts share exists once.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

_INCLUDE: Final = re.compile(r"^-- include: ([a-z_]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script: `name` for metrics, the whole `text`, and the SHA-1 in hex by which the server knows it."""

    name: str
    text: str
    sha: str


def load_script(name: str) -> Script:
    """Read `lua/<name>.lua`, put its includes in, and compute its digest."""
    text = _INCLUDE.sub(lambda match: _read(match.group(1)), _read(name))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return files("proxy.stores").joinpath("lua", f"{name}.lua").read_text("utf-8")
