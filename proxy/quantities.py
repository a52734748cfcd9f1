"""Values with a unit or a form of their own: durations, sizes, whole numbers, text, addresses to listen on.

Each has a parser that raises ValueError with the sentence an operator needs, and a type for the models. What one key
accepts beyond that is the business of the model that holds the key.
"""

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import PlainValidator

from proxy.mistakes import Wrong
from proxy.sections import Kind

_SECONDS: Final = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST: Final = 36_500 * 86_400  # a century: nobody waits longer, and every clock can still add it
_BYTES: Final = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION: Final = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|)")
_SIZE: Final = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB|)")
_PORTION: Final = re.compile(r"[0-9](\.[0-9]{1,20})?(e-[0-9]{1,3})?")
_LISTEN: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):([0-9]{1,5})")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_LARGEST_PORT: Final = 65_535
# Beyond 2^53 the store's scripts, whose numbers are doubles, could no longer count one by one.
_LARGEST_NUMBER: Final = 10**15
_LARGEST_PART: Final = 10_000


def parse_duration(value: object) -> float:
    """Return the seconds of `250ms`, `5s`, `2m`, `24h`, `90d` or a bare number of seconds; ValueError otherwise."""
    rule = Wrong("must be a duration such as 250ms, 5s, 2m, 24h, 90d or a number of seconds, of at most 36500d")
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if 0 <= value <= _LONGEST else math.nan
    else:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise rule
        seconds = float(match[1]) / 1000 if match[2] == "ms" else float(match[1]) * _SECONDS[match[2]]
    if not 0 <= seconds <= _LONGEST:
        raise rule
    return seconds


def format_duration(seconds: float) -> str:
    """Write a duration so that `parse_duration` reads it back, to the millisecond."""
    return f"{int(seconds)}s" if float(seconds).is_integer() else f"{round(seconds * 1000)}ms"


def parse_size(value: object) -> int:
    """Return the bytes of `20MiB`, `512KiB`, `1GiB` or a bare number of bytes; ValueError for anything else."""
    written = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _SIZE.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise Wrong("must be a size such as 20MiB, 512KiB, 1GiB or a number of bytes")
    return int(match[1]) * _BYTES[match[2]]


def format_size(size: int) -> str:
    """Write a number of bytes in the largest unit that divides it."""
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if size and size % _BYTES[unit] == 0), "")
    return f"{size // _BYTES[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 lets the system choose one. `host` is without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write the address as the configuration has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: object) -> Address:
    """Read `127.0.0.1:8080`, `[::1]:8080` or `name:8080`; ValueError for anything else."""
    if isinstance(value, Address):
        return value
    match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[2]) > _LARGEST_PORT or not _is_host(match[1]):
        raise Wrong(
            "must be host:port such as 127.0.0.1:8080 or [::1]:8080 (0.0.0.0 for every address; port 0 to 65535)"
        )
    return Address(match[1].strip("[]"), int(match[2]))


def whole_number(at_least: int = 1) -> Callable[[object], int]:
    """Return a parser of whole numbers from `at_least` to 10^15."""

    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,17}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise Wrong(f"must be a whole number of at least {at_least}")
        if value > _LARGEST_NUMBER:
            raise Wrong(f"must be a whole number of at most {_LARGEST_NUMBER}")
        return value

    return parse


def parse_ratio(value: object) -> tuple[int, int]:
    """Read a positive rational such as `4` or `7/2` as (numerator, denominator); ValueError for anything else."""
    match = re.fullmatch(r"([0-9]{1,5})(?:/([0-9]{1,5}))?", str(value)) if isinstance(value, str | int) else None
    numerator, denominator = (int(match[1]), int(match[2] or 1)) if match else (0, 0)
    if not (1 <= numerator <= _LARGEST_PART and 1 <= denominator <= _LARGEST_PART):
        raise Wrong('must be a whole number or a fraction of two, such as 4 or "7/2", each from 1 to 10000')
    return numerator, denominator


def parse_portion(value: object) -> float:
    """Return a number from 0 to 1, such as 0.25; ValueError for anything else."""
    written = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(written, str) or _PORTION.fullmatch(written) is None or float(written) > 1:
        raise Wrong("must be a number from 0 to 1, such as 0.25")
    return float(written)


def parse_text(value: object) -> str:
    """Take text that can be written as UTF-8; ValueError for anything else."""
    if not isinstance(value, str):
        raise Wrong("must be text: quote it" if isinstance(value, int | float) else "must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Wrong("must be text that UTF-8 can hold") from None
    return value


def parse_filled(value: object) -> str:
    """Take text as `parse_text` does, of at least one character; ValueError for anything else."""
    text = parse_text(value)
    if not text.strip():
        raise Wrong("must not be empty")
    return text


def parse_name(value: object) -> str:
    """Take the name of a provider or a plan; ValueError for anything else."""
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise Wrong("must be 1 to 32 of a-z, 0-9, _ and -, starting with a letter or digit", "is not a name")
    return value


def _optional(parse: Callable[[object], int]) -> Callable[[object], int | None]:
    return lambda value: None if value is None else parse(value)


def _wait(value: object) -> float:
    seconds = parse_duration(value)
    if seconds == 0:
        raise Wrong("must be more than 0, such as 5s")
    return seconds


def _some_bytes(value: object) -> int:
    size = parse_size(value)
    if size == 0:
        raise Wrong("must be at least 1 byte, such as 20MiB")
    return size


def _is_host(text: str) -> bool:
    if not text.startswith("["):
        return _HOST.fullmatch(text) is not None
    try:
        ipaddress.IPv6Address(text[1:-1])
    except ValueError:
        return False
    return True


_duration = Kind("duration", format_duration)
Duration = Annotated[float, PlainValidator(parse_duration), _duration]
Wait = Annotated[float, PlainValidator(_wait), _duration]
Portion = Annotated[float, PlainValidator(parse_portion), Kind("number from 0 to 1")]
Size = Annotated[int, PlainValidator(_some_bytes), Kind("size", format_size)]
Listen = Annotated[Address, PlainValidator(parse_address), Kind("host:port")]
Count = Annotated[int, PlainValidator(whole_number()), Kind("whole number, at least 1")]
Share = Annotated[int, PlainValidator(whole_number(0)), Kind("whole number, at least 0")]
OptionalSize = Annotated[int | None, PlainValidator(_optional(_some_bytes)), Kind("size", format_size)]
OptionalCount = Annotated[int | None, PlainValidator(_optional(whole_number())), Kind("whole number, at least 1")]
Ratio = Annotated[
    tuple[int, int],
    PlainValidator(parse_ratio),
    Kind("number or fraction", lambda r: f"{r[0]}" if r[1] == 1 else f"{r[0]}/{r[1]}"),
]
Name = Annotated[str, PlainValidator(parse_name), Kind("name")]
Text = Annotated[str, PlainValidator(parse_text), Kind("text")]
Filled = Annotated[str, PlainValidator(parse_filled), Kind("text")]
