"""The heads of our answers and of our requests to providers, as bytes.

No header of a client reaches a provider and none of a provider reaches a client: every line is written here. Pure.
"""

from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from proxy.errors import Fault
from proxy.limits import Remaining

MAX_IGNORED: Final = 1_024
_STATUS_LINES: Final = {status.value: f" {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_USELESS_RETRY: Final = _MINUTE
_REQUESTS_LEFT: Final = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %b\r\n"
)
_TOKENS_LEFT: Final = _REQUESTS_LEFT.replace(b"-requests", b"-tokens")


def new_request_id(now_ms: int, random: bytes) -> str:
    """Make `req_` and 26 characters that sort by time, from the Unix time and 7 random bytes."""
    return f"req_{now_ms:012x}{random.hex()}"


def http_date(now: float) -> bytes:
    """Write the Date header's line for a Unix time."""
    return b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"


def answer_head(status: int, length: int, lines: bytes, *, content_type: str = "application/json") -> bytes:
    """Write the head of an answer whose body is known; `lines` are further header lines, each with its CRLF."""
    return b"HTTP/1.1%bContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n" % (
        _STATUS_LINES[status],
        content_type.encode(),
        length,
        lines,
    )


def stream_head(lines: bytes, *, chunked: bool) -> bytes:
    """Write the head of a stream; an HTTP/1.0 client gets it without chunks, to the end of the connection."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
        b"X-Accel-Buffering: no\r\n%b%b\r\n" % (b"Transfer-Encoding: chunked\r\n" if chunked else b"", lines)
    )


def request_head(path: str, authority: str, lines: bytes, length: int, *, stream: bool) -> bytes:
    """Write the head of a request to a provider; `lines` hold its credentials and the operator's own headers."""
    accept = b"text/event-stream" if stream else b"application/json"
    return (
        b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nAccept: %b\r\nAccept-Encoding: identity\r\n"
        b"Content-Length: %d\r\n%b\r\n" % (path.encode(), authority.encode(), accept, length, lines)
    )


def rate_limit_lines(remaining: Remaining) -> bytes:
    """Write the `x-ratelimit-…` lines of the per-minute limits that the account has."""
    lines = b""
    if remaining.requests_limit is not None:
        lines = _REQUESTS_LEFT % (
            remaining.requests_limit, remaining.requests, go_duration(remaining.requests_reset_ms).encode()
        )  # fmt: skip
    if remaining.tokens_limit is not None:
        lines += _TOKENS_LEFT % (
            remaining.tokens_limit, remaining.tokens, go_duration(remaining.tokens_reset_ms).encode()
        )  # fmt: skip
    return lines


def fault_lines(fault: Fault) -> bytes:
    """Write the lines that tell a client when, and whether, to try again."""
    lines = b""
    wait = fault.retry_after_ms
    if wait is not None:
        lines = b"Retry-After: %d\r\nretry-after-ms: %d\r\n" % (max(1, -(-wait // _SECOND)), max(1, wait))
    useless = fault.should_retry is False or (wait is not None and wait > _USELESS_RETRY)
    return lines + b"x-should-retry: false\r\n" if useless else lines


def ignored_line(names: tuple[str, ...]) -> bytes:
    """Write the line that lists what of a request was dropped; at most 1 KiB of names."""
    if not names:
        return b""
    listed = ",".join(names).encode()
    if len(listed) > MAX_IGNORED:
        listed = listed[: MAX_IGNORED + 1].rpartition(b",")[0]
    return b"x-gateway-ignored-params: " + listed + b"\r\n"


def go_duration(milliseconds: int) -> str:
    """Write a duration as Go does, the form of OpenAI's reset headers: `120ms`, `1s`, `6m0s`, `1h0m0s`."""
    if milliseconds < _SECOND:
        return f"{milliseconds}ms" if milliseconds else "0s"
    hours, rest = divmod(milliseconds, _HOUR)
    minutes, rest = divmod(rest, _MINUTE)
    seconds = f"{rest / _SECOND:.3f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds
