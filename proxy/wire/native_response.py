"""The stream of a provider that speaks the Responses API itself: handed on, but for the few events that name the model.

Those are parsed, as are errors and endings; of the others no more is read than that nothing has to be done. Pure.
"""

import re
from collections.abc import Callable
from typing import Final

from msgspec import Raw

from proxy.errors import Fault
from proxy.usage import Usage, UsageSource, billed
from proxy.wire import json
from proxy.wire.chat_answer import valid_id
from proxy.wire.json import Disguise, Malformed, RawObject
from proxy.wire.large_json import LARGE, check_answer
from proxy.wire.native_answer import NativePlan, failed_by, read_native_answer, revealed
from proxy.wire.native_output import NativeOutput
from proxy.wire.native_replay import replayed
from proxy.wire.refusal import DONE
from proxy.wire.response_object import ResponseShape, Status, error_event, event, response_error, response_object
from proxy.wire.scan import is_quiet
from proxy.wire.sse import Event
from proxy.wire.stream_reader import MAX_JSON, StreamReader
from proxy.wire.upstream_error import UpstreamError, bad_answer, error_in, read_error

MAX_UNREADABLE: Final = 3
"""Events in a row that may be no JSON before the stream is given up."""
# Whole events in the form in which clients get them.
_CLEAN: Final = re.compile(rb"(?:(?:event: [^\r\n]+\n)?data: \{[^\r\n]*\}\n\n)+")
# Those that add to a text or to arguments: nothing is to be done, whatever they say. What matched one event is
# not tried in another way, so that the time grows with the size alone.
_DELTAS: Final = re.compile(
    rb'(?>event: (response\.[a-z_.]+\.delta)\ndata: \{(?:"type":"\1",[^\r\n]*\}|[^\r\n]*,"type":"\1"\})\n\n)++'
)
_EVENT_LINE: Final = re.compile(rb"^event: ?([^\r\n]{1,256})$", re.MULTILINE)
_ENDING: Final = re.compile(rb'"response\.(?:completed|incomplete|failed)"')
_EMPTY: Final = Raw(b'""')
_BEGINNING: Final = ("response.created", "response.in_progress")
_ENDINGS: Final = frozenset({"response.completed", "response.incomplete"})
_OUTPUT: Final = (".delta", ".done")
"""How the kinds of events end that come only when the model has said something."""


