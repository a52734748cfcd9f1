"""Endpoints that break one rule of section D each, in whole chat completions."""

from typing import Any

from broken import Broken, broken, drop, each, edited, instead, put, status, streamed, text

from proxy.conformance import asks, chat_answers, chat_requests, reasoning

MESSAGE = "choices.0.message"
THINKING = {"role": "assistant", "content": "<think>We need 6*7.</think>It is 42."}
BRACKETS = {"role": "assistant", "content": "[THINK]We need 6*7.[/THINK]It is 42."}


def _keys_reversed(document: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(document.items()))


def _choice_reversed(document: dict[str, Any]) -> None:
    document["choices"][0] = _keys_reversed(document["choices"][0])


def _message_reversed(document: dict[str, Any]) -> None:
    document["choices"][0]["message"] = _keys_reversed(document["choices"][0]["message"])


def _arguments(value: object):
    return put(f"{MESSAGE}.tool_calls.0.function.arguments", value)


def _model(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**chunk, "model": "fake-model-fp8"} for chunk in chunks]


BROKEN: list[Broken] = [
    *each(chat_requests.byte_order_mark, "not JSON", instead(asks.broken_json)),
    *each(chat_requests.duplicate_keys, "the first counts", instead(asks.no_messages)),
    *each(chat_requests.nulls, "refused", instead(asks.no_messages)),
    *each(chat_requests.taken_fields, "refused", instead(asks.no_messages)),
    *each(chat_requests.taken_fields, "a crash", status(500)),
    *broken(
        reasoning.split_apart,
        ("left in tags", put(MESSAGE, THINKING)),
        ("left in tags when it is to be split", put(MESSAGE, THINKING), asks.split),
        (
            "left in brackets",
            put(MESSAGE, BRACKETS),
            asks.split,
        ),
        ("a tag in reasoning", put(f"{MESSAGE}.reasoning", "<think>We need 6*7."), asks.split),
        ("a tag behind reasoning", put(f"{MESSAGE}.reasoning", "We need 6*7.</think>\n"), asks.split),
        ("a bracket behind reasoning", put(f"{MESSAGE}.reasoning", "We need 6*7.[/THINK] "), asks.split),
        ("in both", put(f"{MESSAGE}.content", "<think>We need 6*7.</think>It is 42."), asks.split),
        ("refused", instead(asks.no_messages), asks.split),
    ),
    *broken(
        reasoning.absent_when_empty,
        ("empty", put(f"{MESSAGE}.reasoning", "")),
        ("null", put(f"{MESSAGE}.reasoning", None)),
        ("null where nothing was asked", put(f"{MESSAGE}.reasoning", None), asks.plain),
    ),
    *broken(reasoning.order_of_keys, ("reversed", edited(_message_reversed))),
    *broken(
        reasoning.one_field,
        (
            "both unasked",
            edited(lambda it: it["choices"][0]["message"].update(reasoning="x", reasoning_content="x")),
            asks.plain,
        ),
        ("both", put(f"{MESSAGE}.reasoning_content", "We need 6*7."), asks.split),
        ("another", put(MESSAGE, {"role": "assistant", "reasoning_content": "x", "content": "y"}), asks.split),
    ),
    *broken(
        reasoning.folded_in,
        ("still split", instead(asks.split), asks.unsplit),
        ("lost", put(f"{MESSAGE}.content", "It is 42."), asks.unsplit),
        ("in another field", put(f"{MESSAGE}.reasoning_content", "x"), asks.unsplit),
        ("in details", put(f"{MESSAGE}.reasoning_details", []), asks.unsplit),
    ),
    *broken(
        chat_answers.order_of_keys,
        ("reversed", edited(_keys_reversed)),
        ("a choice reversed", edited(_choice_reversed)),
        ("no object", drop("object")),
        ("another object", put("object", "chat.completion.chunk")),
        ("no choice", put("choices", [])),
        ("no index", drop("choices.0.index")),
        ("a stream", instead(asks.streamed)),
        ("502", status(502)),
    ),
    *broken(
        chat_answers.name_of_the_model,
        ("the provider's", put("model", "fake-model-fp8"), asks.plain),
        (
            "the provider's in a stream",
            streamed(_model),
            asks.streamed,
        ),
        ("none", drop("model"), asks.plain),
    ),
    *broken(
        chat_answers.id_of_an_answer,
        ("none", drop("id")),
        ("empty", put("id", "")),
        ("long", put("id", "x" * 129)),
        ("not ASCII", put("id", "é")),
        ("a blank", put("id", "a b")),
        ("a number", put("id", 5)),
        ("two lines", put("id", "a\n")),
    ),
    *broken(
        chat_answers.time_of_an_answer,
        ("none", drop("created")),
        ("0", put("created", 0)),
        ("a text", put("created", "1")),
        ("a float", put("created", 1.5)),
    ),
    *broken(
        chat_answers.message_of_an_answer,
        ("no content", drop(f"{MESSAGE}.content")),
        ("null", put(f"{MESSAGE}.content", None)),
        ("nothing", put(f"{MESSAGE}.content", "")),
        ("parts", put(f"{MESSAGE}.content", [{"type": "text", "text": "x"}])),
        ("another role", put(f"{MESSAGE}.role", "model")),
        ("no role", drop(f"{MESSAGE}.role")),
        ("no calls", put(f"{MESSAGE}.tool_calls", [])),
    ),
    *broken(
        chat_answers.tool_call,
        ("no id", drop(f"{MESSAGE}.tool_calls.0.id")),
        ("an empty id", put(f"{MESSAGE}.tool_calls.0.id", "")),
        ("no type", drop(f"{MESSAGE}.tool_calls.0.type")),
        ("another type", put(f"{MESSAGE}.tool_calls.0.type", "tool")),
        ("an object", _arguments({"city": "Oslo"})),
        ("no JSON", _arguments('{"city"')),
        ("a list", _arguments("[]")),
        ("nothing", _arguments("")),
        ("no name", drop(f"{MESSAGE}.tool_calls.0.function.name")),
        ("502", status(502)),
    ),
    *broken(
        chat_answers.finish_reason,
        ("eos", put("choices.0.finish_reason", "eos"), asks.plain),
        ("end_turn", text(b'"finish_reason":"stop"', b'"finish_reason":"end_turn"'), asks.streamed),
        ("none", put("choices.0.finish_reason", None), asks.plain),
        ("empty", put("choices.0.finish_reason", ""), asks.plain),
        ("max_tokens", put("choices.0.finish_reason", "max_tokens"), asks.plain),
    ),
    *broken(
        chat_answers.usage_of_an_answer,
        ("none", drop("usage")),
        ("null", put("usage", None)),
        ("a price", put("usage.cost", 0.1)),
        ("no details", drop("usage.prompt_tokens_details")),
        ("no cached", put("usage.prompt_tokens_details", {})),
        ("null cached", put("usage.prompt_tokens_details.cached_tokens", None)),
        ("a text", put("usage.prompt_tokens", "7")),
        ("a float", put("usage.completion_tokens", 3.0)),
        ("below zero", put("usage.completion_tokens", -1)),
        ("a key more in details", put("usage.completion_tokens_details.cost", 0)),
        ("null details", put("usage.completion_tokens_details", None)),
    ),
    *broken(
        chat_answers.sums_of_usage,
        ("another total", put("usage.total_tokens", 11)),
        ("too many cached", put("usage.prompt_tokens_details.cached_tokens", 8)),
        ("too many thoughts", put("usage.completion_tokens_details.reasoning_tokens", 4)),
        (
            "nothing in",
            edited(
                lambda it: it["usage"].update(
                    prompt_tokens=0, total_tokens=3, prompt_tokens_details={"cached_tokens": 0}
                )
            ),
        ),
        ("nothing out", edited(lambda it: it["usage"].update(completion_tokens=0, total_tokens=7))),
    ),
]
