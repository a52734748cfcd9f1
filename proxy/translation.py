"""How one call is spoken to one target: the body that is sent, and how what comes back becomes the client's answer.

Three ways: chat completions to a provider that speaks them, the Responses API over such a provider, and the Responses
API to a provider that speaks it itself. Each puts the pure parts of `wire/` together; no rule of a format lives here.
"""

from collections.abc import Callable
from typing import ClassVar, Final, Protocol

from msgspec import Struct

from proxy.call import Call, Target
from proxy.errors import Fault
from proxy.usage import Usage, UsageSource, billed
from proxy.wire.chat_answer import ChatAnswer, read_answer, write_answer
from proxy.wire.chat_plain import read_plain_answer, write_plain_answer
from proxy.wire.chat_request import Dialect, thinking_is_off, upstream_body
from proxy.wire.chat_stream import ChatStream, StreamPlan
from proxy.wire.json_path import given
from proxy.wire.native_answer import NativePlan, read_native_answer, write_native_answer
from proxy.wire.native_response import NativeStream
from proxy.wire.reasoning import ReasoningPlan, reasoning_plan
from proxy.wire.response_answer import write_response
from proxy.wire.response_object import ResponseShape
from proxy.wire.response_request import ResponseRequest, dropped_natively, native_body
from proxy.wire.response_stream import ResponseStream
from proxy.wire.response_tools import tools_of_provider
from proxy.wire.upstream_error import UpstreamError

CHAT_PATH: Final = "/chat/completions"
RESPONSES_PATH: Final = "/responses"
_TOLD: Final = UsageSource.UPSTREAM


class AnswerStream(Protocol):
    """A stream between a provider's bytes and a client's, in whichever way it is translated."""

    @property
    def committed(self) -> bool:
        """Tell whether the answer has begun: until then it may still become an error or come from another target."""

    @property
    def ended(self) -> bool:
        """Tell whether it ended as it should."""

    @property
    def all_finished(self) -> bool:
        """Tell whether only usage can still follow."""

    @property
    def error(self) -> UpstreamError | None:
        """What broke it off, if anything did."""

    @property
    def upstream_id(self) -> str | None:
        """The provider's id of the answer."""

    @property
    def stray_close_tags(self) -> int:
        """How many choices have a closing tag of reasoning in their text and no block."""

    @property
    def dropped(self) -> int:
        """How many events could not be read."""

    @property
    def reasoning_field(self) -> str | None:
        """The field that the provider's reasoning came in, if it came in one."""

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """The finish reasons of the choices, as far as there are any."""

    @property
    def large(self) -> bool:
        """Tell whether what is done next may take so long that it should not be done in the loop."""

    def feed(self, piece: bytes) -> bytes:
        """Take what the provider sent; return what goes to the client."""

    def commit(self) -> bytes:
        """Begin the answer although nothing was said yet; return what was held back."""

    def end(self) -> bytes:
        """Take note that the provider's body is over; return the rest, or set `error` if it broke off."""

    def usage(self) -> tuple[Usage, UsageSource]:
        """Return what is billed so far, and whether the provider told it."""

    def progress(self) -> tuple[Usage | None, int]:
        """Return what the provider told last, and how many bytes the model has produced since (or ever)."""

    def fail(self, fault: Fault, request_id: str) -> bytes:
        """Write the events that end a stream with an error."""


class Answered(Struct, frozen=True):
    """A whole answer as the client gets it, and what it is billed by."""

    body: bytes
    usage: Usage
    source: UsageSource
    upstream_id: str | None
    reasoning_field: str | None = None
    """The field that the provider's reasoning came in, if it came in one."""


class Translation(Protocol):
    """One call as it is spoken to one target."""

    @property
    def path(self) -> str:
        """Where the body goes, below the provider's base URL."""

    @property
    def ignored(self) -> tuple[str, ...]:
        """The paths of what the client sent and the provider is not."""

    @property
    def repeatable(self) -> bool:
        """Tell whether it may be sent again, elsewhere, without knowing what became of the first: true if all that it
        can do is to cost.
        """

    def request(self) -> bytes:
        """Write the body that the provider is sent."""

    def stream(self) -> AnswerStream:
        """Begin to read a stream."""

    def answer(self, body: bytes) -> Answered:
        """Translate a whole answer. Raises `UpstreamError` if it is none."""


class Surroundings(Struct, frozen=True):
    """What a translation needs of the world: new random ids, and the time in Unix seconds."""

    new_id: Callable[[], str]
    now: Callable[[], int]


def translation_of(
    call: Call, target: Target, dialect: Dialect, around: Surroundings, reasoning_field: str | None = None
) -> Translation:
    """Choose the way in which a call is spoken to a target; `reasoning_field` is the one in which this provider wants
    earlier reasoning, if that is known.
    """
    response = call.response
    if response is None:
        return _Chat(call, target, dialect, around, reasoning_field)
    if response.may_pass and target.provider.native_responses:
        return _Native(call, target, dialect, around, response)
    return _Response(call, target, dialect, around, reasoning_field, response)


