"""What a row of raw HTTP says: the bytes, the rule they break, and what the gateway has to do about them.

`KEY` in the bytes stands for a good key, so that only the row's own fault stands between it and the provider.
"""

from dataclasses import dataclass

BODY = b'{"model":"same","messages":[{"role":"user","content":"Hi."}]}'
CHAT = "POST /v1/chat/completions HTTP/1.1"
GET = "GET /v1/models HTTP/1.1"
HOST = "Host: gateway"
AUTHORIZED = "Authorization: Bearer KEY"
JSON = "Content-Type: application/json"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway\r\n\r\n"
"""Behind a request whose end is in doubt; whoever answers it has seen two requests."""


@dataclass(frozen=True)
class Vector:
    """One row. `closed`: the connection ends with the answer, and nothing behind it is answered."""

    name: str
    rule: str
    data: bytes
    status: int
    code: str | None = "invalid_http"
    closed: bool = True

    @property
    def kind(self) -> str:
        return "authentication_error" if self.status == 401 else "invalid_request_error"


def lines(*parts: str | bytes, body: bytes = b"") -> bytes:
    """Write a head of these lines, and a body."""
    rows = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"\r\n".join(rows) + b"\r\n\r\n" + body


def chat(*more: str | bytes, first: str | bytes = CHAT, body: bytes = BODY, host: str | bytes = HOST) -> bytes:
    """Write a request for a completion that is in order but for what `more` adds to it."""
    return lines(first, host, AUTHORIZED, JSON, f"Content-Length: {len(body)}", *more, body=body)


def unframed(*more: str | bytes, body: bytes = BODY, first: str = CHAT) -> bytes:
    """Write a request whose body is framed by `more` alone, and one behind it that must not be seen."""
    return lines(first, HOST, AUTHORIZED, JSON, *more, body=body) + SMUGGLED


def chunks(body: bytes, *more: str | bytes) -> bytes:
    """Write a request whose chunked body is these very bytes."""
    return lines(CHAT, HOST, AUTHORIZED, JSON, "Transfer-Encoding: chunked", *more, body=body) + SMUGGLED


def chunk(data: bytes, size: bytes | None = None, extension: bytes = b"") -> bytes:
    return (b"%x" % len(data) if size is None else size) + extension + b"\r\n" + data + b"\r\n"
