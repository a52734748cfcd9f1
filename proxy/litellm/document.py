"""A LiteLLM configuration as values that know their lines, and what is noted about them on the way.

A number stays the text that was written: prices must not pass through a float. No value is ever a part of a note, since
any of them may be a secret; notes name places.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from proxy.mistakes import ConfigurationError, Place, quoted, write_place
from proxy.yaml_file import read_nodes

_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?|\.[0-9]+([eE][-+]?[0-9]{1,3})?")
_WHOLE: Final = re.compile(r"[0-9]{1,15}")
_VARIABLE: Final = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of the file: its line, its place, and what stands there; a scalar is its text, None is null."""

    line: int
    place: Place
    value: "Mapping[str, Entry] | tuple[Entry, ...] | str | None"

    def get(self, key: str) -> "Entry | None":
        """Return what stands under a key; None if nothing does, null included."""
        found = self.fields().get(key)
        return None if found is None or found.value is None else found

    def fields(self) -> "Mapping[str, Entry]":
        """Return the fields of a mapping; of anything else, none."""
        return self.value if isinstance(self.value, Mapping) else {}

    def items(self) -> "tuple[Entry, ...]":
        """Return the items of a list; of anything else, none."""
        return self.value if isinstance(self.value, tuple) else ()

    def text(self) -> str | None:
        """Return a scalar as it was written; None if it is none, or empty."""
        return self.value.strip() or None if isinstance(self.value, str) else None

    def number(self) -> Decimal | None:
        """Return a number of zero or more, exactly as it was written; None if it is none."""
        text = (self.text() or "").removeprefix("+").replace("_", "")
        if not _NUMBER.fullmatch(text):
            return None
        try:
            return Decimal(text)
        except InvalidOperation:
            return None

    def whole(self) -> int | None:
        """Return a whole number of one or more; None if it is none."""
        text = (self.text() or "").replace("_", "")
        return int(text) or None if _WHOLE.fullmatch(text) else None

    def variable(self) -> str | None:
        """Return the variable that is meant by `os.environ/NAME`; None if the value stands in the file itself."""
        found = _VARIABLE.fullmatch(self.text() or "")
        return None if found is None else found[1]


@dataclass(frozen=True, slots=True, order=True)
class Note:
    """What has no counterpart, or became something else, and what to do."""

    line: int
    place: str
    what: str


@dataclass(slots=True)
class Notes:
    """Everything noted so far."""

    found: list[Note] = field(default_factory=list)

    def add(self, entry: Entry, what: str) -> None:
        """Note something about a value."""
        shown = tuple(_shown(step) for step in entry.place)
        note = Note(entry.line, write_place(shown), what)
        if note not in self.found:
            self.found.append(note)

    def fields(self, entry: Entry | None) -> Mapping[str, Entry]:
        """Return the fields of what should be a mapping; notes it if it is none."""
        if entry is not None and not isinstance(entry.value, Mapping):
            self.add(entry, "is no mapping, and was left out")
        return {} if entry is None else entry.fields()

    def items(self, entry: Entry | None) -> tuple[Entry, ...]:
        """Return the items of what should be a list; notes it if it is none."""
        if entry is not None and not isinstance(entry.value, tuple):
            self.add(entry, "is no list, and was left out")
        return () if entry is None else entry.items()


def read(path: Path) -> Entry:
    """Read the file; raises ConfigurationError with everything that makes it unreadable."""
    node, mistakes = read_nodes(path, "must be the configuration file of a LiteLLM proxy")
    if node is None or mistakes:
        raise ConfigurationError(tuple(mistakes))
    return _entry(node, ())


def _entry(node: Node, place: Place, key: Node | None = None) -> Entry:
    line = (key or node).start_mark.line + 1
    if isinstance(node, MappingNode):
        return Entry(line, place, {key.value: _entry(value, (*place, key.value), key) for key, value in _pairs(node)})
    if isinstance(node, SequenceNode):
        return Entry(line, place, tuple(_entry(item, (*place, number)) for number, item in enumerate(node.value)))
    return Entry(line, place, None if node.tag == _NULL else str(node.value))


def _pairs(node: MappingNode) -> Iterator[tuple[ScalarNode, Node]]:
    """Yield a mapping's pairs; what is merged in stands first, so that the mapping's own go before it."""
    for key, value in node.value:
        if key.tag == _MERGE:
            for one in value.value if isinstance(value, SequenceNode) else (value,):
                if isinstance(one, MappingNode):
                    yield from _pairs(one)
    for key, value in node.value:
        if isinstance(key, ScalarNode) and key.tag != _MERGE:
            yield key, value


def _shown(step: str | int) -> str | int:
    """Write a key that is a name as it is; another may hold anything, and is shortened."""
    return step if isinstance(step, int) or _PLAIN_KEY.fullmatch(step) else quoted(step[:32])
