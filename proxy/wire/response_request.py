"""A request to `POST /v1/responses`: what is checked, the chat request that it makes, and what a provider is sent that
speaks this API itself.

One set of rules serves both endpoints: what this API shares with chat is checked by the chat reader. Everything that
nothing has to change stays the bytes that the client sent. Pure: bytes in, a value or a `Refusal` out.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from proxy.errors import Refusal, invalid_request
from proxy.wire import json
from proxy.wire.chat_request import DROPPED, ChatRequest, Dialect, read_chat_request, text_sizes
from proxy.wire.json import Disguise, Malformed, RawObject
from proxy.wire.json_path import given, list_at, object_at
from proxy.wire.large_json import MAX_DEPTH, check_body, too_deep
from proxy.wire.response_echo import ResponseEcho
from proxy.wire.response_input import Conversation, not_stored
from proxy.wire.response_settings import chat_settings
from proxy.wire.response_tools import kept_tools, read_tools

# Checked by the chat reader, whatever becomes of the request.
_SHARED: Final = ("model", "stream", "reasoning_split", "metadata")
_STORED: Final = ("previous_response_id", "conversation", "prompt")
# A provider that speaks this API is sent them as they came; in a chat request they would mean something else.
_NATIVE: Final = frozenset({"store", "stream_options"})
_ECHOED: Final = ("instructions", "metadata", "temperature", "tool_choice", "top_p")
_LIMIT: Final = "max_output_tokens"
_MEASURED: Final = frozenset({"instructions", "input", _LIMIT})
_NO_MESSAGES: Final = Raw(b'[{"role":"user","content":""}]')

_positive: Final = msgspec.json.Decoder(Annotated[int, Meta(ge=1)])


class ResponseRequest(Struct, frozen=True):
    """A request that every way of serving it can begin with. `fields` are its top-level fields in order, each as its
    own bytes.
    """

    fields: RawObject
    shared: ChatRequest
    """What it has in common with a chat request; its prompt is empty."""
    model: str
    stream: bool
    reasoning_split: bool | None
    metadata: bytes | None
    may_pass: bool
    """It has no field of this gateway alone, so that a provider which speaks this API may get it untranslated."""
    disguise: Disguise | None = None

    @property
    def echo(self) -> ResponseEcho:
        """What every answer repeats of the request: of one that `as_chat` would refuse, its metadata alone."""
        try:
            return self._echo()
        except Refusal:
            return ResponseEcho() if self.metadata is None else ResponseEcho(metadata=Raw(self.metadata))

    def _echo(self) -> ResponseEcho:
        fields = self.fields
        said = {name: fields[name] for name in _ECHOED if given(fields, name) is not None}
        text, tools, reasoning = (given(fields, name) for name in ("text", "tools", "reasoning"))
        if text is not None and (form := given(object_at(text, "text"), "format")) is not None:
            said["text_format"] = form
        if tools is not None:
            said["tools"] = kept_tools(tools)
        effort = None if reasoning is None else given(object_at(reasoning, "reasoning"), "effort")
        parallel = given(fields, "parallel_tool_calls")
        echo = ResponseEcho(
            max_output_tokens=self.shared.max_tokens,
            parallel_tool_calls=parallel is None or bytes(parallel) != b"false",
            reasoning_effort=None if effort is None else json.text_of(self._as_sent(effort)),
        )
        return msgspec.structs.replace(echo, **{name: self._as_sent(value) for name, value in said.items()})

    def _as_sent(self, value: Raw) -> Raw:
        return Raw(self.disguise.take_off(bytes(value))) if self.disguise else value


def read_response_request(body: bytes) -> ResponseRequest:
    """Check a body as far as every way of serving it needs; raises `Refusal` (400, with `param`)."""
    body = json.without_bom(body)
    try:
        check_body(body)
        fields, disguise = json.split_disguised(body)
    except Malformed as why:
        message = f"The request body is not a JSON object that can be read: {why}. Send one JSON object in UTF-8."
        raise invalid_request(message, code="invalid_json") from None
    shared = _read_shared(fields)
    _check_prompt(fields)
    metadata, split = shared.metadata, given(fields, "reasoning_split")
    return ResponseRequest(
        fields=fields,
        shared=shared,
        model=shared.model,
        stream=shared.stream,
        reasoning_split=None if split is None else bytes(split) == b"true",
        metadata=disguise.take_off(metadata) if disguise and metadata is not None else metadata,
        may_pass=split is None and given(fields, "messages") is None,
        disguise=disguise,
    )


def as_chat(request: ResponseRequest) -> ChatRequest:
    """Translate a request for a provider that speaks chat only; `ignored` names all that a chat request cannot hold.

    Raises `Refusal`, whose `param` is a path in the request as the client wrote it.
    """
    fields = request.fields
    _refuse_what_needs_a_store(fields)
    body, ignored = chat_settings(fields)
    toolbox = read_tools(given(fields, "tools"), given(fields, "tool_choice"))
    if not toolbox.tools:
        body.pop("parallel_tool_calls", None)
    else:
        body["tools"] = toolbox.tools
        if toolbox.choice is not None:
            body["tool_choice"] = toolbox.choice
    conversation = Conversation(request.disguise)
    if (instructions := given(fields, "instructions")) is not None:
        conversation.tell("system", instructions, "instructions")
    chat = _with_messages(body, conversation, request)
    return msgspec.structs.replace(chat, ignored=(*chat.ignored, *ignored, *toolbox.dropped, *conversation.dropped))


def native_body(request: ResponseRequest, upstream_model: str, dialect: Dialect) -> bytes:
    """Write the body for a provider that speaks this API: the client's bytes, less what it may not decide."""
    dropped = (dialect.dropped - _NATIVE) | dialect.dropped_by_operator | {"messages"}
    fields = {name: value for name, value in request.fields.items() if name not in dropped}
    fields["model"] = Raw(json.encode(upstream_model))
    fields.update(dialect.extra)
    body = json.encode(fields)
    return request.disguise.take_off(body) if request.disguise else body


