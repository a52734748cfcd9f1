"""A provider's whole chat completion, read and written again in the one form that clients get.

Values that clients compare (text, arguments, ids, log probabilities) leave as the bytes that came; only what is
missing or private to the provider is changed. Pure.
"""

from collections.abc import Callable, Collection
from typing import Final

from msgspec import Raw, Struct
from msgspec.structs import replace

from proxy.usage import Usage, read_usage
from proxy.wire import json
from proxy.wire.chat_message import split_message
from proxy.wire.chat_plain import read_plain_choices, reasoning_field
from proxy.wire.chat_text import is_text, text_in, text_of_details, written_out
from proxy.wire.json import Malformed, RawObject
from proxy.wire.large_json import LARGE, check_answer
from proxy.wire.reasoning import DETAILS, FIELDS, UNTOUCHED, ReasoningPlan
from proxy.wire.upstream_error import UpstreamError, bad_answer, error_in, failed_ending

MAX_ID: Final = 128
FAILED: Final = frozenset({"error", "abort"})
_RENAMED: Final = {
    "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop", "complete": "stop",
    "max_tokens": "length", "model_length": "length",
    "tool_use": "tool_calls",
    "safety": "content_filter", "recitation": "content_filter", "sensitive": "content_filter",
    "guardrail_intervened": "content_filter",
}  # fmt: skip
_TEXT_FIELDS: Final = ("content", "refusal")
_NULL: Final = Raw(b"null")
_EMPTY_STRING: Final = Raw(b'""')
_FUNCTION: Final = Raw(b'"function"')


class ChatAnswer(Struct, frozen=True):
    """A completion that can be served: its normalised fields, and the usage if the provider told a possible one."""

    fields: RawObject
    choices: Raw
    """The normalised choices, as a JSON array."""
    upstream_id: str | None
    usage: Usage | None
    disguise: json.Disguise | None = None
    unsplit: Raw | None = None
    """The choices as they were before reasoning was taken out of them, where it was."""
    stray_close_tags: int = 0
    """Choices with a closing tag in their text and no block: the provider's template wrote the opening tag itself."""
    reasoning_field: str | None = None
    """The field in which the provider sent reasoning, if it did."""

    def output_bytes(self) -> int:
        """Count the UTF-8 bytes of all that the model produced: text, reasoning (one field), tool names, arguments."""
        choices = json.split_list(self.choices if self.unsplit is None else self.unsplit)
        try:
            return sum(message_bytes(json.split_object(bytes(choice["message"]))) for choice in choices)
        except Malformed:
            raise bad_answer("its text is not text") from None


def read_answer(
    body: bytes,
    *,
    new_id: Callable[[], str],
    strip_fields: Collection[str] = (),
    completion_from_total: bool = False,
    reasoning: ReasoningPlan = UNTOUCHED,
) -> ChatAnswer:
    """Read a provider's body and put its messages into the form that `reasoning` wants; raises `UpstreamError` if it
    is an error in a 200, or no completion at all.
    """
    try:
        check_answer(body)
    except Malformed as why:
        raise bad_answer(str(why)) from None
    fields, disguise = _split(json.without_bom(body).lstrip())
    try:
        read = _choices(fields.get("choices"), new_id, reasoning, disguise)
        choices, usage = read.choices, _usage(fields, completion_from_total=completion_from_total)
        if b'"usage"' in bytes(choices) or "x_groq" in fields:
            listed = json.split_list(choices)
            elsewhere, _ = take_usage(fields, listed, completion_from_total=completion_from_total)
            choices, usage = Raw(json.encode(listed)), usage or elsewhere
    except Malformed:
        raise bad_answer("its choices are not those of a chat completion") from None
    if strip_fields:
        fields = {name: value for name, value in fields.items() if name not in strip_fields}
    answer = ChatAnswer(
        fields,
        choices,
        valid_id(fields.get("id")),
        usage,
        disguise,
        read.unsplit,
        read.stray_close_tags,
        read.reasoning_field,
    )
    if usage is not None and usage.prompt == 0 and usage.completion == 0 and answer.output_bytes() > 0:
        return replace(answer, usage=None)
    return answer


