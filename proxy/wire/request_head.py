"""What the head of a client's request says, and how the next one on the same connection is known to say the same.

Clients repeat their head word for word on a connection that they keep; only the length of the body differs. So a head
that was parsed once is compared from then on, byte by byte, and not parsed again. Pure: no parser of HTTP is here.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

_MOST_DIGITS: Final = 12
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(?P<digits>[0-9]{1,12})[ \t]*(?=\r\n)", re.IGNORECASE)


class Head(Struct, frozen=True):
    """A request's head as far as anybody here asks: the path without its query, the names of headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    """The first value of each."""
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


def form_of(data: bytes) -> HeadForm | None:
    """Return the form of the head that `data` begins with; None unless it is whole and has one Content-Length.

    Only for bytes that a parser took for a request without Transfer-Encoding.
    """
    end = data.find(b"\r\n\r\n") + 4
    if end < 4 or not data[:1].isalpha():  # noqa: PLR2004
        return None
    head = data[:end]
    length = _LENGTH.search(head)
    if length is None or head.lower().count(b"content-length") != 1:
        return None
    return HeadForm(head[: length.start("digits")], head[length.end("digits") :])


def is_bare(data: bytes) -> bool:
    """Tell whether `data`, taken for one request, is a head and nothing else: one without a Content-Length, then."""
    return data.find(b"\r\n\r\n") + 4 == len(data) and b"content-length" not in data.lower()


def path_of(target: str) -> str:
    """Return a target's path without its query, still percent-encoded, also where the client named the host before
    it.
    """
    path = target.partition("?")[0]
    return path if path.startswith("/") else "/" + path.partition("://")[2].partition("/")[2]
