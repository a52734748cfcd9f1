"""What one event of a stream costs in the scan, in microseconds of processor time: no sockets and no event loop.

An event comes alone, as from a model slower than the network, or with seven others in one piece.
"""

import statistics
import string
import time
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, NamedTuple

from proxy.providers import ReasoningStyle
from proxy.usage import Usage
from proxy.wire.chat_stream import ChatStream, StreamPlan
from proxy.wire.reasoning import UNTOUCHED, ReasoningMode, ReasoningPlan

MODEL: Final = "lab/model"
OTHER: Final = "vendor/model-fp8"
AT_ONCE: Final = 8
TARGETS: Final = {0: 1.5, 1: 1.5, 2: 15.0}
SPLIT: Final = ReasoningPlan(ReasoningMode.SPLIT, ReasoningStyle.AUTO, "<think>", "</think>")
INLINE: Final = ReasoningPlan(ReasoningMode.INLINE, ReasoningStyle.AUTO, "<think>", "</think>")


class Case(NamedTuple):
    """One kind of stream: what comes first, and the events that are counted."""

    level: int
    name: str
    event: Callable[[int], bytes]
    first: tuple[bytes, ...]
    plan: ReasoningPlan = UNTOUCHED
    every_event: bool = False


class Row(NamedTuple):
    """What was measured, in microseconds an event."""

    level: int
    name: str
    alone: float
    together: float


def chunk(delta: str, model: str = MODEL) -> bytes:
    """An event as vLLM writes it."""
    head = f'"id":"chatcmpl-9a7741c2d8f04e0b","object":"chat.completion.chunk","created":1764000002,"model":"{model}"'
    choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":null}}'
    return f'data: {{{head},"choices":[{choice}]}}\n\n'.encode()


def token(key: str, model: str = MODEL, beside: str = "") -> Callable[[int], bytes]:
    """Events with a token's worth of text under a key."""
    return lambda number: chunk(f'{{"{key}":" token{number % 100}"{beside}}}', model)


def arguments(number: int) -> bytes:
    """Events of a tool call, with the quotation marks that arguments are full of."""
    return chunk(f'{{"tool_calls":[{{"index":0,"function":{{"arguments":"\\"key{number % 100}\\": "}}}}]}}')


def padded(key: str) -> Callable[[int], bytes]:
    """Events that are all different beside their text too, as OpenAI pads its own."""

    def event(number: int) -> bytes:
        random = Random(number)
        padding = "".join(random.choices(string.ascii_letters + string.digits, k=random.randrange(16)))
        return token(key)(number)[:-3] + f',"usage":null,"obfuscation":"{padding}"}}\n\n'.encode()

    return event


def timed(key: str) -> Callable[[int], bytes]:
    """Events with a time of their own, as llama.cpp writes it; here every one comes in another second."""
    return lambda number: token(key)(number).replace(b"1764000002", b"%d" % (1764000002 + number))


def with_probabilities(key: str) -> Callable[[int], bytes]:
    """Events that are alike in no way: each has the log probability of its token."""

    def event(number: int) -> bytes:
        one = f'{{"token":" token{number % 100}","logprob":-{number / 1e5:f},"bytes":[32,116],"top_logprobs":[]}}'
        return token(key)(number).replace(b'"logprobs":null', f'"logprobs":{{"content":[{one}]}}'.encode())

    return event


def call() -> bytes:
    """The beginning of a tool call."""
    called = '{"index":0,"id":"call_1","type":"function","function":{"name":"search","arguments":""}}'
    return chunk(f'{{"tool_calls":[{called}]}}')


ROLE: Final = chunk('{"role":"assistant","content":""}')
THOUGHT: Final = chunk('{"reasoning":"Well."}')
TAGGED: Final = chunk('{"content":"<think>\\nWell."}')
ANSWERED: Final = chunk('{"content":" So.\\n</think>\\n\\nYes."}')
CASES: Final = (
    Case(0, "content, untouched", token("content"), (ROLE,)),
    Case(0, "field `reasoning`, split", token("reasoning"), (ROLE, THOUGHT), SPLIT),
    Case(0, "content behind tags, split", token("content"), (ROLE, TAGGED, ANSWERED), SPLIT),
    Case(0, "arguments of a tool, split", arguments, (ROLE, THOUGHT, call()), SPLIT),
    Case(0, "content, padded", padded("content"), (ROLE,)),
    Case(1, "content, model renamed", token("content", OTHER), (chunk('{"role":"assistant"}', OTHER),)),
    Case(2, "tags, split", token("content"), (ROLE, TAGGED), SPLIT),
    Case(2, "tags, split, padded", padded("content"), (ROLE, TAGGED), SPLIT),
    Case(2, "tags, split, a time in each", timed("content"), (ROLE, TAGGED), SPLIT),
    Case(2, "tags, split, no two alike", with_probabilities("content"), (ROLE, TAGGED), SPLIT),
    Case(2, "field `reasoning_content`, split", token("reasoning_content"), (ROLE,), SPLIT),
    Case(2, "content beside a null `reasoning_content`", token("content", beside=',"reasoning_content":null'),
         (ROLE, ANSWERED), SPLIT),
    Case(2, "field `reasoning_content`, folded in", token("reasoning_content"), (ROLE,), INLINE),
    Case(2, "arguments of a tool, repaired", arguments, (ROLE, call()), UNTOUCHED, every_event=True),
    Case(2, "content, every event written anew", token("content"), (ROLE,), UNTOUCHED, every_event=True),
    Case(2, "the same, padded", padded("content"), (ROLE,), UNTOUCHED, every_event=True),
    Case(2, "the same, no two alike", with_probabilities("content"), (ROLE,), UNTOUCHED, every_event=True),
)  # fmt: skip


def seconds(case: Case, pieces: Iterable[bytes]) -> float:
    """Play one stream; return the processor time of the pieces behind its beginning."""
    stream = ChatStream(
        StreamPlan(
            model=MODEL,
            choices=1,
            include_usage=False,
            continuous_usage=False,
            strip_fields=(),
            every_event=case.every_event,
            completion_from_total=False,
            now=1,
            new_id=lambda: "0" * 24,
            estimate=lambda _: Usage(),
            reasoning=case.plan,
        )
    )
    for piece in case.first:
        stream.feed(piece)
    stream.feed(case.event(0))
    feed = stream.feed
    start = time.process_time()
    for piece in pieces:
        feed(piece)
    stream.usage()  # counts what is still uncounted
    return time.process_time() - start


def measure(case: Case, events: int, rounds: int) -> Row:
    """Take the medians of one case."""
    alone = [case.event(number) for number in range(events)]
    together = [b"".join(alone[start : start + AT_ONCE]) for start in range(0, events, AT_ONCE)]
    costs = [
        statistics.median(seconds(case, pieces) for _ in range(rounds)) / events * 1e6 for pieces in (alone, together)
    ]
    return Row(case.level, case.name, *(round(cost, 2) for cost in costs))
