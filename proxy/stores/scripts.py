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
    """Read a script and compute its digest."""
    text = script_text(name)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def script_text(name: str) -> str:
    """Read `lua/<name>.lua` and put its includes in, and theirs."""
    text = files("proxy.stores").joinpath("lua", f"{name}.lua").read_text("utf-8")
    return _INCLUDE.sub(lambda match: script_text(match.group(1)), text)
