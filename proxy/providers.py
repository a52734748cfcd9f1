"""The model of one provider: where it is, how it is called, and in what its dialect differs from the common one.

Every key has a default that suits a server which behaves like OpenAI's; a provider is described here once, so that no
other file needs to know any provider by name. No connection is made here.
"""

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator

from proxy.addresses import BaseUrl, HeaderName, HeaderValue, Secret
from proxy.egress import Reach, literal, reach_of
from proxy.mistakes import Wrong
from proxy.quantities import Count, Duration, Filled, Size, Wait
from proxy.sections import Conflict, Kind, Section

_SET_BY_REQUEST: Final = ("messages", "model", "stream", "stream_options")
_SHOWS_ITS_OWN_PROVIDERS: Final = "openrouter.ai"
_DEEPEST: Final = 32


class Builtin(StrEnum):
    """Providers that ship with the gateway."""

    DEMO = "demo"


class AuthHeader(StrEnum):
    """How the provider is shown `api_key`: `Authorization: Bearer KEY`, `api-key: KEY`, or not at all."""

    BEARER = "bearer"
    API_KEY = "api-key"
    NONE = "none"


class OnDisconnect(StrEnum):
    """What happens upstream when a client leaves: the call is cancelled, or read to its end for the exact usage."""

    CANCEL = "cancel"
    DRAIN = "drain"


class ReasoningStyle(StrEnum):
    """How reasoning arrives: `auto` is a field if one shows up, else tags; `prefilled` tags lack the opening one."""

    AUTO = "auto"
    FIELD = "field"
    TAGS = "tags"
    PREFILLED = "prefilled"
    NONE = "none"


class ReasoningHistory(StrEnum):
    """What becomes of the reasoning in earlier assistant messages that a client sends back."""

    RENAME = "rename"
    DROP = "drop"
    PASS = "pass"  # noqa: S105 - not a password
    PLACEHOLDER = "placeholder"


class StreamUsage(StrEnum):
    """Whether a stream's usage has to be asked for, comes unasked, or never comes."""

    INCLUDE_USAGE = "include_usage"
    ALWAYS = "always"
    NONE = "none"


class MaxTokensParam(StrEnum):
    """Under which name the provider takes the limit on completion tokens."""

    AS_SENT = "as_sent"
    MAX_TOKENS = "max_tokens"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"


class DeveloperRole(StrEnum):
    """Whether the provider knows the role `developer`."""

    PASS = "pass"  # noqa: S105 - not a password
    SYSTEM = "system"


def _parse_tags(value: object) -> tuple[str, str]:
    if isinstance(value, list | tuple) and len(value) == 2:  # noqa: PLR2004 - opening and closing
        opening, closing = value
        if all(isinstance(tag, str) and tag.strip() for tag in value) and opening != closing:
            return opening, closing
    raise Wrong('must be a list of two different texts, such as ["<think>", "</think>"]', "is no pair of tags")