class _Chat(Struct, frozen=True):
    """Chat completions on both sides."""

    path: ClassVar[str] = CHAT_PATH
    repeatable: ClassVar[bool] = True
    call: Call
    target: Target
    dialect: Dialect
    around: Surroundings
    reasoning_field: str | None

    @property
    def ignored(self) -> tuple[str, ...]:
        return self.call.request.ignored

    def request(self) -> bytes:
        return upstream_body(
            self.call.request, self.target.route.model, self.dialect, reasoning_field=self.reasoning_field
        )

    def stream(self) -> AnswerStream:
        return ChatStream(self._stream_plan())

    def answer(self, body: bytes) -> Answered:
        provider, reasoning = self.target.provider, self._reasoning()
        plain = None
        if not provider.strip_fields:
            plain = read_plain_answer(body, reasoning, completion_from_total=provider.completion_from_total)
        if plain is not None:
            written = write_plain_answer(plain, self.call.model.id)
            return Answered(written, plain.usage, _TOLD, plain.upstream_id, plain.reasoning_field)
        return self._carefully(body, reasoning)

    def _carefully(self, body: bytes, reasoning: ReasoningPlan) -> Answered:
        provider = self.target.provider
        answer = read_answer(
            body,
            new_id=self.around.new_id,
            strip_fields=provider.strip_fields,
            completion_from_total=provider.completion_from_total,
            reasoning=reasoning,
        )
        usage, source = billed(answer.usage, answer.output_bytes, self.call.estimate)
        return Answered(self._written(answer, usage), usage, source, answer.upstream_id, answer.reasoning_field)

    def _written(self, answer: ChatAnswer, usage: Usage) -> bytes:
        call, new_id = self.call, self.around.new_id
        return write_answer(answer, model=call.model.id, usage=usage, now=call.accepted_at, new_id=new_id)

    def _stream_plan(self) -> StreamPlan:
        call, request, provider = self.call, self.call.request, self.target.provider
        return StreamPlan(
            model=call.model.id,
            choices=request.choices,
            include_usage=request.include_usage,
            continuous_usage=request.continuous_usage,
            strip_fields=provider.strip_fields,
            every_event=provider.fix_deltas,
            completion_from_total=provider.completion_from_total,
            now=call.accepted_at,
            new_id=self.around.new_id,
            estimate=call.estimate,
            reasoning=self._reasoning(),
        )

    def _reasoning(self) -> ReasoningPlan:
        request = self.call.request
        return reasoning_plan(
            request.reasoning_split,
            reasons=self.call.model.reasoning,
            provider=self.target.provider,
            thinking_off=thinking_is_off(request, self.dialect),
        )


class _Response(_Chat, frozen=True):
    """A response for the client, chat completions with the provider."""

    response: ResponseRequest

    def answer(self, body: bytes) -> Answered:
        return self._carefully(body, self._reasoning())

    def stream(self) -> AnswerStream:
        return ResponseStream(self._stream_plan(), self._shape())

    def _written(self, answer: ChatAnswer, usage: Usage) -> bytes:
        return write_response(answer, self._shape(), usage, self.around.new_id)

    def _shape(self) -> ResponseShape:
        return _shape(self.call, self.response, self.around)


class _Native(Struct, frozen=True):
    """The Responses API on both sides."""

    path: ClassVar[str] = RESPONSES_PATH
    call: Call
    target: Target
    dialect: Dialect
    around: Surroundings
    response: ResponseRequest

    @property
    def ignored(self) -> tuple[str, ...]:
        return dropped_natively(self.response)

    @property
    def repeatable(self) -> bool:
        return not tools_of_provider(given(self.response.fields, "tools"))

    def request(self) -> bytes:
        return native_body(self.response, self.target.route.model, self.dialect)

    def stream(self) -> AnswerStream:
        return NativeStream(self._plan(), self.call.estimate, lambda: _shape(self.call, self.response, self.around))

    def answer(self, body: bytes) -> Answered:
        plan = self._plan()
        answer = read_native_answer(body, plan)
        usage, source = billed(answer.usage, answer.output_bytes, self.call.estimate)
        return Answered(write_native_answer(answer, plan), usage, source, answer.upstream_id)

    def _plan(self) -> NativePlan:
        provider = self.target.provider
        return NativePlan(
            self.call.model.id, self.response.metadata, provider.strip_fields, provider.completion_from_total
        )


def _shape(call: Call, response: ResponseRequest, around: Surroundings) -> ResponseShape:
    return ResponseShape(
        response_id=f"resp_{around.new_id()}",
        model=call.model.id,
        created_at=call.accepted_at,
        echo=response.echo,
        separate_reasoning=response.reasoning_split is not True,
        clock=around.now,
    )
