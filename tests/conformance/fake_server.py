"""The fake endpoint behind a real port, for what can only be seen through a socket."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from proxy.conformance.exchange import KEY, Ask, NoReply, Reply

SECRET = "sk-conformance-Secret123"


class Responder(Protocol):
    """What answers."""

    def respond(self, ask: Ask) -> Reply | NoReply: ...


@contextlib.contextmanager
def served(endpoint: Responder) -> Iterator[str]:
    """Serve an endpoint on a free port whose good key is `SECRET`; gives its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            given = tuple((name, value.replace(SECRET, KEY)) for name, value in self.headers.items())
            broken = b"x\r\n" if self.headers.defects else b""
            ask = Ask("", self.command, self.path.removeprefix("/v1"), given, body, raw_lines=broken)
            reply = endpoint.respond(ask)
            self.close_connection = True
            if isinstance(reply, Reply):
                self.send_response_only(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, str(len(reply.body)) if name == "content-length" else value)
                self.end_headers()
                self.wfile.write(reply.body)

    for method in ("GET", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()
