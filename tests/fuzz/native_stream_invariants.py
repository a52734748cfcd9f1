"""The stream of a provider that speaks the Responses API itself, handed on, whatever that provider sends:

- No input raises anything, a stream is over as ended or failed and never both, and nothing is taken after that.
- What is billed is never negative, and no part of it is larger than the whole.
- Where the provider's bytes were cut changes nothing of what a client gets; when the answer was begun, no text of it.
- A client gets events of at most an `event: ` line and one `data: {…}` line ended by LF, and last of all one [DONE].
- A failing stream ends with an error and a failed response, numbered on from what came before, with the items so far.
- Texts come out as they went in; the model's name is the catalog's, and what a provider is paid does not show.
"""

import json
from collections.abc import Iterator
from typing import Any

from chat_stream_invariants import DONE, FAULT, is_billable
from playing import CATALOG, PROMPT, event_by_event
from response_reading import shape
from streams_read import events_of, option, strict_json, ways_to_cut

from proxy.usage import Usage, tokens_of
from proxy.wire.json import is_utf8
from proxy.wire.native_answer import NativePlan
from proxy.wire.native_response import NativeStream

BEGINNING = ["response.created", "response.in_progress"]
ITEM_EVENTS = ("response.output_item.added", "response.output_item.done")
MOST_DIGITS = 10**9
PLANS = (
    NativePlan(CATALOG),
    NativePlan(CATALOG, metadata=b'{"k":"v"}', strip_fields=("provider",)),
    NativePlan(CATALOG, completion_from_total=True),
)


def planned(data: bytes) -> tuple[NativePlan, bytes]:
    number, sent = option(data)
    return PLANS[number % len(PLANS)], sent


def played(planned_as: NativePlan, pieces: list[bytes]) -> tuple[bytes, NativeStream]:
    stream = NativeStream(planned_as, lambda output: Usage(PROMPT, tokens_of(output)), shape)
    return b"".join([stream.feed(piece) for piece in pieces]) + stream.end(), stream


def stands(stream: NativeStream) -> tuple[Any, ...]:
    error = None if stream.error is None else (stream.error.kind, stream.error.status, stream.error.body)
    return stream.ended, error, stream.usage(), stream.upstream_id


def it_is_over_once_and_billed(data: bytes) -> None:
    planned_as, sent = planned(data)
    out, stream = played(planned_as, [sent])
    assert stream.ended != (stream.error is not None)
    assert stream.committed or not out
    before = stands(stream)
    assert stream.feed(b'event: x\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n') == b""
    assert stream.end() == b""
    assert stands(stream) == before
    is_billable(stream.usage()[0])


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
    other = NativeStream(planned_as, lambda output: Usage(PROMPT, tokens_of(output)), shape)
    out = other.commit() + other.feed(sent) + other.end()
    if stream.ended and not stream.dropped and not other.dropped:  # what is not begun is read, and may be dropped
        assert other.ended
        assert deltas(parsed(data_of(out))) == deltas(parsed(data_of(whole)))
        assert other.usage() == stream.usage()


def data_of(out: bytes) -> list[bytes]:
    """The data of the events that a client gets of a whole stream, less [DONE]."""
    assert out.endswith(DONE)
    assert b"\r" not in out
    assert out.decode()
    found = []
    for block in out.removesuffix(DONE).split(b"\n\n")[:-1]:
        *event, data = block.split(b"\n")
        assert len(event) <= 1
        assert all(line.startswith(b"event: ") for line in event)
        assert data.startswith(b"data: {")
        found.append(data[len(b"data: ") :])
    return found


def parsed(data: list[bytes]) -> list[dict[str, Any]]:
    """Those that are JSON: what nothing has to be done with is handed on unread."""
    found = []
    for one in data:
        try:
            found.append(strict_json(one))
        except (ValueError, RecursionError):
            continue
    return found


def a_client_can_read_it(data: bytes) -> None:
    planned_as, sent = planned(data)
    out, stream = played(planned_as, event_by_event(sent))
    if not stream.committed:
        return
    if stream.error is None:
        events = parsed(data_of(out))
    else:
        events = parsed(data_of(out + stream.fail(FAULT, "req_1")))
        came = data_of(out + DONE)
        *begun, error, failed = events[len(parsed(came)) :]
        assert [event["type"] for event in begun] in ([], BEGINNING[1:], BEGINNING)
        assert (error["type"], failed["type"]) == ("error", "response.failed")
        assert failed["response"]["status"] == "failed"
        numbers = [event["sequence_number"] for event in (*begun, error, failed)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        last = parsed(came[-1:])
        number = last[0].get("sequence_number") if last else None
        assert type(number) is not int or not 0 <= number < 10**9 or numbers[0] == number + 1
        assert failed["response"]["error"]["message"] == error["message"]
    for event in events:
        if isinstance(response := event.get("response"), dict):
            assert response["model"] == CATALOG
            assert not isinstance(usage := response.get("usage"), dict) or "cost" not in usage
            assert not set(planned_as.strip_fields) & response.keys()


def items_are_not_lost_when_it_fails(data: bytes) -> None:
    planned_as, sent = planned(data)
    out, stream = played(planned_as, event_by_event(sent))
    if not stream.committed or stream.error is None:
        return
    came = data_of(out + DONE)
    events = [event for event in parsed(came) if event.get("type") in ITEM_EVENTS]
    done = {}
    for event in events:
        index, item = event.get("output_index"), event.get("item")
        if type(index) is not int or not 0 <= index < MOST_DIGITS or not isinstance(item, dict):
            return
        done[index] = item if event["type"] == ITEM_EVENTS[1] else None
    shown = parsed(data_of(out + stream.fail(FAULT, "req_1")))[-1]["response"]["output"]
    if len(parsed(came)) == len(came):
        assert all(item in (None, one) for (_, item), one in zip(sorted(done.items()), shown, strict=True))


def text_out_is_text_in(data: bytes) -> None:
    planned_as, sent = planned(data)
    out, stream = played(planned_as, event_by_event(sent))
    if not stream.ended:
        return
    if stream._reader.is_json:
        events = parsed(data_of(out))
        written = list(texts_in(events[-1]["response"]["output"]))
        for event in events:
            if "delta" in event and event["delta"] not in written:  # then arguments that came as JSON, not as its text
                assert event["type"] == "response.function_call_arguments.delta"
                assert not isinstance(json.loads(event["delta"]), str)
        return
    came = parsed([b" ".join(values) for lines, values in events_of(sent) if is_utf8(b"".join(lines))])
    went = deltas(parsed(data_of(out)))
    assert went == deltas(came)[: len(went)]


def texts_in(value: Any) -> Iterator[Any]:
    """Every value that holds no other, and may be a text."""
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, dict | list):
            yield from texts_in(one)
        else:
            yield one


def deltas(events: list[dict[str, Any]]) -> list[str]:
    """What the events of chunks of text say, each with its kind."""
    told = [event for event in events if isinstance(event, dict) and "delta" in event]
    return [json.dumps([event.get("type"), event["delta"]]) for event in told]


INVARIANTS = (
    it_is_over_once_and_billed,
    cuts_make_no_difference,
    the_moment_of_beginning_makes_no_difference,
    a_client_can_read_it,
    items_are_not_lost_when_it_fails,
    text_out_is_text_in,
)
