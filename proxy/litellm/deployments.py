"""One entry of `model_list`: which provider of ours it becomes, under which name the model is there, and its share.

A credential is never taken over, wherever it stands: a variable's name is written in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from proxy.addresses import parse_base_url, parse_header_name
from proxy.egress import Reach, literal, reach_of
from proxy.litellm.document import Entry, Notes
from proxy.litellm.kinds import FOREIGN, KINDS, Kind
from proxy.mistakes import Wrong

_CHAT: Final = frozenset({"chat", "completion", "responses"})
_OWN_NETWORK: Final = (".local", ".internal", ".lan", ".svc", ".home.arpa")
_HANDLED: Final = frozenset(
    {
        *(
            "model",
            "custom_llm_provider",
            "api_base",
            "base_url",
            "api_key",
            "organization",
            "extra_headers",
            "headers",
        ),
        *("timeout", "request_timeout", "stream_timeout", "additional_drop_params", "weight", "order", "rpm", "tpm"),
        *("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"),
    }
)
_ADVICE: Final[Mapping[str, str]] = {
    "max_retries": "is not needed: a failed request is tried at the model's other routes (`failover` in gateway.yaml)",
    "num_retries": "is not needed: a failed request is tried at the model's other routes (`failover` in gateway.yaml)",
    "drop_params": "has no counterpart: name fields that a provider refuses under its `drop_params`",
    "extra_body": "was left out, as it may hold secrets: write it under the provider's `extra_body` in gateway.yaml",
    "api_version": "has no counterpart: it was left out",
    "max_parallel_requests": "has no counterpart for a route: limit accounts, with `concurrent_requests` of a plan",
    "max_budget": "has no counterpart for a route: give accounts a budget (`plans.<name>.budget`)",
    "budget_duration": "has no counterpart for a route: give accounts a budget (`plans.<name>.budget`)",
    "tags": "has no counterpart: every account reaches every model that its keys allow (`keys create --models`)",
    "region_name": "has no counterpart: it was left out",
    "mock_response": "has no counterpart: `builtin: demo` is a provider that answers by rule",
}
_LONGEST_MS: Final = 86_400_000
_DEFAULT_ADVICE: Final = "has no counterpart and was left out: clients send what they want of it with each request"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place where a model runs."""

    entry: Entry
    provider: str
    model: str
    order: Decimal
    weight: Decimal | None
    rate: int | None
    """Its requests (else tokens) per minute: LiteLLM's shares where there is no weight."""


