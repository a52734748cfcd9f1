"""The scripted provider that ships with the gateway (`builtin: demo`): a small OpenAI-compatible server of its own.

Here belongs how its answers travel and how fast; never what they say (`demo_script.py`), and nothing that another
provider needs: the gateway reaches this one as it reaches all of them, through a URL and over a real socket.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.demo_script import (
    Answer,
    ChatRequest,
    answer_to,
    deltas_of,
    message_of,
    size_of,
    usage_of,
    usage_so_far,
)

PACE: Final = 0.015
SLOW_PACE: Final = 0.150
"""Seconds between two words: fast enough to read along, slow enough to see that it streams."""

MOST_BODY: Final = 64 * 1024 * 1024
"""Bytes of a request body; above every sensible `max_body` of the gateway in front, so that its limit decides."""

ERROR_KINDS: Final = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "permission_denied"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


class _Server:
    """Turns decided answers into HTTP: the only part that waits."""

    def __init__(
        self, pace: float, slow_pace: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._pace, self._slow_pace, self._clock, self._sleep = pace, slow_pace, clock, sleep
        self._numbers = itertools.count(1)

    async def models(self, _: web.Request) -> web.Response:
        entry = {"id": "demo", "object": "model", "created": 0, "owned_by": "demo"}
        return _json({"object": "list", "data": [entry]})

    async def chat(self, http: web.Request) -> web.StreamResponse:
        try:
            request = msgspec.json.decode(await http.read(), type=ChatRequest)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as mistake:
            return _error(400, f"The request cannot be read: {mistake}")
        answer = answer_to(request)
        if answer.status != web.HTTPOk.status_code:
            return _error(
                answer.status, f"The scripted demo provider answers {answer.status}: the prompt asked for it."
            )
        created = int(self._clock())
        head = {
            "id": f"chatcmpl-demo-{created:x}-{next(self._numbers)}",
            "object": "chat.completion.chunk" if request.stream else "chat.completion",
            "created": created,
            "model": request.model,
        }
        return await (self._stream if request.stream else self._whole)(http, request, answer, head)

    async def _whole(
        self, http: web.Request, request: ChatRequest, answer: Answer, head: dict[str, Any]
    ) -> web.StreamResponse:
        if answer.slow:
            await self._sleep(self._slow_pace * len(answer.text.split()))
        choices = [
            {
                "index": index,
                "message": message_of(answer, f"call_{head['id']}-{index}"),
                "finish_reason": answer.finish,
            }
            for index in range(request.n or 1)
        ]
        document = {**head, "choices": choices, "usage": usage_of(request, answer)}
        if not answer.breaks:
            return _json(document)
        body = msgspec.json.encode(document)
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(http)
        await response.write(body[: len(body) // 2])
        return _hang_up(http, response)

    async def _stream(
        self, http: web.Request, request: ChatRequest, answer: Answer, head: dict[str, Any]
    ) -> web.StreamResponse:
        options = request.stream_options
        told = bool(options and options.include_usage)
        running = bool(told and options and options.continuous_usage_stats)
        pace = self._slow_pace if answer.slow else self._pace
        indexes = range(request.n or 1)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        )
        await response.prepare(http)

        async def send(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> None:
            chunk = {**head, "choices": choices, **({"usage": usage} if told else {})}
            await response.write(b"data: " + msgspec.json.encode(chunk) + b"\n\n")

        steps: Iterator[tuple[dict[str, Any], ...]]
        steps = zip(*(deltas_of(answer, f"call_{head['id']}-{index}") for index in indexes), strict=True)
        if answer.breaks:
            steps = itertools.islice(steps, (sum(1 for _ in deltas_of(answer, "")) + 1) // 2)
        spoken, usage = 0, None
        for deltas in steps:
            spoken += size_of(deltas[0])
            usage = usage_so_far(request, spoken) if running else None
            for index, delta in zip(indexes, deltas, strict=True):
                await send([{"index": index, "delta": delta, "finish_reason": None}], usage)
            await self._sleep(pace)
        if answer.breaks:
            return _hang_up(http, response)
        for index in indexes:
            await send([{"index": index, "delta": {}, "finish_reason": answer.finish}], usage)
        if told:
            await send([], usage_of(request, answer))
        await response.write(b"data: [DONE]\n\n")
        return response


def _hang_up(http: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Closes the connection under an unfinished answer; what was written still goes out."""
    if http.transport is not None:
        http.transport.close()
    return response


def _json(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    kind, code = ERROR_KINDS.get(status, ("server_error", "server_error"))
    response = _json({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)
    if status == web.HTTPTooManyRequests.status_code:
        response.headers["Retry-After"] = "1"
    return response


@web.middleware
async def _in_one_envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives aiohttp's own errors the shape of every other error."""
    try:
        return await handler(request)
    except web.HTTPError as error:
        served = f"POST /v1/chat/completions with at most {MOST_BODY} bytes, and GET /v1/models"
        return _error(error.status, f"{error.reason}: the demo provider serves {served}.")


@dataclass(frozen=True, slots=True)
class DemoProvider:
    """A running demo provider; whoever started it closes it."""

    port: int
    base_url: str
    runner: web.AppRunner

    async def close(self) -> None:
        """Stops listening and cuts what is still open after half a second."""
        await self.runner.cleanup()


async def start_demo_provider(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    pace: float = PACE,
    slow_pace: float = SLOW_PACE,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the root floor, which hands the clock in
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> DemoProvider:
    """A scripted provider that listens (port 0: any free one); paces are seconds between two words.

    Raises OSError if the port is taken.
    """
    server = _Server(pace, slow_pace, clock, sleep)
    app = web.Application(client_max_size=MOST_BODY, middlewares=[_in_one_envelope])
    app.add_routes([web.post("/v1/chat/completions", server.chat), web.get("/v1/models", server.models)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    bound: int = runner.addresses[0][1]
    return DemoProvider(bound, f"http://{host}:{bound}/v1", runner)
