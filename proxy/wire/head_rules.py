"""What the head of a client's request has to be, and what is said about one that is not.

Stricter than a parser: where HTTP lets a server refuse (RFC 9110, RFC 9112), it is refused, so that nobody in front of
us can have read the same bytes in another way. Every text is fixed: none of the client's bytes is repeated. Pure.
"""

import re
from typing import Final

from msgspec import Struct

from proxy.errors import ErrorType, Fault, Refusal

MAX_HEAD: Final = 16 * 1024
MAX_TARGET: Final = 8_000
"""The length that every server ought to take (RFC 9110, 4.1)."""
MAX_FIELDS: Final = 100
METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"})
"""Methods that are known, if only to be told that a URL does not take them; CONNECT is for proxies."""
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_ESCAPED: Final = rb"%[0-9A-Fa-f]{2}"
_TARGET: Final = (
    rb"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]++|" + _ESCAPED + rb")*"
    rb"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]++|" + _ESCAPED + rb")*)?"
)
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
_FIELD: Final = _TOKEN + rb"++:" + _VALUE + rb"\r\n"
_HEAD: Final = re.compile(
    rb"(?P<method>"
    + _TOKEN
    + rb"++) (?P<target>"
    + _TARGET
    + rb") HTTP/1\.(?P<minor>[01])\r\n(?:"
    + _FIELD
    + rb")*\r\n"
)
_LINE: Final = re.compile(rb"(?P<method>" + _TOKEN + rb"++) (?P<target>[^ ]++) HTTP/(?P<version>[0-9]\.[0-9])")
_TARGET_ALONE: Final = re.compile(_TARGET)
_BEGINNING: Final = re.compile(_TOKEN)
# A line end of another kind, and what stands in no line.
_STRAY: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")
# The headers that decide something, also where a name with underscores could be taken for one.
_DECISIVE: Final = re.compile(
    rb"\r\n(host|content[-_]length|transfer[-_]encoding|content[-_]type|content[-_]encoding|authorization|expect)"
    rb":[ \t]*([^\r]*?)[ \t]*(?=\r\n)",
    re.IGNORECASE,
)
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_CODINGS: Final = re.compile(_TOKEN + rb"+(?:[ \t]*,[ \t]*" + _TOKEN + rb"+)*")
_TRAILERS: Final = re.compile(rb"(?:" + _FIELD + rb")*\r\n")
_NOT_BEHIND: Final = re.compile(
    rb"(?:^|\n)(?:host|content[-_]length|transfer[-_]encoding|content[-_]type|content[-_]encoding|authorization|expect):",
    re.IGNORECASE,
)
_CHUNKED: Final = b"chunked"


class Framing(Struct, frozen=True):
    """How long the body of a request is: so many bytes, or chunks."""

    length: int
    chunked: bool


def check_head(head: bytes) -> Framing:
    """Return how the body behind a whole head is framed. Raises `Refusal`: 400, 414, 417, 431, 501, 505."""
    match = _HEAD.fullmatch(head)
    if match is None or match["method"] not in METHODS or match.end("target") - match.start("target") > MAX_TARGET:
        raise _explain(head)
    if head.count(b"\n") > MAX_FIELDS + 2:
        raise too_many_fields()
    old = match["minor"] == b"0"
    fields: dict[bytes, bytes] = {}
    for name, value in _DECISIVE.findall(head, match.end("minor")):
        lower = name.lower()
        if b"_" in lower:
            raise invalid_head("A header's name differs from one that decides something by an underscore; remove it.")
        if lower in fields and lower != b"authorization":  # two keys are refused as a wrong one is
            raise invalid_head("A header that may be sent once was sent twice; send it once.")
        fields[lower] = value
    _check_host(fields.get(b"host"), old=old)
    if not old and fields.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise refusal(417, "expectation_failed", "Only `Expect: 100-continue` is understood; leave anything else out.")
    return _framing(fields, old=old)


def check_beginning(data: bytes, start: int = 0) -> None:
    """Raise `Refusal` as `check_head` if no head begins like this, so that nobody waits for the end of one."""
    if data and data != b"\r" and not data.startswith(b"\r\n") and _BEGINNING.match(data) is None:
        raise invalid_head()
    if _STRAY.search(data, max(0, start - 1)):
        raise invalid_head()
    line, end, _ = data.removeprefix(b"\r\n").partition(b"\r\n")
    if end:
        _check_line(line)
    elif len(line) > MAX_TARGET + len("CONNECT  HTTP/1.1"):
        raise too_long_target()
    if len(data) > MAX_HEAD:
        raise too_long_head()


