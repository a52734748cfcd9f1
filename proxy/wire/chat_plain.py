"""Completions that need no rewriting: read in one go, and passed on as the bytes that came.

Whatever is not plain in every respect is no error here: the careful reader (`chat_answer.py`) takes it, and for what
is plain it would say the same. Pure.
"""

import re
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from proxy.usage import Usage, read_usage
from proxy.wire import json
from proxy.wire.chat_message import leaves_as_it_came
from proxy.wire.chat_text import is_text, says
from proxy.wire.large_json import LARGE
from proxy.wire.reasoning import FIELDS, ReasoningPlan

_MOST_DIGITS: Final = 20
_USAGE: Final = (
    b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}'
)
"""A usage of which nothing else is known, as `Usage.as_chat` has it."""
_ID: Final = re.compile(rb'"[!#-\[\]-~]{1,128}"')


class _Message(Struct):
    role: Literal["assistant"]
    content: Raw
    tool_calls: Raw = Raw()
    reasoning: Raw = Raw()
    reasoning_content: Raw = Raw()
    reasoning_details: Raw = Raw()


class _Choice(Struct):
    index: int
    message: _Message
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class _Answer(Struct, forbid_unknown_fields=True):
    id: Raw
    object: Literal["chat.completion"]
    created: Raw
    model: Raw
    choices: Raw
    usage: dict[str, Any]
    system_fingerprint: Raw = Raw()
    service_tier: Raw = Raw()


class _Finish(Struct):
    finish_reason: str


class _Finished(Struct):
    choices: list[_Finish]


_choices: Final = msgspec.json.Decoder(list[_Choice])
_finished: Final = msgspec.json.Decoder(_Finished)
_answers: Final = msgspec.json.Decoder(_Answer)


def finish_reasons(body: bytes) -> tuple[str, ...]:
    """Return the finish reasons of a completion in the form that clients get; none of anything else."""
    try:
        return tuple(choice.finish_reason for choice in _finished.decode(body).choices)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


class PlainChoices(Struct, frozen=True):
    """What is known of choices that leave as they came."""

    reasoning_field: str | None
    """The field in which the provider sent reasoning, if it did."""


class PlainAnswer(Struct, frozen=True):
    """A completion of which only the model's name and the usage are written anew."""

    id: Raw
    created: Raw
    choices: Raw
    others: bytes
    """The fields behind the usage, each with the comma before it."""
    usage: Usage
    reasoning_field: str | None

    @property
    def upstream_id(self) -> str:
        """The provider's id of the answer."""
        return bytes(self.id)[1:-1].decode()


def read_plain_choices(raw: Raw, plan: ReasoningPlan) -> PlainChoices | None:
    """Look at choices that may be in the form that clients get; None if they are not."""
    try:
        choices = _choices.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    for choice in choices:
        if not _is_plain(choice.message, plan):
            return None
    if not choices:
        return None
    first = choices[0].message
    return PlainChoices(reasoning_field(first.reasoning, first.reasoning_content))


def read_plain_answer(body: bytes, plan: ReasoningPlan, *, completion_from_total: bool = False) -> PlainAnswer | None:
    """Read a provider's body if it is a completion as clients get it, with a usage that says something; else None.

    Only for providers none of whose fields are hidden from clients.
    """
    if len(body) > LARGE or not json.is_utf8(body):
        return None
    try:
        answer = _answers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    created, choices = bytes(answer.created), answer.choices
    if (
        _ID.fullmatch(answer.id) is None
        or not created.isdigit()
        or created == b"0"
        or len(created) > _MOST_DIGITS
        or bytes(choices).find(b'"usage"') >= 0
    ):
        return None
    usage = read_usage(answer.usage, completion_from_total=completion_from_total)
    if usage is None or not (usage.prompt or usage.completion):
        return None
    plain = read_plain_choices(choices, plan)
    if plain is None:
        return None
    others = b""
    if fingerprint := bytes(answer.system_fingerprint):
        others = b',"system_fingerprint":' + fingerprint
    if tier := bytes(answer.service_tier):
        others += b',"service_tier":' + tier
    return PlainAnswer(answer.id, answer.created, choices, others, usage, plain.reasoning_field)


def write_plain_answer(answer: PlainAnswer, model: str) -> bytes:
    """Write the client's body as `chat_answer.write_answer` would."""
    return b'{"id":%b,"object":"chat.completion","created":%b,"model":%b,"choices":%b,"usage":%b%b}' % (
        answer.id,
        answer.created,
        json.encode(model),
        answer.choices,
        _usage(answer.usage),
        answer.others,
    )


def _usage(usage: Usage) -> bytes:
    if usage.reasoning is not None or usage.prompt_details or usage.completion_details:
        return json.encode(usage.as_chat())
    return _USAGE % (usage.prompt, usage.completion, usage.prompt + usage.completion, usage.cached)


def reasoning_field(reasoning: Raw | None, reasoning_content: Raw | None) -> str | None:
    """Name the field in which a provider sends reasoning, if it does."""
    if reasoning is not None and is_text(reasoning) and says(reasoning):
        return FIELDS[0]
    if reasoning_content is not None and is_text(reasoning_content) and says(reasoning_content):
        return FIELDS[1]
    return None


def _is_plain(message: _Message, plan: ReasoningPlan) -> bool:
    content = bytes(message.content)
    if not content.startswith(b'"') or bytes(message.tool_calls):
        return False
    if not plan.touches:
        return True
    fields = (message.reasoning, message.reasoning_content, message.reasoning_details)
    return not any(bytes(value) for value in fields) and leaves_as_it_came(content, plan)
