"""The stream of a chat completion, from the provider's bytes to the client's: read no more of it than must be read.

Level 0 hands a piece on as the object that came; level 1 swaps a few exact bytes; an event that means something (the
first ones, a finish reason, usage, an error) is parsed and written again. The result does not depend on where the
provider's bytes were cut. Pure: no clock, no I/O; the pump (`upstream/pump.py`) brings the bytes and the time.
"""

from collections.abc import Callable, Collection
from typing import Final

from msgspec import Raw, Struct
from msgspec.structs import replace

from proxy.errors import Fault
from proxy.usage import Usage, UsageSource, billed
from proxy.wire import json
from proxy.wire.chat_answer import ChatAnswer, created, finish_reason, read_answer, take_usage, valid_id
from proxy.wire.chat_chunk import as_it_came, choices_of_answer, chunk_head, deltas_in, event_of, is_bare, split_chunk
from proxy.wire.chat_frames import Frames
from proxy.wire.chat_handing import Handing
from proxy.wire.chat_rewrite import Choice, ChunkWriter
from proxy.wire.json import Disguise, Malformed, RawObject
from proxy.wire.large_json import LARGE
from proxy.wire.reasoning import UNTOUCHED, Passing, ReasoningPlan
from proxy.wire.refusal import DONE, error_event
from proxy.wire.scan import OutputCounter, clean_event
from proxy.wire.sse import Event
from proxy.wire.stream_reader import MAX_JSON, StreamReader
from proxy.wire.upstream_error import UpstreamError, bad_answer, error_in_chunk, failed_ending, read_error

MAX_UNREADABLE: Final = 3
"""Events in a row that may be no JSON before the stream is given up."""
_NULL: Final = Raw(b"null")
_NOTHING: Final = Passing.NOTHING


class StreamPlan(Struct, frozen=True):
    """What one stream needs: what the client asked for, and what its provider is known to do."""

    model: str
    """The catalog id, which every chunk shows."""
    choices: int
    include_usage: bool
    continuous_usage: bool
    strip_fields: Collection[str]
    every_event: bool
    """Write every chunk anew: the provider's deltas are known to need repair, or the reader wants one form."""
    completion_from_total: bool
    now: int
    """Unix seconds, for chunks that do not say when they were created."""
    new_id: Callable[[], str]
    estimate: Callable[[int], Usage]
    """From the bytes that the model produced to the usage that is billed if the provider tells none."""
    reasoning: ReasoningPlan = UNTOUCHED

    @property
    def reads_all(self) -> bool:
        """True if every event has to be parsed, whatever is in it."""
        return self.every_event or self.choices > 1 or self.continuous_usage or bool(self.strip_fields)


