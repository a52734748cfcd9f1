"""A chat completion request: what is checked, and what is sent on.

Checks only what the gateway itself needs or promises; the provider knows its model. Everything else stays the bytes
that the client sent. Pure: bytes in, a value or a `Refusal` out.
"""

import re
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from proxy.errors import invalid_request
from proxy.usage import tokens_of
from proxy.wire import json
from proxy.wire.json import Disguise, Malformed, RawObject

if TYPE_CHECKING:
    from proxy.providers import Provider

MAX_METADATA: Final = 16 * 1024
MAX_CHOICES: Final = 128
ROLES: Final = frozenset({"system", "user", "assistant", "tool", "developer", "function"})
# They change the price, the route or the credentials behind the operator's back. Agent libraries send some of them
# routinely,
# so they are dropped and named in a response header, not refused.
DROPPED: Final = frozenset(
    {
        "store", "service_tier", "web_search_options", "background", "api_key", "api_base", "base_url", "api_version",
        "extra_headers", "extra_body", "organization", "custom_llm_provider", "models", "route", "provider", "plugins",
        "transforms", "fallbacks", "usage", "kv_transfer_params", "priority", "cache_salt", "return_token_ids",
    }
)  # fmt: skip
_NULL: Final = Raw(b"null")
_MAX_TOKENS: Final = ("max_tokens", "max_completion_tokens")


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


_T = TypeVar("_T")

_messages: Final = msgspec.json.Decoder(list[_Message])
_parts: Final = msgspec.json.Decoder(list[_Part])
_tools: Final = msgspec.json.Decoder(list[_Tool])


class Dialect(Struct, frozen=True):
    """How one provider's requests differ from the common form; made once per provider by `dialect_of`."""

    dropped: frozenset[str]
    asks_usage: bool
    takes_stream_options: bool
    max_tokens_name: str | None
    knows_developer: bool
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

    @property
    def prompt_bytes(self) -> int:
        """The size of what the model will read, as JSON: an upper bound that costs nothing, for the hold."""
        tools = self.fields.get("tools")
        return len(bytes(self.fields["messages"])) + (0 if tools is None else len(bytes(tools)))

    def estimate_prompt(self, bytes_per_token: tuple[int, int] = (4, 1)) -> int:
        """Estimate the prompt's tokens: for each message 4 and its text, and the tools as compact JSON. Images count
        nothing.
        """
        total = sum(
            4 + tokens_of(_text_bytes(message), bytes_per_token)
            for message in _messages.decode(self.fields["messages"])
        )
        tools = self.fields.get("tools")
        if tools is not None and (decoded := json.decode(tools)):
            total += tokens_of(len(json.encode(decoded)), bytes_per_token)
        return total


def read_chat_request(body: bytes) -> ChatRequest:
    """Check a request body; raises `Refusal` (400, with `param`) for the first thing that is wrong."""
    body = json.without_bom(body)
    fields, disguise = _split(body)
    _no_nulls_required(fields, "model")
    _no_nulls_required(fields, "messages")
    model = json.text_of(fields["model"])
    if not model:
        raise invalid_request(
            "`model` must be a non-empty string: the id of a model from GET /v1/models.", param="model"
        )
    _check_messages(fields["messages"])
    for name in _CHECKS.keys() & fields.keys():
        if not json.is_null(fields[name]):
            _CHECKS[name](fields[name])
    stream = _boolean(fields, "stream")
    _boolean(fields, "reasoning_split")
    options = _object(fields, "stream_options")
    metadata = fields.get("metadata")
    asks = stream and _is_true(options, "include_usage")
    return ChatRequest(
        fields=fields,
        model=model,
        stream=stream,
        include_usage=asks,
        continuous_usage=asks and _is_true(options, "continuous_usage_stats"),
        choices=1 if json.is_null(fields.get("n")) else int(bytes(fields["n"])),
        max_tokens=_max_tokens(fields),
        metadata=None if metadata is None or json.is_null(metadata) else bytes(metadata),
        ignored=tuple(name for name in fields if name in DROPPED) if not DROPPED.isdisjoint(fields) else (),
        disguise=disguise,
    )


def dialect_of(provider: "Provider") -> Dialect:
    """Read a provider's profile once."""
    return Dialect(
        dropped=DROPPED.union(provider.drop_params, ("reasoning_split", "metadata", "stream_options")),
        asks_usage=provider.stream_usage == "include_usage",
        takes_stream_options=provider.stream_usage != "none",
        max_tokens_name=None if provider.max_tokens_param == "as_sent" else str(provider.max_tokens_param),
        knows_developer=provider.developer_role != "system",
        extra={name: Raw(json.encode(value)) for name, value in provider.extra_body.items()},
    )


