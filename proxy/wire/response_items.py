"""Items of a response while they are still being said: a message, reasoning beside it, a function call.

Each keeps what it has been told so far and can be written at any moment. When one opens and closes is decided in
`response_events.py`; how one looks is `response_object.py`'s. Pure.
"""

from typing import Final

import msgspec
from msgspec import Raw

from proxy.wire import json
from proxy.wire.json import Malformed
from proxy.wire.response_object import Status, TextKind, call_item, message_item, reasoning_item, text_part

_DIGITS: Final = tuple("-0123456789")
_anything: Final = msgspec.json.Decoder(Raw)


def _delta_head(events: str) -> bytes:
    kind = f"{events}.delta".encode()
    return b'event: %b\ndata: {"type":"%b","sequence_number":' % (kind, kind)


def _delta_place(place: dict[str, object]) -> bytes:
    return b"," + json.encode(place)[1:-1] + b',"delta":"'


class OpenPart:
    """A text part. `head` and `behind` are what its delta events hold on the two sides of their number."""

    __slots__ = ("behind", "head", "kind", "logprobs", "pieces", "place")

    def __init__(self, kind: TextKind, place: dict[str, object]) -> None:
        """Begin with no text; `place` says where events about the part belong."""
        self.kind = kind
        self.place = place
        self.head = _delta_head(kind.events)
        self.behind = _delta_place(place)
        self.pieces: list[bytes] = []
        self.logprobs: list[Raw] = []

    def text(self) -> bytes:
        """Return the inside of the JSON string that it is so far."""
        return b"".join(self.pieces)

    def write(self) -> Raw:
        """Return the part as it is now."""
        return text_part(self.kind, self.text(), self.logprobs)


class OpenTexts:
    """An item made of text parts: a message, or reasoning beside it."""

    __slots__ = ("closed", "is_message", "item_id", "output_index", "part")

    def __init__(self, item_id: str, output_index: int, *, is_message: bool) -> None:
        """Begin without any part."""
        self.item_id = item_id
        self.output_index = output_index
        self.is_message = is_message
        self.closed: list[Raw] = []
        self.part: OpenPart | None = None

    def write(self, status: Status) -> Raw:
        """Return the item as it is now."""
        parts = self.closed if self.part is None else [*self.closed, self.part.write()]
        item = message_item if self.is_message else reasoning_item
        return item(self.item_id, status, parts)


class OpenCall:
    """A function call; pieces of it may come in turn with those of other calls."""

    __slots__ = ("behind", "call_id", "head", "item_id", "name", "output_index", "pieces")

    def __init__(self, item_id: str, output_index: int, *, call_id: bytes, name: bytes) -> None:
        """Begin without arguments."""
        self.item_id = item_id
        self.output_index = output_index
        self.call_id = call_id
        self.name = name
        self.head = _delta_head("response.function_call_arguments")
        self.behind = _delta_place({"item_id": item_id, "output_index": output_index})
        self.pieces: list[bytes] = []

    def arguments(self) -> bytes:
        """Return the inside of the JSON string that they are so far."""
        return b"".join(self.pieces)

    def write(self, status: Status) -> Raw:
        """Return the item as it is now."""
        return call_item(self.item_id, status, self.call_id, self.name, self.arguments())

    def is_complete(self) -> bool:
        """Tell whether the arguments are a whole value already; of a number nobody could tell."""
        try:
            arguments = json.text_of(Raw(b'"%b"' % self.arguments())) or ""
            if not arguments.lstrip().startswith(_DIGITS):
                _anything.decode(arguments)
                return True
        except (Malformed, msgspec.DecodeError, RecursionError):
            pass
        return False
