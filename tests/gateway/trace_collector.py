"""A collector of traces on loopback: takes OTLP over HTTP, reads it by the standard's own messages, and keeps it."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

KINDS = {
    Sent.SPAN_KIND_SERVER: "server",
    Sent.SPAN_KIND_CLIENT: "client",
    Sent.SPAN_KIND_INTERNAL: "internal",
}


class Span:
    """One span as it arrived."""

    def __init__(self, sent: Sent, resource: dict[str, Any]) -> None:
        self.name = sent.name
        self.kind = KINDS[sent.kind]
        self.trace_id = sent.trace_id.hex()
        self.span_id = sent.span_id.hex()
        self.parent_id = sent.parent_span_id.hex()
        self.state = sent.trace_state
        self.began, self.ended = sent.start_time_unix_nano, sent.end_time_unix_nano
        self.attributes = _values(sent.attributes)
        self.failed = sent.status.code == 2
        self.resource = resource


class TraceCollector:
    """Takes what it is sent, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[bytes] = []
        self.spans: list[Span] = []
        self.paths: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def of_request(self, request_id: str) -> list[Span]:
        """The spans of the trace in which this request is."""
        spans = list(self.spans)
        traces = {span.trace_id for span in spans if span.attributes.get("aion.request_id") == request_id}
        return [span for span in spans if span.trace_id in traces]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> Callable[..., BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.status == 200:
                    collector._take(self.path, body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        self.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(group.resource.attributes)
            self.spans += [Span(span, resource) for scope in group.scope_spans for span in scope.spans]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(sent: Any) -> Any:
    value = getattr(sent, sent.WhichOneof("value"))
    return [_value(one) for one in value.values] if sent.HasField("array_value") else value
