"""What becomes of a model's reasoning: the plan for one answer, and the machine that follows it for one choice.

A whole message and the deltas of a stream go through the same machine, so that both say the same. Reasoning comes in
a field of its own or in tags at the beginning of the text, from some providers in both; whatever delivers first is
believed, and the others only repeat it. Pure.
"""

from enum import Enum, StrEnum, auto
from typing import Final

from msgspec import Raw, Struct

from proxy.providers import Provider, ReasoningStyle
from proxy.wire import json
from proxy.wire.chat_text import decode_text, encode_text, is_text, joined, says, text_in, text_of_details
from proxy.wire.json import Disguise, Malformed, RawObject
from proxy.wire.tag_scanner import Blocks, TagScanner

FIELDS: Final = ("reasoning", "reasoning_content")
DETAILS: Final = "reasoning_details"
_PARTS: Final = "thinking parts"
_TAGS: Final = "tags"
_REASONING: Final = frozenset({*FIELDS, DETAILS})
SWITCHES: Final = frozenset({"chat_template_kwargs", "thinking", "reasoning_effort", "reasoning"})
"""The fields of a request that may turn thinking off."""

Part = tuple[str, Raw]
"""A piece of text for the client: the key it goes under, and its JSON string."""


class ReasoningMode(StrEnum):
    """What a client gets: the reasoning apart from the answer, both in one text, or whatever the provider sent."""

    SPLIT = "split"
    INLINE = "inline"
    RAW = "raw"


_RAW: Final = ReasoningMode.RAW
_PREFILLED: Final = ReasoningStyle.PREFILLED


class ReasoningPlan(Struct, frozen=True):
    """What is done with the reasoning of one answer; the tags are those of the provider's profile."""

    mode: ReasoningMode
    style: ReasoningStyle
    opening: str
    closing: str

    @property
    def touches(self) -> bool:
        """False if texts and fields leave as they came."""
        return self.mode is not _RAW

    @property
    def reads_tags(self) -> bool:
        """False if tags mean nothing: they are text like any other."""
        return self.touches and self.style is not ReasoningStyle.NONE

    @property
    def blocks(self) -> Blocks:
        """What becomes of blocks in tags as long as no field has delivered reasoning."""
        if not self.reads_tags:
            return Blocks.IGNORE
        if self.mode is ReasoningMode.INLINE:
            return Blocks.LEAVE
        return Blocks.AWAIT if self.style is ReasoningStyle.FIELD else Blocks.TAKE


UNTOUCHED: Final = ReasoningPlan(ReasoningMode.RAW, ReasoningStyle.NONE, "<think>", "</think>")


def reasoning_plan(wanted: bool | None, *, reasons: bool, provider: Provider, thinking_off: bool) -> ReasoningPlan:  # noqa: FBT001 - a value of the request
    """Decide by what the request wanted (None: it does not say, and a model that `reasons` is split).

    Without thinking, a template that writes the opening tag itself does not: taking the tag for granted would turn
    the whole answer into reasoning.
    """
    if wanted is None:
        mode = ReasoningMode.SPLIT if reasons else _RAW
    else:
        mode = ReasoningMode.SPLIT if wanted else ReasoningMode.INLINE
    style = provider.reasoning_style
    if style is _PREFILLED and thinking_off:
        style = ReasoningStyle.TAGS
    opening, closing = provider.reasoning_tags
    return ReasoningPlan(mode, style, opening, closing)


def turns_thinking_off(fields: RawObject) -> bool:
    """Tell whether the fields of a request ask its model not to think, in any of the ways that servers know."""
    if SWITCHES.isdisjoint(fields):
        return False
    asked = {name: _decoded(fields[name]) for name in SWITCHES if name in fields}
    template, thinking, reasoning = (
        value if isinstance(value := asked.get(name), dict) else {}
        for name in ("chat_template_kwargs", "thinking", "reasoning")
    )
    return (
        template.get("enable_thinking") is False
        or template.get("thinking") is False
        or thinking.get("type") == "disabled"
        or asked.get("reasoning_effort") == "none"
        or reasoning.get("enabled") is False
        or reasoning.get("effort") == "none"
    )


class Passing(Enum):
    """What of a choice may leave unread as things stand."""

    ALL = auto()
    CONTENT = auto()
    """Content, as long as no reasoning comes with it."""
    REASONING = auto()
    """The field `reasoning`, as long as no content comes with it."""
    NOTHING = auto()


_ALL, _CONTENT, _REASONING_ALONE, _NOTHING = Passing


