"""The items of a native response in pieces: the words by which its events speak of their texts, and an item that is
still being said.

Which event belongs to which item is known to the callers. Texts are the insides of JSON strings, as they came. Pure.
"""

from collections import defaultdict
from typing import Final

from msgspec import Raw, Struct

from proxy.wire import json
from proxy.wire.json import RawObject
from proxy.wire.response_object import OUTPUT_TEXT, REASONING_IN_ITEM, REFUSAL, Status, TextKind, text_part


class Parts(Struct, frozen=True):
    """A list of text parts that items of some kinds have: its name, and the words of the events about its parts."""

    name: str
    events: str
    index: str
    kinds: tuple[TextKind, ...]


class Word(Struct, frozen=True):
    """A text that items of one kind have beside their parts: its key, and what the events about it begin with."""

    key: str
    events: str


SUMMARY: Final = TextKind("response.reasoning_summary_text", "summary_text", "text")
PARTS: Final = (
    Parts("summary", "response.reasoning_summary_part", "summary_index", (SUMMARY,)),
    Parts("content", "response.content_part", "content_index", (OUTPUT_TEXT, REFUSAL, REASONING_IN_ITEM)),
)
WORDS: Final = {
    "function_call": Word("arguments", "response.function_call_arguments"),
    "mcp_call": Word("arguments", "response.mcp_call_arguments"),
    "custom_tool_call": Word("input", "response.custom_tool_call_input"),
    "code_interpreter_call": Word("code", "response.code_interpreter_call_code"),
}
"""By the type of the item."""
_KEYS: Final = {f"{word.events}.delta": word.key for word in WORDS.values()}
_KINDS: Final = {f"{kind.events}.delta": (parts.name, kind) for parts in PARTS for kind in parts.kinds}
_BEGUN: Final = {kind.part: f"{kind.events}.delta" for parts in PARTS for kind in parts.kinds}


class OpenItem:
    """An item that was added and is not done."""

    __slots__ = ("_item", "_said", "heard")

    def __init__(self, item: RawObject, heard: int) -> None:
        """Begin with the item as it was added; so many bytes of output were heard of it then."""
        self._item = item
        self._said: defaultdict[tuple[int, str], bytearray] = defaultdict(bytearray)
        self.heard = heard

    def hear(self, kind: str, index: int, text: bytes) -> None:
        """Take what an event of this kind adds; `index` is that of the part that it is about, if it is about one."""
        self._said[index, kind] += text

    def begin_part(self, part: str | None, index: int) -> None:
        """Take a part of this type, whose text may not have come yet."""
        if part in _BEGUN:
            self.hear(_BEGUN[part], index, b"")

    def write(self) -> Raw:
        """Return the item as far as it was said."""
        item: dict[str, object] = {**self._item, "status": Status.INCOMPLETE}
        lists: dict[str, list[Raw]] = {}
        for (_, kind), said in sorted(self._said.items()):
            if kind in _KEYS:
                item[_KEYS[kind]] = Raw(b'"%b"' % bytes(said))
            elif kind in _KINDS:
                name, text = _KINDS[kind]
                lists.setdefault(name, []).append(text_part(text, bytes(said)))
        return Raw(json.encode(item | lists))
