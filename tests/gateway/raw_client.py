"""A client that sends exact bytes over a socket and reads answers as they are framed: what a library would hide."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from scripted_provider import DONE, PATIENCE


@dataclass(frozen=True)
class Answer:
    """One answer as it came."""

    status: int
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool
    """The body ended as its framing says."""

    def header(self, name: str) -> str | None:
        found = [value for own, value in self.headers if own.lower() == name.lower()]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error of the one envelope, whose form is checked."""
        body = self.json
        assert list(body) == ["error"], body
        error = body["error"]
        assert sorted(error) == ["code", "message", "param", "type"], error
        assert isinstance(error["message"], str)
        assert 0 < len(error["message"]) <= 2000
        assert isinstance(error["type"], str)
        assert error["code"] is None or isinstance(error["code"], str)
        return error

    @property
    def request_id(self) -> str:
        found = self.header("x-request-id")
        assert found is not None, "an answer without x-request-id"
        return found

    @property
    def events(self) -> list[bytes]:
        """The data of every event of a stream."""
        blocks = self.body.split(b"\n\n")
        assert blocks.pop() == b"", "the stream ends inside an event"
        return [block.removeprefix(b"data: ") for block in blocks if not block.startswith(b":")]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The chunks of a stream that ended as it should."""
        *chunks, last = self.events
        assert last == b"[DONE]", self.body[-300:]
        return [json.loads(chunk) for chunk in chunks]

    @property
    def text(self) -> str:
        """All content of a stream."""
        return "".join(
            choice["delta"].get("content") or "" for chunk in self.chunks for choice in chunk.get("choices", ())
        )


class RawClient:
    """One connection to the gateway."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(self, data: bytes, *, method: str = "POST") -> Answer:
        self.send(data)
        return self.answer(method=method)

    def answer(self, *, method: str = "POST") -> Answer:
        """Read one whole answer."""
        status, version, headers = self.head()
        named = {name.lower(): value for name, value in headers}
        if method == "HEAD" or status < 200:
            return Answer(status, version, headers, b"", complete=True)
        if named.get("transfer-encoding") == "chunked":
            body, complete = self._chunked()
        elif "content-length" in named:
            length = int(named["content-length"])
            body = self.exactly(length)
            complete = len(body) == length
        else:
            body, complete = self.rest(), True
        return Answer(status, version, headers, body, complete)

    def head(self) -> tuple[int, str, list[tuple[str, str]]]:
        """Read the head of an answer: status, version, headers."""
        head = self.until(b"\r\n\r\n")
        assert head.endswith(b"\r\n\r\n"), f"the connection ended before an answer: {head!r}"
        first, *lines = head[:-4].decode("ascii").split("\r\n")
        version, status, _ = first.split(" ", 2)
        pairs = [line.split(": ", 1) for line in lines]
        return int(status), version, [(name, value) for name, value in pairs]

    def part(self) -> bytes:
        """Read one chunk of a chunked body; b"" is its end."""
        size = int(self.until(b"\r\n").strip() or b"0", 16)
        data = self.exactly(size + 2)
        assert data.endswith(b"\r\n"), data[-20:]
        return data[:-2]

    def body_until(self, wanted: bytes) -> bytes:
        """Read chunks of a stream until one holds what is wanted."""
        body = b""
        while wanted not in body:
            part = self.part()
            assert part, f"the stream ended before {wanted!r}: {body!r}"
            body += part
        return body

    def stream_rest(self) -> bytes:
        """Read the rest of a chunked stream, which must be complete."""
        body, complete = self._chunked()
        assert complete
        assert body.endswith(DONE), body[-300:]
        return body

    def rest(self) -> bytes:
        """Read to the end of the connection."""
        while self._more():
            pass
        rest, self._read = self._read, b""
        return rest

    def ended(self) -> bool:
        """Whether the gateway closes the connection without another byte."""
        return self.rest() == b""

    def until(self, mark: bytes) -> bytes:
        while mark not in self._read and self._more():
            pass
        end = self._read.find(mark)
        end = len(self._read) if end < 0 else end + len(mark)
        found, self._read = self._read[:end], self._read[end:]
        return found

    def exactly(self, size: int) -> bytes:
        parts = [self._read]
        missing = size - len(self._read)
        while missing > 0:
            data = self._receive()
            if not data:
                break
            parts.append(data)
            missing -= len(data)
        data = b"".join(parts)
        self._read = data[size:]
        return data[:size]

    def _chunked(self) -> tuple[bytes, bool]:
        parts = []
        for part in self._parts():
            if part == b"":
                return b"".join(parts), True
            parts.append(part)
        return b"".join(parts), False

    def _parts(self) -> Iterator[bytes]:
        while True:
            line = self.until(b"\r\n")
            if not line.endswith(b"\r\n"):
                return
            size = int(line, 16)
            data = self.exactly(size + 2)
            if len(data) < size + 2:
                return
            yield data[:-2]
            if size == 0:
                return

    def _more(self) -> bool:
        data = self._receive()
        self._read += data
        return bool(data)

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(262_144)
        except ConnectionResetError:
            return b""


def request_bytes(
    method: str, path: str, body: bytes = b"", *, key: str | None = None, version: str = "1.1", **headers: str | None
) -> bytes:
    """Write a request; a header given as None is left out, and underscores in names stand for hyphens."""
    lines: dict[str, str | None] = {"Host": "gateway"}
    if body:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    if key is not None:
        lines["Authorization"] = f"Bearer {key}"
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} {path} HTTP/{version}\r\n{head}\r\n".encode("latin-1") + body


def chat_body(model: str = "same", content: str = "Hi.", **more: object) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}], **more}).encode()


def chat(key: str, model: str = "same", content: str = "Hi.", **more: object) -> bytes:
    """A chat request as bytes."""
    return request_bytes("POST", "/v1/chat/completions", chat_body(model, content, **more), key=key)
