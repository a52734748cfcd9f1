"""Checks of whole responses (F3, F4, F5): the object, its items, its tokens, and what it repeats of the request."""

from http import HTTPStatus
from typing import Any, Final

from proxy.conformance.asks import (
    OTHER_TOOL,
    one_model,
    response,
    response_allowed,
    response_call,
    response_no_call,
    response_split,
    response_to_history,
    response_to_messages,
    response_toolless,
    rich_response,
    split,
)
from proxy.conformance.chat_answers import an_object
from proxy.conformance.check import Passed, Skipped, Verdict, check
from proxy.conformance.exchange import Reply, Violation, fitted, shortened
from proxy.conformance.refusals import answered, not_offered
from proxy.conformance.shapes import CallItem, Ended, MessageItem, OutputText, Response, ResponseUsage

_ECHOED: Final = ("instructions", "metadata", "temperature", "max_output_tokens")


def response_in(reply: Reply) -> Ended:
    """Return the response of a whole answer; raises `Violation` if it is none."""
    return answered(reply).read(Ended)


def items_of(output: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the items of one type."""
    return [item for item in output if item.get("type") == kind]


def texts_of(output: list[dict[str, Any]]) -> list[str]:
    """Return the texts of all messages; raises `Violation` if one has another form, or there is none."""
    messages = [fitted(item, MessageItem, "a message") for item in items_of(output, "message")]
    parts = [part for message in messages for part in message.content if part.get("type") == "output_text"]
    if not parts:
        raise Violation("there is no message with a text")
    return [fitted(part, OutputText, "a part").text for part in parts]


def add_up(usage: object) -> Passed:
    """Say what a response's tokens are; raises `Violation` if the form is wrong or they cannot be right."""
    found = fitted(usage, ResponseUsage, "usage")
    given, made, total = found.input_tokens, found.output_tokens, found.total_tokens
    if given + made != total:
        raise Violation(f"{given} + {made} tokens are said to be {total}")
    if found.input_tokens_details.cached_tokens > given or found.output_tokens_details.reasoning_tokens > made:
        raise Violation("more tokens were cached than came in, or more were reasoning than came out")
    return Passed(f"{given} + {made} = {total}")


def settled(found: Ended) -> None:
    """Raise `Violation` unless status, error and details of the end go together."""
    details = found.incomplete_details
    if (found.status == "incomplete") != (details is not None):
        raise Violation(f"status is {found.status}, incomplete_details {details}")
    if details is not None and details.get("reason") not in {"max_output_tokens", "content_filter"}:
        raise Violation(f"incomplete_details is {details}")
    if (found.status == "failed") != (found.error is not None):
        raise Violation(f"status is {found.status}, error {found.error}")
    if (found.status == "completed") != (found.completed_at is not None):
        raise Violation(f"status is {found.status}, completed_at {found.completed_at}")


@check("F2", response_to_messages)
def messages_for_input(reply: Reply) -> Verdict:
    """A response can be asked for with `messages`, as in chat completions, in place of `input`."""
    return _text_in(reply)


@check("F2", rich_response)
def echo(reply: Reply) -> Verdict:
    """A response repeats `instructions`, `metadata`, `temperature` and `max_output_tokens` as they were asked with."""
    document, asked = answered(reply).document, reply.asked.fields
    for name in _ECHOED:
        if name not in document or document[name] != asked[name]:
            raise Violation(f"{name} is {document.get(name)!r}; asked with {asked[name]!r}")
    return Passed(", ".join(_ECHOED))


@check("F2", rich_response)
def never_stored(reply: Reply) -> Verdict:
    """Whatever was asked, a response says `store` false, `truncation` disabled and `previous_response_id` null."""
    document = answered(reply).document
    for name, value in (("store", False), ("truncation", "disabled"), ("previous_response_id", None)):
        if name not in document or document[name] != value:
            raise Violation(f"{name} is {document.get(name)!r}")
    return Passed("all three")


@check("F2.1", response_to_history)
def history(reply: Reply) -> Verdict:
    """A conversation with a call, its output as a list, and a search is taken; the search is named as dropped."""
    if skipped := not_offered(reply):
        return skipped
    dropped = answered(reply).header("x-gateway-ignored-params") or ""
    if "input[3]" not in dropped:
        raise Violation(f"x-gateway-ignored-params is {dropped!r}; expected input[3]")
    return Passed(f"dropped {dropped}")


@check("F3.2", response_call)
def dropped_tools(reply: Reply) -> Verdict:
    """Tools that are no functions are dropped and named in `x-gateway-ignored-params`; the others are repeated."""
    if skipped := not_offered(reply):
        return skipped
    dropped = answered(reply).header("x-gateway-ignored-params") or ""
    if "tools[1]" not in dropped:
        raise Violation(f"x-gateway-ignored-params is {dropped!r}; expected tools[1]")
    repeated = reply.document.get("tools")
    kinds = [tool.get("type") for tool in repeated] if isinstance(repeated, list) else None
    if kinds != ["function"]:
        raise Violation(f"the response repeats the tools {kinds}")
    return Passed(f"dropped {dropped}")


@check("F3.3", response_no_call)
def no_call(reply: Reply) -> Verdict:
    """With `tool_choice` none the model calls no tool, whatever it is asked."""
    if skipped := not_offered(reply):
        return skipped
    if items_of(response_in(reply).output, "function_call"):
        raise Violation("the model called a tool")
    return Passed("no call")


@check("F3.3", response_allowed)
def allowed_tools(reply: Reply) -> Verdict:
    """A `tool_choice` of the type `allowed_tools` leaves the model those tools alone."""
    if skipped := not_offered(reply):
        return skipped
    called = [item.get("name") for item in items_of(response_in(reply).output, "function_call")]
    if others := [name for name in called if name != OTHER_TOOL]:
        raise Violation(f"the model called {others[0]!r}, and only {OTHER_TOOL!r} was allowed")
    return Passed(f"called {OTHER_TOOL}") if called else Skipped("the model called no tool although it had to")


@check("F3.3", response_toolless)
def no_tool_left(reply: Reply) -> Verdict:
    """Where every tool is dropped the model answers without tools, though `tool_choice` was given."""
    output = response_in(reply).output
    if items_of(output, "function_call"):
        raise Violation("the model called a tool")
    dropped = reply.header("x-gateway-ignored-params") or ""
    if "tools[0]" not in dropped or reply.document.get("tools") != []:
        raise Violation(f"it is said that {dropped!r} was dropped, and {reply.document.get('tools')!r} was left")
    texts_of(output)
    return Passed(f"dropped {dropped}")


@check("F4.1", response_split, split)
def reasoning_as_a_part(reply: Reply, chat: Reply) -> Verdict:
    """With `reasoning_split` true a message begins with a part `reasoning`; there is no item `reasoning`."""
    output = response_in(reply).output
    if items_of(output, "reasoning"):
        raise Violation("reasoning is an item of its own")
    parts = [part for item in items_of(output, "message") for part in item.get("content", ())]
    kinds = [part.get("type") for part in parts]
    if "reasoning" not in kinds:
        if chat.status == HTTPStatus.OK and '"reasoning":' in chat.body.decode(errors="replace"):
            raise Violation("the chat answer has reasoning, the response none")
        return Skipped("the model did not reason")
    if kinds[0] != "reasoning" or kinds.count("reasoning") > 1 or not parts[0].get("text"):
        raise Violation(f"the parts are {', '.join(map(str, kinds))}, or the reasoning is empty")
    return Passed(" and ".join(map(str, kinds)))


@check("F5.1", response, rich_response)
def keys(*replies: Reply) -> Verdict:
    """A response always has all of its 21 keys, from `id` (`resp_…`) to `truncation`; unset ones are null."""
    return Passed(", ".join(answered(reply).read(Response).id for reply in replies))


@check("F5.1", response, one_model)
def name_of_the_model(reply: Reply, entry: Reply) -> Verdict:
    """A response's `model` is the id of the model in the listing."""
    listed = entry.document.get("id") if entry.status == HTTPStatus.OK else reply.asked.fields["model"]
    found = answered(reply).document.get("model")
    if found != listed:
        raise Violation(f"model is {found!r}; expected {listed!r}")
    return Passed(str(found))


@check("F5.2", response)
def message_item(reply: Reply) -> Verdict:
    """A message item has an id `msg_…`, and its parts `output_text` always `annotations` and `logprobs`."""
    return _text_in(reply)


def _text_in(reply: Reply) -> Passed:
    return Passed(repr(shortened(texts_of(response_in(reply).output)[0])))


@check("F5.3", response_call)
def call_item(reply: Reply) -> Verdict:
    """A call is an item with an id `fc_…`, a `call_id`, a name, and arguments that are a JSON object as text."""
    if skipped := not_offered(reply):
        return skipped
    found = response_in(reply)
    calls = items_of(found.output, "function_call")
    if not calls:
        return Skipped("the model called no tool although it had to")
    for item in calls:
        call = fitted(item, CallItem, "a call")
        if found.status == "completed":
            an_object(call.arguments)
    return Passed(f"{calls[0]['name']}({shortened(calls[0]['arguments'])})")


@check("F5.4", response, response_call)
def order_of_items(*replies: Reply) -> Verdict:
    """There is at least one item; reasoning comes before messages; no item has the id of another."""
    for reply in replies[:1] if not_offered(replies[1]) else replies:
        output = response_in(reply).output
        kinds = [str(item.get("type")) for item in output]
        ids = [item.get("id") for item in output]
        if not output or len(set(ids)) < len(ids):
            raise Violation("there is no item, or two have the same id")
        if "reasoning" in kinds[kinds.index("message") :] if "message" in kinds else False:
            raise Violation(f"the items are {', '.join(kinds)}")
    return Passed(", ".join(str(item.get("type")) for item in response_in(replies[0]).output))


@check("F5.5", response)
def usage(reply: Reply) -> Verdict:
    """Usage has `input_tokens`, `output_tokens`, both details as whole numbers, and a total that is their sum."""
    return add_up(answered(reply).document.get("usage"))


@check("F5.6", response, rich_response)
def status(*replies: Reply) -> Verdict:
    """`status`, `error`, `incomplete_details` and `completed_at` go together: details only of an incomplete one."""
    for reply in replies:
        settled(response_in(reply))
    return Passed(response_in(replies[0]).status)


CHECKS: Final = (
    messages_for_input, echo, never_stored, history, dropped_tools, no_call, allowed_tools, no_tool_left,
    reasoning_as_a_part, keys, name_of_the_model, message_item, call_item, order_of_items, usage, status,
)  # fmt: skip
