"""What is told of events from their bytes alone, without reading their JSON:

- No input raises anything.
- What may leave unread is whole clean events in UTF-8, and none that can be read holds usage, an error, an ending or
  a role.
- What has the form of an event that was read differs from it in one text alone, and is counted as if it were read.
- What has the form of two events that were read differs from them in nothing in which they do not differ.
- The count of output does not depend on how events are grouped, and of well-formed events is that of a plain reading.
"""

import json
from itertools import pairwise
from typing import Any

from framer_invariants import read
from playing import event_by_event
from streams_read import TEXTS, events_of, option, strict_json, well_formed

from proxy.wire.scan import OutputCounter, is_plain
from proxy.wire.text_event import ARGUMENTS, CONTENT, REASONING, REASONING_CONTENT, TextEvent

KEYS = (*CONTENT, *REASONING, *REASONING_CONTENT, *ARGUMENTS)
DATA = len(b"data: ")


def pieces_of(data: bytes) -> list[bytes]:
    _, sent = option(data)
    return event_by_event(sent)


def parsed(event: bytes) -> Any:
    try:
        return strict_json(event[DATA:])
    except (ValueError, RecursionError):
        return None


def plain_events_have_nothing_to_act_upon(data: bytes) -> None:
    pieces = pieces_of(data)
    for piece in (*pieces, *(b"".join(pieces[at : at + 2]) for at in range(len(pieces))), option(data)[1]):
        if is_plain(piece):
            events = read([b"\n\n", piece])
            assert b"".join(event.raw for event in events) == piece
            assert all(event.clean for event in events)
            assert piece.decode()
            for event in events:
                chunk = parsed(event.raw)
                if chunk is not None and b"\\u" not in event.raw:
                    assert not isinstance(chunk.get("usage"), dict)
                    assert not chunk.get("error")
                    holds_nothing(chunk.get("choices"))


def holds_nothing(choices: Any) -> None:
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            assert choice.get("finish_reason") is None
            assert not isinstance(delta := choice.get("delta"), dict) or "role" not in delta


def one_form_differs_in_a_text_alone(data: bytes) -> None:
    events = [piece for piece in pieces_of(data) if is_plain(piece) and piece.count(b"\n") == 2]
    for first in events[:4]:
        form = TextEvent.like(first, KEYS)
        if form is None:
            continue
        [text] = texts_of(form, first) or ()
        for piece in (*events, *map(b"".join, pairwise(events)), b"".join(events)):
            texts = texts_of(form, piece)
            if texts is None:
                continue
            assert piece.count(b"\n\n") == len(texts)
            parted = [event + b"\n\n" for event in piece.split(b"\n\n")[:-1]]
            for event, other in zip(parted, texts, strict=True):
                assert len(event) - len(other) == len(first) - len(text)
                left, right = b'"%b"' % text, b'"%b"' % other
                if parsed(first) is not None and first.count(left) == 1 and event.count(right) == 1:
                    assert first.replace(left, b'""') == event.replace(right, b'""')
            if all(parsed(event) is not None for event in (first, *parted)):
                counter, quick = OutputCounter(), OutputCounter()
                form.count(piece, form.read(piece) or [], counter)
                assert form.takes(piece, quick)
                assert counter.total() == quick.total() == counted(parted)


def texts_of(form: TextEvent, piece: bytes) -> list[bytes] | None:
    found = form.read(piece)
    return None if found is None else [one[form.text] for one in found]


def a_widened_form_differs_where_the_two_did(data: bytes) -> None:
    events = [piece for piece in pieces_of(data) if is_plain(piece) and piece.count(b"\n") == 2]
    for first, second in pairwise(events[:6]):
        form = TextEvent.like(first, KEYS)
        wider = None if form is None else form.widened(second, KEYS)
        if wider is None:
            continue
        assert wider.read(first) is not None
        assert wider.read(second) is not None
        [one, other] = [parsed(event) for event in (first, second)]
        differ = {name for name in wider.places if name is not None}
        assert one is None or {name for name in one if one[name] != other[name]} <= {*differ, "choices"}
        for event in events:
            found = wider.read(event)
            chunk = parsed(event)
            if found is not None and one is not None and chunk is not None:
                assert [wider.event(values) for values in found] == [event]
                assert {name for name in one if one[name] != chunk[name]} <= {*differ, "choices"}
                counter = OutputCounter()
                assert wider.takes(event, counter)
                assert counter.total() == counted([event])


def counted(events: list[bytes], *, at_once: bool = False) -> int:
    counter = OutputCounter()
    for event in [b"".join(events)] if at_once else events:
        counter.add(event)
        if not at_once:
            assert counter.total() >= 0
    return counter.total()


def the_count_is_that_of_a_plain_reading(data: bytes) -> None:
    _, sent = option(data)
    values = [b"\n".join(values) for _, values in events_of(sent)]
    events = [b"data: %b\n\n" % value.replace(b"\n", b" ") for value in values if value and not holds_two(value)]
    one_by_one = counted(events)
    assert counted(events, at_once=True) == one_by_one
    chunks = well_formed(sent)
    if chunks is not None and events and b"[DONE]" not in sent and all(is_counted(chunk) for chunk in chunks):
        assert one_by_one == sum(output_of(chunk) for chunk in chunks)


def holds_two(value: bytes) -> bool:
    """Tell whether there is more behind a JSON value: what is such an event, is nobody's promise."""
    try:
        _, end = json.JSONDecoder().raw_decode(value.decode(errors="replace").lstrip())
    except (ValueError, RecursionError):
        return False
    return bool(value.decode(errors="replace").lstrip()[end:].strip())


def is_counted(chunk: dict[str, Any]) -> bool:
    """Without half characters, whose size nobody knows, and with names and arguments that are texts."""
    deltas = [choice["delta"] for choice in chunk["choices"]]
    words = [word for delta in deltas for function in called_in(delta) for word in words_of(function)]
    surrogates = any("\ud800" <= character <= "\udfff" for character in json.dumps(chunk, ensure_ascii=False))
    return not surrogates and all(isinstance(word, str | None) for word in words)


def called_in(delta: dict[str, Any]) -> list[dict[str, Any]]:
    """The functions that a delta calls, in the older form too."""
    functions = [call.get("function") for call in delta.get("tool_calls") or ()]
    return [function for function in (*functions, delta.get("function_call")) if isinstance(function, dict)]


def words_of(function: dict[str, Any]) -> list[Any]:
    return [function.get("name"), function.get("arguments")]


def output_of(chunk: dict[str, Any]) -> int:
    total = 0
    for choice in chunk["choices"]:
        texts = [choice["delta"].get(name) or "" for name in TEXTS]
        content, reasoning, reasoning_content, refusal = texts
        total += len((content + (reasoning or reasoning_content) + refusal).encode())
        for function in called_in(choice["delta"]):
            total += len("".join(word or "" for word in words_of(function)).encode())
    return total


INVARIANTS = (
    plain_events_have_nothing_to_act_upon,
    one_form_differs_in_a_text_alone,
    a_widened_form_differs_where_the_two_did,
    the_count_is_that_of_a_plain_reading,
)
