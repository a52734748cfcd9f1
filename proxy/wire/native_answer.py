"""A response as a provider that speaks the Responses API wrote it, and the little that is changed in it for the client.

The model's name becomes the catalog's, metadata are the client's, what is the provider's secret goes. Everything else,
ids and usage included, leaves as the bytes that came. Pure.
"""

from collections.abc import Collection
from typing import Final

from msgspec import Raw, Struct

from proxy.usage import Usage, read_usage
from proxy.wire import json
from proxy.wire.chat_answer import valid_id
from proxy.wire.chat_text import is_text
from proxy.wire.json import Disguise, Malformed, RawObject
from proxy.wire.large_json import check_answer
from proxy.wire.upstream_error import ErrorBody, UpstreamError, bad_answer, error_in, read_error

_SECRETS: Final = (b"cost", b"is_byok")
"""What keys of a usage object begin with that say what the provider is paid."""
# Where an item holds what the model produced: in these texts of its own, and in those of the parts in these lists.
_WORDS: Final = ("name", "arguments", "input")
_LISTS: Final = ("content", "summary")
_TEXTS: Final = ("text", "refusal")


class NativePlan(Struct, frozen=True):
    """What is changed in a native response, and how its usage is read."""

    model: str
    """The catalog id."""
    metadata: bytes | None = None
    """The client's, which the provider was not sent."""
    strip_fields: Collection[str] = ()
    completion_from_total: bool = False

    def dress(self, response: RawObject, disguise: Disguise | None) -> RawObject:
        """Return the response as the client gets it: fields in their order, their values as they came."""
        dressed = {name: value for name, value in response.items() if name not in self.strip_fields}
        usage = bytes(response.get("usage", b""))
        if usage.startswith(b"{") and any(b'"%b' % secret in usage for secret in _SECRETS):
            told = json.split_object(usage)
            open_to_all = {name: value for name, value in told.items() if not name.encode().startswith(_SECRETS)}
            dressed["usage"] = Raw(json.encode(open_to_all))
        dressed = revealed(dressed, disguise)
        dressed["model"] = Raw(json.encode(self.model))
        if self.metadata is not None:
            dressed["metadata"] = Raw(self.metadata)
        return dressed

    def usage_in(self, response: RawObject) -> Usage | None:
        """Return what the response says of its usage; None if it says nothing that can be used."""
        raw = response.get("usage")
        if raw is None:
            return None
        return read_usage(json.decode(raw), completion_from_total=self.completion_from_total)


class NativeAnswer(Struct, frozen=True):
    """A whole response that can be served."""

    fields: RawObject
    upstream_id: str | None
    usage: Usage | None
    disguise: Disguise | None = None

    def output_bytes(self) -> int:
        """Count the UTF-8 bytes of all that the model produced: texts, reasoning, the names and arguments of calls."""
        try:
            return sum(item_size(item) for item in json.split_list(self.fields["output"]))
        except Malformed:
            raise bad_answer("its output is not that of a response") from None


def read_native_answer(body: bytes, plan: NativePlan) -> NativeAnswer:
    """Read a provider's body; raises `UpstreamError` if it is an error, a response that failed, or no response."""
    try:
        check_answer(body)
    except Malformed as why:
        raise bad_answer(str(why)) from None
    body = json.without_bom(body).lstrip()
    try:
        fields, disguise = json.split_disguised(body)
        usage = plan.usage_in(fields)
    except Malformed:
        if (error := error_in(body)) is not None:
            raise UpstreamError(error) from None
        raise bad_answer("it is not JSON") from None
    if json.text_of(fields.get("status")) == "failed":
        raise failed_by(fields.get("error"))
    if (error := error_in(fields)) is not None:
        raise UpstreamError(error)
    if not bytes(fields.get("output", b"")).startswith(b"["):
        raise bad_answer("it holds no output")
    answer = NativeAnswer(fields, valid_id(fields.get("id")), usage, disguise)
    if usage is not None and not (usage.prompt or usage.completion) and answer.output_bytes() > 0:
        return NativeAnswer(fields, answer.upstream_id, None, disguise)
    return answer


def write_native_answer(answer: NativeAnswer, plan: NativePlan) -> bytes:
    """Write the client's body."""
    return json.encode(plan.dress(answer.fields, answer.disguise))


def failed_by(error: Raw | None) -> UpstreamError:
    """Build the failure for a response that failed, from its `error`."""
    body = ErrorBody() if error is None else read_error(bytes(error))
    limited = body.code == "rate_limit_exceeded"
    kind = "upstream_rate_limited" if limited else "upstream_error"
    return UpstreamError(body, kind=kind, detail="the response failed")


def revealed(fields: RawObject, disguise: Disguise | None) -> RawObject:
    """Return the fields with the surrogates as they came."""
    return disguise.take_off_each(fields) if disguise else fields


def item_size(item: RawObject) -> int:
    """Count the bytes that an item says, as `output_bytes` does; raises `Malformed` for parts that are none."""
    lists = [item[name] for name in _LISTS if bytes(item.get(name, b"")).startswith(b"[")]
    parts = [part for one in lists for part in json.split_list(one)]
    said = [item.get(name) for name in _WORDS] + [part.get(name) for part in parts for name in _TEXTS]
    return sum(json.text_size(one) for one in said if one is not None and is_text(one))
