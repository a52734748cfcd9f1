"""A whole native response, said again as the stream that a client asked for and its provider did not send.

Every item is opened, said in one piece and closed, in the order of the output; ids and texts are the provider's. Pure.
"""

from collections.abc import Iterator
from itertools import count
from typing import Final

from msgspec import Raw

from proxy.wire import json
from proxy.wire.chat_text import is_text, written_out
from proxy.wire.json import Malformed, RawObject
from proxy.wire.native_answer import NativeAnswer, NativePlan
from proxy.wire.native_items import PARTS, WORDS, Parts
from proxy.wire.response_object import Status, event, text_part
from proxy.wire.upstream_error import bad_answer

_ENDINGS: Final = {None: Status.COMPLETED, "completed": Status.COMPLETED, "incomplete": Status.INCOMPLETE}
_EMPTY: Final = Raw(b'""')
_NOTHING: Final = (_EMPTY, "")

_Fields = dict[str, object]
_Events = Iterator[tuple[str, _Fields]]
"""The kind of each event and what it holds, but for its number."""


def replayed(answer: NativeAnswer, plan: NativePlan) -> bytes:
    """Write the events; raises `UpstreamError` if the response is not one that has ended."""
    status = json.text_of(answer.fields.get("status"))
    if status not in _ENDINGS:
        raise bad_answer("its response has not ended")
    response: _Fields = {**plan.dress(answer.fields, answer.disguise), "status": _ENDINGS[status]}
    begun = {**response, "status": Status.IN_PROGRESS, "output": [], "usage": None, "incomplete_details": None}
    begun.pop("completed_at", None)
    numbers = count()
    out = [event(f"response.{kind}", next(numbers), response=begun) for kind in ("created", "in_progress")]
    try:
        for index, item in enumerate(json.split_list(answer.fields["output"])):
            for kind, fields in _item(item, index):
                written = event(kind, next(numbers), **fields)
                out.append(answer.disguise.take_off(written) if answer.disguise else written)
    except Malformed:
        raise bad_answer("its output is not that of a response") from None
    out.append(event(f"response.{_ENDINGS[status]}", next(numbers), response=response))
    return b"".join(out)


def _item(item: RawObject, output_index: int) -> _Events:
    place: _Fields = {"item_id": item.get("id", _EMPTY), "output_index": output_index}
    word = WORDS.get(json.text_of(item.get("type")) or "")
    lists = [(parts, json.split_list(item[parts.name])) for parts in PARTS if _is_list(item.get(parts.name))]
    added: _Fields = {**item, **{parts.name: [] for parts, _ in lists}}
    if "status" in item:
        added["status"] = Status.IN_PROGRESS
    if word is not None:
        added[word.key] = ""
    yield "response.output_item.added", {"output_index": output_index, "item": added}
    for parts, listed in lists:
        for index, part in enumerate(listed):
            yield from _part(parts, part, {**place, parts.index: index})
    if word is not None:
        said = _said(item.get(word.key, _EMPTY))
        if said not in _NOTHING:
            yield f"{word.events}.delta", {**place, "delta": said}
        name = {"name": item["name"]} if "name" in item else {}
        yield f"{word.events}.done", {**place, **name, word.key: said}
    yield "response.output_item.done", {"output_index": output_index, "item": item}


def _part(parts: Parts, part: RawObject, place: _Fields) -> _Events:
    name = json.text_of(part.get("type"))
    kind = next((kind for kind in parts.kinds if kind.part == name), None)
    yield f"{parts.events}.added", {**place, "part": part if kind is None else text_part(kind, b"")}
    if kind is not None:
        said = _said(part.get(kind.key, _EMPTY))
        beside: _Fields = {"logprobs": part.get("logprobs", [])} if kind.has_logprobs else {}
        if said not in _NOTHING:
            yield f"{kind.events}.delta", {**place, "delta": said, **beside}
        yield f"{kind.events}.done", {**place, kind.key: said, **beside}
    yield f"{parts.events}.done", {**place, "part": part}


def _said(value: Raw) -> Raw | str:
    """Return what is said as text: anything else, such as arguments as an object, as the text of its JSON."""
    return value if is_text(value) else written_out(value, None)


def _is_list(value: Raw | None) -> bool:
    return value is not None and bytes(value).startswith(b"[")
