"""A chat completion request: what is checked, and what is sent on.

Checks only what the gateway itself needs or promises; the provider knows its model. Everything else stays the bytes
that the client sent. Pure: bytes in, a value or a `Refusal` out.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from proxy.errors import Refusal, invalid_request
from proxy.providers import Provider, ReasoningHistory
from proxy.usage import tokens_of
from proxy.wire import json
from proxy.wire.history import send_back
from proxy.wire.json import Disguise, Malformed, RawObject
from proxy.wire.large_json import LARGE, check_body
from proxy.wire.mistyped import mistyped
from proxy.wire.reasoning import FIELDS, SWITCHES, turns_thinking_off

MAX_METADATA: Final = 16 * 1024
MAX_CHOICES: Final = 128
ROLES: Final = frozenset({"system", "user", "assistant", "tool", "developer", "function"})
# They change the price, the route or the credentials behind the operator's back. Agent libraries send some of them
# routinely, so they are dropped and named in a response header, not refused.
DROPPED: Final = frozenset(
    {
        "store", "service_tier", "web_search_options", "background", "api_key", "api_base", "base_url", "api_version",
        "extra_headers", "extra_body", "organization", "custom_llm_provider", "models", "route", "provider", "plugins",
        "transforms", "fallbacks", "usage", "kv_transfer_params", "priority", "cache_salt", "return_token_ids",
    }
)  # fmt: skip
_CONSUMED: Final = ("reasoning_split", "metadata", "stream_options")
_NO_PROMPT: Final = DROPPED.union(
    _CONSUMED, ("model", "stream", "max_tokens", "max_completion_tokens", "n", "temperature", "stop")
)
"""Fields that no model reads. Of any other it is not known: functions, schemas and templates are part of a prompt."""
_MAX_TOKENS: Final = ("max_tokens", "max_completion_tokens")
_NULL: Final = Raw(b"null")
_TRUE: Final = Raw(b"true")

_Positive = Annotated[int, Meta(ge=1)]


class _Function(Struct):
    name: str
    arguments: Raw = _NULL


class _ToolCall(Struct):
    id: str
    function: _Function


class _Message(Struct):
    role: str
    content: Raw = _NULL
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: Raw = _NULL
    audio: Raw = _NULL
    function_call: Raw = _NULL


class _Part(Struct):
    type: str
    text: Raw = _NULL


class _ToolFunction(Struct):
    name: str | None = None


class _Tool(Struct):
    type: str
    function: _ToolFunction | None = None


class _StreamOptions(Struct):
    include_usage: Raw = _NULL
    continuous_usage_stats: Raw = _NULL


class _Checked(Struct):
    """The fields that are checked; their types are the rules. Strictly: true is no number, and 1.0 is no integer."""

    model: str | None = None
    messages: list[_Message] | None = None
    temperature: float | None = None
    max_tokens: _Positive | None = None
    max_completion_tokens: _Positive | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    reasoning_split: bool | None = None
    metadata: Raw = _NULL
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None


_checked: Final = msgspec.json.Decoder(_Checked)
_messages: Final = msgspec.json.Decoder(list[_Message])
_parts: Final = msgspec.json.Decoder(list[_Part])


class Dialect(Struct, frozen=True):
    """How one provider's requests differ from the common form; made once per provider by `dialect_of`."""

    dropped: frozenset[str]
    dropped_by_operator: frozenset[str]
    asks_usage: bool
    takes_stream_options: bool
    asks_continuous_usage: bool
    max_tokens_name: str | None
    knows_developer: bool
    history: ReasoningHistory
    reasoning_field: str | None
    """The field in which earlier reasoning is sent back; None: the one that the provider's answers use."""
    extra: RawObject


