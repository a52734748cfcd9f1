"""How long an event loop is held up while something large is read beside it: in this process, without any socket.

The shapes are those that the fault tests send; of each kind the worst counts. A timer that is due every half
millisecond tells how late it is.
"""

import asyncio
import contextlib
import datetime as dt
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from proxy.aside import Aside
from proxy.call import Call, Endpoint, Target
from proxy.catalog import Model, Route
from proxy.errors import Refusal
from proxy.pricing import Prices
from proxy.providers import Provider
from proxy.translation import AnswerStream, Surroundings, Translation, translation_of
from proxy.wire.chat_request import dialect_of, read_chat_request
from proxy.wire.upstream_error import UpstreamError

sys.path.append(str(Path(__file__).parents[1] / "faults"))
from json_bombs import ANSWER_BOMBS, CHAT_BOMBS, EVENT_BOMBS

TARGET_MS: Final = 50
BODY: Final = 20 * 2**20
ANSWER: Final = 16 * 2**20
TICK_SECONDS: Final = 0.0005
READ_AT_ONCE: Final = 64 * 1024
NAMES: Final = (
    "text", "text beyond ASCII", "text of quotation marks", "text and one lone surrogate", "text behind tags",
    "text of pairs and one lone surrogate", "escapes within the bounds", "messages within the bounds",
    "parts with a text", "top-level keys", "log probabilities", "lists",
)  # fmt: skip
AROUND: Final = Surroundings(lambda: "n" * 24, lambda: 1_800_000_000)


Read = Callable[[bytes], object]


class HeldUp(NamedTuple):
    """How late the timer was, in milliseconds."""

    longest_ms: float
    p99_ms: float


def translation(*, stream: bool) -> Translation:
    """A call whose answer's reasoning is taken apart: the most that is done to one."""
    body = b'{"model":"same","messages":[{"role":"user","content":"Hi."}],"stream":%b}' % (
        b"true" if stream else b"false"
    )
    provider, prices = Provider(base_url="http://127.0.0.1:1/v1"), Prices.parse("0.000001", "0.000001")
    model = Model(
        id="same", name="", description="", date=dt.date(2026, 1, 1), context_length=8192,
        max_completion_tokens=1024, is_moderated=False, modality="text->text", prices=prices, reasoning=True,
        routes=(Route("one", "same"),),
    )  # fmt: skip
    call = Call("req_1", Endpoint.CHAT, read_chat_request(body), model, 1, len(body))
    return translation_of(call, Target(model.routes[0], provider), dialect_of(provider), AROUND)


def read_body(body: bytes) -> None:
    """Read a client's request."""
    read_chat_request(body)


def read_events(stream: AnswerStream, events: bytes) -> None:
    """Read what comes from a socket, and write what the client gets."""
    for at in range(0, len(events), READ_AT_ONCE):
        stream.feed(events[at : at + READ_AT_ONCE])


def reader_of_events() -> Read:
    """A stream that has begun."""
    stream = translation(stream=True).stream()
    stream.feed(EVENT_BOMBS["text"](1_000))
    return partial(read_events, stream)


Shapes = dict[str, Callable[[int], bytes]]
WORST: Final[dict[str, tuple[Callable[[], Read], Shapes, int]]] = {
    "a body of 20 MiB": (lambda: read_body, CHAT_BOMBS, BODY),
    "an answer of 16 MiB": (lambda: translation(stream=False).answer, ANSWER_BOMBS, ANSWER),
    "an event of 16 MiB": (reader_of_events, EVENT_BOMBS, ANSWER),
}


def held_up(kind: str) -> HeldUp:
    """How late the timer was in the worst shape of a kind, and in all of them."""
    reader, shapes, size = WORST[kind]
    late = []
    for name in NAMES:
        if name in shapes:
            late += asyncio.run(_lateness(reader(), shapes[name](size)))
    late.sort()
    return HeldUp(late[-1] * 1000, late[len(late) * 99 // 100] * 1000)


async def _lateness(read: Read, data: bytes) -> list[float]:
    aside = Aside(asyncio.get_running_loop())
    await aside.run(lambda: None)  # its thread has started

    def work() -> None:
        with contextlib.suppress(Refusal, UpstreamError):  # what is refused has to be looked at too
            read(data)

    reading = asyncio.ensure_future(aside.run(work))
    late = []
    while not reading.done():
        due = time.monotonic() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        late.append(max(0.0, time.monotonic() - due))
    await reading
    return late or [0.0]
