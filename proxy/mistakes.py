"""Mistakes in the configuration, as values and as sentences.

A rule says what is allowed where it is broken (`Wrong`); this file alone turns that into the line a person reads, and
sees to it that no credential comes with it. No rule about any particular key belongs here.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

Place = tuple[str | int, ...]
"""Where something stands in a document: keys and the numbers of list items."""
_SHOWN_CHARACTERS: Final = 80
_SHAPES: Final = (("model", "a mapping"), ("dict", "a mapping"), ("tuple", "a list"))


class Wrong(ValueError):  # noqa: N818 - a rule and what broke it, not a malfunction
    """A broken rule: `allowed` starts with "must" or tells the remedy; in `problem`, `{value}` stands for the value.

    A rule about a secret gives a `problem` without `{value}`.
    """

    def __init__(self, allowed: str, problem: str = "is {value}") -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with the configuration; `str()` is the line an operator reads."""

    file: str
    path: str
    problem: str
    allowed: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.path else self.file
        return _one_line(f"{where}: {self.problem}; {self.allowed}")


class ConfigurationError(Exception):
    """The configuration is refused whole; `mistakes` is everything that is wrong with it, at once."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


def mistakes_in(error: ValidationError, file: str, shown: Mapping[Place, str]) -> Iterator[tuple[Place, Mistake]]:
    """Turn every line of `error` into a mistake of `file`; `shown` is what to print in place of certain values."""
    for line in error.errors(include_url=False):
        if line["type"] == "default_factory_not_called":  # the fault of another line
            continue
        place = tuple(step for step in line["loc"] if step != "[key]")
        wrong = _rule(line)
        problem = wrong.problem.replace("{value}", shown.get(place) or describe_value(line["input"]))
        yield place, Mistake(file, write_place(place), problem, wrong.allowed)


def near(name: str, known: Collection[str]) -> str | None:
    """Return the known name that `name` was probably meant to be; None if there is none."""
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def nearest(name: str, known: Collection[str]) -> str:
    """Return the remedy for an unknown name: the nearest known one, or all of them."""
    close = near(name, known)
    return f"must be one of: {', '.join(known)}" if close is None else f"did you mean `{close}`?"


def write_place(place: Place) -> str:
    """Write a place the way JSON paths are written: `models[0].pricing.prompt`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.removeprefix(".")


def describe_value(value: object) -> str:
    """Say what stands in the file, in a few words: no credentials or query of a URL, only the kind of a container."""
    if isinstance(value, str):
        return quoted(without_credentials(value))
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "empty"
    if isinstance(value, int | float):
        return str(value)[:_SHOWN_CHARACTERS]
    return "a mapping" if isinstance(value, Mapping) else "a list"


def quoted(text: str) -> str:
    """Return `text` in quotes, shortened, with nothing in it that could break a line of a log."""
    short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return f'"{_one_line(short)}"'


def without_credentials(url: str) -> str:
    """Return a URL (or what was meant as one) without user name, password and query."""
    bare = re.sub(r"^([a-zA-Z0-9+.-]+://)?.*@", r"\1…@", url, flags=re.DOTALL)
    return re.sub(r"[?#].*", "?…", bare, flags=re.DOTALL)


def _one_line(text: str) -> str:
    """Escape whatever is not printable: names of files, keys and variables can hold anything."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _rule(line: Any) -> Wrong:  # noqa: ANN401 - pydantic's own dictionary
    """Find the rule behind a line: ours, or one of the few that pydantic checks for us."""
    context, kind = line.get("ctx", {}), line["type"]
    error = context.get("error")
    if isinstance(error, Wrong):
        return error
    if kind == "value_error":
        return Wrong(str(error))
    if kind == "enum":
        return Wrong("must be one of: " + context["expected"].replace(" or ", ", ").replace("'", ""))
    for prefix, shape in _SHAPES:
        if kind.startswith(prefix):  # what stands there may be a credential that slipped in
            return Wrong(f"must be {shape}", f"is {_kind_of(line['input'])}")
    return Wrong("must be true or false" if kind.startswith("bool") else line["msg"])


def _kind_of(value: object) -> str:
    if isinstance(value, str):
        return "text"
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else describe_value(value)
