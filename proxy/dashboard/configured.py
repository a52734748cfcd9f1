"""The configuration in force as lines that may be shown: whatever may be a secret is hidden, whoever looks."""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from proxy.pricing import format_usd
from proxy.sections import Section
from proxy.settings import Settings

HIDDEN: Final = "(hidden)"
_FREE: Final = frozenset({"extra_body"})
"""Values of any form, which may hold what nobody should see."""


def configured(settings: Settings) -> list[tuple[str, str]]:
    """Return every key with its value, in the order of the file's reference; nothing that is not set."""
    return list(_lines("", settings))


def _lines(path: str, value: object) -> Iterator[tuple[str, str]]:
    name = path.rpartition(".")[2]
    if isinstance(value, Section):
        for field in type(value).model_fields:
            yield from _lines(f"{path}.{field}".lstrip("."), getattr(value, field))
    elif isinstance(value, SecretStr) or (name in _FREE and value):
        yield path, HIDDEN
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _lines(f"{path}.{key}", one)
    elif isinstance(value, tuple | list) and any(isinstance(one, Section) for one in value):
        for number, one in enumerate(value):
            yield from _lines(f"{path}[{number}]", one)
    elif value is not None and value not in ((), {}):
        yield path.replace(".pusd", ".usd"), _shown(name, value)


def _shown(name: str, value: object) -> str:
    if name == "pusd" and isinstance(value, int):
        return format_usd(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    text = str(value)
    return _without_credentials(text) if "://" in text else text


def _without_credentials(url: str) -> str:
    """Keep of a URL what says where it leads: its user, password and options may all be secrets."""
    scheme, netloc, path, query, _ = urlsplit(url)
    user, at, host = netloc.rpartition("@")
    return f"{scheme}://{HIDDEN + at if user else ''}{host}{path}{'?' + HIDDEN if query else ''}"