def check_trailers(trailers: bytes) -> None:
    """Raise `Refusal` for fields behind a body that are malformed, or that may not stand there (RFC 9110, 6.5.1)."""
    if _TRAILERS.fullmatch(trailers) is None or _NOT_BEHIND.search(trailers):
        raise invalid_chunks()


def check_trailers_begun(trailers: bytes) -> None:
    """Raise `Refusal` if no fields begin like this."""
    if _STRAY.search(trailers):
        raise invalid_chunks()


def refusal(status: int, code: str, message: str) -> Refusal:
    """Build the refusal of a request that is not served because of its form."""
    return Refusal(Fault(status, ErrorType.INVALID_REQUEST, code, message))


def invalid_head(message: str = "This is not a valid HTTP/1.1 request; correct its head.") -> Refusal:
    """Build the refusal of a head that HTTP does not allow."""
    return refusal(400, "invalid_http", message)


def invalid_chunks() -> Refusal:
    """Build the refusal of a body whose chunks are not framed as HTTP asks."""
    return refusal(400, "invalid_http", "The body's chunks are not valid HTTP/1.1; correct their framing.")


def too_long_target() -> Refusal:
    """Build the refusal of a target that is too long."""
    return refusal(414, "uri_too_long", f"The URL is longer than {MAX_TARGET:,} bytes; send a shorter one.")


def too_long_head() -> Refusal:
    """Build the refusal of a head that is too long."""
    message = f"The request's head is longer than {MAX_HEAD:,} bytes; send shorter headers."
    return refusal(431, "request_header_too_large", message)


def too_many_fields() -> Refusal:
    """Build the refusal of a head with too many fields."""
    return refusal(431, "request_header_too_large", f"The request has more than {MAX_FIELDS} headers; send fewer.")


def late_head() -> Refusal:
    """Build the refusal of a head that is not whole when its time is over."""
    return refusal(408, "request_timeout", "The request's head did not arrive in time; send it again.")


def too_many_connections() -> Refusal:
    """Build the refusal of whatever comes on a connection beyond the most that are served."""
    message = "Too many connections are open here; try again shortly."
    return Refusal(Fault(503, ErrorType.INTERNAL, "overloaded", message, retry_after_ms=1_000, reason="connections"))


def _check_line(line: bytes) -> None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise too_long_target() if len(line) > MAX_TARGET and line.count(b" ") == 2 else invalid_head()  # noqa: PLR2004
    if match["version"] not in (b"1.1", b"1.0"):
        raise refusal(505, "http_version_not_supported", "Only HTTP/1.1 and HTTP/1.0 are spoken here; use one of them.")
    if match["method"] not in METHODS:
        raise refusal(501, "not_implemented", "This method is not known here; use one that the API reference names.")
    if len(match["target"]) > MAX_TARGET:
        raise too_long_target()
    if _TARGET_ALONE.fullmatch(match["target"]) is None:
        raise invalid_head("The target of the request is not a path of this server, such as /v1/models; correct it.")


def _explain(head: bytes) -> Refusal:
    try:
        _check_line(head.partition(b"\r\n")[0])
    except Refusal as found:
        return found
    return invalid_head()


def _check_host(host: bytes | None, *, old: bool) -> None:
    if host is None and old:
        return
    if host is None or _HOST.fullmatch(host) is None:
        raise invalid_head("The request needs one valid Host header; send the host that the URL names.")


def _framing(fields: dict[bytes, bytes], *, old: bool) -> Framing:
    length, codings = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if codings is None:
        if length is None:
            return Framing(0, chunked=False)
        if _LENGTH.fullmatch(length) is None:
            raise invalid_head("Content-Length is not a number of bytes; correct it.")
        return Framing(int(length), chunked=False)
    if length is not None or old:
        raise invalid_head("Transfer-Encoding stands in HTTP/1.1 alone, and never beside Content-Length; remove one.")
    if codings.lower() == _CHUNKED:
        return Framing(0, chunked=True)
    names = [name.strip(b" \t") for name in codings.lower().split(b",")]
    if _CODINGS.fullmatch(codings) is None or _CHUNKED in names[:-1]:
        raise invalid_head("Transfer-Encoding is malformed; send `chunked`, or Content-Length instead.")
    raise refusal(501, "not_implemented", "This Transfer-Encoding is not known here; send `chunked` alone.")
