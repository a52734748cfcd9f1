"""Checks of a whole chat completion: its form (D5), its tokens (D6), its tool calls."""

from http import HTTPStatus
from typing import Final, Literal

import msgspec
from msgspec import Struct

from proxy.conformance.asks import call, one_model, plain, streamed
from proxy.conformance.check import Passed, Skipped, Verdict, check
from proxy.conformance.exchange import Reply, Violation, shortened
from proxy.conformance.refusals import answered, not_offered
from proxy.conformance.shapes import AnswerId, Completion, Message, Positive, Usage
from proxy.conformance.sse import assembled, documents_of

_FIRST_KEYS: Final = ("id", "object", "created", "model", "choices", "usage")
_CHOICE_KEYS: Final = ("index", "message", "finish_reason")
_FOREIGN_WORDS: Final = frozenset(
    {
        *("eos", "eos_token", "end_turn", "stop_sequence", "complete", "max_tokens", "model_length", "tool_use"),
        *("safety", "recitation", "sensitive", "guardrail_intervened", "error", "abort"),
    }
)


class _Id(Struct, frozen=True):
    id: AnswerId


class _Created(Struct, frozen=True):
    created: Positive


class _Object(Struct, frozen=True):
    object: Literal["chat.completion"]


class _Counted(Struct, frozen=True):
    usage: Usage


@check("D5.1", plain)
def order_of_keys(reply: Reply) -> Verdict:
    """An answer begins with `id`, `object`, `created`, `model`, `choices`, `usage`, a choice with `index`, `message`,
    `finish_reason`.
    """
    answered(reply).read(_Object)
    reply.read(Completion)
    keys = tuple(reply.document)[: len(_FIRST_KEYS)]
    if keys != _FIRST_KEYS:
        raise Violation(f"the keys are {', '.join(keys)}")
    for choice in reply.document["choices"]:
        if tuple(choice)[: len(_CHOICE_KEYS)] != _CHOICE_KEYS:
            raise Violation(f"the keys of a choice are {', '.join(choice)}")
    return Passed("in this order")


@check("D5.2", plain, streamed, one_model)
def name_of_the_model(whole: Reply, stream: Reply, entry: Reply) -> Verdict:
    """The `model` of an answer and of a stream is the id of the model in the listing."""
    listed = entry.document.get("id") if entry.status == HTTPStatus.OK else whole.asked.fields["model"]
    for found in (answered(whole).document.get("model"), documents_of(answered(stream))[0].get("model")):
        if found != listed:
            raise Violation(f"model is {found!r}; expected {listed!r}")
    return Passed(str(listed))


@check("D5.3", plain)
def id_of_an_answer(reply: Reply) -> Verdict:
    """An answer's `id` is 1 to 128 visible ASCII characters."""
    return Passed(shortened(answered(reply).read(_Id).id))


@check("D5.4", plain)
def time_of_an_answer(reply: Reply) -> Verdict:
    """An answer's `created` is a whole number above zero."""
    return Passed(str(answered(reply).read(_Created).created))


@check("D5.5", plain)
def message_of_an_answer(reply: Reply) -> Verdict:
    """A message has the role `assistant` and always `content`: a text, null only beside tool calls or a refusal."""
    for choice in answered(reply).read(Completion).choices:
        _speaks(choice.message, choice.finish_reason)
    return Passed(repr(shortened(reply.document["choices"][0]["message"]["content"] or "")))


def _speaks(message: Message, finish: str) -> None:
    other = message.tool_calls or message.refusal
    if message.content is None and not other:
        raise Violation("content is null without tool calls or a refusal")
    if message.content == "" and not other and finish == "stop":
        raise Violation("the model stopped by itself and said nothing")


@check("D5.6", call)
def tool_call(reply: Reply) -> Verdict:
    """A tool call has an `id`, the type `function`, a name, and as `arguments` a text that holds a JSON object."""
    if skipped := not_offered(reply):
        return skipped
    calls = [one for choice in answered(reply).read(Completion).choices for one in choice.message.tool_calls or ()]
    if not calls:
        return Skipped("the model called no tool although it had to")
    for one in calls:
        if "length" not in {choice.finish_reason for choice in reply.read(Completion).choices}:
            an_object(one.function.arguments)
    return Passed(f"{calls[0].function.name}({shortened(calls[0].function.arguments)})")


def an_object(arguments: str) -> None:
    """Raise `Violation` unless arguments are a JSON object."""
    try:
        found = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise Violation(f"the arguments are {shortened(arguments)!r}, which is no JSON object")


@check("D5.7", plain, streamed)
def finish_reason(whole: Reply, stream: Reply) -> Verdict:
    """The finish reason is one of OpenAI's words: `stop`, not `eos` or `end_turn`; `length`, not `max_tokens`."""
    found = [choice.finish_reason for choice in answered(whole).read(Completion).choices]
    found += [reason for choice in assembled(answered(stream)).choices.values() for reason in choice.finish_reasons]
    for reason in found:
        if reason in _FOREIGN_WORDS:
            raise Violation(f"finish_reason is {reason!r}")
    return Passed(", ".join(sorted(set(found))))


@check("D6.1", plain)
def usage_of_an_answer(reply: Reply) -> Verdict:
    """Usage is always there, with `prompt_tokens_details.cached_tokens`, and has no price and nothing else."""
    usage = answered(reply).read(_Counted).usage
    return Passed(
        f"{usage.prompt_tokens} + {usage.completion_tokens}, {usage.prompt_tokens_details.cached_tokens} cached"
    )


@check("D6.1", plain)
def sums_of_usage(reply: Reply) -> Verdict:
    """The tokens add up: prompt and completion to the total, cached within prompt, reasoning within completion."""
    usage = answered(reply).read(_Counted).usage
    said = any(choice.message.content for choice in reply.read(Completion).choices)
    return add_up(usage, said=said)


def add_up(usage: Usage, *, said: bool) -> Passed:
    """Say what the tokens are; raises `Violation` if they cannot be right."""
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if prompt + completion != total:
        raise Violation(f"{prompt} + {completion} tokens are said to be {total}")
    if usage.prompt_tokens_details.cached_tokens > prompt:
        raise Violation(f"{usage.prompt_tokens_details.cached_tokens} of {prompt} prompt tokens were cached")
    if usage.completion_tokens_details.reasoning_tokens > completion:
        raise Violation(f"{usage.completion_tokens_details.reasoning_tokens} of {completion} tokens were reasoning")
    if not prompt or (said and not completion):
        raise Violation(f"{prompt} prompt and {completion} completion tokens of an answer with text")
    return Passed(f"{prompt} + {completion} = {total}")


CHECKS: Final = (
    order_of_keys, name_of_the_model, id_of_an_answer, time_of_an_answer, message_of_an_answer, tool_call,
    finish_reason, usage_of_an_answer, sums_of_usage,
)  # fmt: skip
