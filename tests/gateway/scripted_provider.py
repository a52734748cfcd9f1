"""A provider whose every byte and cut a test decides: plain sockets, one thread a connection, scripts that block.

A script is a function of one `Exchange`; it waits for events, never for time. What the provider was sent is kept to be
looked at. Nothing here knows the gateway.
"""

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE = 30.0
"""Seconds that anything may take on a busy machine; nothing waits longer than it has to."""

LONG_ENOUGH = 20
"""Characters of a text that is said by chance nowhere else."""
FEW_LETTERS = 6

EVENT_STREAM = {"Content-Type": "text/event-stream"}
JSON = {"Content-Type": "application/json"}
DONE = b"data: [DONE]\n\n"


class Stopped(Exception):  # noqa: N818 - the state of the test
    """The test is over while a script still waits."""


class Exchange:
    """One request as the provider got it, and the connection on which it answers."""

    def __init__(
        self, provider: "ScriptedProvider", sock: socket.socket, number: int, head: bytes, body: bytes
    ) -> None:
        self._provider = provider
        self._sock = sock
        self.connection = number
        self.head = head
        self.body = body
        self.closed = False

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def send_some(self, data: bytes) -> int:
        """Send what the connection takes now, after waiting for it to take anything."""
        while not select.select([], [self._sock], [], 0.05)[1]:
            self._provider.check_running()
        return self._sock.send(data[:65536])

    def head_of(self, status: int, headers: dict[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.send(f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode())

    def answer(self, body: object, status: int = 200, **headers: str) -> None:
        """Send a whole answer; what is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.head_of(status, {**JSON, "Content-Length": str(len(data)), **named})
        self.send(data)

    def start_stream(self) -> None:
        self.head_of(200, {**EVENT_STREAM, "Transfer-Encoding": "chunked"})

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self.send(b"0\r\n\r\n")

    def wait(self, event: threading.Event) -> None:
        """Wait for what the test decides."""
        self._provider.wait_until(event.is_set)

    def check_running(self) -> None:
        """End the script if the test is over; for scripts that wait in a way of their own."""
        self._provider.check_running()

    def wait_gone(self) -> None:
        """Wait until the gateway has closed the connection."""
        while True:
            self._provider.check_running()
            if not select.select([self._sock], [], [], 0.05)[0]:
                continue
            try:
                if not self._sock.recv(65536):
                    break
            except ConnectionError:
                break
        self.closed = True

    def close(self) -> None:
        """Close in order, as a server does that keeps no connection."""
        self.closed = True
        self._sock.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Close with a reset, as a process does that was killed."""
        self.closed = True
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


Script = Callable[[Exchange], None]


class ScriptedProvider:
    """Serves any number of providers, told apart by the first part of the path."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._scripts: dict[str, list[Script]] = defaultdict(list)
        self._stop = threading.Event()
        self._ended = False
        self._connections: dict[int, tuple[socket.socket, threading.Thread]] = {}
        self.connections = 0
        self.requests: list[Exchange] = []
        self.problems: list[str] = []
        self.told: set[str] = set()
        """Texts of every prompt that came and that is long enough to be found by; nothing else may hold them."""
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}/v1"

    def on(self, name: str, *scripts: Script) -> None:
        """Serve the next requests to this provider with these scripts, and all after them with the last."""
        with self._lock:
            self._scripts[name] = list(scripts)

    def asked(self, name: str | None = None) -> list[Exchange]:
        """Every request so far, or those to one provider."""
        with self._lock:
            return [exchange for exchange in self.requests if name is None or exchange.path.split("/")[1] == name]

    def only(self) -> Exchange:
        """The one request that there was."""
        (exchange,) = self.asked()
        return exchange

    def wait_until(self, is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            self.check_running()
            assert time.monotonic() < deadline, "what was waited for did not come"
            time.sleep(0.002)

    def wait_asked(self, number: int = 1) -> None:
        """Wait until there have been so many requests."""
        self.wait_until(lambda: len(self.requests) >= number)

    def check_running(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def reset(self) -> None:
        """Forget everything and close every connection: another test begins. Fails if a script failed."""
        self._stop.set()
        with self._lock:
            connections = list(self._connections.values())
        for sock, _ in connections:
            _shut(sock)
        for _, thread in connections:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script does not end"
        with self._lock:
            problems, self.problems = self.problems, []
            self.told |= {text for exchange in self.requests for text in _prompts(exchange.body)}
            self.requests = []
            self._scripts.clear()
            self._connections.clear()
            self.connections = 0
            self._stop.clear()
        assert not problems, problems

    def close(self) -> None:
        self._ended = True
        self._stop.set()
        _shut(self._listener)
        self._accepting.join(PATIENCE)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while not self._ended:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
                thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
                self._connections[id(sock)] = (sock, thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with sock:
            try:
                for head, body in _requests(sock):
                    exchange = Exchange(self, sock, number, head, body)
                    self._script_for(exchange)(exchange)
                    if exchange.closed:
                        return
            except (Stopped, ConnectionError):
                pass
            except Exception as error:  # noqa: BLE001 - told to the test when it ends
                if not self._stop.is_set():
                    self.problems.append(f"{type(error).__name__}: {error}")

    def _script_for(self, exchange: Exchange) -> Script:
        with self._lock:
            self.requests.append(exchange)
            scripts = self._scripts[exchange.path.split("/")[1]]
            if not scripts:
                self.problems.append(f"nobody expected this request: {exchange.head!r}")
                return lambda it: it.answer({"error": {"message": "unexpected"}}, 500)
            return scripts.pop(0) if len(scripts) > 1 else scripts[0]


def _requests(sock: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Take one request after the other off a connection. Reads no byte beyond a request, so that a script may read."""
    while True:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            if not byte:
                return
            head += byte
        length = next(
            int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        body = b""
        while len(body) < length:
            part = sock.recv(length - len(body))
            if not part:
                return
            body += part
        yield head[:-4], body


def _prompts(body: bytes) -> Iterator[str]:
    """The beginning of each long text of a request."""
    try:
        asked = json.loads(body)
    except ValueError:
        return
    left = [asked.get(name) for name in ("messages", "input", "instructions")] if isinstance(asked, dict) else []
    while left:
        value = left.pop()
        if isinstance(value, dict | list):
            left += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str) and len(value) >= LONG_ENOUGH and len(set(value)) > FEW_LETTERS:
            yield value[:LONG_ENOUGH]


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        sock.shutdown(socket.SHUT_RDWR)
