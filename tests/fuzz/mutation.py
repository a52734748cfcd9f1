"""How an input is changed into one that nobody wrote: in its bytes, its lines, its events, and its JSON.

One function serves the property tests and the coverage-guided run, so that both try the same things. It knows the form
of what it changes, and nothing of what the program makes of it.
"""

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

EVENT = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)|(?<=\r\r)")
LINE = re.compile(rb"(?<=\n)|(?<=\r)(?!\n)")
VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        1.5,
        7.0,
        10**30,
        1e400,
        "",
        "x",
        "0",
        [],
        {},
        [None],
        [[]],
        [{}],
        {"": None},
        {"": ""},
    ),
    *({"message": "no"}, "\ud83d", "\ude00", "stop", "length", "error", "tool_calls", {"prompt_tokens": -5}),
    *([{"type": "text", "text": "t"}], [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]),
)
TEXTS = (
    *("<think>", "</think>", "<", "</thi", "nk>", " ", "\n", "\r", "\t", '"', "\\", "😀", "é", "\ud83d", "\ude00"),
    *("\u2028", "\x00", "\x7f", "data: [DONE]\n\n", '"usage":{', '"error":1', '"finish_reason":"stop"', "\\u0022"),
)
NAMES = (
    *("content", "reasoning", "reasoning_content", "reasoning_details", "refusal", "tool_calls", "function_call"),
    *("role", "index", "delta", "message", "choices", "usage", "error", "finish_reason", "logprobs", "id", "model"),
    *("created", "object", "x_groq", "type", "name", "arguments", "function", "text", "item", "response", "unknown"),
)
USAGE = b'{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}'
EVENTS = (
    *(b": a comment\n\n", b"\n", b"data:\n\n", b"data\n\n", b"data: \n\n", b"data: [DONE]\n\n", b"data: [DONE] \n\n"),
    *(
        b"id: 1\n\n",
        b"retry: 10\n\n",
        b"event: ping\ndata: {}\n\n",
        b"data: null\n\n",
        b"data: [1]\n\n",
        b"data: {\n\n",
    ),
    *(b'data: {"error":{"message":"no","code":429}}\n\n', b'error: {"message":"no"}\n\n', b'data: {"error":""}\n\n'),
    *(b'data: {"choices":[],"usage":%b}\n\n' % USAGE, b'data: {"choices":[]}\n\n', b"\xef\xbb\xbf", b"word\n\n"),
    *(b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n',),
    *(b'data: {"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":%b}\n\n' % USAGE,),
)
LINE_ENDS = (b"\n", b"\r\n", b"\r")


def mutated(data: bytes, random: Random) -> bytes:
    """Return `data` after one to four changes; what is longer than a mutation needs is never made."""
    for _ in range(random.randint(1, 4)):
        data = random.choice(WAYS)(data, random)
    return data


def _option(data: bytes, random: Random) -> bytes:
    return bytes([random.randrange(256)]) + data[1:]


def _bytes(data: bytes, random: Random) -> bytes:
    start = random.randint(0, len(data))
    end = min(len(data), start + random.choice((0, 0, 1, 1, 2, 9)))
    return (
        data[:start] + bytes(random.choices(b'\x00\n\r\\"{}[],:<> a0\x80\xc3\xff', k=random.randint(0, 3))) + data[end:]
    )


def _truncated(data: bytes, random: Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _events(data: bytes, random: Random) -> bytes:
    """Drop, double, move or add an event."""
    events = EVENT.split(data)
    at = random.randrange(len(events))
    match random.randrange(5):
        case 0:
            del events[at]
        case 1:
            events.insert(at, events[at])
        case 2:
            events.insert(random.randrange(len(events)), events.pop(at))
        case 3:
            del events[at:]
        case _:
            events.insert(at + 1, random.choice(EVENTS))
    return b"".join(events)


def _line_ends(data: bytes, random: Random) -> bytes:
    """End every line in one other way, or each in any."""
    ends = LINE_ENDS if random.random() < 0.5 else (random.choice(LINE_ENDS),)
    bare = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return bare[0] + b"".join(random.choice(ends) + line for line in bare[1:])


def _lines(data: bytes, random: Random) -> bytes:
    """Part a line of data in two, or put another field beside it."""
    lines = LINE.split(data)
    at = random.randrange(len(lines))
    line = lines[at]
    commas = [found.start() for found in re.finditer(rb",", line)]
    if line.startswith(b"data:") and commas and random.random() < 0.5:
        comma = random.choice(commas) + 1
        lines[at] = line[:comma] + b"\ndata: " + line[comma:]
    else:
        lines.insert(
            at, random.choice((b": c\n", b"event: x\n", b"id: 7\n", b"retry: 1\n", b"data: {}\n", b"\n", b"x\n"))
        )
    return b"".join(lines)


def _json(data: bytes, random: Random) -> bytes:
    """Change the JSON of one line, and perhaps how it is written."""
    lines = LINE.split(data)
    with_json = [index for index, line in enumerate(lines) if b"{" in line]
    if not with_json:
        return data
    at = random.choice(with_json)
    line = lines[at]
    start, end = line.find(b"{"), line.rfind(b"}") + 1
    try:
        value = json.loads(line[start:end])
    except (ValueError, RecursionError):
        return data
    if random.random() < 0.9:
        value = _edited(value, random)
    separators = random.choice(((",", ":"), (",", ":"), (", ", ": ")))
    indent = 1 if not start and random.random() < 0.3 else None  # a body of its own may have lines
    written = json.dumps(value, separators=separators, ensure_ascii=random.random() < 0.5, indent=indent)
    encoded = written.encode(errors="surrogatepass" if random.random() < 0.1 else "replace")
    lines[at] = line[:start] + encoded + line[end:]
    return b"".join(lines)


def _edited(value: Any, random: Random) -> Any:
    """Return a decoded value with one place in it changed."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        places += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    if not places:
        return random.choice(VALUES)
    holder, key = random.choice(places)
    old = holder[key]
    match random.randrange(7):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[random.choice(NAMES)] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            holder[random.choice(NAMES)] = random.choice((*VALUES, old))
        case 3:
            other, its = random.choice(places)
            holder[key] = json.loads(json.dumps(other[its]))
        case 4 | 5 if isinstance(old, str):
            middle = random.randint(0, len(old))
            holder[key] = old[:middle] + random.choice(TEXTS) + old[middle:]
        case 6 if isinstance(holder, list):
            holder.insert(key, random.choice((*VALUES, json.loads(json.dumps(old)))))
        case _:
            holder[key] = random.choice(VALUES)
    return value


WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_option, _bytes, _truncated, _events, _events, _events, _line_ends, _lines, _json, _json, _json, _json),
)
