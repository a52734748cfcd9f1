"""Endpoints that break one rule of section F each, in requests for responses and in whole ones."""

from typing import Any

from broken import Broken, broken, drop, each, edited, header, instead, put, status

from proxy.conformance import asks, response_answers, response_requests

PART = "output.0.content.0"
KEYS = (
    *("id", "object", "created_at", "model", "status", "output", "usage", "error", "incomplete_details"),
    *("instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "previous_response_id", "reasoning"),
    *("store", "temperature", "text", "tool_choice", "tools", "top_p", "truncation"),
)
ECHOED = ("instructions", "metadata", "temperature", "max_output_tokens")


def _no_output(found: dict[str, Any]) -> None:
    found["output"] = []


def _called_too(found: dict[str, Any]) -> None:
    found["output"].append({**found["output"][0], "id": "fc_9", "name": "get_weather"})


def _thought_last(found: dict[str, Any]) -> None:
    item = {"id": "rs_9", "type": "reasoning", "status": "completed", "summary": [], "content": []}
    found["output"].append(item)


def _parts(edit):
    """Change the parts of the first item."""

    def change(found: dict[str, Any]) -> None:
        edit(found["output"][0]["content"])

    return edited(change)


def _ended(status: str, **fields: object):
    """Another end, without the time of a complete one."""

    def change(found: dict[str, Any]) -> None:
        del found["completed_at"]
        found.update(status=status, **fields)

    return edited(change)


BROKEN: list[Broken] = [
    *each(response_requests.nothing_stored, "a response", instead(asks.response)),
    *each(response_requests.nothing_stored, "a crash", status(500)),
    *broken(
        response_requests.unknown_model,
        ("404", status(404)),
        ("another code", put("error.code", "invalid_value")),
        ("about nothing", put("error.param", None)),
    ),
    *each(response_requests.taken_fields, "refused", instead(asks.no_messages)),
    *broken(
        response_answers.messages_for_input,
        ("refused", instead(asks.no_messages)),
        ("no output", edited(_no_output)),
        ("no annotations", drop(f"{PART}.annotations")),
    ),
    *(
        one
        for name in ECHOED
        for one in broken(response_answers.echo, (f"no {name}", drop(name)), (f"null as {name}", put(name, None)))
    ),
    *broken(
        response_answers.never_stored,
        ("stored", put("store", True)),
        ("as asked", put("truncation", "auto")),
        ("another response", put("previous_response_id", "resp_0")),
        ("no store", drop("store")),
        ("no previous", drop("previous_response_id")),
        ("no truncation", drop("truncation")),
    ),
    *broken(
        response_answers.history,
        ("in silence", header("x-gateway-ignored-params", None)),
        ("502", status(502)),
        ("another", header("x-gateway-ignored-params", "input[4]")),
    ),
    *broken(
        response_answers.dropped_tools,
        ("in silence", header("x-gateway-ignored-params", None)),
        ("repeated all the same", put("tools", [{"type": "function"}, {"type": "web_search"}])),
        ("none repeated", put("tools", [])),
        ("502", status(502)),
    ),
    *broken(
        response_answers.no_call,
        ("a call all the same", instead(asks.response_call)),
        ("502", status(502)),
    ),
    *broken(
        response_answers.allowed_tools,
        ("the other tool", put("output.0.name", "get_weather")),
        ("both tools", edited(_called_too)),
        ("502", status(502)),
    ),
    *broken(
        response_answers.no_tool_left,
        ("refused", instead(asks.no_messages)),
        ("a call", instead(asks.response_call)),
        ("in silence", header("x-gateway-ignored-params", None)),
        ("another is named", header("x-gateway-ignored-params", "tools[1]")),
        ("repeated all the same", put("tools", [{"type": "web_search"}])),
        ("no text", edited(_no_output)),
    ),
    *broken(
        response_answers.reasoning_as_a_part,
        ("an item", edited(_thought_last), asks.response_split),
        ("none", _parts(lambda parts: parts.pop(0)), asks.response_split),
        ("last", _parts(lambda parts: parts.reverse()), asks.response_split),
        ("empty", put(f"{PART}.text", ""), asks.response_split),
        (
            "twice",
            _parts(lambda parts: parts.insert(0, parts[0])),
            asks.response_split,
        ),
        ("refused", instead(asks.no_messages), asks.response_split),
    ),
    *(one for name in KEYS for one in broken(response_answers.keys, (f"no {name}", drop(name)))),
    *broken(
        response_answers.keys,
        ("another id", put("id", "chatcmpl_1"), asks.rich_response),
        ("another object", put("object", "chat.completion")),
        ("a float as time", put("created_at", 1.5)),
        ("no format", put("text", {})),
        ("no effort", put("reasoning", {})),
        ("null metadata", put("metadata", None)),
        ("a text as tools", put("tools", "none")),
        ("another status", put("status", "done")),
        ("null tool_choice", put("tool_choice", None)),
        ("a summary", put("reasoning.summary", "auto")),
    ),
    *broken(
        response_answers.name_of_the_model,
        ("the provider's", put("model", "x"), asks.response),
        ("none", drop("model"), asks.response),
    ),
    *broken(
        response_answers.message_item,
        ("no annotations", drop(f"{PART}.annotations")),
        ("no logprobs", drop(f"{PART}.logprobs")),
        ("another id", put("output.0.id", "x")),
        ("no role", drop("output.0.role")),
        ("no status", drop("output.0.status")),
        ("another part", put(f"{PART}.type", "text")),
        ("no output", edited(_no_output)),
        ("null logprobs", put(f"{PART}.logprobs", None)),
    ),
    *broken(
        response_answers.call_item,
        ("no call_id", drop("output.0.call_id")),
        ("another id", put("output.0.id", "call_1")),
        ("no name", put("output.0.name", "")),
        ("an object", put("output.0.arguments", {})),
        ("nothing", put("output.0.arguments", "")),
        ("no JSON", put("output.0.arguments", "{")),
        ("no status", drop("output.0.status")),
        ("502", status(502)),
    ),
    *broken(
        response_answers.order_of_items,
        ("none", edited(_no_output), asks.response),
        ("a thought last", edited(_thought_last), asks.response),
        ("one twice", edited(lambda it: it["output"].append(it["output"][0])), asks.response_call),
    ),
    *broken(
        response_answers.usage,
        ("none", put("usage", None)),
        ("another total", put("usage.total_tokens", 1)),
        ("no details", drop("usage.output_tokens_details")),
        ("null cached", put("usage.input_tokens_details.cached_tokens", None)),
        ("chat's", put("usage", {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})),
        ("too many cached", put("usage.input_tokens_details.cached_tokens", 8)),
        ("too many thoughts", put("usage.output_tokens_details.reasoning_tokens", 9)),
        ("no reasoning", put("usage.output_tokens_details", {})),
        ("a float", put("usage.input_tokens", 7.0)),
    ),
    *broken(
        response_answers.status,
        ("no time of its end", drop("completed_at")),
        ("details", put("incomplete_details", {"reason": "max_output_tokens"}), asks.response),
        ("an error", put("error", {"code": "server_error"})),
        ("incomplete without why", _ended("incomplete")),
        (
            "incomplete for another reason",
            edited(
                lambda it: (
                    it.pop("completed_at") and it.update(status="incomplete", incomplete_details={"reason": "length"})
                )
            ),
        ),
        (
            "failed without why",
            _ended("failed"),
            asks.rich_response,
        ),
    ),
]
