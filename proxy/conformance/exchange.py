"""One request of a check and the answer to it, as values: what is asked, and what came back, byte by byte.

No key is ever in here: a header holds a mark where the key belongs, and the client puts it in when it sends. Nothing
here reads or writes a socket.
"""

from enum import Enum
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

KEY: Final = "{the key}"
"""Stands in a header for the key."""
SWAPPED_KEY: Final = "{the key in the other case}"
"""The same with small letters for capitals and capitals for small ones."""
CHAT: Final = "/chat/completions"
MODELS: Final = "/models"
RESPONSES: Final = "/responses"
_SHOWN: Final = 160

Header = tuple[str, str]
_ShapeT = TypeVar("_ShapeT")


class Violation(Exception):  # noqa: N818 - what a server did
    """A rule is broken; the text says what was seen."""


class Cost(Enum):
    """Whether an endpoint asks its model because of a request, which is what costs money."""

    NOTHING = 0
    IF_TAKEN = 1
    """Only where it does not refuse what it ought to refuse."""
    AN_ANSWER = 2


class Ask(Struct, frozen=True):
    """One request. `path` is below the base URL; `what` says in a few words what is special about it."""

    what: str
    method: str
    path: str
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    cost: Cost = Cost.NOTHING
    raw_lines: bytes = b""
    """Header lines that are sent as they are, broken ones too."""

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object that is asked with."""
        fields: dict[str, Any] = msgspec.json.decode(self.body)
        return fields


class Reply(Struct, frozen=True):
    """One whole answer. Names of headers are in lower case; a chunked body is put together."""

    asked: Ask
    status: int
    headers: tuple[Header, ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value; raises `Violation` if it stands there twice."""
        found = [value for own, value in self.headers if own == name]
        if len(found) > 1:
            raise Violation(f"{self.asked.what}: the header {name} came {len(found)} times")
        return found[0] if found else None

    @property
    def media_type(self) -> str:
        """The type of the body without its parameters, in lower case."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def document(self) -> dict[str, Any]:
        """The body as a JSON object; raises `Violation` for anything else."""
        try:
            found = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Violation(f"{self.asked.what}: {self.summary}: the body is not JSON") from None
        if not isinstance(found, dict):
            raise Violation(f"{self.asked.what}: {self.summary}: the body is not a JSON object")
        return found

    def read(self, shape: type[_ShapeT]) -> _ShapeT:
        """Return the body in this form; raises `Violation` that names the place where it has another."""
        return fitted(self.document, shape, self.asked.what)

    @property
    def summary(self) -> str:
        """The answer in a few words: its status, and of an error what it says."""
        try:
            error = msgspec.json.decode(self.body)["error"]
            param = "" if error.get("param") is None else f", param {error['param']}"
            message = shortened(str(error["message"]))
            return f"{self.status} {error.get('type')}, {error.get('code')}{param}: {message}"
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, AttributeError):
            return f"{self.status} {self.media_type or 'without a content type'}, {len(self.body)} bytes"


class NoReply(Struct, frozen=True):
    """No whole answer came; `why` is half a sentence."""

    asked: Ask
    why: str


def fitted(value: object, shape: type[_ShapeT], where: str) -> _ShapeT:
    """Return decoded JSON in this form; raises `Violation` that begins with `where` and names the place."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as wrong:
        raise Violation(f"{where}: {str(wrong)[0].lower()}{str(wrong)[1:]}") from None


def shortened(text: str) -> str:
    """Return a text on one line, as much of it as a table can hold."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[:_SHOWN].rstrip() + "…"