class ChatRequest(Struct, frozen=True):
    """A checked request. `fields` are its top-level fields in order, each as its own bytes."""

    fields: RawObject
    model: str
    stream: bool
    include_usage: bool
    continuous_usage: bool
    choices: int
    max_tokens: int | None
    metadata: bytes | None
    ignored: tuple[str, ...]
    disguise: Disguise | None = None
    reasoning_split: bool | None = None
    """Whether the client wants reasoning apart from the answer; None: it does not say."""
    text_sizes: tuple[int, ...] = ()
    """The bytes of text in each message; images count nothing."""

    @property
    def prompt_bytes(self) -> int:
        """The size of all that the model may read, as JSON: an upper bound that costs nothing, for the hold."""
        return sum([len(value) for name, value in self.fields.items() if name not in _NO_PROMPT])

    def estimate_prompt(self, bytes_per_token: tuple[int, int] = (4, 1)) -> int:
        """Estimate the prompt's tokens: for each message 4 and its text, and the tools as compact JSON."""
        numerator, denominator = bytes_per_token
        total = sum([4 - (-size * denominator // numerator) for size in self.text_sizes])  # `tokens_of`, without calls
        tools = self.fields.get("tools")
        if tools is not None and (compact := json.compact(tools)) not in {b"null", b"[]"}:
            total += tokens_of(len(compact), bytes_per_token)
        return total


def read_chat_request(body: bytes) -> ChatRequest:
    """Check a request body; raises `Refusal` (400, with `param`) for the first thing that is wrong."""
    try:
        fields, checked, disguise = _decode(json.without_bom(body))
    except Malformed as why:
        message = f"The request body is not a JSON object that can be read: {why}. Send one JSON object in UTF-8."
        raise invalid_request(message, code="invalid_json") from None
    if not checked.model:
        raise _no_model(checked.model)
    messages = _check_messages(checked.messages)
    _check_tools(checked.tools or [])
    metadata = bytes(checked.metadata)
    if metadata != b"null":
        _check_metadata(metadata)
    stream, options = bool(checked.stream), checked.stream_options
    asks = stream and options is not None and bytes(options.include_usage) == b"true"
    return ChatRequest(
        fields=fields,
        model=checked.model,
        stream=stream,
        include_usage=asks,
        continuous_usage=asks and options is not None and bytes(options.continuous_usage_stats) == b"true",
        choices=checked.n or 1,
        max_tokens=_max_tokens(checked.max_tokens, checked.max_completion_tokens),
        metadata=None if metadata == b"null" else disguise.take_off(metadata) if disguise else metadata,
        ignored=() if DROPPED.isdisjoint(fields) else _said_in_vain(fields),
        disguise=disguise,
        reasoning_split=checked.reasoning_split,
        text_sizes=tuple(map(_text_bytes, messages)),
    )


def text_sizes(messages: Raw) -> tuple[int, ...]:
    """Return the bytes of text in each message of a list that was written here."""
    return tuple(map(_text_bytes, _messages.decode(messages)))


def dialect_of(provider: Provider) -> Dialect:
    """Read a provider's profile once."""
    return Dialect(
        dropped=DROPPED.union(provider.drop_params, _CONSUMED),
        dropped_by_operator=frozenset(provider.drop_params),
        asks_usage=provider.stream_usage == "include_usage",
        takes_stream_options=provider.stream_usage != "none",
        asks_continuous_usage=provider.continuous_usage_stats and provider.stream_usage != "none",
        max_tokens_name=None if provider.max_tokens_param == "as_sent" else str(provider.max_tokens_param),
        knows_developer=provider.developer_role != "system",
        history=provider.reasoning_history,
        reasoning_field=provider.reasoning_field,
        extra={name: Raw(json.encode(value)) for name, value in provider.extra_body.items()},
    )


def upstream_body(
    request: ChatRequest, upstream_model: str, dialect: Dialect, reasoning_field: str | None = None
) -> bytes:
    """Write the body for one target: the client's bytes, less what it may not decide, plus what the provider needs.

    `reasoning_field` is where the provider's own answers were seen to have their reasoning.
    """
    dropped = dialect.dropped
    fields = {name: value for name, value in request.fields.items() if name not in dropped}
    fields["model"] = Raw(json.encode(upstream_model))
    if request.stream and dialect.takes_stream_options:
        _set_stream_options(fields, request.fields.get("stream_options"), dialect)
    if dialect.max_tokens_name is not None:
        _rename_max_tokens(fields, dialect.max_tokens_name)
    if not dialect.knows_developer and b"developer" in bytes(fields["messages"]):
        fields["messages"] = _developer_to_system(bytes(fields["messages"]))
    came = bytes(fields["messages"])
    sent = send_back(came, dialect.history, dialect.reasoning_field or reasoning_field or FIELDS[0])
    if sent is not came:
        fields["messages"] = Raw(sent)
    if dialect.extra:
        fields.update(dialect.extra)
    body = json.encode(fields)
    return request.disguise.take_off(body) if request.disguise else body


def thinking_is_off(request: ChatRequest, dialect: Dialect) -> bool:
    """Tell whether what a target is sent asks its model not to think: the client's fields and the operator's."""
    fields = request.fields
    said = not SWITCHES.isdisjoint(fields)
    if not (said or dialect.extra):
        return False
    names = (SWITCHES & fields.keys()) - dialect.dropped if said else ()
    sent = {name: fields[name] for name in names}
    return turns_thinking_off(sent | dialect.extra)


def _decode(body: bytes) -> tuple[RawObject, _Checked, Disguise | None]:
    """Take the body apart twice: into the bytes of its fields, and into the values that are checked."""
    check_body(body)
    disguise = None
    try:
        fields = json.split_object(body)
    except Malformed:
        disguise = Disguise(body)
        body = disguise.put_on(body)
        fields = json.split_object(body)
    try:
        return fields, _checked.decode(body), disguise
    except msgspec.ValidationError:
        return fields, _last_of_each(fields), disguise


def _last_of_each(fields: RawObject) -> _Checked:
    """Check again without the earlier ones of fields that came twice: only the last of them is sent on."""
    try:
        return _checked.decode(json.encode(fields))
    except msgspec.ValidationError as error:
        raise mistyped(str(error), "") from None


def _said_in_vain(fields: RawObject) -> tuple[str, ...]:
    return tuple(name for name, value in fields.items() if name in DROPPED and not json.is_null(value))


def _no_model(model: str | None) -> Refusal:
    if model is None:
        return invalid_request("`model` is required.", param="model", code="missing_parameter")
    return invalid_request("`model` must be a non-empty string: the id of a model from GET /v1/models.", param="model")


def _check_messages(messages: list[_Message] | None) -> list[_Message]:
    if messages is None:
        raise invalid_request("`messages` is required.", param="messages", code="missing_parameter")
    if not messages:
        raise invalid_request("`messages` must hold at least one message.", param="messages")
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            allowed, param = ", ".join(sorted(ROLES)), f"messages[{index}].role"
            raise invalid_request(f"`{param}` must be one of {allowed}.", param=param)
        if not bytes(message.content).startswith(b'"'):
            _check_content(message, f"messages[{index}].content")
        for number, call in enumerate(message.tool_calls) if message.tool_calls else ():
            if not bytes(call.function.arguments).startswith(b'"'):
                param = f"messages[{index}].tool_calls[{number}].function.arguments"
                raise invalid_request(f"`{param}` must be a string that holds JSON.", param=param)
        if message.role == "tool" and not message.tool_call_id:
            param = f"messages[{index}].tool_call_id"
            message_text = f"`{param}` must name the tool call that is answered."
            raise invalid_request(message_text, param=param, code="missing_parameter")
    return messages


def _check_content(message: _Message, param: str) -> None:
    """Check content that is no string: a list of parts, or nothing where the message says something in another way."""
    content = bytes(message.content)
    if content.startswith(b"["):
        try:
            parts = _parts.decode(message.content)
        except msgspec.ValidationError as error:
            raise mistyped(str(error), param) from None
        for index, part in enumerate(parts):
            if part.type == "text" and not bytes(part.text).startswith(b'"'):
                raise invalid_request(f"`{param}[{index}].text` must be a string.", param=f"{param}[{index}].text")
        return
    if content != b"null":
        raise invalid_request(f"`{param}` must be a string or a list of content parts.", param=param)
    spoken = (message.refusal, message.audio, message.function_call)
    if message.role != "assistant" or not (message.tool_calls or any(bytes(other) != b"null" for other in spoken)):
        text = f"`{param}` is required; only an assistant message with tool calls may leave it out."
        raise invalid_request(text, param=param, code="missing_parameter")


def _check_tools(tools: list[_Tool]) -> None:
    for index, tool in enumerate(tools):
        if tool.type == "function" and (tool.function is None or tool.function.name is None):
            param = f"tools[{index}].function.name"
            raise invalid_request(f"`{param}` must be a string.", param=param, code="missing_parameter")


def _check_metadata(metadata: bytes) -> None:
    if not metadata.startswith(b"{"):
        raise invalid_request("`metadata` must be an object.", param="metadata")
    if len(metadata) > MAX_METADATA:
        message = f"`metadata` must be at most {MAX_METADATA:,} bytes of JSON; send less."
        raise invalid_request(message, param="metadata")


def _max_tokens(older: int | None, newer: int | None) -> int | None:
    if older is not None and newer is not None and older != newer:
        message = "`max_tokens` and `max_completion_tokens` differ; send one of them."
        raise invalid_request(message, param="max_tokens")
    return older or newer


def _set_stream_options(fields: RawObject, given: Raw | None, dialect: Dialect) -> None:
    """Ask for usage, and keep what else the client asked for."""
    options = {} if given is None or json.is_null(given) else json.split_object(bytes(given))
    if dialect.asks_usage or dialect.asks_continuous_usage:
        options["include_usage"] = _TRUE
    if dialect.asks_continuous_usage:
        options["continuous_usage_stats"] = _TRUE
    if options:
        fields["stream_options"] = Raw(json.encode(options))


def _rename_max_tokens(fields: RawObject, wanted: str) -> None:
    values = [fields.pop(name) for name in _MAX_TOKENS if name in fields]
    given = [value for value in values if not json.is_null(value)]
    if given:
        fields[wanted] = given[0]


def _developer_to_system(messages: bytes) -> Raw:
    renamed = json.split_list(messages)
    for message in renamed:
        if json.text_of(message.get("role")) == "developer":
            message["role"] = Raw(b'"system"')
    return Raw(json.encode(renamed))


def _text_bytes(message: _Message) -> int:
    content = bytes(message.content)
    if content[:1] == b'"' and content.find(b"\\") < 0:  # without an escape, JSON is the text itself in quotes
        size = len(content) - 2
    elif content[:1] == b"[":
        size = sum(_size(part.text) for part in _parts.decode(content) if part.type == "text")
    else:
        size = _size(message.content)
    for call in message.tool_calls or ():
        size += len(call.function.name.encode()) + _size(call.function.arguments)
    return size


def _size(text: Raw) -> int:
    raw = bytes(text)
    if raw[:1] == b'"' and raw.find(b"\\") < 0:  # without an escape, JSON is the text itself between two quotes
        return len(raw) - 2
    if len(raw) > LARGE and raw[:1] == b'"':
        return json.text_size(raw)
    decoded = json.text_of(text)
    return 0 if decoded is None else len(decoded.encode())
