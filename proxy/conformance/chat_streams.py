"""Checks of a chat stream (E): its bytes, its chunks, its usage and its end."""

import re
from collections.abc import Sequence
from typing import Any, Final

from proxy.conformance.asks import streamed, streamed_call, streamed_running, streamed_usage, two
from proxy.conformance.chat_answers import add_up, an_object
from proxy.conformance.check import Passed, Skipped, Verdict, check
from proxy.conformance.exchange import Reply, Violation, fitted, shortened
from proxy.conformance.refusals import answered, not_offered
from proxy.conformance.shapes import Chunk, Usage
from proxy.conformance.sse import Stream, assembled, documents_of

_END: Final = b"data: [DONE]\n\n"
_KEEP_ALIVE: Final = b": keep-alive"
_LINE: Final = re.compile(rb"data: [^\r\n]+|:[^\r\n]*")


@check("E1.1", streamed, streamed_usage)
def framing(*replies: Reply) -> Verdict:
    """An event is one line `data: …` and an empty line, ended by LF: no CR, `event:`, `id:`, empty data."""
    blocks = [block for reply in replies for block in _blocks(answered(reply))]
    for block in blocks:
        if not _LINE.fullmatch(block):
            raise Violation(f"an event is {shortened(repr(block)[2:-1])}")
    return Passed(f"{len(blocks)} events")


@check("E1.3", streamed, streamed_usage)
def keep_alive(*replies: Reply) -> Verdict:
    """The only comment is `: keep-alive`, between events: nothing that names a provider."""
    comments = [block for reply in replies for block in _blocks(answered(reply)) if block.startswith(b":")]
    for comment in comments:
        if comment != _KEEP_ALIVE:
            raise Violation(f"a comment is {shortened(repr(comment)[2:-1])}")
    return Passed(f"{len(comments)} comments")


@check("E1.2", streamed, streamed_usage)
def end_mark(*replies: Reply) -> Verdict:
    """A stream ends with exactly `data: [DONE]` and an empty line; it comes once and nothing follows."""
    for reply in replies:
        if not answered(reply).body.endswith(b"\n" + _END) or reply.body.count(_END) != 1:
            raise Violation(f"{reply.asked.what}: ends with {shortened(repr(reply.body[-40:])[2:-1])}")
    return Passed("data: [DONE]")


@check("E1.4", streamed, streamed_usage)
def keys_of_a_chunk(*replies: Reply) -> Verdict:
    """Every chunk has `id`, `object`, `created`, `model` and `choices`; `id`, `created` and `model` never change."""
    for reply in replies:
        documents = documents_of(answered(reply))
        chunks = [fitted(document, Chunk, f"{reply.asked.what}: a chunk") for document in documents]
        for name in ("id", "created", "model"):
            values = list(dict.fromkeys(getattr(chunk, name) for chunk in chunks))
            if len(values) > 1:
                raise Violation(f"{reply.asked.what}: `{name}` changes from {values[0]} to {values[1]}")
    return Passed("the same in all chunks")


@check("E1.5", streamed, streamed_usage)
def role(*replies: Reply) -> Verdict:
    """The first chunk of a choice has the role `assistant`; no later one has a role."""
    for reply in replies:
        _roles(assembled(answered(reply)))
    return Passed("once, at the beginning")


def _roles(stream: Stream) -> None:
    for index, pieces in stream.choices.items():
        first = next(choice for chunk in stream.chunks for choice in chunk.choices if choice.index == index)
        if first.delta.get("role") != "assistant":
            raise Violation(f"choice {index}: the role of the first chunk is {first.delta.get('role')!r}")
        if len(pieces.roles) > 1:
            raise Violation(f"choice {index}: the role came {len(pieces.roles)} times")


@check("E1.5", two)
def several_choices(reply: Reply) -> Verdict:
    """With `n` 2 each of the two choices has its own first chunk, role and finish reason."""
    if skipped := not_offered(reply):
        return skipped
    stream = assembled(answered(reply))
    if len(stream.choices) == 1:
        return Skipped("the model gave one choice instead of two")
    if sorted(stream.choices) != [0, 1]:
        raise Violation(f"the choices are {sorted(stream.choices)}")
    _roles(stream)
    _finished(stream)
    return Passed("two of each")


@check("E1.6", streamed_call)
def deltas_of_a_call(reply: Reply) -> Verdict:
    """Of a tool call the first delta has `index`, `id`, `type` and a name; later ones only add arguments."""
    if skipped := not_offered(reply):
        return skipped
    stream = assembled(answered(reply))
    calls = [deltas for pieces in stream.choices.values() for deltas in pieces.calls.values()]
    if not calls:
        return Skipped("the model called no tool although it had to")
    cut = any("length" in pieces.finish_reasons for pieces in stream.choices.values())
    for deltas in calls:
        arguments = _call(deltas)
        if not cut:
            an_object(arguments)
    return Passed(f"{len(calls)} call in {sum(map(len, calls))} pieces")