def write_answer(answer: ChatAnswer, *, model: str, usage: Usage, now: int, new_id: Callable[[], str]) -> bytes:
    """Write the client's body: the documented keys first, the provider's other keys after them; `now` in Unix
    seconds.
    """
    fields = answer.fields
    first: dict[str, object] = {
        "id": fields["id"] if answer.upstream_id is not None else f"chatcmpl_{new_id()}",
        "object": "chat.completion",
        "created": created(fields.get("created"), now),
        "model": model,
        "choices": answer.choices,
        "usage": usage.as_chat(),
    }
    body = json.encode({**first, **{name: value for name, value in fields.items() if name not in first}})
    return answer.disguise.take_off(body) if answer.disguise else body


def valid_id(raw: Raw | None) -> str | None:
    """Return the provider's id if a client can be shown it: 1 to 128 visible ASCII characters."""
    text = json.text_of(raw)
    return text if text and len(text) <= MAX_ID and text.isascii() and text.isprintable() and " " not in text else None


def created(raw: Raw | None, now: int) -> int:
    """Return the provider's creation time if it is a positive whole number, else now."""
    data = b"" if raw is None else bytes(raw)
    return int(data) if data.isdigit() and len(data) < MAX_ID and int(data) > 0 else now


def finish_reason(raw: Raw | None, *, has_tool_calls: bool) -> str:
    """Name the ending in OpenAI's words; what is missing follows from the tool calls, and unknown words pass."""
    word = json.text_of(raw)
    if not word:
        return "tool_calls" if has_tool_calls else "stop"
    return _RENAMED.get(word, word)


def repair_tool_calls(raw: Raw, new_id: Callable[[], str], disguise: json.Disguise | None = None) -> list[RawObject]:
    """Give every tool call a type, an id and its arguments as a string; strings stay byte-identical."""
    calls = json.split_list(raw)
    for call in calls:
        if not json.text_of(call.get("type")):
            call["type"] = _FUNCTION
        if not json.text_of(call.get("id")):
            call["id"] = Raw(json.encode(f"call_{new_id()}"))
        if "function" in call or json.text_of(call["type"]) == "function":
            call["function"] = _repair_function(call.get("function", _NULL), disguise)
    return calls


def _repair_function(raw: Raw, disguise: json.Disguise | None) -> Raw:
    """Give a function a name and its arguments as texts; one that has both stays the bytes that came."""
    function = {} if json.is_null(raw) else json.split_object(bytes(raw))
    name, arguments = function.get("name", _NULL), function.get("arguments", _NULL)
    if is_text(name) and is_text(arguments):
        return raw
    repaired = {
        "name": name if is_text(name) else "",
        "arguments": arguments if is_text(arguments) else written_out(arguments, disguise),
    }
    return Raw(json.encode({**function, **repaired}))


def _usage(fields: RawObject, *, completion_from_total: bool) -> Usage | None:
    raw = fields.get("usage")
    return None if raw is None else read_usage(json.decode(raw), completion_from_total=completion_from_total)


def take_usage(
    fields: RawObject, choices: list[RawObject], *, completion_from_total: bool
) -> tuple[Usage | None, bool]:
    """Cut usage out of an answer or a chunk wherever providers put it; returns the last valid one, and whether there
    was any to cut.

    The places: the body itself, its choices (Kimi), `x_groq` (Groq). A null stays: it is harmless.
    """
    places = [fields, *choices]
    vendor = fields.get("x_groq")
    if vendor is not None and bytes(vendor).startswith(b"{") and b'"usage"' in bytes(vendor):
        places.append(json.split_object(bytes(fields.pop("x_groq"))))
    found, had = None, False
    for place in places:
        if not json.is_null(place.get("usage")):
            had = True
            raw = json.decode(place.pop("usage"))
            found = read_usage(raw, completion_from_total=completion_from_total) or found
    return found, had


def _split(body: bytes) -> tuple[RawObject, json.Disguise | None]:
    try:
        fields, disguise = json.split_disguised(body)
    except Malformed:
        if (error := error_in(body)) is not None:
            raise UpstreamError(error) from None
        raise bad_answer("it is not JSON") from None
    if (error := error_in(fields)) is not None:
        raise UpstreamError(error)
    return fields, disguise


