"""The stream of a chat completion, at every level, whatever the provider sends:

- No input raises anything, a stream is over as ended or failed and never both, and nothing is taken after that.
- What is billed is never negative, and no part of it is larger than the whole.
- Where the provider's bytes were cut changes nothing of what a client gets; when the answer was begun, no text of it.
- A client gets events of one `data: {…}` line ended by LF, and last of all one [DONE], also of a stream that fails.
- Where every event is read, each is a chunk of the documented form, each choice has one role and one ending, and usage
  shows where it was asked for and nowhere else.
- A well-formed stream of no more choices than were asked for says the same at level 0 or 1 and at level 2.
- In a well-formed stream the texts that come out are the texts that went in.
"""

import re
from typing import Any

from msgspec.structs import replace
from playing import CATALOG, cut_at, event_by_event, plan
from streams_read import TEXTS, Told, option, strict_json, ways_to_cut, well_formed

from proxy.errors import ErrorType, Fault
from proxy.providers import ReasoningStyle
from proxy.usage import Usage, UsageSource
from proxy.wire.chat_stream import ChatStream, StreamPlan
from proxy.wire.reasoning import ReasoningMode, ReasoningPlan
from proxy.wire.upstream_error import stream_fault

DONE = b"data: [DONE]\n\n"
ID = "n" * 24
SERVED = "provider/model"
FAULT = Fault(502, ErrorType.PROVIDER, "upstream_error", "The model's provider failed to answer; try again.")
SPLIT, INLINE = ReasoningMode.SPLIT, ReasoningMode.INLINE


def reasoning(mode: ReasoningMode, style: ReasoningStyle) -> ReasoningPlan:
    return ReasoningPlan(mode, style, "<think>", "</think>")


PLANS = (
    plan(),
    plan(model=SERVED),
    plan(include_usage=True),
    plan(every_event=True, include_usage=True),
    plan(include_usage=True, continuous_usage=True),
    plan(strip=("provider", "system_fingerprint")),
    plan(choices=2, completion_from_total=True),
    replace(plan(), reasoning=reasoning(SPLIT, ReasoningStyle.FIELD)),
    replace(plan(include_usage=True), reasoning=reasoning(SPLIT, ReasoningStyle.TAGS)),
    replace(plan(), reasoning=reasoning(SPLIT, ReasoningStyle.AUTO)),
    replace(plan(every_event=True), reasoning=reasoning(SPLIT, ReasoningStyle.PREFILLED)),
    replace(plan(), reasoning=reasoning(INLINE, ReasoningStyle.AUTO)),
    replace(plan(every_event=True), reasoning=reasoning(INLINE, ReasoningStyle.PREFILLED)),
)
RAW = PLANS[:7]


def planned(data: bytes) -> tuple[StreamPlan, bytes]:
    number, sent = option(data)
    return PLANS[number % len(PLANS)], sent


def played(planned_as: StreamPlan, pieces: list[bytes], *, commits: int | None = None) -> tuple[bytes, ChatStream]:
    """What a client got up to the end; `commits` says after how many pieces the answer was begun by itself."""
    stream = ChatStream(planned_as)
    out = []
    for number, piece in enumerate(pieces):
        if number == commits and not stream.ended and stream.error is None:
            out.append(stream.commit())
        out.append(stream.feed(piece))
    out.append(stream.end())
    return b"".join(out), stream


def stands(stream: ChatStream) -> tuple[Any, ...]:
    error = None if stream.error is None else (stream.error.kind, stream.error.status, stream.error.body)
    return stream.ended, error, stream.usage(), stream.upstream_id, stream.dropped, stream.stray_close_tags


def it_is_over_once_and_billed(data: bytes) -> None:
    planned_as, sent = planned(data)
    out, stream = played(planned_as, [sent])
    assert stream.ended != (stream.error is not None)
    assert stream.committed or not out
    assert stream.committed or stream.error is not None
    before = stands(stream)
    assert stream.feed(b'data: {"id":"late","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n') == b""
    assert stream.end() == b""
    assert stands(stream) == before
    usage, source = stream.usage()
    assert source in {UsageSource.UPSTREAM, UsageSource.ESTIMATED}
    is_billable(usage)
    if stream.error is not None:
        assert stream_fault(stream.error).status == 502


def is_billable(usage: Usage) -> None:
    assert usage.prompt >= usage.cached >= 0
    assert usage.completion >= (usage.reasoning or 0) >= 0
    assert all(count >= 0 for _, count in (*usage.prompt_details, *usage.completion_details))


def cuts_make_no_difference(data: bytes) -> None:
    planned_as, sent = planned(data)
    whole, stream = played(planned_as, [sent])
    for pieces in ways_to_cut(sent):
        out, other = played(planned_as, pieces)
        assert out == whole
        assert stands(other) == stands(stream)
        assert other.committed == stream.committed