def upstream_body(request: ChatRequest, upstream_model: str, dialect: Dialect) -> bytes:
    """Write the body for one target: the client's own bytes, less what it may not decide, plus what the provider
    needs.
    """
    dropped = dialect.dropped
    fields = {name: value for name, value in request.fields.items() if name not in dropped}
    fields["model"] = Raw(json.encode(upstream_model))
    if request.stream and dialect.takes_stream_options and (options := _stream_options(request, dialect)) is not None:
        fields["stream_options"] = options
    if dialect.max_tokens_name is not None:
        _rename_max_tokens(fields, dialect.max_tokens_name)
    if not dialect.knows_developer and b"developer" in bytes(fields["messages"]):
        fields["messages"] = _developer_to_system(bytes(fields["messages"]))
    fields.update(dialect.extra)
    body = json.encode(fields)
    return request.disguise.take_off(body) if request.disguise else body


def _split(body: bytes) -> tuple[RawObject, Disguise | None]:
    try:
        if json.too_deep(body):
            raise Malformed(f"it is nested deeper than {json.MAX_DEPTH} levels")  # noqa: TRY301
        try:
            body.decode()
        except UnicodeDecodeError:
            raise Malformed("it is not valid UTF-8") from None
        try:
            return json.split_object(body), None
        except Malformed:
            disguise = Disguise(body)
            if not disguise:
                raise
            return json.split_object(disguise.put_on(body)), disguise
    except Malformed as why:
        raise invalid_request(
            f"The request body is not a JSON object that can be read: {why}. Send one JSON object in UTF-8.",
            code="invalid_json",
        ) from None


def _no_nulls_required(fields: RawObject, name: str) -> None:
    if json.is_null(fields.get(name)):
        raise invalid_request(f"`{name}` is required.", param=name, code="missing_parameter")


def _check_messages(raw: Raw) -> None:
    messages = _typed(_messages, raw, "messages")
    if not messages:
        raise invalid_request("`messages` must hold at least one message.", param="messages")
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            allowed, param = ", ".join(sorted(ROLES)), f"messages[{index}].role"
            raise invalid_request(f"`{param}` must be one of {allowed}.", param=param)
        if not bytes(message.content).startswith(b'"'):
            _check_content(message, f"messages[{index}].content")
        for number, call in enumerate(message.tool_calls or ()):
            if not bytes(call.function.arguments).startswith(b'"'):
                param = f"messages[{index}].tool_calls[{number}].function.arguments"
                raise invalid_request(f"`{param}` must be a string that holds JSON.", param=param)
        if message.role == "tool" and not message.tool_call_id:
            param = f"messages[{index}].tool_call_id"
            raise invalid_request(
                f"`{param}` must name the tool call that is answered.", param=param, code="missing_parameter"
            )


def _check_content(message: _Message, param: str) -> None:
    """Check content that is no string: a list of parts, or nothing where the message says something in another way."""
    content = bytes(message.content)
    if content.startswith(b"["):
        for index, part in enumerate(_typed(_parts, message.content, param)):
            if part.type == "text" and not bytes(part.text).startswith(b'"'):
                raise invalid_request(f"`{param}[{index}].text` must be a string.", param=f"{param}[{index}].text")
        return
    if content != b"null":
        raise invalid_request(f"`{param}` must be a string or a list of content parts.", param=param)
    spoken = (message.refusal, message.audio, message.function_call)
    if message.role != "assistant" or not (message.tool_calls or any(bytes(other) != b"null" for other in spoken)):
        raise invalid_request(
            f"`{param}` is required; only an assistant message with tool calls may leave it out.",
            param=param,
            code="missing_parameter",
        )


def _check_number(raw: Raw) -> None:
    # NaN and Infinity are not JSON and were refused before; what is left of a number is finite unless it overflows.
    if not re.fullmatch(rb"-?[0-9][0-9.eE+-]*", bytes(raw)) or abs(float(bytes(raw))) == float("inf"):
        raise invalid_request("`temperature` must be a number.", param="temperature")


def _check_stop(raw: Raw) -> None:
    value = json.decode(raw)
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise invalid_request("`stop` must be a string or a list of strings.", param="stop")


def _check_tools(raw: Raw) -> None:
    for index, tool in enumerate(_typed(_tools, raw, "tools")):
        if tool.type == "function" and (tool.function is None or tool.function.name is None):
            param = f"tools[{index}].function.name"
            raise invalid_request(f"`{param}` must be a string.", param=param, code="missing_parameter")


