"""Checks of `reasoning_split` on chat completions (D4): reasoning apart from the answer, or inside it.

Which tags a model uses is its provider's business, so a tag is whatever stands at the beginning in brackets.
"""

import re
from typing import Any, Final

from proxy.conformance.asks import plain, split, streamed_split, streamed_unsplit, unsplit
from proxy.conformance.check import Passed, Skipped, Verdict, check
from proxy.conformance.exchange import Reply, Violation, shortened
from proxy.conformance.refusals import answered
from proxy.conformance.shapes import Completion
from proxy.conformance.sse import Pieces, assembled, documents_of

_FIELDS: Final = ("reasoning", "reasoning_content", "reasoning_details")
_ORDER: Final = ("role", "reasoning", "content", "tool_calls")
_TAG: Final = re.compile(r"\s*[<\[]\|?[A-Za-z_]{2,40}\|?[>\]]")
_CLOSING_TAG: Final = re.compile(r"[<\[]\|?/\|?[A-Za-z_]{2,40}\|?[>\]]\s*\Z")
_NO_REASONING: Final = Skipped("the model did not reason")


def _messages(reply: Reply) -> list[dict[str, Any]]:
    answered(reply).read(Completion)
    return [choice["message"] for choice in reply.document["choices"]]


def _reasoned(reply: Reply) -> bool:
    return any(message.get("reasoning") for message in _messages(reply))


def _tagged(reply: Reply) -> bool:
    return any(_TAG.match(message["content"] or "") for message in _messages(reply))


def _untagged(thought: str, answer: str) -> None:
    if _TAG.match(thought) or _CLOSING_TAG.search(thought) or _TAG.match(answer):
        raise Violation(f"a tag was left: {shortened(thought)!r}, {shortened(answer)!r}")


@check("D4.2", split, unsplit)
def split_apart(apart: Reply, together: Reply) -> Verdict:
    """With `reasoning_split` true a model's reasoning is in `reasoning`, and `content` has only the answer."""
    if not _reasoned(apart):
        if _tagged(apart) or _tagged(together):
            raise Violation("the model reasons in tags, and there is no `reasoning`")
        return _NO_REASONING
    for message in _messages(apart):
        _untagged(message["reasoning"], message["content"] or "")
    return Passed(repr(shortened(_messages(apart)[0]["reasoning"])))


@check("D4.2", plain, split)
def absent_when_empty(*replies: Reply) -> Verdict:
    """A message without reasoning has no `reasoning` at all: neither empty nor null."""
    for reply in replies:
        for message in _messages(reply):
            if "reasoning" in message and (not isinstance(message["reasoning"], str) or not message["reasoning"]):
                raise Violation(f"{reply.asked.what}: reasoning is {message['reasoning']!r}")
    return Passed("absent or a text")


@check("D4.2", split)
def order_of_keys(reply: Reply) -> Verdict:
    """The keys of a message come as `role`, `reasoning`, `content`, `tool_calls`."""
    for message in _messages(reply):
        keys = [key for key in message if key in _ORDER]
        if tuple(keys) != tuple(key for key in _ORDER if key in message):
            raise Violation(f"the keys are {', '.join(message)}")
    return Passed(", ".join(_messages(reply)[0]))


@check("D4.3", plain, split)
def one_field(*replies: Reply) -> Verdict:
    """With `reasoning_split` reasoning comes in `reasoning` alone, never as `reasoning_content` beside it."""
    for reply in replies:
        if any("reasoning_content" in message and "reasoning" in message for message in _messages(reply)):
            raise Violation(f"{reply.asked.what}: the message has both fields")
    if any("reasoning_content" in message for message in _messages(replies[1])):
        raise Violation(f"{replies[1].asked.what}: the message has `reasoning_content`")
    return Passed("one field at most")


@check("D4.11", unsplit, split)
def folded_in(together: Reply, apart: Reply) -> Verdict:
    """With `reasoning_split` false no field has reasoning: it stands in `content`, in the tags of the model."""
    for message in _messages(together):
        if found := [name for name in _FIELDS if name in message]:
            raise Violation(f"the message has {found[0]}")
    if not _reasoned(apart):
        return Passed("no field")
    if not _tagged(together):
        raise Violation(f"content begins without a tag: {shortened(_messages(together)[0]['content'] or '')!r}")
    return Passed(repr(shortened(_messages(together)[0]["content"])))


@check("D4.2", streamed_split, split)
def split_stream(stream: Reply, whole: Reply) -> Verdict:
    """A split stream has its reasoning in `reasoning`, before the content, and no tag in either."""
    choices = assembled(answered(stream)).choices
    if not any(pieces.reasoning for pieces in choices.values()):
        if _reasoned(whole) or any(_TAG.match(pieces.content) for pieces in choices.values()):
            raise Violation("the whole answer has `reasoning` or the content a tag, and the stream has no `reasoning`")
        return _NO_REASONING
    for pieces in choices.values():
        _split_pieces(pieces)
    return Passed(repr(shortened(next(iter(choices.values())).reasoning)))


def _split_pieces(pieces: Pieces) -> None:
    _untagged(pieces.reasoning, pieces.content)
    held = [name for name in pieces.order if name]
    if "reasoning" in held[held.index("content") :] if "content" in held else False:
        raise Violation("reasoning comes behind content")


@check("D4.11", streamed_unsplit)
def folded_stream(reply: Reply) -> Verdict:
    """In a stream with `reasoning_split` false no delta has a field of reasoning."""
    for document in documents_of(answered(reply)):
        for choice in document.get("choices", ()):
            if found := [name for name in _FIELDS if name in choice.get("delta", {})]:
                raise Violation(f"a delta has {found[0]}")
    return Passed("no field")


CHECKS: Final = (
    split_apart, split_stream, absent_when_empty, order_of_keys, one_field, folded_in, folded_stream,
)  # fmt: skip