class ChatStream:
    """One stream. Feed it pieces, send what it returns; `committed`, `ended` and `error` say where it stands.

    Until `committed`, what it returns is empty and the answer may still become an error or come from another target.
    After `ended` or `error` nothing more is taken.
    """

    __slots__ = (
        "_answer", "_frames", "_handing", "_head", "_held", "_no_stream", "_output", "_plan", "_reader",
        "_reported", "_unreadable", "_whole", "_writer", "all_finished", "committed", "dropped", "ended",
        "error", "large", "upstream_id",
    )  # fmt: skip

    def __init__(self, plan: StreamPlan) -> None:
        """Start before the provider's first byte."""
        self._plan = plan
        self._reader = StreamReader(MAX_JSON)
        self._output = OutputCounter(plan.reasoning.closing if plan.reasoning.reads_tags else "")
        # Tool calls that may also leave as they came are not repaired: half of a repair would be worse than none.
        self._writer = ChunkWriter(plan.reasoning, plan.new_id, repairs=plan.reads_all or plan.reasoning.touches)
        self._handing = Handing(plan.model, self._output)
        self._frames = Frames(self._output, anew=plan.reads_all)
        self._head: RawObject = {}
        self._held: list[bytes] = []
        self._whole = False  # the answer has begun, and the next piece begins with an event
        self._answer: ChatAnswer | None = None
        self._reported: Usage | None = None
        self._unreadable = 0
        self._no_stream = False
        self.upstream_id: str | None = None
        self.dropped = 0
        """Events that could not be read."""
        self.all_finished = False
        """Every choice has its finish reason: only usage can still follow."""
        self.committed = False
        self.ended = False
        self.error: UpstreamError | None = None
        self.large = False
        """So much waits to be read that it should not be in the loop."""

    def feed(self, piece: bytes) -> bytes:
        """Take what the provider sent; return what goes to the client: the same object if nothing had to change."""
        if not self._whole or len(piece) > LARGE:
            return self._read(piece)
        if (out := self._handing.hand(piece)) is not None or (out := self._unparsed(piece)) is not None:
            self._unreadable = 0
            return out
        event = clean_event(piece)
        return self._read(piece) if event is None else self._sendable(self._counted(event))

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
        self._handing.allow(_NOTHING)  # what is left may be half an event: it is read to be told from a whole
        out = self._taken(self._reader.end())
        if not self._over:
            if self._writer.begun and not self._writer.unfinished:
                out += self._close()
            else:
                self.error = self._broken_off()
        return self._sendable(out)

    def flush(self) -> bytes:
        """Return what the splitters hold back, because nothing will follow; empty when asked again."""
        return self._chunks(self._writer.flush())

    def fail(self, fault: Fault, request_id: str) -> bytes:
        """Return the last events of a stream that has begun and fails: what was held back, and the error."""
        return self.flush() + error_event(fault, request_id)

    def usage(self) -> tuple[Usage, UsageSource]:
        """Return what is billed: the provider's last word if it can be true, else the estimate of what it sent.

        Where that word came before the end of the answer, what was produced after it is estimated and added.
        """
        told, since = (None, 0) if self.all_finished else self.progress()
        if told is None or not since:
            return billed(self._reported, self._output.total, self._plan.estimate)
        more = self._plan.estimate(since).completion
        return replace(told, completion=told.completion + more), UsageSource.ESTIMATED

    def progress(self) -> tuple[Usage | None, int]:
        """Return what the provider told last, and how many bytes the model has produced since (or ever)."""
        told = self._reported
        if told is None or not (told.prompt or told.completion):
            return None, self._output.total()
        return told, self._output.since_mark()

    @property
    def stray_close_tags(self) -> int:
        """How many choices have a closing tag in their text and no block of reasoning: its opening tag, it seems, was
        written by the provider's template.
        """
        if self._answer is not None:
            return self._answer.stray_close_tags
        return len(self._output.closed().intersection(self._writer.blockless))

    @property
    def reasoning_field(self) -> str | None:
        """The field in which the provider sent reasoning, as far as that was read."""
        return self._writer.reasoning_field if self._answer is None else self._answer.reasoning_field

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """The finish reasons of the choices so far; none of an answer that came whole."""
        return self._writer.finish_reasons

    @property
    def _over(self) -> bool:
        return self.ended or self.error is not None

    def _broken_off(self) -> UpstreamError:
        if self._no_stream:
            return bad_answer("it is neither a stream nor JSON")
        detail = "the stream ended without [DONE] or finish reason"
        return UpstreamError(kind="upstream_truncated", detail=detail)

    def _read(self, piece: bytes) -> bytes:
        if self._over:
            return b""
        out = self._taken(self._reader.feed(piece))
        if not self._over:
            self.error = self._reader.error
        out = self._sendable(out)
        self.large = self._reader.waits > LARGE
        self._whole = self.committed and self._reader.idle and not self._over
        return out

    def _sendable(self, out: bytes) -> bytes:
        """Hold back what comes before the first output; put it in front of the first that goes out."""
        if self._over:
            self._whole = False
        if not self.committed and not (self.ended and self.error is None):
            self._held.append(out)
            return b""
        self.committed = True
        if self._held:
            out = b"".join((*self._held, out))
            self._held.clear()
        return out + self.flush() if self.error is not None else out

    def _taken(self, events: list[Event]) -> bytes:
        out = []
        for event in events:
            out.append(self._take(event))
            if self._over:
                break
        return out[0] if len(out) == 1 else b"".join(out)

    def _take(self, event: Event) -> bytes:
        if event.error is not None:
            self.error = UpstreamError(read_error(event.error))
            return b""
        if event.data is None:
            self._no_stream = b":" not in event.raw and not self._head
            return b""
        if event.data.startswith(b"[DONE]"):
            return self._done()
        if not (self.committed and event.clean):
            return self._counted(event)
        if (out := self._handing.hand(event.raw)) is not None or (out := self._unparsed(event.raw)) is not None:
            self._unreadable = 0
            return out
        return self._counted(event)

    def _unparsed(self, events: bytes) -> bytes | None:
        """Return what a client gets of events that repeat a form or leave as they came; None if they have to be
        parsed, or parted first because only some of them do.
        """
        handing, frames = self._handing, self._frames
        framed = frames.write(events, handing.passing)
        if framed is None and handing.passing is not _NOTHING:
            if (out := handing.look(events)) is not None:
                return out
            if events.find(b"\n\n") == len(events) - 2:
                framed = frames.write(events, handing.passing, refused=True)
        if framed is None:
            return None
        out, rest, changes = framed
        if changes:
            handing.allow(self._writer.passing)
        return out + self.feed(rest) if rest else out

    def _counted(self, event: Event) -> bytes:
        """Read one event and return it as the client gets it; b"" if nothing of it is for the client."""
        self._no_stream = False
        data = json.on_one_line(event.data or b"")
        large = len(data) > LARGE
        if not large:
            self._output.add(event.raw if event.clean else b"data: " + data + b"\n\n")
        try:
            fields, disguise = split_chunk(data)
            if large:  # only now is it known that it may be read
                for index, delta, size in deltas_in(fields):
                    self._output.know(index, delta, size)
            found = error_in_chunk(fields) if event.clean or not event.named_error else read_error(data)
            if found is not None:
                self.error = UpstreamError(found)
                return b""
            written = self._written(event, fields, disguise)
        except Malformed:
            self.dropped += 1
            self._unreadable += 1
            if self._unreadable >= MAX_UNREADABLE:
                self.error = bad_answer("its stream is not made of JSON events")
            return b""
        self._unreadable = 0  # only now: what is malformed may lie deep in the event
        return written

    def _written(self, event: Event, fields: RawObject, disguise: Disguise | None) -> bytes:
        listed = fields.get("choices")
        choices = [] if listed is None or listed == _NULL else json.split_list(listed)
        had_usage = self._take_usage(fields, choices)
        if had_usage and not (choices and self._plan.continuous_usage) and all(is_bare(choice) for choice in choices):
            return b""
        writer = self._writer
        first = bool(choices) and not writer.begun
        if not (self._head or self._begin_with(fields, first=first)):
            return b""
        written = writer.write(choices, disguise)
        if written.failed is not None:
            self.error = failed_ending(written.failed)
        if written.finishes:
            self.all_finished = writer.all_finished(self._plan.choices)
        if first and event.clean and not self._plan.reads_all and self._is_usual(fields):
            self._handing.learn(event, fields, choices)
        self._handing.allow(writer.passing)
        for name in self._plan.strip_fields:
            fields.pop(name, None)
        fields.update(self._head)
        if self.committed and event.clean and disguise is None and not had_usage:
            self._frames.learn(event.raw, fields, choices, writer)
        self.committed = self.committed or (written.speaks and written.failed is None)
        if self._output.looks_out and self._plan.choices == 1 and not writer.blockless:
            self._output.look_no_more()
        if not choices:
            return _revealed(event_of({**fields, "choices": []}), disguise)
        out = self._chunks(written.choices, fields, disguise)
        return out if self._plan.reads_all or disguise is not None or not event.clean else as_it_came(event.raw, out)

    def _take_usage(self, fields: RawObject, choices: list[RawObject]) -> bool:
        """Cut usage out of an event, or put it into the gateway's form where every chunk shall show it; returns
        whether there was any.
        """
        in_choices = [choice for choice in choices if "usage" in choice]
        if fields.get("usage", _NULL) == _NULL and "x_groq" not in fields and not in_choices:
            return False
        usage, had = take_usage(fields, choices, completion_from_total=self._plan.completion_from_total)
        if usage is not None and (usage.prompt or usage.completion or self._reported is None):
            self._reported = usage
            self._output.mark()
        if usage is not None and choices and self._plan.continuous_usage:
            fields["usage"] = Raw(json.encode(usage.as_chat()))
        return had

    def _begin_with(self, fields: RawObject, *, first: bool) -> bool:
        """Take id and time of the stream from its first chunk; False for what comes before it and has no id."""
        upstream_id = valid_id(fields.get("id"))
        if upstream_id is None and not first:
            return False
        self._name(upstream_id, created(fields.get("created"), self._plan.now))
        return True

    def _name(self, upstream_id: str | None, created_at: int) -> None:
        """Fix what is the same in all chunks."""
        self.upstream_id = upstream_id
        shown_id = upstream_id or f"chatcmpl_{self._plan.new_id()}"
        self._head = chunk_head(shown_id, created_at, self._plan.model)

    def _is_usual(self, fields: RawObject) -> bool:
        """Tell whether nothing of a chunk's head has to change but the model's name."""
        return all(fields.get(name) == value for name, value in self._head.items() if name != "model")

    def _done(self) -> bytes:
        if not self._writer.begun:
            self.error = bad_answer("its stream holds no choices")
            return b""
        called = self._output.called()
        endings = [(index, finish_reason(None, has_tool_calls=index in called)) for index in self._writer.unfinished]
        missing = [choice for index, reason in endings for choice in self._writer.finish(index, reason)]
        return self._chunks(missing) + self._close()

    def _close(self) -> bytes:
        self.ended = True
        out = self.flush()
        if self._plan.include_usage:
            out += event_of({**self._head, "choices": [], "usage": self.usage()[0].as_chat()})
        return out + DONE

    def _whole_answer(self) -> bytes:
        """Turn one JSON body, sent although a stream was asked for, into a stream; sets `error` if it is one."""
        plan = self._plan
        try:
            answer = read_answer(
                json.on_one_line(self._reader.body()),
                new_id=plan.new_id,
                strip_fields=plan.strip_fields,
                completion_from_total=plan.completion_from_total,
                reasoning=plan.reasoning,
            )
            self._output.known += answer.output_bytes()
            written = ChunkWriter(UNTOUCHED, plan.new_id, repairs=True).write(choices_of_answer(answer))
        except UpstreamError as error:
            self.error = error
            return b""
        except Malformed:
            self.error = bad_answer("its choices are not those of a chat completion")
            return b""
        self._answer = answer
        self._reported = answer.usage
        self._name(answer.upstream_id, created(answer.fields.get("created"), plan.now))
        self.all_finished = True
        return self._chunks(written.choices, disguise=answer.disguise) + self._close()

    def _chunks(
        self, choices: list[Choice], fields: RawObject | None = None, disguise: Disguise | None = None
    ) -> bytes:
        """Write a chunk around each choice; what else it holds is in `fields`."""
        chunk: dict[str, object] = {**(self._head if fields is None else fields)}
        out = []
        for choice in choices:
            chunk["choices"] = [choice]
            out.append(event_of(chunk))
        return _revealed(out[0] if len(out) == 1 else b"".join(out), disguise)


def _revealed(events: bytes, disguise: Disguise | None) -> bytes:
    return disguise.take_off(events) if disguise else events