def dropped_natively(request: ResponseRequest) -> tuple[str, ...]:
    """Name the fields that no provider is sent, not even one that speaks this API."""
    given = request.fields.items()
    return tuple(name for name, value in given if name in DROPPED and name not in _NATIVE and not json.is_null(value))


def native_stand_in(request: ResponseRequest) -> ChatRequest:
    """Return what limits and estimates have to know of a request that is passed on untranslated; it is never sent."""
    fields = request.fields
    conversation = Conversation(request.disguise)
    for role, name in (("system", "instructions"), ("user", "input")):
        if (value := given(fields, name)) is not None:
            conversation.measure(role, value, name)
    prompt = {name: value for name, value in fields.items() if name not in _MEASURED}
    messages = prompt["messages"] = Raw(json.encode(conversation.messages()))
    return msgspec.structs.replace(request.shared, fields=prompt, text_sizes=text_sizes(messages))


def _read_shared(fields: RawObject) -> ChatRequest:
    shared: RawObject = {name: fields[name] for name in _SHARED if name in fields}
    limit = given(fields, _LIMIT)
    if limit is not None:
        try:
            _positive.decode(limit)
        except msgspec.ValidationError:
            raise invalid_request(f"`{_LIMIT}` must be a whole number of at least 1.", param=_LIMIT) from None
        shared["max_tokens"] = limit
    return read_chat_request(json.encode({**shared, "messages": _NO_MESSAGES}))


def _check_prompt(fields: RawObject) -> None:
    there = [name for name in ("input", "messages") if given(fields, name) is not None]
    if len(there) > 1:
        raise invalid_request("`input` and `messages` exclude one another; send one of them.", param="input")
    if not there and all(given(fields, name) is None for name in _STORED):
        raise invalid_request("`input` is required, or else `messages`.", param="input", code="missing_parameter")


def _refuse_what_needs_a_store(fields: RawObject) -> None:
    for name in _STORED:
        if given(fields, name) is not None:
            raise not_stored(name)
    background = given(fields, "background")
    if background is not None and bytes(background) == b"true":
        message = "This gateway does not store responses; leave `background` out, and wait for the answer or stream it."
        raise invalid_request(message, param="background", code="unsupported_parameter")


def _with_messages(body: dict[str, object], conversation: Conversation, request: ResponseRequest) -> ChatRequest:
    """Read the chat request that has the conversation so far, and then `input` or `messages`."""
    messages = given(request.fields, "messages")
    if messages is None:
        conversation.tell("user", request.fields["input"], "input")
        body["messages"] = conversation.messages()
        if not body["messages"]:
            raise invalid_request("`input` must hold at least one item that a chat model can read.", param="input")
        return _read_chat(body, request.disguise)
    body["messages"] = messages
    chat = _read_chat(body, request.disguise)
    if before := conversation.messages():
        # Only now, so that what is refused has the index that the client gave it.
        body["messages"] = [*before, *list_at(messages, "messages")]
        chat = _read_chat(body, request.disguise)
    return chat


def _read_chat(body: dict[str, object], disguise: Disguise | None) -> ChatRequest:
    written = json.encode(body)
    if too_deep(written):
        message = f"`tools` are nested deeper than {MAX_DEPTH} levels in the form in which a model is sent them."
        raise invalid_request(message, param="tools")
    return read_chat_request(disguise.take_off(written) if disguise else written)
