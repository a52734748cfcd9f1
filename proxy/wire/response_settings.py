"""The settings of a Responses request → those of a chat request.

All but what is said and what is offered: fields that chat has under another name, those that only this API has, and
the rest, which passes as in chat. Pure.
"""

from typing import Final

from msgspec import Raw, Struct

from proxy.errors import invalid_request
from proxy.wire import json
from proxy.wire.json import RawObject
from proxy.wire.json_path import NULL, given, list_at, object_at, others, required, string_at, text_at

# Named in a header: a chat request has no such field, or one that would change what an answer looks like.
_LEFT_OUT: Final = frozenset(
    {
        *("n", "stream_options", "max_tool_calls", "safety_identifier", "context_management", "moderation"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    }
)
_LEFT_OUT_PREFIX: Final = "prompt_cache_"
# Read below, or by those who read what is said and offered. Every answer says what became of `truncation`.
_READ: Final = frozenset(
    {
        *(
            "input",
            "messages",
            "instructions",
            "tools",
            "tool_choice",
            "previous_response_id",
            "conversation",
            "prompt",
        ),
        *("max_output_tokens", "text", "reasoning", "include", "top_logprobs", "truncation"),
    }
)
_CHAT_LIMITS: Final = ("max_tokens", "max_completion_tokens")
_FORMAT_FIELDS: Final = ("name", "description", "schema", "strict")
_EFFORT: Final = frozenset({"effort", "summary", "generate_summary"})
_LOGPROBS: Final = "message.output_text.logprobs"
_TRUE: Final = Raw(b"true")


class _Schema(Struct, tag_field="type", tag="json_schema"):
    json_schema: RawObject


def chat_settings(fields: RawObject) -> tuple[dict[str, object], list[str]]:
    """Return the chat request's fields but for messages and tools, and the paths of what they cannot hold.

    Raises `Refusal` for what is malformed.
    """
    settings: dict[str, object] = {}
    ignored: list[str] = []
    for name, value in fields.items():
        if name in _LEFT_OUT or name.startswith(_LEFT_OUT_PREFIX):
            ignored += [] if json.is_null(value) else [name if name in _LEFT_OUT else f"{_LEFT_OUT_PREFIX}*"]
        elif name not in _READ:
            settings[name] = value
    _set_limit(settings, fields)
    ignored += _set_format(settings, fields)
    ignored += _set_effort(settings, fields)
    ignored += _set_logprobs(settings, fields)
    return settings, ignored


def _set_limit(settings: dict[str, object], fields: RawObject) -> None:
    limit = given(fields, "max_output_tokens")
    if limit is None:
        return
    for name in _CHAT_LIMITS:
        other = given(fields, name)
        if other is not None and bytes(other) != bytes(limit):
            message = f"`max_output_tokens` and `{name}` differ; send `max_output_tokens` alone."
            raise invalid_request(message, param="max_output_tokens")
    settings["max_tokens"] = limit


def _set_format(settings: dict[str, object], fields: RawObject) -> list[str]:
    text = given(fields, "text")
    if text is None:
        return []
    texts = object_at(text, "text")
    form = given(texts, "format")
    if form is not None:
        path = "text.format"
        format_fields = object_at(form, path)
        match text_at(format_fields.get("type"), path, "type"):
            case "text":
                pass
            case "json_object":
                settings["response_format"] = {"type": "json_object"}
            case "json_schema":
                string_at(format_fields.get("name"), path, "name")
                object_at(required(format_fields.get("schema"), path, "schema"), f"{path}.schema")
                said = {name: format_fields[name] for name in _FORMAT_FIELDS if given(format_fields, name) is not None}
                settings["response_format"] = _Schema(said)
            case _:
                message = f"`{path}.type` must be `text`, `json_object` or `json_schema`."
                raise invalid_request(message, param=f"{path}.type")
    return others(texts, frozenset({"format"}), "text")


def _set_effort(settings: dict[str, object], fields: RawObject) -> list[str]:
    """Every answer says that there is no summary, so that one which was asked for is not named."""
    reasoning = given(fields, "reasoning")
    if reasoning is None:
        return []
    wanted = object_at(reasoning, "reasoning")
    if given(wanted, "effort") is not None:
        settings["reasoning_effort"] = string_at(wanted.get("effort"), "reasoning", "effort")
    return others(wanted, _EFFORT, "reasoning")


def _set_logprobs(settings: dict[str, object], fields: RawObject) -> list[str]:
    """Log probabilities are asked for by `include`; their number alone asks for nothing, and providers refuse it."""
    include = given(fields, "include")
    if include is not None and any(json.text_of(value) == _LOGPROBS for value in list_at(include, "include")):
        settings["logprobs"] = _TRUE
    count = given(fields, "top_logprobs")
    if count is None:
        return []
    if settings.get("logprobs", NULL) == NULL:
        return ["top_logprobs"]
    settings["top_logprobs"] = count
    return []
