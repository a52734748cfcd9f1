"""Checks of the stream of `POST /v1/responses` (F4.2, F5, F6): one line of the table for each part of its grammar."""

import re
from typing import Any, Final

from proxy.conformance.asks import (
    cut_response,
    streamed_response,
    streamed_response_call,
    streamed_response_split,
    streamed_response_thought,
)
from proxy.conformance.chat_answers import an_object
from proxy.conformance.check import Passed, Skipped, Verdict, check
from proxy.conformance.exchange import Reply, Violation, fitted, shortened
from proxy.conformance.refusals import answered, not_offered
from proxy.conformance.response_answers import add_up, items_of, settled, texts_of
from proxy.conformance.response_grammar import TERMINAL, findings_in
from proxy.conformance.shapes import CallItem, Ended, ReasoningItem, Response
from proxy.conformance.sse import documents_of, events_of

_ALL: Final = (streamed_response, streamed_response_thought, streamed_response_split, cut_response)
_BLOCK: Final = re.compile(rb"event: ([^\r\n]+)\ndata: [^\r\n]+")
_END: Final = b"data: [DONE]"


def _documents(reply: Reply) -> list[dict[str, Any]]:
    documents = documents_of(answered(reply))
    for document in documents:
        if document.get("type") == "error":
            raise Violation(f"{reply.asked.what}: broke off: {shortened(str(document.get('message')))}")
    return documents


def _orderly(reply: Reply, *clauses: str) -> list[dict[str, Any]]:
    """Return a stream's documents; raises `Violation` for the first broken rule of these clauses."""
    documents = _documents(reply)
    for finding in findings_in(documents):
        if finding.clause in clauses:
            raise Violation(f"{reply.asked.what}: {finding.what}")
    return documents