def _check_metadata(raw: Raw) -> None:
    data = bytes(raw)
    if not data.startswith(b"{"):
        raise invalid_request("`metadata` must be an object.", param="metadata")
    if len(data) > MAX_METADATA:
        raise invalid_request(
            f"`metadata` must be at most {MAX_METADATA:,} bytes of JSON; send less.", param="metadata"
        )


def _check_n(raw: Raw) -> None:
    _whole_number(raw, "n", MAX_CHOICES)


_CHECKS: Final = {
    "temperature": _check_number,
    "stop": _check_stop,
    "tools": _check_tools,
    "metadata": _check_metadata,
    "n": _check_n,
}


def _max_tokens(fields: RawObject) -> int | None:
    if "max_tokens" not in fields and "max_completion_tokens" not in fields:
        return None
    given = {
        name: _whole_number(fields[name], name, None) for name in _MAX_TOKENS if not json.is_null(fields.get(name))
    }
    if len(set(given.values())) > 1:
        raise invalid_request("`max_tokens` and `max_completion_tokens` differ; send one of them.", param="max_tokens")
    return next(iter(given.values()), None)


def _whole_number(raw: Raw, name: str, most: int | None) -> int:
    data = bytes(raw)
    if re.fullmatch(rb"[0-9]{1,18}", data) and int(data) >= 1 and (most is None or int(data) <= most):
        return int(data)
    span = "of at least 1" if most is None else f"from 1 to {most}"
    raise invalid_request(f"`{name}` must be a whole number {span}.", param=name)


def _boolean(fields: RawObject, name: str) -> bool:
    raw = fields.get(name)
    if raw is None or json.is_null(raw):
        return False
    if bytes(raw) not in {b"true", b"false"}:
        raise invalid_request(f"`{name}` must be true or false.", param=name)
    return bytes(raw) == b"true"


def _object(fields: RawObject, name: str) -> RawObject:
    raw = fields.get(name)
    if raw is None or json.is_null(raw):
        return {}
    if not bytes(raw).startswith(b"{"):
        raise invalid_request(f"`{name}` must be an object.", param=name)
    return json.split_object(bytes(raw))


def _is_true(fields: RawObject, name: str) -> bool:
    return name in fields and bytes(fields[name]) == b"true"


def _typed(decoder: msgspec.json.Decoder[list[_T]], raw: Raw, param: str) -> list[_T]:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        where, problem = _problem(str(error), param)
        missing = "missing" in problem
        raise invalid_request(
            f"`{where}` {problem}.", param=where, code="missing_parameter" if missing else "invalid_value"
        ) from None


_WORDS: Final = {
    "str": "a string", "int": "a whole number", "float": "a number", "bool": "true or false",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip


def _problem(text: str, param: str) -> tuple[str, str]:
    """Turn the decoder's finding into a JSON path and half a sentence; it never quotes the value."""
    text, _, path = text.partition(" - at `$")
    where = param + path.rstrip("`")
    if match := re.fullmatch(r"Object missing required field `(\w+)`", text):
        return f"{where}.{match[1]}", "is missing"
    if match := re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", text):
        wanted = " or ".join(_WORDS.get(word, word) for word in match[1].split(" | ") if word != "null")
        return where, f"must be {wanted}, not {_WORDS.get(match[2], match[2])}"
    return where, "is not valid"


def _stream_options(request: ChatRequest, dialect: Dialect) -> Raw | None:
    options = _object(request.fields, "stream_options")
    if dialect.asks_usage:
        options["include_usage"] = Raw(b"true")
    return Raw(json.encode(options)) if options else None


def _rename_max_tokens(fields: RawObject, wanted: str) -> None:
    values = [
        value for name in _MAX_TOKENS if (value := fields.pop(name, None)) is not None and not json.is_null(value)
    ]
    if values:
        fields[wanted] = values[0]


def _developer_to_system(messages: bytes) -> Raw:
    renamed = json.split_list(messages)
    for message in renamed:
        if json.text_of(message.get("role")) == "developer":
            message["role"] = Raw(b'"system"')
    return Raw(json.encode(renamed))


def _text_bytes(message: _Message) -> int:
    calls = sum(len(call.function.name.encode()) + _size(call.function.arguments) for call in message.tool_calls or ())
    content = bytes(message.content)
    if content.startswith(b"["):
        return calls + sum(_size(part.text) for part in _parts.decode(message.content) if part.type == "text")
    return calls + _size(message.content)


def _size(text: Raw) -> int:
    decoded = json.text_of(text)
    return 0 if decoded is None else len(decoded.encode())
