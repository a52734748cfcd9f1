"""Both sides of a gateway, in bytes: clients over raw sockets before it, a provider of raw sockets behind it.

The provider answers everything with one fixed completion and counts; a row that must not reach it is told from one that
did by that count alone.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from gateway_process import Gateway
from raw_client import Answer, RawClient
from scripted_provider import PATIENCE

ANSWER = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"same","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,'
    b'"completion_tokens":2,"total_tokens":5}}'
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"same","choices":[{"index":0,"delta":'
    b'{"content":"Hello."},"finish_reason":null}]}\n\n'
)
EVENTS = b"%x\r\n%b\r\n" % (100 * len(EVENT), 100 * EVENT)
CONFIG = """\
server: {{listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0", max_body: 1MiB{server}}}
catalog: catalog.yaml
store_timeout: 1s
providers: {{main: {{base_url: "http://127.0.0.1:{port}/v1"}}}}
"""
CATALOG = """\
models:
  - {id: same, name: A model, description: It says Hello, date: "2025-01-02", context_length: 8192,
     max_completion_tokens: 1024, pricing: {prompt: "0.0000008", completion: "0.0000016"},
     routes: [{provider: main, model: same}]}
"""


class CountingProvider:
    """A listening socket that counts the connections and the requests it gets, and answers each."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.requests = 0
        self.endless = False
        """Answer with a stream that goes on for as long as anybody reads it."""
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self._open: list[socket.socket] = []

    @property
    def counts(self) -> tuple[int, int]:
        return self.connections, self.requests

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(PATIENCE)
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as file, contextlib.suppress(OSError):
            while length := _request(file):
                self.requests += 1
                file.read(length)
                if self.endless:
                    sock.sendall(STREAM_HEAD)
                    while True:
                        sock.sendall(EVENTS)
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                sock.sendall(head % len(ANSWER) + ANSWER)


def _request(file: object) -> int:
    """Read the head of a request; returns the length of its body."""
    length = 0
    for line in file:  # type: ignore[attr-defined]
        if line == b"\r\n":
            break
        if line.lower().startswith(b"content-length:"):
            length = int(line[15:])
    return length


class TwoSides:
    """A running gateway between the two, and a key that is good."""

    def __init__(self, gateway: Gateway, provider: CountingProvider) -> None:
        self.gateway = gateway
        self.provider = provider
        self.key = gateway.new_key()

    def bytes_of(self, data: bytes) -> bytes:
        """The bytes with the key in its place."""
        return data.replace(b"Bearer KEY", b"Bearer " + self.key.secret.encode())

    def client(self, receive_buffer: int | None = None) -> RawClient:
        return self.gateway.client(receive_buffer)


@contextlib.contextmanager
def two_sides(folder: Path, server: str = "") -> Iterator[TwoSides]:
    """Run a gateway for the length of a block; `server` are further settings of that section. It must end in order and
    without having met a bug.
    """
    provider = CountingProvider()
    gateway = Gateway(folder, CONFIG.format(port=provider.port, server=f", {server}" if server else ""), CATALOG)
    try:
        gateway.start()
        yield TwoSides(gateway, provider)
    finally:
        try:
            if gateway.process is not None:
                gateway.stop()
        finally:
            provider.close()
    log = gateway.log.read_text()
    assert '"event":"bug"' not in log, log[-4000:]
    assert "Traceback" not in log, log[-4000:]


def envelope(answer: Answer, status: int, kind: str, code: str | None) -> None:
    """Check that an answer is this refusal, in the one form that refusals have."""
    assert (answer.status, answer.error["type"], answer.error["code"]) == (status, kind, code), answer.body
    assert answer.header("Content-Type") == "application/json"
    assert answer.request_id.startswith("req_")


def resident(pid: int) -> int:
    """How many bytes of memory a process has."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
