"""The public port: which URL is which, request ids, and the promise that every answer has one form.

Every request gets an answer from here, errors of parsing and bugs of ours included. What a completion is, is told
in `gateway.py`.
"""

import asyncio
import time
from collections.abc import Callable
from os import urandom
from typing import Final
from urllib.parse import unquote

from proxy.call import Ending, Endpoint, RequestEnd
from proxy.catalog import model_body
from proxy.client_request import ClientRequest
from proxy.errors import Fault, Refusal
from proxy.gateway import Gateway, milliseconds, refused
from proxy.refuse import (
    malformed,
    our_bug,
    overloaded,
    refuse,
    refuse_bug,
    unknown_model,
    unknown_response,
    unknown_url,
    wrong_method,
)
from proxy.report import Report
from proxy.serving import Serving
from proxy.wire.headers import answer_head, fault_lines, http_date, new_request_id
from proxy.wire.refusal import error_body

COMPLETIONS: Final = {"/v1/chat/completions": Endpoint.CHAT, "/v1/responses": Endpoint.RESPONSES}
RESPONSE: Final = "/v1/responses/"
MODELS: Final = "/v1/models"
UNKNOWN: Final = "unknown"
ID_BYTES: Final = 7
CHANCE_BYTES: Final = 512 * ID_BYTES
"""Random bytes in stock for the ids of requests: one system call for so many."""
NOT_A_RESPONSE: Final = frozenset({"/v1/responses/input_tokens", "/v1/responses/compact"})
"""Endpoints of OpenAI's that stand where a response's id would."""
_CACHEABLE: Final = b"Cache-Control: public, max-age=60\r\n"


class Api:
    """Serves the API's port on one worker."""

    def __init__(self, serving: Serving, gateway: Gateway, report: Report, wall_clock: Callable[[], float]) -> None:
        """Serve with `serving` until it is replaced."""
        self.serving = serving
        self.closing = False
        """Set when the worker stops: answers then end their connections."""
        self.overloaded = False
        """Set while the worker has no memory for new completions."""
        self.in_flight = 0
        self._gateway = gateway
        self._report = report
        self._wall_clock = wall_clock
        self._date_second = 0
        self._date_line = b""
        self._chance = b""
        self._chance_used = 0

    async def handle(self, client: ClientRequest) -> None:
        """Serve one request, whatever it is; nothing but a cancellation is raised."""
        arrived, now = time.monotonic(), self._wall_clock()
        request_id, common_lines = self._identify(now)
        client.add_line(common_lines)
        if self.closing:
            client.keep_alive = False
        self.in_flight += 1
        fault: Fault | None = None
        try:
            await self._dispatch(client, request_id, arrived, now)
        except Refusal as refusal:
            fault = refusal.fault
            refuse(client, fault, request_id)
        except asyncio.CancelledError:
            self._report.request_ended(
                refused(client, request_id, _endpoint(client.path), None, time.monotonic() - arrived)
            )
            raise
        except Exception as error:  # noqa: BLE001 - the one place where a bug becomes an answer
            self._report.bug(request_id, error)
            fault = refuse_bug(client, request_id)
        finally:
            self.in_flight -= 1
        if fault is not None:
            self._report.request_ended(
                refused(client, request_id, _endpoint(client.path), fault, time.monotonic() - arrived)
            )

    def on_malformed(self, error: BaseException | None) -> bytes:
        """Write the whole answer for a connection on which no request could be read; it ends with this answer."""
        request_id, common_lines = self._identify(self._wall_clock())
        fault = our_bug() if error is None else malformed(error)
        body = error_body(fault, request_id)
        self._report.request_ended(
            RequestEnd(
                request_id,
                UNKNOWN,
                UNKNOWN,
                stream=False,
                status=fault.status,
                ending=Ending.REFUSED,
                duration_ms=0.0,
                code=fault.code,
                reason=fault.reason,
            )
        )
        return answer_head(fault.status, len(body), common_lines + fault_lines(fault) + b"Connection: close\r\n") + body

    async def _dispatch(self, client: ClientRequest, request_id: str, arrived: float, now: float) -> None:
        path = client.path
        if path.endswith("/") and len(path) > 1:
            path = path[:-1]
        endpoint = COMPLETIONS.get(path)
        if endpoint is not None:
            _require(client, "POST")
            if self.overloaded:
                raise Refusal(overloaded())
            await self._gateway.complete(client, endpoint, request_id, self.serving, arrived, now)
        elif path == MODELS or path.startswith(MODELS + "/"):
            _require(client, "GET", "HEAD")
            self._models(client, unquote(path[len(MODELS) + 1 :]))
            seconds = time.monotonic() - arrived
            self._report.request_ended(
                RequestEnd(
                    request_id,
                    "models",
                    UNKNOWN,
                    stream=False,
                    status=200,
                    ending=Ending.COMPLETE,
                    duration_ms=milliseconds(seconds),
                )
            )
        elif path.startswith(RESPONSE) and path not in NOT_A_RESPONSE:
            raise Refusal(unknown_response())
        else:
            raise Refusal(unknown_url())

    def _models(self, client: ClientRequest, name: str) -> None:
        """Answer with the listing, or with one model; no key is asked for, and one that is sent is not looked at."""
        if not name:
            client.answer(200, self.serving.models_body, _CACHEABLE)
            return
        model = self.serving.catalog.find(name)
        if model is None:
            raise Refusal(unknown_model())
        client.answer(200, model_body(model), _CACHEABLE)

    def _identify(self, now: float) -> tuple[str, bytes]:
        """Make a request's id and the header lines of every answer to it."""
        if int(now) != self._date_second:
            self._date_second = int(now)
            self._date_line = http_date(now)
        if len(self._chance) - self._chance_used < ID_BYTES:
            self._chance, self._chance_used = urandom(CHANCE_BYTES), 0
        used = self._chance_used
        self._chance_used = used + ID_BYTES
        request_id = new_request_id(int(now * 1000), self._chance[used : used + ID_BYTES])
        return request_id, b"x-request-id: " + request_id.encode() + b"\r\n" + self._date_line


def _require(client: ClientRequest, *methods: str) -> None:
    if client.method not in methods:
        client.add_line(b"Allow: " + ", ".join(methods).encode() + b"\r\n")
        raise Refusal(wrong_method(methods[0]))


def _endpoint(path: str) -> str:
    return next(
        (endpoint for prefix, endpoint in COMPLETIONS.items() if path.startswith(prefix)),
        "models" if path.startswith(MODELS) else UNKNOWN,
    )