class _Read(Struct, frozen=True):
    """The choices of an answer, as `ChatAnswer` has them."""

    choices: Raw
    unsplit: Raw | None = None
    stray_close_tags: int = 0
    reasoning_field: str | None = None


def _choices(raw: Raw | None, new_id: Callable[[], str], plan: ReasoningPlan, disguise: json.Disguise | None) -> _Read:
    """Normalise the choices; those of most servers need nothing and stay the bytes that came."""
    if raw is None:
        raise bad_answer("it holds no choices")
    plain = read_plain_choices(raw, plan)
    if plain is not None:
        return _Read(raw, reasoning_field=plain.reasoning_field)
    choices = [_choice(choice, place, new_id, disguise) for place, choice in enumerate(json.split_list(raw))]
    if not choices:
        raise bad_answer("it holds no choices")
    unsplit = Raw(json.encode(choices))
    messages = [json.split_object(bytes(choice["message"])) for choice in choices]
    field = reasoning_field(*(messages[0].get(name) for name in FIELDS))
    if not plan.touches:
        return _Read(unsplit, reasoning_field=field)
    split = [split_message(message, plan, disguise) for message in messages]
    for choice, message in zip(choices, split, strict=True):
        choice["message"] = Raw(json.encode(message.fields))
    return _Read(Raw(json.encode(choices)), unsplit, sum(message.stray_close_tag for message in split), field)


def _choice(choice: RawObject, place: int, new_id: Callable[[], str], disguise: json.Disguise | None) -> RawObject:
    if "message" not in choice:
        raise Malformed("a choice has no message")
    message = json.split_object(bytes(choice["message"]))
    calls_raw = message.pop("tool_calls", None)
    calls = [] if json.is_null(calls_raw) or calls_raw is None else repair_tool_calls(calls_raw, new_id, disguise)
    reason = finish_reason(choice.get("finish_reason"), has_tool_calls=bool(calls))
    if reason in FAILED:
        raise failed_ending(reason)
    content = message.pop("content", _NULL)
    silent = bool(calls) or not json.is_null(message.get("refusal"))
    new_message: dict[str, object] = {
        "role": "assistant",
        "content": content if bytes(content).startswith((b'"', b"[")) else None if silent else _EMPTY_STRING,
        **({"tool_calls": calls} if calls else {}),
    }
    message.pop("role", None)
    index = choice.get("index", _NULL)
    rest = {name: value for name, value in choice.items() if name not in {"index", "message", "finish_reason"}}
    return {
        "index": index if bytes(index).isdigit() else Raw(b"%d" % place),
        "message": Raw(json.encode({**new_message, **message})),
        "finish_reason": Raw(json.encode(reason)),
        **rest,
    }


def message_bytes(message: RawObject) -> int:
    """Count the UTF-8 bytes of what the model produced in a message, or a delta; raises `Malformed`."""
    total = sum(_size(message.get(name)) for name in _TEXT_FIELDS)
    total += next((size for name in FIELDS if (size := _size(message.get(name)))), 0) or _details_size(message)
    calls = message.get("tool_calls")
    listed = [] if json.is_null(calls) or calls is None else json.split_list(calls)
    functions = [call.get("function") for call in listed] + [message.get("function_call")]
    return total + sum(_function_bytes(function) for function in functions)


def _function_bytes(raw: Raw | None) -> int:
    if raw is None or not bytes(raw).startswith(b"{"):
        return 0
    function = json.split_object(bytes(raw))
    return _size(function.get("name")) + _size(function.get("arguments"))


def _details_size(message: RawObject) -> int:
    details = message.get(DETAILS)
    return 0 if details is None else len(text_of_details(json.decode(details)).encode())


def _size(raw: Raw | None) -> int:
    if raw is not None and len(raw) > LARGE and is_text(raw):
        return json.text_size(raw)
    text = None if raw is None else text_in(json.decode(raw))
    return 0 if text is None else len(text.encode())
