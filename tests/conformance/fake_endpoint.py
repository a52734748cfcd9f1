"""An endpoint that does everything right, without a socket: requests as values in, answers as values out.

What it refuses of a chat request is what the gateway refuses; everything else it knows itself.
"""

import gzip
import json
import re
import zlib
from itertools import count
from typing import Any
from urllib.parse import unquote

from fake_answers import MODEL, Said, chat_completion, chat_stream, dumped, response_events, response_stream

from proxy.conformance.exchange import CHAT, KEY, MODELS, RESPONSES, Ask, Reply
from proxy.errors import Refusal
from proxy.wire.chat_request import read_chat_request

ENTRY: dict[str, Any] = {
    "id": MODEL,
    "name": "Fake",
    "description": "It says hello.",
    "date": "2026-01-31",
    "context_length": 1000,
    "max_completion_tokens": 100,
    "is_moderated": False,
    "architecture": {"modality": "text->text"},
    "pricing": {"prompt": "0.0000008", "completion": "0.0000016"},
}
ENTRIES = [ENTRY, {**ENTRY, "id": "plain", "pricing": {**ENTRY["pricing"], "input_cache_read": "0.1"}}]
CREATED = {"fake": 1_769_817_600}
STREAM_HEADERS = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
)
LIMITS = tuple(
    (f"x-ratelimit-{part}-{kind}", value)
    for kind in ("requests", "tokens")
    for part, value in (("limit", "600"), ("remaining", "599"), ("reset", "1m0.5s"))
)
JSON_TYPE = re.compile(r'application/([a-z.]+\+)?json(; *charset="?utf-8"?)?', re.IGNORECASE)
CREDENTIALS = re.compile(rf"(bearer|api-key)[ \t]+{re.escape(KEY)}", re.IGNORECASE)


class Refused(Exception):  # noqa: N818 - it is an answer
    """An error that is answered."""

    def __init__(self, status: int, kind: str, code: str, param: str | None = None, **headers: str) -> None:
        super().__init__(code)
        self.status = status
        self.body = {"error": {"message": f"This is {code} here.", "type": kind, "param": param, "code": code}}
        self.headers = tuple((name.replace("_", "-"), value) for name, value in headers.items())


def invalid(status: int, code: str, param: str | None = None, **headers: str) -> Refused:
    return Refused(status, "invalid_request_error", code, param, **headers)


def openai_entry(entry: dict[str, Any]) -> dict[str, Any]:
    owner = entry["id"].split("/")[0] if "/" in entry["id"] else "gateway"
    rest = {name: value for name, value in entry.items() if name != "id"}
    return {"id": entry["id"], "object": "model", "created": 1_769_817_600, "owned_by": owner, **rest}