def the_moment_of_beginning_makes_no_difference(data: bytes) -> None:
    planned_as, sent = planned(data)
    whole, stream = played(planned_as, [sent])
    for pieces in (event_by_event(sent), cut_at([len(sent) // 2], sent)):
        for commits in (0, len(pieces) // 2):
            out, other = played(planned_as, pieces, commits=commits)
            if planned_as.reads_all:
                assert stands(other) == stands(stream)
                assert out == whole or not stream.committed
            elif well_formed(sent):
                assert stands(other) == stands(stream)
                assert not stream.ended or told(out).texts == told(whole).texts


def blocks_of(out: bytes) -> list[bytes]:
    """The events that a client gets of a whole stream, less [DONE], each in the one form that every client reads."""
    assert out.endswith(DONE)
    assert b"\r" not in out
    assert out.decode()
    blocks = out.split(b"\n\n")
    assert blocks.pop() == b""
    assert blocks.pop() == b"data: [DONE]"
    for block in blocks:
        assert block.startswith(b"data: {")
        assert b"\n" not in block
    return [block[len(b"data: ") :] for block in blocks]


def finished(out: bytes, stream: ChatStream) -> bytes:
    """What a client has in the end: of a stream that failed before it began, nothing but an answer of another kind."""
    return out if stream.error is None else out + stream.fail(FAULT, "req_1")


def a_client_can_read_it(data: bytes) -> None:
    planned_as, sent = planned(data)
    out, stream = played(planned_as, event_by_event(sent))
    if not stream.committed:
        return
    blocks = blocks_of(finished(out, stream))
    if stream.error is not None:
        error = strict_json(blocks.pop())
        assert error.keys() == {"error"}
        assert error["error"].keys() == {"message", "type", "param", "code"}
    if planned_as.reads_all:
        are_chunks([strict_json(block) for block in blocks], planned_as, ended=stream.ended)


def are_chunks(chunks: list[dict[str, Any]], planned_as: StreamPlan, *, ended: bool) -> None:
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks}) <= 1
    if planned_as.include_usage and ended:
        last = chunks.pop()
        assert last["choices"] == []
        usage = last["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] >= 0
        assert usage["prompt_tokens_details"]["cached_tokens"] >= 0
    seen, over = set(), set()
    for chunk in chunks:
        assert (chunk["object"], chunk["model"]) == ("chat.completion.chunk", CATALOG)
        assert not chunk.get("error")
        assert planned_as.continuous_usage or not chunk.get("usage")
        assert not set(planned_as.strip_fields) & chunk.keys()
        assert len(chunk["choices"]) <= 1
        for choice in chunk["choices"]:
            index = choice["index"]
            assert type(index) is int
            assert not choice.get("usage")
            assert choice["delta"].get("role", "") == ("" if index in seen else "assistant")
            seen.add(index)
            assert len({"content", "reasoning", "refusal", "tool_calls"} & choice["delta"].keys()) <= 1
            if choice["finish_reason"] is not None:
                assert not {*TEXTS, "tool_calls"} & choice["delta"].keys()
                assert index not in over
                over.add(index)
            else:
                calls_can_be_joined(choice["delta"].get("tool_calls", ()))
    assert over == seen or not ended


def calls_can_be_joined(calls: Any) -> None:
    for call in calls:
        assert type(call["index"]) is int
        if "id" in call:
            assert call["type"]
            assert call.get("function", {"name": "", "arguments": ""}).keys() >= {"name", "arguments"}
        else:
            assert call.keys().isdisjoint({"type"})


def told(out: bytes) -> Told:
    what = Told()
    for block in blocks_of(out):
        what.take(strict_json(block))
    return what


def levels_say_the_same(data: bytes) -> None:
    number, sent = option(data)
    planned_as = RAW[number % len(RAW)]
    indices = {choice["index"] for chunk in well_formed(sent) or () for choice in chunk["choices"]}
    if not 0 < len(indices) <= planned_as.choices:
        return
    as_is, stream = played(planned_as, event_by_event(sent))
    anew, other = played(replace(planned_as, every_event=True), event_by_event(sent))
    assert stands(stream) == stands(other)
    if stream.ended:
        first, second = told(as_is), told(anew)
        assert first.texts == second.texts
        assert first.finish == second.finish


def text_out_is_text_in(data: bytes) -> None:
    number, sent = option(data)
    planned_as = RAW[number % len(RAW)]
    chunks = well_formed(sent)
    out, stream = played(planned_as, event_by_event(sent))
    if not chunks or not stream.ended or not re.match(rb"data:|:|\w+:", sent):
        return
    sent_as = Told()
    for chunk in chunks:
        sent_as.take(chunk)
    assert told(out).texts == sent_as.texts


INVARIANTS = (
    it_is_over_once_and_billed,
    cuts_make_no_difference,
    the_moment_of_beginning_makes_no_difference,
    a_client_can_read_it,
    levels_say_the_same,
    text_out_is_text_in,
)
