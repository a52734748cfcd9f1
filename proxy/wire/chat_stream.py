"""The stream of a chat completion, from the provider's bytes to the client's: read no more of it than must be read.

Level 0 hands a piece on as the object that came; level 1 swaps a few exact bytes; an event that means something (the
first ones, a finish reason, usage, an error) is parsed and written again. The result does not depend on where the
provider's bytes were cut. Pure: no clock, no I/O; the pump (`upstream/pump.py`) brings the bytes and the time.
"""

import re
from collections.abc import Callable, Collection
from typing import Final

from msgspec import Raw, Struct

from proxy.usage import Usage, UsageSource
from proxy.wire import json
from proxy.wire.chat_answer import FAILED, created, finish_reason, read_answer, take_usage, valid_id
from proxy.wire.chat_chunk import chunks_of_answer, event_of, index_of, is_bare, says_something, set_role
from proxy.wire.json import Disguise, Malformed, RawObject
from proxy.wire.refusal import DONE
from proxy.wire.scan import OutputCounter, TextEvent, is_plain
from proxy.wire.sse import Event, EventReader
from proxy.wire.upstream_error import UpstreamError, bad_answer, error_in, read_error

MAX_JSON: Final = 64 * 1024 * 1024
"""How much of one whole JSON body is taken where a stream was asked for."""
MAX_UNREADABLE: Final = 3
"""Events in a row that may be no JSON before the stream is given up."""
_BOM: Final = b"\xef\xbb\xbf"


class StreamPlan(Struct, frozen=True):
    """What one stream needs: what the client asked for, and what its provider is known to do."""

    model: str
    """The catalog id, which every chunk shows."""
    choices: int
    include_usage: bool
    continuous_usage: bool
    strip_fields: Collection[str]
    every_event: bool
    """Parse each event: the provider's deltas are known to need repair."""
    completion_from_total: bool
    now: int
    """Unix seconds, for chunks that do not say when they were created."""
    new_id: Callable[[], str]
    estimate: Callable[[int], Usage]
    """From the bytes that the model produced to the usage that is billed if the provider tells none."""


