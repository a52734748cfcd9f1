"""Values out of a client's JSON, each refused by the path at which it stands.

Only the forms that a value may have: object, list, string. What a field means, and whether it is needed at all, is
known where it is read. Nothing is decoded that is only handed on. Pure.
"""

from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from proxy.errors import invalid_request
from proxy.wire import json
from proxy.wire.json import RawObject

T = TypeVar("T")

NULL: Final = Raw(b"null")
_QUOTE: Final = ord('"')

_values: Final = msgspec.json.Decoder(list[Raw])
_strings: Final = msgspec.json.Decoder(str)


def given(fields: RawObject, name: str) -> Raw | None:
    """Return a field's value; None if it is absent or null, which mean the same."""
    value = fields.get(name)
    return None if value == NULL else value


def starts(value: Raw, character: bytes) -> bool:
    """Tell whether a value begins with `character`, which says of what kind it is; however long, it is not copied."""
    return memoryview(value)[0] == character[0]


def object_at(value: Raw, path: str) -> RawObject:
    """Return the fields of an object; raises `Refusal`."""
    if not starts(value, b"{"):
        raise invalid_request(f"`{path}` must be an object.", param=path)
    return json.split_object(bytes(value))


def list_at(value: Raw, path: str, wanted: str = "a list") -> list[Raw]:
    """Return the values in a list; raises `Refusal`, which says that it must be what is `wanted`."""
    if not starts(value, b"["):
        raise invalid_request(f"`{path}` must be {wanted}.", param=path)
    return _values.decode(value)


def objects_at(value: Raw, path: str, read: msgspec.json.Decoder[list[T]], wanted: str = "a list") -> list[T]:
    """Return the objects in a list, each as `read` makes it, whose values are all raw; raises `Refusal`."""
    if not starts(value, b"["):
        raise invalid_request(f"`{path}` must be {wanted}.", param=path)
    try:
        return read.decode(value)
    except msgspec.ValidationError:
        wrong = next(index for index, one in enumerate(_values.decode(value)) if not starts(one, b"{"))
        raise invalid_request(f"`{path}[{wrong}]` must be an object.", param=f"{path}[{wrong}]") from None


def required(value: Raw | None, path: str, name: str) -> Raw:
    """Return the value of the field `name` of the object at `path`; raises `Refusal` if it is absent or null."""
    if value is None or value == NULL:
        where = f"{path}.{name}"
        raise invalid_request(f"`{where}` is required.", param=where, code="missing_parameter")
    return value


def string_at(value: Raw | None, path: str, name: str) -> Raw:
    """Return a required string as the bytes that came; raises `Refusal` as `required`, and for anything else."""
    if value is None or memoryview(value)[0] != _QUOTE:
        required(value, path, name)
        raise invalid_request(f"`{path}.{name}` must be a string.", param=f"{path}.{name}")
    return value


def text_at(value: Raw | None, path: str, name: str) -> str:
    """Return a required string decoded; raises `Refusal` as `string_at`."""
    return _strings.decode(string_at(value, path, name))


def others(fields: RawObject, known: frozenset[str], path: str) -> list[str]:
    """Return the paths of the given fields that are not `known`, to be named in a header.

    A name that could do harm there is left out of its path.
    """
    names = [name for name in fields if name not in known and given(fields, name) is not None]
    return [f"{path}.{name}" if name.isascii() and name.isidentifier() else path for name in names]
