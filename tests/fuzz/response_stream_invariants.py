"""The stream of a response, made of a provider's stream of a chat completion, whatever that provider sends:

- No input raises anything, a stream is over as ended or failed and never both, and nothing is taken after that.
- Neither where the provider's bytes were cut nor when the answer was begun changes what a client gets.
- The events obey the grammar of the API, also those of a stream that fails, and one [DONE] comes last.
- What is said is what the same stream says to a client of chat completions: texts, refusals, arguments, usage.
"""

import json
import re
from typing import Any

from chat_stream_invariants import FAULT, SPLIT, finished, is_billable, reasoning, told
from chat_stream_invariants import played as chat_played
from msgspec.structs import replace
from playing import event_by_event, plan
from response_reading import Grammar, counted, parse, said_by, shape, whole
from streams_read import option, ways_to_cut, well_formed

from proxy.providers import ReasoningStyle
from proxy.usage import UsageSource
from proxy.wire.chat_stream import StreamPlan
from proxy.wire.response_stream import ResponseStream

PLANS = (
    plan(),
    *(replace(plan(), reasoning=reasoning(SPLIT, style)) for style in (ReasoningStyle.AUTO, ReasoningStyle.TAGS)),
    replace(plan(strip=("provider",)), reasoning=reasoning(SPLIT, ReasoningStyle.PREFILLED)),
)


def planned(data: bytes) -> tuple[StreamPlan, bool, bytes]:
    number, sent = option(data)
    return PLANS[number // 2 % len(PLANS)], bool(number % 2), sent


def played(planned_as: StreamPlan, pieces: list[bytes], *, separate: bool) -> tuple[bytes, ResponseStream]:
    stream = ResponseStream(replace(planned_as, new_id=counted("made")), shape(separate=separate))
    return b"".join([stream.feed(piece) for piece in pieces]) + stream.end(), stream


def renumbered(out: bytes) -> bytes:
    """The same with the ids that were made numbered as they appear: how many were made and never used is no matter."""
    known: dict[bytes, bytes] = {}
    return re.sub(rb"(?<=_made)\d+", lambda found: known.setdefault(found[0], b"%d" % len(known)), out)


def stands(stream: ResponseStream) -> tuple[Any, ...]:
    error = None if stream.error is None else (stream.error.kind, stream.error.status, stream.error.body)
    return stream.ended, stream.committed, error, stream.usage(), stream.upstream_id, stream.dropped


def it_is_over_once_and_billed(data: bytes) -> None:
    planned_as, separate, sent = planned(data)
    out, stream = played(planned_as, [sent], separate=separate)
    assert stream.ended != (stream.error is not None)
    assert stream.committed or not out
    before = stands(stream)
    assert stream.feed(b'data: {"id":"late","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n') == b""
    assert stream.end() == b""
    assert stands(stream) == before
    is_billable(stream.usage()[0])


def cuts_make_no_difference(data: bytes) -> None:
    planned_as, separate, sent = planned(data)
    whole_out, stream = played(planned_as, [sent], separate=separate)
    for pieces in ways_to_cut(sent):
        out, other = played(planned_as, pieces, separate=separate)
        assert stands(other) == stands(stream)
        assert renumbered(out) == renumbered(whole_out)


def the_moment_of_beginning_makes_no_difference(data: bytes) -> None:
    planned_as, separate, sent = planned(data)
    whole_out, stream = played(planned_as, [sent], separate=separate)
    other = ResponseStream(replace(planned_as, new_id=counted("made")), shape(separate=separate))
    out = other.commit() + other.feed(sent) + other.end()
    assert (other.ended, other.usage()) == (stream.ended, stream.usage())
    if stream.committed:
        assert other.dropped == stream.dropped
        assert renumbered(out) == renumbered(whole_out)


def the_events_obey_the_grammar(data: bytes) -> None:
    planned_as, separate, sent = planned(data)
    out, stream = played(planned_as, event_by_event(sent), separate=separate)
    if stream.error is not None:
        out += stream.fail(FAULT, "req_1")
    response = Grammar().take_all(parse(out))
    assert (response["status"] == "failed") == (stream.error is not None)
    if stream.ended:
        usage, _ = stream.usage()
        assert response["usage"] == json.loads(json.dumps(usage.as_response()))


def it_says_what_chat_says(data: bytes) -> None:
    planned_as, separate, sent = planned(data)
    chunks = well_formed(sent)
    choices = [choice for chunk in chunks or () for choice in chunk["choices"]]
    if not choices or len({choice["index"] for choice in choices}) > 1:
        return
    first = choices[0]["index"]
    out, stream = played(planned_as, event_by_event(sent), separate=separate)
    chat_out, chat = chat_played(replace(planned_as, every_event=True), event_by_event(sent))
    assert stream.usage() == chat.usage()
    assert stream.committed == chat.committed
    if not chat.committed:
        return
    assert chat.usage()[1] in {UsageSource.UPSTREAM, UsageSource.ESTIMATED}
    if stream.error is not None:
        out += stream.fail(FAULT, "req_1")
        assert chat.error is not None
    response = Grammar().take_all(parse(out))
    said = told(finished(chat_out, chat))
    assert whole(said_by(response, "output_text")) == whole(said.texts["content"].get(first, ""))
    assert whole(said_by(response, "refusal")) == whole(said.texts["refusal"].get(first, ""))
    places = [said.texts[name][first] for name in ("reasoning", "reasoning_content") if said.texts[name].get(first)]
    assert whole(said_by(response, "reasoning", "reasoning_text")) in {whole(text) for text in places or [""]}
    calls = [item["arguments"] for item in response["output"] if item["type"] == "function_call"]
    assert len(calls) >= len(said.calls)


INVARIANTS = (
    it_is_over_once_and_billed,
    cuts_make_no_difference,
    the_moment_of_beginning_makes_no_difference,
    the_events_obey_the_grammar,
    it_says_what_chat_says,
)
