"""The events of a response's stream, made from what a chat completion says piece by piece.

The grammar lives here and nowhere else: when items and parts open and close, and how they and the events are numbered.
A whole answer is a stream that says everything at once, so `response_answer.py` uses it too. Pure.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Raw

from proxy.errors import Fault
from proxy.usage import Usage
from proxy.wire import json
from proxy.wire.response_items import OpenCall, OpenPart, OpenTexts
from proxy.wire.response_object import (
    OUTPUT_TEXT,
    REASONING_IN_ITEM,
    REASONING_IN_MESSAGE,
    REFUSAL,
    ResponseShape,
    Status,
    TextKind,
    error_event,
    event,
    incomplete_reason,
    response_error,
    response_object,
)
from proxy.wire.response_source import Call, Said

_ITEM_SIZE: Final = 1024
"""What an item takes beside its text, roughly."""


class ResponseEvents:
    """One response. What each method returns goes to the client at once; `size` grows with what has to be kept."""

    __slots__ = (
        "_begun", "_believed", "_call_ids", "_calls", "_finish", "_logprobs", "_new_id", "_open", "_output",
        "_reasoning", "_sequence", "_shape", "_spoke", "_texts", "_unsettled", "size",
    )  # fmt: skip

    def __init__(self, shape: ResponseShape, new_id: Callable[[], str]) -> None:
        """Start before anything was said; `new_id` makes the ids of items."""
        self._shape = shape
        self._new_id = new_id
        self._reasoning = REASONING_IN_ITEM if shape.separate_reasoning else REASONING_IN_MESSAGE
        self._believed: str | None = None
        """Where the reasoning stands: the first place that held any."""
        self._begun = False
        self._sequence = 0
        self._output: list[Raw] = []
        """By output index; what an item holds here while it is open counts for nothing."""
        self._open: dict[int, OpenTexts | OpenCall] = {}
        self._texts: OpenTexts | None = None
        self._calls: dict[int, OpenCall] = {}
        self._call_ids: set[bytes] = set()
        self._unsettled: OpenCall | None = None
        self._spoke = False
        self._logprobs: list[Raw] = []
        """Those of tokens that the text has not come with yet: it may be held back, and tags are tokens too."""
        self._finish: str | None = None
        self.size = 0

    def begin(self) -> bytes:
        """Open the response: the two events that come first."""
        self._begun = True
        response = response_object(self._shape, Status.IN_PROGRESS)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def say(self, said: Said) -> bytes:
        """Take what the model says next: reasoning, text, refusal, calls, and in the end why it stopped."""
        out = b""
        for place, text in said.reasoning:
            self._believed = self._believed or place
            if place == self._believed:
                out += self._say(self._reasoning, text)
        self._logprobs += said.logprobs
        if said.text:
            logprobs, self._logprobs = self._logprobs, []
            out += self._say(OUTPUT_TEXT, said.text, logprobs)
        if said.refusal:
            out += self._say(REFUSAL, said.refusal)
        for call in said.calls:
            out += self._call(call)
        if said.finish is not None:
            self._finish = self._finish or said.finish
            out += self._close_all()
        return out

    def end(self, usage: Usage) -> bytes:
        """Close what is open, and the response: nothing more is said."""
        out = self._close_all()
        return out + self._event(f"response.{self._status()}", response=self.response(usage))

    def response(self, usage: Usage) -> Raw:
        """Return the response as it ended."""
        incomplete = incomplete_reason(self._finish or "stop")
        return response_object(self._shape, self._status(), self._output, usage=usage, incomplete=incomplete)

    def fail(self, fault: Fault, request_id: str, usage: Usage | None) -> bytes:
        """End with an error; what was being said stays in the response, incomplete."""
        out = b"" if self._begun else self.begin()
        for index, item in self._open.items():
            self._output[index] = item.write(Status.INCOMPLETE)
        out += error_event(fault, request_id, self._number())
        error = response_error(fault, request_id)
        response = response_object(self._shape, Status.FAILED, self._output, usage=usage, error=error)
        return out + self._event("response.failed", response=response)

    def _status(self) -> Status:
        return Status.INCOMPLETE if incomplete_reason(self._finish or "stop") else Status.COMPLETED

    def _say(self, kind: TextKind, text: bytes, logprobs: Sequence[Raw] = ()) -> bytes:
        opening = b""
        part = None if self._texts is None else self._texts.part
        if part is None or part.kind is not kind:
            opening, part = self._open_part(kind)
        part.pieces.append(text)
        part.logprobs += logprobs
        self.size += len(text)
        if not kind.has_logprobs:
            end = b'"}\n\n'
        else:
            end = b'","logprobs":%b}\n\n' % json.encode(logprobs) if logprobs else b'","logprobs":[]}\n\n'
        return b"%b%b%d%b%b%b" % (opening, part.head, self._number(), part.behind, text, end)

    def _open_part(self, kind: TextKind) -> tuple[bytes, OpenPart]:
        """Open a part, and an item for it where the open one is none that it may stand in."""
        out = b""
        is_message = kind is not REASONING_IN_ITEM
        texts = self._texts
        if texts is not None and texts.is_message == is_message:
            out += self._close_part(texts)
        else:
            out += self._close_texts() + self._settle()
            prefix = "msg" if is_message else "rs"
            texts = self._texts = OpenTexts(f"{prefix}_{self._new_id()}", len(self._output), is_message=is_message)
            out += self._added(texts)
        place = {"item_id": texts.item_id, "output_index": texts.output_index, "content_index": len(texts.closed)}
        part = texts.part = OpenPart(kind, place)
        self._spoke = self._spoke or kind is not self._reasoning
        return out + self._event("response.content_part.added", **place, part=part.write()), part

    def _call(self, call: Call) -> bytes:
        opening = b""
        opened = self._calls.get(call.index)
        if opened is None:
            if not (call.id or call.name or call.arguments):
                return b""
            opening, opened = self._open_call(call)
        if not call.arguments or opened.output_index not in self._open:  # behind a complete value nothing can be meant
            return opening
        return opening + self._argue(opened, call.arguments)

    def _open_call(self, call: Call) -> tuple[bytes, OpenCall]:
        out = self._close_texts() + self._settle()
        # Clients find a call by its id, so that one which came twice can name no more than the first.
        call_id = call.id if call.id and call.id not in self._call_ids else b"call_" + self._new_id().encode()
        self._call_ids.add(call_id)
        item_id = f"fc_{self._new_id()}"
        opened = OpenCall(item_id, len(self._output), call_id=call_id, name=call.name)
        self._calls[call.index] = self._unsettled = opened
        self._spoke = True
        return out + self._added(opened), opened

    def _argue(self, call: OpenCall, arguments: bytes) -> bytes:
        call.pieces.append(arguments)
        self.size += len(arguments)
        return b'%b%d%b%b"}\n\n' % (call.head, self._number(), call.behind, arguments)

    def _settle(self) -> bytes:
        """Close the newest call, now that something else begins, if it is complete; else it stays open to the end."""
        call, self._unsettled = self._unsettled, None
        return b"" if call is None or not call.is_complete() else self._close_call(call, Status.COMPLETED)

    def _close_all(self) -> bytes:
        status = self._status()
        out = b""
        silent = not self._spoke and not (self._output and self._shape.separate_reasoning)
        if silent and status is Status.COMPLETED:
            out += self._open_part(OUTPUT_TEXT)[0]
        for item in list(self._open.values()):
            out += self._close_call(item, status) if isinstance(item, OpenCall) else self._close_texts(status)
        self._unsettled = None
        return out

    def _close_texts(self, status: Status = Status.COMPLETED) -> bytes:
        texts, self._texts = self._texts, None
        return b"" if texts is None else self._close_part(texts) + self._done(texts, status)

    def _close_part(self, texts: OpenTexts) -> bytes:
        part, texts.part = texts.part, None
        if part is None:
            return b""
        said: dict[str, object] = {part.kind.key: Raw(b'"%b"' % part.text())}
        if part.kind.has_logprobs:
            said["logprobs"] = part.logprobs
        written = part.write()
        texts.closed.append(written)
        return self._event(f"{part.kind.events}.done", **part.place, **said) + self._event(
            "response.content_part.done", **part.place, part=written
        )

    def _close_call(self, call: OpenCall, status: Status) -> bytes:
        out = b"" if call.pieces else self._argue(call, b"{}")  # clients parse them
        arguments = Raw(b'"%b"' % call.arguments())
        done = self._event(
            "response.function_call_arguments.done",
            item_id=call.item_id,
            output_index=call.output_index,
            name=Raw(b'"%b"' % call.name),
            arguments=arguments,
        )
        return out + done + self._done(call, status)

    def _added(self, item: OpenTexts | OpenCall) -> bytes:
        written = item.write(Status.IN_PROGRESS)
        self._open[item.output_index] = item
        self._output.append(written)
        self.size += _ITEM_SIZE
        return self._event("response.output_item.added", output_index=item.output_index, item=written)

    def _done(self, item: OpenTexts | OpenCall, status: Status) -> bytes:
        written = item.write(status)
        del self._open[item.output_index]
        self._output[item.output_index] = written
        return self._event("response.output_item.done", output_index=item.output_index, item=written)

    def _event(self, kind: str, **fields: object) -> bytes:
        return event(kind, self._number(), **fields)

    def _number(self) -> int:
        number = self._sequence
        self._sequence += 1
        return number
