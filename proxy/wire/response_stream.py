"""The stream of a response, from the bytes of a provider that speaks chat completions to the client's.

A chat stream reads the provider and judges what it sends: errors, endings, usage. What that writes for a client of chat
completions is translated here, event by event. Pure.
"""

from typing import Final

from msgspec.structs import replace

from proxy.errors import Fault
from proxy.usage import Usage, UsageSource
from proxy.wire.chat_stream import ChatStream, StreamPlan
from proxy.wire.json import Malformed
from proxy.wire.large_json import LARGE
from proxy.wire.refusal import DONE
from proxy.wire.response_events import ResponseEvents
from proxy.wire.response_object import ResponseShape
from proxy.wire.response_source import TextChunk, said_in_chunk
from proxy.wire.upstream_error import UpstreamError, bad_answer

MAX_KEPT: Final = 4 * 1024 * 1024
"""How much a response may hold: its texts are kept to be said again, whole, four times at its end, and until that has
gone out it takes ten times their size.
"""
_MUCH: Final = 1024 * 1024
_DATA: Final = len(b"data: ")
_DONE: Final = DONE.rstrip()


class ResponseStream:
    """One stream, used as a `ChatStream` is: feed it pieces, send what it returns, look at where it stands."""

    __slots__ = ("_begun", "_chat", "_choice", "_dropped", "_events", "_form", "_too_large")

    def __init__(self, plan: StreamPlan, shape: ResponseShape) -> None:
        """Start before the provider's first byte; usage is told in the last event, whatever the plan says of it."""
        one = replace(plan, every_event=True, include_usage=False, continuous_usage=False, choices=1)
        self._chat = ChatStream(one)
        self._events = ResponseEvents(shape, plan.new_id)
        self._begun = False
        self._choice: int | None = None
        self._form: TextChunk | None = None
        self._dropped = 0
        self._too_large: UpstreamError | None = None

    @property
    def committed(self) -> bool:
        """Tell whether the answer has begun."""
        return self._chat.committed

    @property
    def ended(self) -> bool:
        """Tell whether it ended as it should."""
        return self._chat.ended and self._too_large is None

    @property
    def all_finished(self) -> bool:
        """Tell whether only usage can still follow."""
        return self._chat.all_finished

    @property
    def error(self) -> UpstreamError | None:
        """What broke it off, if anything did."""
        return self._too_large or self._chat.error

    @property
    def upstream_id(self) -> str | None:
        """The provider's id of the answer."""
        return self._chat.upstream_id

    @property
    def stray_close_tags(self) -> int:
        """How many closing tags of reasoning stood where none was open."""
        return self._chat.stray_close_tags

    @property
    def reasoning_field(self) -> str | None:
        """The field that the provider's reasoning came in, if it came in one."""
        return self._chat.reasoning_field

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """Why the provider's answer ended, in the words of chat completions."""
        return self._chat.finish_reasons

    @property
    def dropped(self) -> int:
        """How many events could not be read."""
        return self._chat.dropped + self._dropped

    def feed(self, piece: bytes) -> bytes:
        """Take what the provider sent; return what goes to the client."""
        return self._translated(self._chat.feed(piece))

    @property
    def large(self) -> bool:
        """Tell whether so much waits to be read, or to be said again, that it should not be in the loop."""
        return self._chat.large or self._events.size > _MUCH

    def commit(self) -> bytes:
        """Begin the answer although the model has said nothing yet."""
        return self._translated(self._chat.commit())

    def end(self) -> bytes:
        """Take note that the provider's body is over; return the rest, or set `error` if it broke off."""
        return self._translated(self._chat.end())

    def usage(self) -> tuple[Usage, UsageSource]:
        """Return what is billed."""
        return self._chat.usage()

    def progress(self) -> tuple[Usage | None, int]:
        """Return what the provider told last, and how many bytes the model has produced since (or ever)."""
        return self._chat.progress()

    def fail(self, fault: Fault, request_id: str) -> bytes:
        """Write the events that end the stream with an error."""
        usage, source = self.usage()
        known = usage if source is UsageSource.UPSTREAM else None
        return self._translated(self._chat.flush()) + self._events.fail(fault, request_id, known) + DONE

    def _translated(self, chunks: bytes) -> bytes:
        if not self._chat.committed or self._too_large is not None:
            return b""
        out = []
        if not self._begun:
            self._begun = True
            out.append(self._events.begin())
        for event in chunks.split(b"\n\n"):
            if self._form is not None and len(event) <= LARGE and (said := self._form.read(event)) is not None:
                out.append(self._events.say(said))
            elif event == _DONE:
                out += [self._events.end(self.usage()[0]), DONE]
            elif event:
                out.append(self._read(event))
                if self._too_large is not None:
                    return b"".join(out)  # type: ignore[unreachable] # `_read` sets it
        if self._events.size > MAX_KEPT and not self._chat.ended:
            self._too_large = bad_answer("it is too large")
        return b"".join(out)

    def _read(self, event: bytes) -> bytes:
        try:
            choices = said_in_chunk(event[_DATA:])
        except Malformed:
            self._dropped += 1
            return b""
        if choices and self._choice is None:
            self._choice = choices[0].choice
        ours = [said for said in choices if said.choice == self._choice]
        if len(event) > LARGE:
            if self._events.size + sum(said.size for said in ours) > MAX_KEPT:
                self._too_large = bad_answer("it is too large")
                return b""
        elif len(ours) == len(choices) == 1:
            self._form = TextChunk.like(event, ours[0]) or self._form
        return b"".join(self._events.say(said) for said in ours)