def _parse_extra_body(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Wrong("must be a mapping", "is not a mapping")
    if not _fits_json(value):
        raise Wrong(
            "must consist of text, finite numbers, true, false, null, lists and mappings", "cannot be sent as JSON"
        )
    taken = sorted(set(value) & set(_SET_BY_REQUEST))
    if taken:
        raise Wrong("must leave these to the request", f"sets {', '.join(taken)}")
    return value


def _is_special(url: str) -> bool:
    """Tell whether a base URL has an address where no provider is: link-local, metadata, multicast and the like."""
    try:
        address = literal(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return address is not None and reach_of(address) is Reach.SPECIAL


def _fits_json(value: object, depth: int = 0) -> bool:
    if depth > _DEEPEST:
        return False
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _fits_json(inner, depth + 1) for key, inner in value.items())
    if isinstance(value, list):
        return all(_fits_json(item, depth + 1) for item in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _default_history(given: Mapping[str, Any]) -> ReasoningHistory:
    """Send reasoning back only where it came in a field of its own: elsewhere the provider would not know the field."""
    in_a_field = given.get("reasoning_style") in (ReasoningStyle.AUTO, ReasoningStyle.FIELD)
    return ReasoningHistory.RENAME if in_a_field else ReasoningHistory.DROP


def _default_strip_fields(given: Mapping[str, Any]) -> tuple[str, ...]:
    host = urlsplit(given.get("base_url") or "").hostname or ""
    return ("provider",) if host == _SHOWS_ITS_OWN_PROVIDERS or host.endswith(f".{_SHOWS_ITS_OWN_PROVIDERS}") else ()


Tags = Annotated[
    tuple[str, str], PlainValidator(_parse_tags), Kind("two texts", lambda t: f"[{', '.join(t)}]", scalar=False)
]
ExtraBody = Annotated[
    Mapping[str, Any], PlainValidator(_parse_extra_body), Kind("mapping", lambda _: "{}", scalar=False)
]


class Provider(Section):
    """One provider; exactly one of `base_url` and `builtin` is set."""

    base_url: BaseUrl = Field(
        None, description="the API's URL up to and including its version, such as `http://127.0.0.1:8000/v1`"
    )
    builtin: Builtin | None = Field(
        None, description="in place of `base_url`: the scripted provider that ships with the gateway"
    )
    api_key: Secret = Field(None, description="the key that the provider gave you; best written as `${NAME}`")
    auth_header: AuthHeader = Field(
        AuthHeader.BEARER, description="send the key as `Authorization: Bearer`, as `api-key`, or not"
    )
    headers: Mapping[HeaderName, HeaderValue] = Field(
        {}, description="further headers of every request to the provider"
    )
    allow_private: bool = Field(
        default=False, description="its host's name may lead to addresses that are not public: of your own network"
    )
    connect_timeout: Wait = Field(5.0, description="for the connection, TLS included")
    first_byte_timeout: Wait = Field(300.0, description="from the request to the first byte of the answer")
    idle_timeout: Wait = Field(120.0, description="between two pieces of an answer")
    total_timeout: Wait = Field(3600.0, description="from the request to the end of the answer, which is cut there")
    max_answer: Size = Field(256 * 2**20, description="the most bytes of one answer, which is cut there")
    on_disconnect: OnDisconnect = Field(
        OnDisconnect.CANCEL, description="when the client leaves: cancel the call, or drain it for exact usage"
    )
    drain_max: Duration = Field(60.0, description="with `drain`: read on for at most this long")
    max_drains: Count = Field(
        32, description="with `drain`: so many at once in each worker; those beyond are cancelled"
    )
    reasoning_style: ReasoningStyle = Field(ReasoningStyle.AUTO, description="how reasoning arrives in the answer")
    reasoning_tags: Tags = Field(
        ("<think>", "</think>"), description="the pair around reasoning, where it comes in tags"
    )
    reasoning_field: Filled | None = Field(
        None, description="the field that earlier reasoning is sent back in; none: learned from its answers"
    )
    reasoning_history: ReasoningHistory = Field(
        default_factory=_default_history,
        description="what happens to reasoning in earlier messages (styles tags, prefilled, none: drop; else rename)",
    )
    stream_usage: StreamUsage = Field(
        StreamUsage.INCLUDE_USAGE, description="whether a stream's usage must be asked for"
    )
    continuous_usage_stats: bool = Field(
        default=False, description="ask for usage in every event (vLLM), so that a stream that is cancelled is counted"
    )
    max_tokens_param: MaxTokensParam = Field(
        MaxTokensParam.AS_SENT, description="the name under which the limit on output is sent"
    )
    developer_role: DeveloperRole = Field(
        DeveloperRole.PASS, description="`system` renames messages of the role `developer`"
    )
    drop_params: tuple[Filled, ...] = Field(
        (), description="request fields never sent to it, besides those no provider is sent"
    )
    extra_body: ExtraBody = Field({}, repr=False, description="fields added to every request")
    strip_fields: tuple[Filled, ...] = Field(
        default_factory=_default_strip_fields,
        description="answer fields that clients never see; for openrouter.ai `provider`, else none",
    )
    native_responses: bool = Field(default=False, description="it speaks `POST /v1/responses` itself")
    fix_deltas: bool = Field(
        default=False, description="rebuild every delta of its streams, for servers that send broken ones"
    )
    completion_from_total: bool = Field(
        default=False, description="count as output what its total has beyond its parts"
    )

    def secrets(self) -> tuple[str, ...]:
        """Return what no client may see and no log may hold: the key, and the values of the operator's own headers."""
        values = (*self.headers.values(), *(() if self.api_key is None else (self.api_key,)))
        return tuple(value.get_secret_value() for value in values)

    def whereabouts(self) -> tuple[str, ...]:
        """Return how its address may be written, longest first: no client and no log is told where it is."""
        url = urlsplit(self.base_url or "")
        return tuple(text for text in (self.base_url, url.netloc, url.hostname) if text)

    @classmethod
    def conflicts(cls, raw: Mapping[str, object]) -> Iterator[Conflict]:
        """Exactly one place to send requests to."""
        given = [key for key in ("base_url", "builtin") if raw.get(key) is not None]
        if not given:
            yield (), raw, Wrong("must have base_url, or builtin: demo", "says nowhere where requests go")
        elif len(given) == 2:  # noqa: PLR2004 - both
            yield ("builtin",), raw["builtin"], Wrong("must have only one of the two", "stands beside base_url")
        url = raw.get("base_url")
        if isinstance(url, str) and _is_special(url) and raw.get("allow_private") not in (True, "true"):
            rule = "must be where a provider can be, or stand beside allow_private: true"
            yield ("base_url",), url, Wrong(rule, "has an address that no provider has")