def _call(deltas: Sequence[dict[str, Any]]) -> str:
    """Return a call's arguments; raises `Violation` for a delta that clients would put together wrongly."""
    arguments = ""
    for number, delta in enumerate(deltas):
        function = delta.get("function")
        if not isinstance(delta.get("index"), int) or not isinstance(function, dict):
            raise Violation("a delta of a tool call has no index or no function")
        if not isinstance(piece := function.get("arguments", None if number else ""), str):
            raise Violation("a delta of a tool call has no arguments")
        arguments += piece
        named = bool(delta.get("id")), delta.get("type") == "function", bool(function.get("name"))
        if number == 0 and not all(named):
            raise Violation("the first delta of a tool call has no id, no type or no name")
        if number > 0 and (named[0] or named[2]):
            raise Violation("a later delta of a tool call has its id or name once more")
    return arguments


@check("E1.8", streamed, streamed_usage, two)
def one_choice_a_chunk(*replies: Reply) -> Verdict:
    """A chunk holds at most one choice, and a delta only one of reasoning, content and tool calls."""
    for reply in replies[:2] if replies[2].status == 400 else replies:  # noqa: PLR2004 - not every model gives two
        stream = assembled(answered(reply))
        if any(len(chunk.choices) > 1 for chunk in stream.chunks):
            raise Violation(f"{reply.asked.what}: a chunk holds several choices")
        mixed = [held for pieces in stream.choices.values() for held in pieces.order if "+" in held]
        if mixed:
            raise Violation(f"{reply.asked.what}: a delta holds {mixed[0]}")
    return Passed("one of each")


@check("E4.3", streamed_usage)
def usage_is_last(reply: Reply) -> Verdict:
    """With `include_usage` one chunk without choices has the usage, directly before `[DONE]`; no other has any."""
    *others, last = assembled(answered(reply)).chunks
    if any(chunk.usage is not None or not chunk.choices for chunk in others):
        raise Violation("a chunk before the last has usage, or no choice")
    if last.choices or last.usage is None:
        raise Violation("the last chunk has choices, or no usage")
    return Passed("in the last chunk")


@check("E4.4", streamed_running)
def running_usage(reply: Reply) -> Verdict:
    """With `continuous_usage_stats` too, chunks may have the usage so far, in the same form and never less than before;
    the last chunk has all of it.
    """
    if skipped := not_offered(reply):
        return skipped
    *others, last = assembled(answered(reply)).chunks
    if last.choices or last.usage is None or not all(chunk.choices for chunk in others):
        raise Violation("the last chunk has choices or no usage, or another one has no choice")
    told = [fitted(chunk.usage, Usage, "usage") for chunk in (*others, last) if chunk.usage is not None]
    for usage in told:
        add_up(usage, said=False)
    counts = [usage.completion_tokens for usage in told]
    if counts != sorted(counts):
        raise Violation(f"the completion tokens are {', '.join(map(str, counts))}")
    if len(told) == 1:
        return Skipped("the provider tells no usage before the end")
    return Passed(f"{len(told)} times, at last {counts[-1]} tokens")


@check("E4.3", streamed)
def no_usage_unasked(reply: Reply) -> Verdict:
    """Without `include_usage` no chunk has usage, and none is without a choice."""
    for document in documents_of(answered(reply)):
        places = (document, *document.get("choices", ()))
        if not document.get("choices") or any(place.get("usage") is not None for place in places):
            raise Violation("a chunk has usage that was not asked for, or no choice")
    return Passed("none")


@check("D6.1", streamed_usage)
def usage_of_a_stream(reply: Reply) -> Verdict:
    """The usage of a stream has the same form as that of a whole answer, and adds up."""
    stream = assembled(answered(reply))
    found = next((chunk.usage for chunk in reversed(stream.chunks) if chunk.usage), None)
    return add_up(fitted(found, Usage, "usage"), said=any(pieces.content for pieces in stream.choices.values()))


@check("E5.1", streamed, streamed_usage)
def finish(*replies: Reply) -> Verdict:
    """Every choice ends with one finish reason, and nothing of it follows."""
    for reply in replies:
        _finished(assembled(answered(reply)))
    return Passed("one for each choice")


def _finished(stream: Stream) -> None:
    if not stream.choices:
        raise Violation("no chunk has a choice")
    for index, pieces in stream.choices.items():
        if len(pieces.finish_reasons) != 1:
            raise Violation(f"choice {index}: {len(pieces.finish_reasons)} finish reasons")
        ends = [chunk for chunk in stream.chunks for choice in chunk.choices if choice.index == index]
        if ends[-1].choices[0].finish_reason is None and len(ends[-1].choices) == 1:
            raise Violation(f"choice {index}: goes on behind its finish reason")


@check("D5.5", streamed)
def message_of_a_stream(reply: Reply) -> Verdict:
    """The pieces of a stream are a message: a text, unless something else was said or the answer was cut."""
    pieces = assembled(answered(reply)).choices
    for index, choice in pieces.items():
        other = choice.reasoning or choice.calls or choice.finish_reasons != ["stop"]
        if not choice.content and not other:
            raise Violation(f"choice {index}: the model stopped by itself and said nothing")
    if 0 not in pieces:
        raise Violation("there is no first choice")
    return Passed(repr(shortened(pieces[0].content)))


def _blocks(reply: Reply) -> list[bytes]:
    """Return what lies between empty lines, as it came."""
    return [block for block in reply.body.split(b"\n\n") if block]


CHECKS: Final = (
    framing, end_mark, keep_alive, keys_of_a_chunk, role, several_choices, deltas_of_a_call, one_choice_a_chunk,
    usage_is_last, no_usage_unasked, running_usage, usage_of_a_stream, finish, message_of_a_stream,
)  # fmt: skip
