"""One message of a whole completion, its reasoning put where the client wants it.

It goes through the machine that streams go through, as one delta, so that both say the same. Pure.
"""

from typing import Final

from msgspec import Raw, Struct

from proxy.providers import ReasoningStyle
from proxy.wire import json
from proxy.wire.chat_text import decode_text, is_text, joined
from proxy.wire.json import Disguise, RawObject
from proxy.wire.reasoning import FIELDS, ReasoningMode, ReasoningPlan, Splitter

_EMPTY: Final = Raw(b'""')
_NULL: Final = Raw(b"null")


class Message(Struct, frozen=True):
    """A message as clients get it, and what was noticed on the way."""

    fields: RawObject
    stray_close_tag: bool
    """Its text has a closing tag, and nothing was reasoning."""


def split_message(message: RawObject, plan: ReasoningPlan, disguise: Disguise | None) -> Message:
    """Put a normalised message into the plan's form: role, reasoning, content, tool calls, and then the rest."""
    rest = dict(message)
    splitter = Splitter(plan)
    before = rest.get("content", _NULL)
    parts = splitter.take(rest, disguise)
    calls = {"tool_calls": rest.pop("tool_calls")} if "tool_calls" in rest else {}
    parts += splitter.call(disguise) if calls else []
    parts += splitter.end(disguise)
    fields = {"role": rest.pop("role")}
    for name in FIELDS:
        if texts := [text for key, text in parts if key == name]:
            fields[name] = joined(texts)
    content = [text for key, text in parts if key == "content"]
    if content:
        fields["content"] = _one(content)
    else:
        silent = bool(calls) or not json.is_null(rest.get("refusal"))
        fields["content"] = _NULL if silent and bytes(before) != b'""' else _EMPTY
    stray = splitter.saw_no_block and is_text(before) and plan.closing in decode_text(before, disguise)
    return Message({**fields, **calls, **rest}, stray)


def leaves_as_it_came(content: bytes, plan: ReasoningPlan) -> bool:
    """Tell from the JSON string of a content that is all of a message whether the plan changes nothing of it.

    May say no where a closer look finds nothing to do either.
    """
    if not plan.reads_tags:
        return True
    if plan.style is ReasoningStyle.PREFILLED or b"\\u" in content or b"\\/" in content:
        return False
    opening, closing = (json.encode(tag)[1:-1] for tag in (plan.opening, plan.closing))
    looks = plan.mode is ReasoningMode.SPLIT and plan.style is not ReasoningStyle.FIELD
    return closing not in content and not (looks and opening in content)


def _one(content: list[Raw]) -> Raw:
    """Join what is text; content in parts keeps them, and gets the text as another."""
    texts, parts = [one for one in content if is_text(one)], [one for one in content if not is_text(one)]
    if not parts:
        return joined(texts)
    if not texts or not bytes(parts[-1]).startswith(b"["):
        return parts[-1]
    text = {"type": "text", "text": joined(texts)}
    return Raw(json.encode([text, *json.split_list(parts[-1])]))