class Splitter:
    """One choice. Feed it deltas (or the one message); it takes texts and reasoning out of them."""

    __slots__ = ("_folding", "_inline", "_plan", "_scanner", "source")

    def __init__(self, plan: ReasoningPlan) -> None:
        """Start before the first delta."""
        self._plan = plan
        self._inline = plan.mode is ReasoningMode.INLINE
        self._folding = False
        self.source: str | None = None
        """What delivered the reasoning: the name of a field, or something else; None while there is none."""
        self._scanner: TagScanner | None = None
        if plan.touches:
            prefilled = plan.style is ReasoningStyle.PREFILLED
            self._scanner = TagScanner(plan.opening, plan.closing, plan.blocks, prefilled=prefilled)

    @property
    def passing(self) -> Passing:
        """What may leave unread from now on, with no other result than if it were taken."""
        if self._scanner is None:
            return _ALL
        if self._scanner.done and not self._folding:
            return _CONTENT
        if self.source == "reasoning" and not self._inline and self._scanner.idle:
            return _REASONING_ALONE
        return _NOTHING

    @property
    def saw_no_block(self) -> bool:
        """True if tags are looked for and nothing was reasoning: a closing tag in the text would belong to no block."""
        return self._plan.reads_tags and self.source is None and not (self._scanner and self._scanner.found)

    def take(self, delta: RawObject, disguise: Disguise | None = None) -> list[Part]:
        """Take out of `delta` its texts and reasoning; return what the client gets of them now, reasoning first.

        What stays in `delta` is for the client as it is.
        """
        parts: list[Part] = []
        if self._scanner is None:
            for name in (*FIELDS, "content"):
                if name in delta and says(value := delta.pop(name)):
                    parts.append((name, value))
                    self.source = self.source or (name if name in FIELDS and is_text(value) else None)
            return parts
        content = delta.pop("content", None)
        found = [] if _REASONING.isdisjoint(delta) else self._fields(delta, disguise)
        if content is not None and not is_text(content):
            thinking, content = _from_parts(content, disguise)
            found += thinking
        for name, value in found:
            if self._believes(name):
                self._reason(value, parts)
        if content is not None and says(content):
            self._say(content, disguise, parts)
        return parts

    def call(self, disguise: Disguise | None = None) -> list[Part]:
        """Take note that the choice calls a tool now; return what was held back until then."""
        return [] if self._scanner is None else self._rest(self._scanner.close(), disguise)

    def end(self, disguise: Disguise | None = None) -> list[Part]:
        """Return what was held back, because the choice is over."""
        return [] if self._scanner is None else self._rest(self._scanner.flush(), disguise)

    def _rest(self, held: tuple[str, str], disguise: Disguise | None) -> list[Part]:
        parts: list[Part] = []
        self._found(*held, disguise, parts)
        if self._folding:
            self._folding = False
            parts.append(("content", encode_text(self._plan.closing)))
        return parts

    def _fields(self, delta: RawObject, disguise: Disguise | None) -> list[Part]:
        """Take every reasoning field out of a delta; return their texts in the order in which they are believed.

        What is no text is no reasoning, and clients that join texts could not take it.
        """
        values = [(name, delta.pop(name)) for name in FIELDS if name in delta]
        found: list[Part] = [(name, value) for name, value in values if is_text(value) and says(value)]
        details = delta.pop(DETAILS, None)
        if details is not None and says(details):
            entries = _decoded(details, disguise)
            if not self._inline and _are_numbered(entries):
                delta[DETAILS] = details
            if (not found or self.source == DETAILS) and (text := text_of_details(entries)):
                found.append((DETAILS, encode_text(text, disguise)))
        return found

    def _believes(self, name: str) -> bool:
        if self.source is None:
            self.source = name
            if self._scanner is not None:
                self._scanner.repeats()
        return self.source == name

    def _reason(self, value: Raw, parts: list[Part]) -> None:
        if not self._inline:
            parts.append(("reasoning", value))
            return
        if not self._folding:
            self._folding = True
            value = joined([encode_text(self._plan.opening), value])
        parts.append(("content", value))

    def _say(self, content: Raw, disguise: Disguise | None, parts: list[Part]) -> None:
        if self._scanner is None or self._scanner.done or not is_text(content):
            self._add(content, parts)
            return
        text = decode_text(content, disguise)
        reasoning, said = self._scanner.feed(text)
        if said == text:
            self._add(content, parts)  # as it was written
        else:
            self._found(reasoning, said, disguise, parts)
        if self._inline and self._scanner.left_block:
            self.source = self.source or _TAGS

    def _found(self, reasoning: str, said: str, disguise: Disguise | None, parts: list[Part]) -> None:
        if reasoning:
            self.source = self.source or _TAGS
            if self.source == _TAGS:
                parts.append(("reasoning", encode_text(reasoning, disguise)))
        if said:
            self._add(encode_text(said, disguise), parts)

    def _add(self, content: Raw, parts: list[Part]) -> None:
        if self._folding:
            self._folding = False
            closing = encode_text(self._plan.closing)
            if is_text(content):
                content = joined([closing, content])
            else:
                parts.append(("content", closing))
        parts.append(("content", content))


def _from_parts(content: Raw, disguise: Disguise | None) -> tuple[list[Part], Raw | None]:
    """Turn content in parts into its thinking and its text; with parts of any other kind the rest stays in parts.

    What is neither text nor parts is nothing.
    """
    if not bytes(content).startswith(b"["):
        return [], None
    parts = _decoded(content, disguise)
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return [], content
    thinking = text_in([part for part in parts if part.get("type") == "thinking"])
    found = [(_PARTS, encode_text(thinking, disguise))] if thinking else []
    rest = [part for part in parts if part.get("type") != "thinking"]
    if all(part.get("type") == "text" for part in rest):
        return found, encode_text(text_in(rest) or "", disguise)
    raw = [part for part in json.split_list(content) if json.text_of(part.get("type")) != "thinking"]
    return found, Raw(json.encode(raw))


def _are_numbered(entries: object) -> bool:
    """Tell whether every entry has a whole number: accumulating clients fail on an entry without."""
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and type(entry.get("index")) is int for entry in entries
    )


def _decoded(value: Raw, disguise: Disguise | None = None) -> object:
    try:
        return json.decode_worn(value, disguise)
    except Malformed:  # a number beyond all bounds, which decides nothing here
        return None