@dataclass(slots=True)
class Providers:
    """Our providers, made as deployments need them."""

    notes: Notes
    taken: frozenset[str]
    """Every variable that the file names itself: a literal key must not be given the name of another one."""
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)
    _literals: dict[str, str] = field(default_factory=dict)

    def deployment(self, entry: Entry) -> Deployment | None:
        """Take one entry; None, with a note, if no provider that this gateway speaks to can be made of it."""
        params = entry.get("litellm_params")
        model = None if params is None else params.get("model")
        name = None if model is None else model.text()
        if params is None or model is None or name is None:
            self.notes.add(entry, "names no `litellm_params.model` and was left out")
            return None
        info = entry.get("model_info") or Entry(entry.line, entry.place, {})
        mode = info.get("mode")
        if mode is not None and mode.text() not in _CHAT:
            self.notes.add(mode, "is no chat model, and this gateway serves chat and responses alone: it was left out")
            return None
        if "*" in name or "*" in ((entry.get("model_name") or model).text() or ""):
            self.notes.add(model, "stands for many models: name each in an entry of its own, as the catalog has prices")
            return None
        found = self._kind(params, model, name)
        if found is None:
            return None
        kind_name, kind, upstream = found
        section = self._section(params, kind_name, kind)
        if section is None:
            return None
        self._rest(params)
        if kind.remark:
            self.notes.add(model, kind.remark)
        return Deployment(
            entry,
            self._named(kind_name, section),
            literally(upstream),
            self._number(params.get("order")) or Decimal(0),
            self._number(params.get("weight")),
            self._rate(entry, params),
        )

    def _kind(self, params: Entry, model: Entry, name: str) -> tuple[str, Kind, str] | None:
        given = params.get("custom_llm_provider")
        prefix, slash, rest = name.partition("/")
        if given is not None:
            prefix, rest = given.text() or "", name.removeprefix(f"{given.text()}/")
        elif not slash:
            prefix, rest = "openai", name
        if prefix in KINDS and rest:
            return prefix, KINDS[prefix], rest
        if prefix not in FOREIGN and (params.get("api_base") or params.get("base_url")) is not None and rest:
            self.notes.add(model, "was taken for the model's own name at a server that speaks OpenAI's API")
            return "custom_openai", KINDS["custom_openai"], name if given is None else rest
        self.notes.add(
            given or model,
            "is a kind of provider that does not speak OpenAI's API as far as is known, and was left out: put a server "
            "that does in front of it, and add it as a provider",
        )
        return None

    def _section(self, params: Entry, kind_name: str, kind: Kind) -> dict[str, Any] | None:
        base_url = self._base_url(params, kind)
        if base_url is None:
            return None
        section: dict[str, Any] = {"base_url": base_url}
        if _needs_private(base_url):
            section["allow_private"] = True
            self.notes.add(
                params.get("api_base") or params,
                "is a host of your own network: its provider has `allow_private: true`",
            )
        section.update(self._key(params, kind_name, kind, base_url))
        if kind.auth_header != "bearer":
            section["auth_header"] = kind.auth_header
        headers = self._headers(params)
        if headers:
            section["headers"] = headers
        for ours, names in (
            ("total_timeout", ("timeout", "request_timeout")),
            ("first_byte_timeout", ("stream_timeout",)),
        ):
            for one in filter(None, map(params.get, names)):
                section.update(duration(one, ours, self.notes))
        dropped = params.get("additional_drop_params")
        if dropped is not None:
            section["drop_params"] = self._dropped(dropped)
        return section

    def _dropped(self, given: Entry) -> list[str]:
        names: list[str] = []
        for item in self.notes.items(given):
            text = item.text()
            if text is None or not text.isidentifier():
                self.notes.add(item, "is no name of a field, and was left out: only whole fields can be dropped")
            else:
                names.append(text)
        return names

    def _key(self, params: Entry, kind_name: str, kind: Kind, base_url: str) -> dict[str, str]:
        key = params.get("api_key")
        if key is not None:
            return {"api_key": self._secret(key, f"{kind_name}_API_KEY", "api_key")}
        if kind.variable is None:
            return {}
        self.variables.add(kind.variable)
        if base_url != kind.base_url:
            what = (
                f"names no `api_key`: {kind.variable} is sent there, as LiteLLM does; remove it if that is not wanted"
            )
            self.notes.add(params, what)
        return {"api_key": f"${{{kind.variable}}}"}

    def _base_url(self, params: Entry, kind: Kind) -> str | None:
        given = params.get("api_base") or params.get("base_url")
        if given is None:
            if kind.base_url is None:
                self.notes.add(params, "names no `api_base`, and was left out: its provider has no address of its own")
            return kind.base_url
        variable = given.variable()
        if variable is not None:
            self.variables.add(variable)
            self.notes.add(given, "needs `allow_private: true` beside it if its host is a name of your own network")
            if kind.suffix:
                self.notes.add(given, f"has to be without a slash at its end: {kind.suffix} follows it")
            return f"${{{variable}}}{kind.suffix}"
        base = (given.text() or "").rstrip("/")
        if kind.suffix and not base.endswith(kind.suffix):
            if urlsplit_path(base):
                self.notes.add(
                    given, f"has a path, which was kept: this kind of provider usually ends with {kind.suffix}"
                )
            else:
                base += kind.suffix
        try:
            return literally(parse_base_url(base) or "") or None
        except Wrong as wrong:
            self.notes.add(
                given, f"is no address that a provider can have, and its entry was left out: {wrong.allowed}"
            )
            return None

    def _secret(self, entry: Entry, wanted: str, what: str) -> str:
        """Return `${NAME}` for a credential: the variable that it names, or else a new one."""
        variable = entry.variable()
        if variable is None:
            text = entry.text() or ""
            known = self._literals.get(text)
            # Nor that of a kind's own key, which would then be sent where this one belongs.
            theirs = {kind.variable for kind in KINDS.values()}
            variable = known or _unused(_variable(wanted), self.taken | theirs | set(self._literals.values()))
            self._literals[text] = variable
            self.notes.add(
                entry,
                f"stands in the file itself, and was not copied: put it into the variable {variable}, or into a "
                f"file of its own that {variable}_FILE names ({what} refers to it)",
            )
        self.variables.add(variable)
        return f"${{{variable}}}"

    def _headers(self, params: Entry) -> dict[str, str]:
        found: dict[str, str] = {}
        for given in filter(None, (params.get("extra_headers"), params.get("headers"))):
            for name, value in self.notes.fields(given).items():
                try:
                    parse_header_name(name)
                except Wrong as wrong:
                    self.notes.add(value, f"was left out: {wrong.allowed}")
                    continue
                if value.text() is not None:
                    found[literally(name)] = self._secret(value, f"HEADER_{name}", "the provider's `headers`")
                elif value.value is not None:
                    self.notes.add(value, "is no text, and was left out")
        organization = params.get("organization")
        if organization is not None and organization.text() is None:
            self.notes.add(organization, "is no text, and was left out")
        elif organization is not None:
            found["OpenAI-Organization"] = self._secret(organization, "OPENAI_ORGANIZATION", "the provider's `headers`")
        return found

    def _rate(self, entry: Entry, params: Entry) -> int | None:
        rate = None
        for name in ("rpm", "tpm"):
            for one in filter(None, (params.get(name), entry.get(name))):
                rate = rate or one.whole()
                self.notes.add(
                    one,
                    "has no counterpart as a limit of a route; limits are of accounts (`plans`), and a route that "
                    "answers 429 is passed over for a while. Without a `weight` it became the route's share",
                )
        return rate

    def _rest(self, params: Entry) -> None:
        for name, value in params.fields().items():
            if name not in _HANDLED and value.value is not None:
                self.notes.add(value, _ADVICE.get(name, _DEFAULT_ADVICE))

    def _number(self, entry: Entry | None) -> Decimal | None:
        if entry is None:
            return None
        number = entry.number()
        if number is None:
            self.notes.add(entry, "is no number and was left out")
        return number

    def _named(self, wanted: str, section: dict[str, Any]) -> str:
        base = wanted.replace("_", "-").lower()[:24]
        for name, one in self.found.items():
            if one == section and name.startswith(base):
                return name
        name = _unused(base, self.found.keys(), "-")
        self.found[name] = section
        return name