def _final(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the response of the event that ends it, empty if there is none."""
    ends = [document.get("response") for document in documents if document.get("type") in TERMINAL]
    return ends[-1] if ends and isinstance(ends[-1], dict) else {}


def _output(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    output = _final(documents).get("output")
    return [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []


def _deltas(documents: list[dict[str, Any]], kind: str) -> int:
    return sum(document.get("type") == f"response.{kind}.delta" for document in documents)


@check("F6.1", *_ALL)
def lines_and_numbers(*replies: Reply) -> Verdict:
    """Every event has the `type` of its data in a line `event:`, and `sequence_number` counts from 0 without a gap."""
    count = 0
    for reply in replies:
        named = [event.name for event in events_of(answered(reply))][:-1]
        documents = documents_of(reply)
        if named != [document.get("type") for document in documents]:
            raise Violation(f"{reply.asked.what}: an event's line and its type differ")
        if [document.get("sequence_number") for document in documents] != list(range(len(documents))):
            raise Violation(f"{reply.asked.what}: sequence_number does not count from 0 without a gap")
        count += len(documents)
    return Passed(f"{count} events")


@check("F6.1", *_ALL)
def framing(*replies: Reply) -> Verdict:
    """Every event is one line `event: …`, one line `data: …` and an empty line, and the last is `data: [DONE]`."""
    for reply in replies:
        *blocks, last, rest = (b"", b"", *answered(reply).body.split(b"\n\n"))
        if (last, rest) != (_END, b""):
            raise Violation(f"{reply.asked.what}: ends with {shortened(repr(reply.body[-40:])[2:-1])}")
        for block in blocks[2:]:
            if not _BLOCK.fullmatch(block) and block != b": keep-alive":
                raise Violation(f"{reply.asked.what}: an event is {shortened(repr(block)[2:-1])}")
    return Passed("data: [DONE]")


@check("F6.2", *_ALL)
def beginning(*replies: Reply) -> Verdict:
    """A stream begins with `response.created` and `response.in_progress`, both empty; its id never changes."""
    for reply in replies:
        _orderly(reply, "F6.2")
    return Passed("created, in_progress")


@check("F6.3", *_ALL)
def indexes(*replies: Reply) -> Verdict:
    """Items are counted by `output_index` from 0; each is added before anything about it and keeps its id."""
    return Passed(f"{sum(len(_output(_orderly(reply, 'F6.3'))) for reply in replies)} items")


@check("F6.4", *_ALL)
def messages(*replies: Reply) -> Verdict:
    """A message is added, then its part; then come deltas, the whole text, the part and the message."""
    documents = [_orderly(reply, "F6.4", "F6.9") for reply in replies]
    texts_of(_output(documents[0]))
    return Passed(f"{_deltas(documents[0], 'output_text')} deltas")


@check("F6.5", streamed_response_thought)
def reasoning_item(reply: Reply) -> Verdict:
    """An item `reasoning` is added and done before the message, with a part `reasoning_text` and deltas of its own."""
    documents = _orderly(reply, "F6.5")
    items = items_of(_output(documents), "reasoning")
    if not items:
        return Skipped("the model did not reason, or is not marked as one that does")
    for item in items:
        fitted(item, ReasoningItem, "a reasoning item")
    return Passed(f"{_deltas(documents, 'reasoning_text')} deltas")


@check("F4.2", streamed_response_thought)
def no_part_unasked(reply: Reply) -> Verdict:
    """Without `reasoning_split` no message has a part `reasoning`, and no `output_text` begins with `<think>`
    beside a reasoning item.
    """
    output = _output(_documents(reply))
    parts = [part for item in items_of(output, "message") for part in item.get("content", ())]
    if any(part.get("type") == "reasoning" for part in parts):
        raise Violation("a message has a part `reasoning`")
    apart = bool(items_of(output, "reasoning"))
    if apart and any(str(part.get("text", "")).lstrip().startswith("<think>") for part in parts):
        raise Violation("the text has the reasoning once more")
    return Passed("an item of its own" if apart else "no part")


@check("F6.6", streamed_response_split)
def reasoning_part(reply: Reply) -> Verdict:
    """With `reasoning_split` true the message's first part is `reasoning`, with its deltas, then comes the text."""
    documents = _orderly(reply, "F6.6")
    if items_of(_output(documents), "reasoning"):
        raise Violation("reasoning is an item of its own")
    kinds = [part.get("type") for item in items_of(_output(documents), "message") for part in item.get("content", ())]
    if "reasoning" not in kinds:
        return Skipped("the model did not reason")
    if not _deltas(documents, "reasoning_text"):
        raise Violation("there is no delta of reasoning")
    return Passed(f"{_deltas(documents, 'reasoning_text')} deltas")


@check("F6.7", streamed_response_call)
def calls(reply: Reply) -> Verdict:
    """A call is added without arguments; then come deltas, the whole arguments with the name, the done call."""
    if skipped := not_offered(reply):
        return skipped
    documents = _orderly(reply, "F6.1", "F6.2", "F6.3", "F6.7", "F6.10")
    items = items_of(_output(documents), "function_call")
    if not items:
        return Skipped("the model called no tool although it had to")
    for item in items:
        call = fitted(item, CallItem, "a call")
        if call.status == "completed":
            an_object(call.arguments)
    return Passed(f"{_deltas(documents, 'function_call_arguments')} deltas")


@check("F6.10", *_ALL)
def ending(*replies: Reply) -> Verdict:
    """One event ends a response, as its last, with the whole response: its output is what the items were when done."""
    statuses = [str(_final(_orderly(reply, "F6.10")).get("status")) for reply in replies]
    return Passed(", ".join(statuses))


@check("F5.1", *_ALL)
def objects_of_events(*replies: Reply) -> Verdict:
    """The response in the first two events and in the last has all the keys of a whole one."""
    for reply in replies:
        for document in _documents(reply):
            if "response" in document:
                fitted(document["response"], Response, f"{reply.asked.what}: {document.get('type')}")
    return Passed("all keys")


@check("F5.5", streamed_response)
def usage_of_a_stream(reply: Reply) -> Verdict:
    """The usage at a stream's end has the same form as that of a whole response, and adds up."""
    return add_up(_final(_documents(reply)).get("usage"))


@check("F5.6", cut_response)
def cut_short(reply: Reply) -> Verdict:
    """An answer cut by `max_output_tokens` ends with `response.incomplete` and why; its last item is incomplete."""
    documents = _documents(reply)
    found = fitted(_final(documents), Ended, f"{reply.asked.what}: the last response")
    settled(found)
    if found.status != "incomplete":
        return Skipped(f"the answer was not cut: it is {found.status}")
    if documents[-1].get("type") != "response.incomplete":
        raise Violation(f"the last event is {documents[-1].get('type')}")
    if not found.output or found.output[-1].get("status") != "incomplete":
        raise Violation("the last item is not incomplete")
    return Passed(str((found.incomplete_details or {}).get("reason")))


CHECKS: Final = (
    no_part_unasked, objects_of_events, usage_of_a_stream, cut_short, lines_and_numbers, framing, beginning, indexes,
    messages, reasoning_item, reasoning_part, calls, ending,
)  # fmt: skip
