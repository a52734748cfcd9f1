"""The provider of a chaos run, which keeps its own exact account of what it was asked and what it told.

It knows nothing of the gateway: a request's number stands in its prompt, and the plan of that number says what to do.
"""

import asyncio
import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from plan import Fault, Planned

NUMBER = re.compile(rb"request (\d+) of a chaos run")
REFUSING = b"/refusing/"


@dataclass(slots=True)
class Served:
    """What the provider knows of one request."""

    asked: int = 0
    answered: int = 0
    """How many of the times it was asked it began to answer."""
    text_bytes: int = 0
    """Bytes of text that it has sent, as UTF-8."""
    told_usage: bool = False


class Oracle:
    """Serves chat completions as the plan says; `served` is its account, by number."""

    def __init__(self, plan: Callable[[int], Planned]) -> None:
        self._plan = plan
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.served: dict[int, Served] = defaultdict(Served)
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port of the loopback."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = (ConnectionError, RuntimeError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*gone):  # uvloop says RuntimeError where the other end has just gone
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False if the connection is over."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
        body = await reader.readexactly(length)
        plan = self._plan(int(NUMBER.search(body)[1]))
        served = self.served[plan.number]
        served.asked += 1
        if plan.fault is Fault.REFUSES or REFUSING in head.split(b"\r\n", 1)[0]:
            writer.write(whole(500, {"error": {"message": "the provider is out of order"}}))
            await writer.drain()
            return True
        served.answered += 1
        if not plan.stream:
            await asyncio.sleep(plan.pause)
            served.text_bytes += len("".join(plan.words).encode())
            served.told_usage = plan.fault is not Fault.NO_USAGE
            writer.write(whole(200, answer_of(plan)))
            await writer.drain()
            return True
        return await self._stream(plan, served, writer)

    async def _stream(self, plan: Planned, served: Served, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for told, word in enumerate(plan.words):
            if told == plan.breaks_after and plan.fault is Fault.CUT:
                await writer.drain()
                return False
            if told == plan.breaks_after and plan.fault is Fault.ERROR:
                writer.write(chunked({"error": {"message": "the provider broke", "code": 500}}) + b"0\r\n\r\n")
                await writer.drain()
                return True
            served.text_bytes += len(word.encode())
            writer.write(chunked(chunk_of(plan, {"content": word}, None)))
            await writer.drain()
            await asyncio.sleep(plan.pause)
        writer.write(chunked(chunk_of(plan, {}, "stop")))
        if plan.fault is not Fault.NO_USAGE:
            served.told_usage = True
            writer.write(chunked({**chunk_of(plan, {}, None), "choices": [], "usage": usage_of(plan)}))
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()
        return True


def whole(status: int, document: object) -> bytes:
    """A whole answer."""
    body = json.dumps(document).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


def chunked(document: object) -> bytes:
    """One event as one chunk."""
    event = b"data: %b\n\n" % json.dumps(document).encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def usage_of(plan: Planned) -> dict[str, int]:
    """The usage that the provider tells: numbers that no estimate would hit."""
    prompt, completion = plan.reported_prompt, plan.reported_completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def chunk_of(plan: Planned, delta: dict[str, str], finish: str | None) -> dict[str, object]:
    """One chunk of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": f"c-{plan.number}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }


def answer_of(plan: Planned) -> dict[str, object]:
    """A whole answer's document."""
    message = {"role": "assistant", "content": "".join(plan.words)}
    document = {
        "id": f"c-{plan.number}",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    return document if plan.fault is Fault.NO_USAGE else {**document, "usage": usage_of(plan)}