def duration(entry: Entry, key: str, notes: Notes) -> dict[str, str]:
    """Return a number of seconds as our configuration writes it; nothing, with a note, if it is none that it takes."""
    seconds = entry.number()
    milliseconds = 0 if seconds is None or seconds > 10**6 else int(seconds * 1000)
    if not 1 <= milliseconds <= _LONGEST_MS:
        notes.add(entry, f"is no number of seconds that `{key}` takes, and was left out")
        return {}
    return {key: f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"}


def literally(text: str) -> str:
    """Write a text so that our configuration takes it as it is, with no variable in it."""
    return text.replace("${", "$${")


def urlsplit_path(url: str) -> str:
    """Return a URL's path; empty also where it cannot be taken apart."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _needs_private(base_url: str) -> bool:
    """Tell whether a base URL leads into a network of the operator's by name, or to an address without providers."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return False
    address = literal(host)
    if address is not None:
        return reach_of(address) is Reach.SPECIAL
    # An address that a variable holds has no host yet: its owner is told, and decides.
    return host not in ("", "localhost") and "$" not in host and ("." not in host or host.endswith(_OWN_NETWORK))


def _variable(text: str) -> str:
    name = "".join(one if one.isascii() and one.isalnum() else "_" for one in text.upper())
    return name if name[:1].isalpha() else f"KEY_{name}"


def _unused(wanted: str, taken: Any, joint: str = "_") -> str:  # noqa: ANN401 - anything that knows `in`
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}{joint}{number}"
    return name