class ChatStream:
    """One stream. Feed it pieces, send what it returns; `committed`, `ended` and `error` say where it stands.

    Until `committed`, what it returns is empty and the answer may still become an error or come from another target.
    After `ended` or `error` nothing more is taken.
    """

    __slots__ = (
        "_created", "_finished", "_handing", "_held", "_is_json", "_model_there", "_model_written", "_no_stream",
        "_output", "_plan", "_reader", "_reported", "_seen", "_shown_id", "_start", "_text_event", "_unreadable",
        "all_finished", "committed", "ended", "error", "upstream_id",
    )  # fmt: skip

    def __init__(self, plan: StreamPlan) -> None:
        """Start before the provider's first byte."""
        self._plan = plan
        self._reader = EventReader()
        self._output = OutputCounter()
        self._held: list[bytes] = []
        self._start = bytearray()
        self._is_json: bool | None = None
        self._handing = False
        self._model_there: bytes | None = None
        self._model_written = b""
        self._text_event: TextEvent | None = None
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._reported: Usage | None = None
        self._unreadable = 0
        self._created = plan.now
        self._no_stream = False
        self._shown_id: str | None = None
        self.upstream_id: str | None = None
        self.all_finished = False
        """Every choice has its finish reason: only usage can still follow."""
        self.committed = False
        self.ended = False
        self.error: UpstreamError | None = None

    def feed(self, piece: bytes) -> bytes:
        """Take what the provider sent; return what goes to the client: the same object if nothing had to change."""
        if self._handing and self.committed and self._reader.idle and self._is_plain(piece):
            self._unreadable = 0
            if self._model_there is None:
                self._output.add(piece)
                return piece
            if piece.count(self._model_there) == piece.count(b"\n\n"):
                self._output.add(piece)
                return piece.replace(self._model_there, self._model_written)
        return self._read(piece)

    def _is_plain(self, piece: bytes) -> bool:
        if self._text_event is not None and self._text_event.fits(piece):
            return True
        plain = is_plain(piece)
        if plain and self._text_event is None:
            self._text_event = TextEvent.like(piece)
        return plain

    def commit(self) -> bytes:
        """Begin the answer although the model has said nothing yet; return what was held back."""
        self.committed = True
        return self._sendable(b"")

    def end(self) -> bytes:
        """Take note that the provider's body is over; return the rest, or set `error` if it broke off."""
        if self._over:
            return b""
        if self._is_json:
            return self._sendable(self._whole_answer())
        self._handing = False  # what is left may be half an event, which has to be read to be told from a whole one
        out = self._taken(self._reader.end())
        if not self._over:
            if self._seen and self._seen <= self._finished:
                out += self._close()
            else:
                self.error = self._broken_off()
        return self._sendable(out)

    def _broken_off(self) -> UpstreamError:
        if self._no_stream:
            return bad_answer("it is neither a stream nor JSON")
        detail = "the stream ended without [DONE] or finish reason"
        return UpstreamError(kind="upstream_truncated", detail=detail)

    @property
    def _over(self) -> bool:
        return self.ended or self.error is not None

    def usage(self) -> tuple[Usage, UsageSource]:
        """Return what is billed: the provider's last word if it can be true, else the estimate of what it sent."""
        reported = self._reported
        if reported is not None and (reported.prompt or reported.completion or not self._output.total()):
            return reported, UsageSource.UPSTREAM
        return self._plan.estimate(self._output.total()), UsageSource.ESTIMATED

    def _read(self, piece: bytes) -> bytes:
        if self._over:
            return b""
        if self._is_json is not False:
            begun = self._begin(piece)
            if begun is None:
                return b""
            piece = begun
        out = self._taken(self._reader.feed(piece))
        if self._reader.too_large and not self._over:
            self.error = bad_answer("an event of its stream is too large")
        return self._sendable(out)

    def _begin(self, piece: bytes) -> bytes | None:
        """Keep what comes until its first character tells a stream from one JSON body, and the body to its end; return
        the beginning of a stream.
        """
        self._start += piece
        if len(self._start) > MAX_JSON:
            self.error = bad_answer("it is too large")
        elif self._is_json is None and not piece.isspace() and not _BOM.startswith(self._start):
            first = bytes(self._start).removeprefix(_BOM).lstrip()[:1]
            if first == b"<":
                self.error = bad_answer("it is a page of HTML")
            elif first:
                self._is_json = first in {b"{", b"["}
        if self._is_json is not False:
            return None
        begun = bytes(self._start)
        self._start.clear()
        return begun

    def _sendable(self, out: bytes) -> bytes:
        """Hold back what comes before the first output; put it in front of the first that goes out."""
        self._handing = self._handing and not self._over
        if not self.committed and not (self.ended and self.error is None):
            self._held.append(out)
            return b""
        self.committed = True
        if self._held:
            out = b"".join((*self._held, out))
            self._held.clear()
        return out

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
            self._no_stream = b":" not in event.raw
            return b""
        self._no_stream = False
        if event.data.startswith(b"[DONE]"):
            return self._done()
        self._output.add(event.raw if event.clean else b"data: " + event.data.replace(b"\n", b" ") + b"\n\n")
        if self._handing and self.committed and event.clean and is_plain(event.raw):
            self._unreadable = 0
            if self._model_there is None:
                return event.raw
            if event.raw.count(self._model_there) == 1:
                return event.raw.replace(self._model_there, self._model_written)
        return self._parsed(event, event.data)

    def _parsed(self, event: Event, data: bytes) -> bytes:
        """Read one event and return it as the client gets it; b"" if nothing of it is for the client."""
        try:
            if not json.is_utf8(data):
                raise Malformed("it is not UTF-8")  # noqa: TRY301
            fields, disguise = _split(data)
            if (found := error_in(fields)) is not None:
                self.error = UpstreamError(found)
                return b""
            written = self._written(event, fields, disguise)
        except Malformed:
            self._unreadable += 1
            if self._unreadable >= MAX_UNREADABLE:
                self.error = bad_answer("its stream is not made of JSON events")
            return b""
        self._unreadable = 0  # only now: what is malformed may lie deep in the event
        return written

    def _written(self, event: Event, fields: RawObject, disguise: Disguise | None) -> bytes:
        raw_choices = fields.get("choices")
        choices = [] if raw_choices is None or json.is_null(raw_choices) else json.split_list(raw_choices)
        usage, had_usage = take_usage(fields, choices, completion_from_total=self._plan.completion_from_total)
        if usage is not None and (usage.prompt or usage.completion or self._reported is None):
            self._reported = usage
        kept = self._plan.continuous_usage and choices
        if had_usage and not kept and all(is_bare(choice) for choice in choices):
            return b""
        first = bool(choices) and not self._seen
        if not self._begun(fields, first=first):
            return b""
        speaks = any(says_something(choice) for choice in choices)
        stripped = [fields.pop(name, None) is not None for name in self._plan.strip_fields]
        stamped = self._stamp(fields)
        touched = [self._take_choice(choice) for choice in choices]
        if self.error is not None:
            return b""
        if first and event.clean and stamped <= {"model"}:
            self._learn(event)
        if had_usage and self._plan.continuous_usage and usage is not None:
            fields["usage"] = Raw(json.encode(usage.as_chat()))
        if any(touched) or had_usage:
            fields["choices"] = Raw(json.encode(choices))
        self.committed = self.committed or speaks
        if event.clean and not (had_usage or stamped or any(stripped) or any(touched)):
            return event.raw
        body = json.encode(fields)
        return b"data: " + (disguise.take_off(body) if disguise else body) + b"\n\n"

    def _begun(self, fields: RawObject, *, first: bool) -> bool:
        """Take id and time of the stream from its first chunk; False for what comes before it and has no id."""
        if self._shown_id is not None:
            return True
        self.upstream_id = valid_id(fields.get("id"))
        if self.upstream_id is None and not first:
            return False
        self._shown_id = self.upstream_id or f"chatcmpl_{self._plan.new_id()}"
        self._created = created(fields.get("created"), self._plan.now)
        return True

    def _stamp(self, fields: RawObject) -> set[str]:
        """Make sure that a chunk carries the five keys of every chunk, and the catalog's model name; returns the keys
        that had to be set.
        """
        missing: dict[str, object] = {}
        if self.upstream_id is None or valid_id(fields.get("id")) is None:
            missing["id"] = self._shown_id
        if json.text_of(fields.get("object")) != "chat.completion.chunk":
            missing["object"] = "chat.completion.chunk"
        if created(fields.get("created"), 0) == 0:
            missing["created"] = self._created
        if json.text_of(fields.get("model")) != self._plan.model:
            missing["model"] = self._plan.model
        if json.is_null(fields.get("choices")):
            missing["choices"] = []
        fields.update({name: Raw(json.encode(value)) for name, value in missing.items()})
        return set(missing)

    def _take_choice(self, choice: RawObject) -> bool:
        """Note what a choice of a chunk means; returns whether it was changed."""
        changed = self._noted(choice)
        self.all_finished = self._seen <= self._finished and len(self._finished) >= self._plan.choices
        return changed

    def _noted(self, choice: RawObject) -> bool:
        index = index_of(choice)
        changed = set_role(choice, first=index not in self._seen)
        if "index" not in choice:
            choice["index"] = Raw(b"0")
            changed = True
        self._seen.add(index)
        word = json.text_of(choice.get("finish_reason"))
        if not word:
            if word is not None:  # some servers send an empty one in every chunk
                choice["finish_reason"] = Raw(b"null")
            return changed or word is not None
        reason = finish_reason(choice.get("finish_reason"), has_tool_calls=False)
        if reason in FAILED:
            self.error = UpstreamError(detail=f"the stream ended with finish_reason {reason}")
        self._finished.add(index)
        if reason == word:
            return changed
        choice["finish_reason"] = Raw(json.encode(reason))
        return True

    def _learn(self, event: Event) -> None:
        """Decide from the first chunk how the others are treated: as they are, with the model swapped, or each
        parsed.
        """
        plan = self._plan
        chunk = _split(event.data or b"")[0]
        if plan.every_event or plan.choices > 1 or plan.continuous_usage or plan.strip_fields:
            return
        shown = bytes(chunk.get("model", b""))
        if not shown or any("index" not in choice for choice in json.split_list(chunk["choices"])):
            return
        if shown != json.encode(plan.model):
            there = re.search(rb'"model"\s*:\s*' + re.escape(shown), event.raw)
            if there is None or event.raw.count(there[0]) != 1:
                return
            self._model_there = there[0]
            self._model_written = there[0].removesuffix(shown) + json.encode(plan.model)
        self._handing = True

    def _done(self) -> bytes:
        if not self._seen:
            self.error = bad_answer("its stream holds no choices")
            return b""
        reason = finish_reason(None, has_tool_calls=self._output.has_tool_calls())
        missing = sorted(self._seen - self._finished)
        chunks = [self._chunk([{"index": index, "delta": {}, "finish_reason": reason}]) for index in missing]
        self._finished |= self._seen
        return b"".join(chunks) + self._close()

    def _close(self) -> bytes:
        self.ended = True
        return (self._chunk([], self.usage()[0]) if self._plan.include_usage else b"") + DONE

    def _whole_answer(self) -> bytes:
        """Turn one JSON body, sent although a stream was asked for, into a stream; sets `error` if it is one."""
        plan = self._plan
        try:
            answer = read_answer(
                bytes(self._start).removeprefix(_BOM),
                new_id=plan.new_id,
                strip_fields=plan.strip_fields,
                completion_from_total=plan.completion_from_total,
            )
        except UpstreamError as error:
            self.error = error
            return b""
        self.upstream_id = answer.upstream_id
        self._shown_id = answer.upstream_id or f"chatcmpl_{plan.new_id()}"
        self._created = created(answer.fields.get("created"), plan.now)
        self._reported = answer.usage
        self._seen = self._finished = {index_of(choice) for choice in json.split_list(answer.choices)}
        self.all_finished = True
        chunks = chunks_of_answer(answer, self._chunk)
        self._output.add(b"".join(chunks))
        return b"".join(chunks) + self._close()

    def _chunk(self, choices: list[dict[str, object]], usage: Usage | None = None) -> bytes:
        chunk: dict[str, object] = {
            "id": self._shown_id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._plan.model,
            "choices": choices,
        }
        return event_of(chunk if usage is None else {**chunk, "usage": usage.as_chat()})


def _split(data: bytes) -> tuple[RawObject, Disguise | None]:
    try:
        return json.split_object(data), None
    except Malformed:
        disguise = Disguise(data)
        return json.split_object(disguise.put_on(data)), disguise
