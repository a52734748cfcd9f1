"""The reasoning of one choice taken apart from its answer, from deltas as a provider may send them:

- No input raises anything but the refusal of an event that is malformed.
- How the text is cut into deltas changes nothing: the joined output is that of the text in one piece.
- Of text alone, the split is the one that a plain reading of the rules finds, in a stream too; inline, the text stays
  as it is.
- With anything else beside the text, a stream says in the end what the whole answer says.
- A block that only repeats a field is dropped, wherever in the text that is noticed, if nothing of it has left.
- A field of reasoning that is no text is as if it were not there.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

from chat_stream_invariants import reasoning, stands, told
from msgspec.structs import replace
from playing import NEW_ID, plan
from streams_read import TEXTS, Told, option, strict_json

from proxy.providers import ReasoningStyle
from proxy.wire import json as wire_json
from proxy.wire.chat_answer import read_answer
from proxy.wire.chat_stream import ChatStream
from proxy.wire.reasoning import ReasoningMode, ReasoningPlan
from proxy.wire.tag_scanner import Blocks, TagScanner

OPENING, CLOSING = "<think>", "</think>"
BLANKS = " \t\r\n"
PLANS = tuple(
    reasoning(mode, style) for mode in (ReasoningMode.SPLIT, ReasoningMode.INLINE) for style in ReasoningStyle
)


def deltas_in(sent: bytes) -> Iterator[dict[str, Any]]:
    """The lines that are a delta each, as far as they can be read."""
    for line in sent.splitlines():
        try:
            delta = strict_json(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(delta, dict) and all(isinstance(delta.get(name), str | None) for name in TEXTS):
            kept = {*TEXTS, "tool_calls"} if isinstance(delta.get("tool_calls"), list) else TEXTS
            yield {name: value for name, value in delta.items() if name in kept}


def planned(data: bytes) -> tuple[ReasoningPlan, list[dict[str, Any]]]:
    number, sent = option(data)
    return PLANS[number % len(PLANS)], list(deltas_in(sent))


def text_of(deltas: list[dict[str, Any]]) -> str:
    return "".join(delta.get("content") or "" for delta in deltas)


def cuts_of(text: str) -> Iterator[list[str]]:
    random = Random(len(text))
    yield list(text) if len(text) < 300 else [text]
    for number in (1, 2, 9):
        edges = [0, *sorted(random.randint(0, len(text)) for _ in range(number)), len(text)]
        yield [text[start:end] for start, end in pairwise(edges)]


def scanned(pieces: list[str], blocks: Blocks, *, prefilled: bool) -> tuple[str, str]:
    scanner = TagScanner(OPENING, CLOSING, blocks, prefilled=prefilled)
    found = [scanner.feed(piece) for piece in pieces]
    found.append(scanner.flush())
    assert scanner.flush() == ("", "")
    return "".join(reasoning for reasoning, _ in found), "".join(content for _, content in found)


def expected(text: str, *, prefilled: bool) -> tuple[str, str]:
    """Reasoning and content, by the rules, from the whole text."""
    bare = text.lstrip(BLANKS)
    if not prefilled and not bare.startswith(OPENING):
        return "", text
    blocks, left = [], bare.removeprefix(OPENING)
    while True:
        inside, closed, behind = left.partition(CLOSING)
        blocks.append(inside.strip(BLANKS))
        content = behind.lstrip(BLANKS)
        if not closed or not content.startswith(OPENING):
            return "\n\n".join(filter(None, blocks)), content
        left = content.removeprefix(OPENING)


def the_scanner_finds_what_a_plain_reading_finds(data: bytes) -> None:
    _, deltas = planned(data)
    text = text_of(deltas)
    for pieces in ([text], *cuts_of(text)):
        for prefilled in (False, True):
            assert scanned(pieces, Blocks.TAKE, prefilled=prefilled) == expected(text, prefilled=prefilled)
            for blocks in (Blocks.LEAVE, Blocks.AWAIT):
                opened = prefilled and bool(text) and not text.lstrip(BLANKS).startswith(OPENING)
                assert scanned(pieces, blocks, prefilled=prefilled) == ("", OPENING * opened + text)


def a_repetition_is_dropped_wherever_it_is_noticed(data: bytes) -> None:
    _, deltas = planned(data)
    text = text_of(deltas)
    _, content = expected(text, prefilled=False)
    for blocks, prefilled in ((Blocks.TAKE, False), (Blocks.TAKE, True), (Blocks.LEAVE, True), (Blocks.AWAIT, False)):
        for at in range(min(len(text), 300) + 1):
            scanner = TagScanner(OPENING, CLOSING, blocks, prefilled=prefilled)
            if scanner.feed(text[:at]) != ("", ""):
                break
            scanner.repeats()
            assert "".join((scanner.feed(text[at:])[1], scanner.flush()[1])) == content


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "r", "choices": [choice]}).encode() + b"\n\n"


def streamed(deltas: list[dict[str, Any]], planned_as: ReasoningPlan, **asked: bool) -> Told:
    stream = ChatStream(replace(plan(**asked), reasoning=planned_as))
    out = b"".join([stream.feed(event(delta)) for delta in deltas])
    out += stream.feed(event({}, "stop") + b"data: [DONE]\n\n") + stream.end()
    assert stream.ended, stands(stream)
    return told(out)


def cut(delta: dict[str, Any], random: Random) -> list[dict[str, Any]]:
    """The same said in several deltas: each text in up to three pieces, the texts in the order of the whole."""
    said = []
    for name, value in delta.items():
        pieces = [value]
        if isinstance(value, str):
            edges = [0, *sorted(random.randint(0, len(value)) for _ in range(2)), len(value)]
            pieces = [value[start:end] for start, end in pairwise(edges)]
        said += [{name: piece} for piece in pieces]
    return said


def cuts_make_no_difference(data: bytes) -> None:
    planned_as, deltas = planned(data)
    if any(delta.get("tool_calls") for delta in deltas):
        return
    for asked in ({}, {"every_event": True}):
        if any(len([name for name in TEXTS if delta.get(name)]) > 1 for delta in deltas):
            deltas = [{name: value} for delta in deltas for name, value in delta.items()]
        whole = streamed(deltas, planned_as, **asked)
        random = Random(len(data))
        pieces = [piece for delta in deltas for piece in cut(delta, random)]
        assert streamed(pieces, planned_as, **asked).texts == whole.texts


def a_stream_says_what_the_whole_answer_says(data: bytes) -> None:
    planned_as, deltas = planned(data)
    texts = {name: "".join(delta.get(name) or "" for delta in deltas) for name in TEXTS}
    spoken = sorted(
        ({name: delta[name]} for delta in deltas for name in TEXTS if delta.get(name)),
        key=lambda delta: (*TEXTS[1:], TEXTS[0]).index(next(iter(delta))),
    )
    message = message_of({name: text for name, text in texts.items() if text}, planned_as)
    for asked in ({}, {"every_event": True}):
        stream = streamed(spoken, planned_as, **asked)
        for name in TEXTS:
            assert whole(stream.texts[name].get(0, "")) == message.get(name, "")


def what_is_no_text_is_as_if_it_were_not_there(data: bytes) -> None:
    planned_as, _ = planned(data)
    deltas = []
    for line in option(data)[1].splitlines():
        try:
            delta = strict_json(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(delta, dict) and isinstance(delta.get("content"), str | None):
            deltas.append(
                {name: delta[name] for name in ("reasoning", "reasoning_content", "content") if name in delta}
            )
    texts = [{name: value for name, value in delta.items() if isinstance(value, str)} for delta in deltas]
    for asked in ({}, {"every_event": True}):
        assert streamed(deltas, planned_as, **asked) == streamed(texts, planned_as, **asked)
    for one, text in zip(deltas, texts, strict=True):
        assert message_of(one, planned_as) == message_of(text, planned_as)


def message_of(message: dict[str, Any], planned_as: ReasoningPlan) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    answer = read_answer(
        json.dumps({"id": "r", "choices": [choice]}).encode(), new_id=lambda: NEW_ID, reasoning=planned_as
    )
    written = wire_json.encode(answer.choices)
    [found] = json.loads(answer.disguise.take_off(written) if answer.disguise else written)
    return {name: whole(text) for name, text in found["message"].items() if isinstance(text, str)}


def whole(text: str) -> str:
    """Halves of characters that came one after the other as the character that they are."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def a_stream_of_text_is_split_as_a_plain_reading_splits_it(data: bytes) -> None:
    planned_as, deltas = planned(data)
    deltas = [{"content": delta["content"]} for delta in deltas if delta.get("content")]
    text, prefilled = text_of(deltas), planned_as.style is ReasoningStyle.PREFILLED
    if planned_as.mode is ReasoningMode.INLINE:
        bare = prefilled and bool(text) and not text.lstrip(BLANKS).startswith(OPENING)
        wanted = "", OPENING * bare + text
    elif planned_as.style in {ReasoningStyle.FIELD, ReasoningStyle.NONE}:
        wanted = "", text
    else:
        wanted = expected(text, prefilled=prefilled)
    for asked in ({}, {"every_event": True}):
        texts = streamed(deltas, planned_as, **asked).texts
        assert (whole(texts["reasoning"].get(0, "")), whole(texts["content"].get(0, ""))) == (*map(whole, wanted),)


INVARIANTS = (
    the_scanner_finds_what_a_plain_reading_finds,
    a_repetition_is_dropped_wherever_it_is_noticed,
    cuts_make_no_difference,
    a_stream_says_what_the_whole_answer_says,
    a_stream_of_text_is_split_as_a_plain_reading_splits_it,
    what_is_no_text_is_as_if_it_were_not_there,
)