class NativeStream:
    """One stream, used as a `ChatStream` is: feed it pieces, send what it returns, look at where it stands.

    A provider's own account of a failure is not for the client: it sets `error`, and `fail` writes what clients get.
    """

    __slots__ = (
        "_estimate", "_held", "_output", "_plan", "_reader", "_reported", "_response", "_shape", "_unreadable",
        "all_finished", "committed", "dropped", "ended", "error", "large", "reasoning_field", "stray_close_tags",
        "upstream_id",
    )  # fmt: skip

    def __init__(self, plan: NativePlan, estimate: Callable[[int], Usage], shape: Callable[[], ResponseShape]) -> None:
        """Start before the first byte; `estimate` makes of the bytes produced the usage that is billed if the provider
        tells none, `shape` makes the response that fails before the provider has told of any.
        """
        self._plan = plan
        self._estimate = estimate
        self._shape = shape
        self._reader = StreamReader(MAX_JSON)
        self._output = NativeOutput()
        self._held: list[bytes] = []
        self._response: RawObject = {}
        self._reported: Usage | None = None
        self._unreadable = 0
        self.upstream_id: str | None = None
        self.all_finished = False
        """The response has ended: only the end of the stream can still follow."""
        self.committed = False
        self.ended = False
        self.error: UpstreamError | None = None
        self.large = False
        """So much waits to be read that it should not be in the loop."""
        self.stray_close_tags = 0
        self.reasoning_field: str | None = None
        """None for ever: a client sends earlier reasoning back as the items that it got."""
        self.dropped = 0
        """Events that could not be read."""

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """None: a response has a status instead."""
        return ()

    def feed(self, piece: bytes) -> bytes:
        """Take what the provider sent; return what goes to the client: the same object if nothing had to change."""
        if self.committed and self._reader.idle and not self.all_finished and self.error is None and _is_plain(piece):
            return self._handed(piece)
        return self._sendable(self._read(piece))

    def commit(self) -> bytes:
        """Begin the answer although the model has said nothing yet; return what was held back."""
        self.committed = True
        return self._sendable(b"")

    def end(self) -> bytes:
        """Take note that the provider's body is over; return the rest, or set `error` if it broke off."""
        if self._over:
            return b""
        if self._reader.is_json:
            return self._sendable(self._whole_answer())
        # What is left may be half an event: it is read to be told from a whole one.
        out = b"".join([self._take(one, complete=False) for one in self._reader.end()])
        if not self._over:
            out += self._done()
        return self._sendable(out)

    def usage(self) -> tuple[Usage, UsageSource]:
        """Return what is billed: the provider's word if it can be true, else the estimate of what it sent."""
        return billed(self._reported, self._output.size, self._estimate)

    def progress(self) -> tuple[Usage | None, int]:
        """Return nothing told, because that comes at the end, and how many bytes the model has produced."""
        return None, self._output.size()

    def fail(self, fault: Fault, request_id: str) -> bytes:
        """Write the events that end the stream with an error: numbered on, with the items so far."""
        number, items = self._output.next_number(), self._output.items()
        known = self._response or json.split_object(bytes(response_object(self._shape(), Status.IN_PROGRESS)))
        begun: dict[str, object] = {**known, "status": Status.IN_PROGRESS, "output": [], "usage": None, "error": None}
        missing = _BEGINNING[number:] if self._response else () if items else _BEGINNING
        out = [event(kind, number + ahead, response=begun) for ahead, kind in enumerate(missing)]
        number += len(missing)
        told = {"status": Status.FAILED, "output": items, "error": response_error(fault, request_id)}
        out += [
            error_event(fault, request_id, number),
            event("response.failed", number + 1, response={**known, **told}),
            DONE,
        ]
        return b"".join(out)

    def _whole_answer(self) -> bytes:
        """Turn one JSON body, sent although a stream was asked for, into a stream; sets `error` if it is none."""
        try:
            answer = read_native_answer(self._reader.body(), self._plan)
            events = replayed(answer, self._plan)
        except UpstreamError as error:
            self.error = error
            return b""
        self._reported = answer.usage
        self.upstream_id = answer.upstream_id
        self.all_finished = True
        return self._handed(events) + self._done()

    @property
    def _over(self) -> bool:
        return self.ended or self.error is not None

    def _handed(self, events: bytes) -> bytes:
        self._unreadable = 0
        self._output.add(events)
        return events

    def _read(self, piece: bytes) -> bytes:
        if self._over:
            return b""
        out = self._taken(self._reader.feed(piece))
        self.large = self._reader.waits > LARGE
        if not self._over:
            self.error = self._reader.error
        return out

    def _sendable(self, out: bytes) -> bytes:
        """Hold back what comes before the first output; put it in front of the first that goes out."""
        if not self.committed and not self.ended:
            self._held.append(out)
            return b""
        self.committed = True
        if self._held:
            out = b"".join((*self._held, out))
            self._held.clear()
        return out

    def _taken(self, events: list[Event]) -> bytes:
        out = []
        for one in events:
            out.append(self._take(one))
            if self._over:
                break
        return b"".join(out)

    def _take(self, one: Event, *, complete: bool = True) -> bytes:
        if one.error is not None:
            self.error = UpstreamError(read_error(one.error))
        if one.error is not None or one.data is None:
            return b""
        if one.data.startswith(b"[DONE]"):
            return self._done()
        if self.all_finished:
            return b""
        if complete and self.committed and _is_plain(one.raw):
            return self._handed(one.raw)
        try:
            return self._parsed(one, one.data.replace(b"\n", b" ").strip(b" \t"))
        except Malformed:
            self.dropped += 1
            self._unreadable += 1
            if self._unreadable >= MAX_UNREADABLE:
                self.error = bad_answer("its stream is not made of JSON events")
            return b""

    def _parsed(self, one: Event, data: bytes) -> bytes:
        """Read one event and return it as the client gets it; b"" if it is an error."""
        if not json.is_utf8(one.raw):
            raise Malformed("it is not UTF-8")
        if len(data) > LARGE:
            check_answer(data)
        fields, disguise = json.split_disguised(data)
        name = _EVENT_LINE.match(one.raw, 0 if one.raw.startswith(b"event:") else one.raw.find(b"\nevent:") + 1)
        kind = json.text_of(fields.get("type")) or ("" if name is None else name[1].decode())
        if kind == "error" or error_in(fields) is not None:
            self.error = failed_by(Raw(data))
            return b""
        if not json.is_null(fields.get("response")):
            response = self._learn(json.split_object(bytes(fields["response"])), disguise)
            data = json.on_one_line(json.encode({**revealed(fields, disguise), "response": response}))
        if kind == "response.failed":
            self.error = failed_by(self._response.get("error"))
            return b""
        self.all_finished = kind in _ENDINGS
        says = kind.endswith(_OUTPUT) and fields.get("delta") != _EMPTY
        self.committed = self.committed or self.all_finished or says
        written = (b"" if name is None else b"event: %b\n" % name[1]) + b"data: %b\n\n" % data
        return self._handed(written)

    def _learn(self, response: RawObject, disguise: Disguise | None) -> RawObject:
        """Take note of what the provider tells of the response; return it as the client gets it."""
        usage = self._plan.usage_in(response)
        if usage is not None:
            self._reported = usage
        self.upstream_id = self.upstream_id or valid_id(response.get("id"))
        dressed = self._plan.dress(response, disguise)
        self._response = {**self._response, **dressed}
        return dressed

    def _done(self) -> bytes:
        if not self.all_finished:
            detail = "the stream ended without response.completed"
            self.error = UpstreamError(kind="upstream_truncated", detail=detail)
            return b""
        self.ended = True
        return DONE


def _is_plain(events: bytes) -> bool:
    """Tell whether whole events have the clients' form, and hold no response, error or ending: nothing to act upon.

    Of large ones that is not asked.
    """
    if len(events) > LARGE or events.find(b'"response"') >= 0:
        return False
    if _DELTAS.fullmatch(events) is None and (
        _CLEAN.fullmatch(events) is None
        or _ENDING.search(events) is not None
        or events.find(b"event: error\n") >= 0
        or not is_quiet(events)
    ):
        return False
    return json.is_utf8(events)