class FakeEndpoint:
    """The whole API."""

    def __init__(self, *, tools: bool = True, reasons: bool = True, limits: bool = True, largest: int = 2**20) -> None:
        self._tools = tools
        self._reasons = reasons
        self._limits = LIMITS if limits else ()
        self._largest = largest
        self._numbers = count(1)

    def respond(self, ask: Ask) -> Reply:
        """Answer one request."""
        number = next(self._numbers)
        common = (("x-request-id", f"req_{number:026d}"),)
        try:
            headers, body = self._route(ask, number)
            status = 200
        except Refused as refused:
            headers = (("content-type", "application/json"), *refused.headers)
            headers += self._limits if refused.status in {400, 413, 415} and ask.method == "POST" else ()
            status, body = refused.status, dumped(refused.body)
        length = (("content-length", str(len(body))),) if headers[0][1].endswith("json") else ()
        return Reply(ask, status, (*headers, *common, *length), body)

    def _route(self, ask: Ask, number: int) -> tuple[tuple[tuple[str, str], ...], bytes]:
        if ask.raw_lines:
            raise invalid(400, "invalid_http")
        path = unquote(ask.path.partition("?")[0]).rstrip("/")
        if path == MODELS or path.startswith(f"{MODELS}/"):
            return (("content-type", "application/json"),), dumped(self._models(ask, path))
        if path not in (CHAT, RESPONSES):
            raise invalid(404, "unknown_url")
        if ask.method != "POST":
            raise invalid(405, "method_not_allowed", allow="POST")
        body = self._accepted(ask)
        return self._chat(body, number) if path == CHAT else self._response(body, number)

    def _models(self, ask: Ask, path: str) -> dict[str, Any]:
        if ask.method != "GET":
            raise invalid(405, "method_not_allowed", allow="GET, HEAD")
        if path == MODELS:
            return {"object": "list", "data": [openai_entry(entry) for entry in ENTRIES], "models": ENTRIES}
        for entry in ENTRIES:
            if path == f"{MODELS}/{entry['id']}":
                return openai_entry(entry)
        raise invalid(404, "model_not_found", "model")

    def _accepted(self, ask: Ask) -> bytes:
        """The decoded body of a request with a good key."""
        given = [value.strip() for name, value in ask.headers if name == "Authorization"]
        if not given:
            raise Refused(401, "authentication_error", "missing_api_key", www_authenticate="Bearer")
        if len(given) > 1 or not CREDENTIALS.fullmatch(given[0]):
            raise Refused(401, "authentication_error", "invalid_api_key", www_authenticate="Bearer")
        headers = dict(ask.headers)
        coding = headers.get("Content-Encoding")
        if not JSON_TYPE.fullmatch(headers.get("Content-Type", "application/json")) or coding == "conformance":
            raise invalid(415, "unsupported_media_type")
        body = gzip.decompress(ask.body) if coding == "gzip" else ask.body
        body = zlib.decompress(body) if coding == "deflate" else body
        if len(body) > self._largest:
            raise invalid(413, "request_too_large")
        return body

    def _said(self, fields: dict[str, Any]) -> Said:
        if fields["model"] != MODEL:
            raise invalid(400, "model_not_found", "model")
        return Said(fields, tools=self._tools, reasons=self._reasons)

    def _chat(self, body: bytes, number: int) -> tuple[tuple[tuple[str, str], ...], bytes]:
        check_chat(body)
        fields = json.loads(body.removeprefix(b"\xef\xbb\xbf"))
        said = self._said(fields)
        dropped = [name for name in ("store", "service_tier") if name in fields]
        if not fields.get("stream"):
            return self._whole(dropped, chat_completion(said, number))
        options = fields.get("stream_options") or {}
        usage, running = options.get("include_usage", False), options.get("continuous_usage_stats", False)
        return (*STREAM_HEADERS, *self._limits), chat_stream(said, number, usage=usage, running=running)

    def _response(self, body: bytes, number: int) -> tuple[tuple[tuple[str, str], ...], bytes]:
        fields = check_response(body)
        said = self._said(fields)
        dropped = [f"tools[{at}]" for at, tool in enumerate(fields.get("tools") or ()) if tool["type"] != "function"]
        items = fields.get("input") if isinstance(fields.get("input"), list) else []
        dropped += [f"input[{at}]" for at, item in enumerate(items) if item.get("type") == "web_search_call"]
        events = response_events(fields, said, number)
        if fields.get("stream"):
            return (*STREAM_HEADERS, *self._limits), response_stream(events)
        return self._whole(dropped, events[-1]["response"])

    def _whole(self, dropped: list[str], document: dict[str, Any]) -> tuple[tuple[tuple[str, str], ...], bytes]:
        named = (("x-gateway-ignored-params", ",".join(dropped)),) if dropped else ()
        return (("content-type", "application/json"), *named, *self._limits), dumped(document)


def check_chat(body: bytes) -> None:
    """Refuse what the gateway refuses of a chat request."""
    try:
        read_chat_request(body)
    except Refusal as refusal:
        fault = refusal.fault
        raise Refused(fault.status, fault.type, fault.code or "", fault.param) from None


def check_response(body: bytes) -> dict[str, Any]:
    """Refuse what is wrong with a request for a response; returns its fields without those that are null."""
    fields = {name: value for name, value in json.loads(body).items() if value is not None}
    for name in ("previous_response_id", "conversation", "prompt", "background"):
        if fields.get(name):
            raise invalid(400, "unsupported_parameter", name)
    check_input(fields)
    limit = fields.get("max_output_tokens", 1)
    if type(limit) is not int or limit < 1:
        raise invalid(400, "invalid_value", "max_output_tokens")
    shared = ("model", "temperature", "stream", "reasoning_split", "metadata")
    common = {name: fields[name] for name in shared if name in fields}
    check_chat(dumped({**common, "messages": fields.get("messages", [{"role": "user", "content": "x"}])}))
    tools = fields.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise invalid(400, "invalid_value", "tools")
    choice = fields.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] not in {"function", "allowed_tools"}:
        raise invalid(400, "invalid_value", "tool_choice")
    return fields


def check_input(fields: dict[str, Any]) -> None:
    given = fields.get("input", "not there")
    if ("input" in fields) == ("messages" in fields) or not given or not isinstance(given, str | list):
        raise invalid(400, "invalid_value", "input")
    for index, item in enumerate(given if isinstance(given, list) else ()):
        if item.get("type") == "item_reference" or "file_id" in json.dumps(item):
            raise invalid(400, "unsupported_parameter", f"input[{index}]")
