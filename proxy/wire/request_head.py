"""What the head of a client's request says, and how the next one on the same connection is known to say the same.

Clients repeat their head word for word on a connection that they keep; only the length of the body differs. So a head
that was read once is compared from then on, byte by byte, and not read again. Pure: what a head may be is decided in
`head_rules.py`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

_MOST_DIGITS: Final = 12
_JOINED: Final = frozenset({"traceparent", "tracestate"})
"""A list may come in several lines (RFC 9110, 5.3); of a parent there is one, and two of them are then a bad one."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(?P<digits>[0-9]{1,12})[ \t]*(?=\r\n)", re.IGNORECASE)


class Head(Struct, frozen=True):
    """A request's head as far as anybody here asks: the path without its query, the names of headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    """The first value of each; of those that trace, all values together."""
    authorizations: Sequence[str]
    """Every Authorization header."""
    chunks: bool = True
    """The client understands chunked answers (HTTP/1.1)."""
    last: bool = False
    """The client wants the connection to end with the answer."""


class HeadForm(Struct, frozen=True):
    """The bytes of a head without its Content-Length: those before its digits, and those after them."""

    before: bytes
    after: bytes

    def measure(self, data: bytes) -> tuple[int, int] | None:
        """Return where the body starts and how long it is if `data` begins with a whole head of this form."""
        if not data.startswith(self.before):
            return None
        start = len(self.before)
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        digits = data[start:end] if end > start else b""
        if not digits.isdigit() or not data.startswith(self.after, end):
            return None
        return end + len(self.after), int(digits)


def form_of(head: bytes) -> HeadForm | None:
    """Return the form of a head; None unless it is plain to see which is its one Content-Length.

    Only for a whole head that was checked and whose body is not in chunks.
    """
    length = _LENGTH.search(head)
    if length is None or head.lower().count(b"content-length") != 1:
        return None
    return HeadForm(head[: length.start("digits")], head[length.end("digits") :])


def read_head(head: bytes) -> Head:
    """Read a whole head, which was checked."""
    first, *lines = head[:-4].decode("utf-8", "surrogateescape").split("\r\n")
    method, target, version = first.split(" ")
    headers: dict[str, str] = {}
    authorizations: list[str] = []
    last = False
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if name not in headers:
            headers[name] = value
        elif name in _JOINED:
            headers[name] += "," + value
        if name == "authorization":
            authorizations.append(value)
        elif name == "connection":
            last = last or "close" in (option.strip(" \t") for option in value.lower().split(","))
    last = last or len(authorizations) > 1  # somebody in front may have read only the other key
    return Head(method, target.partition("?")[0], headers, tuple(authorizations), version != "HTTP/1.0", last)
