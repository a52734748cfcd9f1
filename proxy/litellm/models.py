"""The deployments of `model_list` as models of our catalog: names, prices, sizes and routes.

Prices are decimal text from beginning to end. Where LiteLLM takes something from lists of its own that are not in the
file, something is assumed here and said.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from math import gcd
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from proxy.catalog import ModelName
from proxy.litellm.deployments import Deployment, Providers, literally
from proxy.litellm.document import Entry, Notes
from proxy.pricing import format_usd, parse_price

_CONTEXT: Final = 128_000
_COMPLETION: Final = 16_384
_LARGEST_WEIGHT: Final = 10**6
_LONGEST_FRACTION: Final = 60
_DECIMALS: Final = 12
_PRICES: Final[Mapping[str, str]] = {
    "prompt": "input_cost_per_token",
    "completion": "output_cost_per_token",
    "input_cache_read": "cache_read_input_token_cost",
}
_INFO_HANDLED: Final = frozenset({*_PRICES.values(), "mode", "max_tokens", "max_input_tokens", "max_output_tokens"})
_INFO_UNNEEDED: Final = frozenset({"id", "db_model", "litellm_provider", "base_model", "created_at", "updated_at"})

Catalog = dict[str, dict[str, Any]]
"""Entries of our catalog by model id, in order."""


def models(model_list: Entry | None, providers: Providers, notes: Notes, today: str) -> Catalog:
    """Return every model that has a route here; `today` is the date that each is given."""
    groups: dict[str, list[Deployment]] = {}
    for entry in notes.items(model_list):
        name = _name(entry, notes)
        for key, value in entry.fields().items():
            if key not in ("model_name", "litellm_params", "model_info", "rpm", "tpm") and value.value is not None:
                notes.add(value, "has no counterpart and was left out")
        deployment = None if name is None else providers.deployment(entry)
        if name is not None and deployment is not None:
            groups.setdefault(name, []).append(deployment)
    return {name: _model(name, group, notes, today) for name, group in groups.items()}


def price(entry: Entry) -> str | None:
    """Return a price per token as exact decimal text; None if it is none, or finer than a pico-dollar."""
    number = entry.number()
    if number is None:
        return None
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or abs(exponent) > _LONGEST_FRACTION or len(digits) > _LONGEST_FRACTION:
        return None
    value, shift = int("".join(map(str, digits))), exponent + _DECIMALS
    pusd, rest = (value * 10**shift, 0) if shift >= 0 else divmod(value, 10**-shift)
    text = format_usd(pusd)
    try:
        return text if not rest and parse_price(text) == pusd else None
    except ValueError:
        return None


def is_name(text: str) -> bool:
    """Tell whether a model may have this name here."""
    try:
        TypeAdapter(ModelName).validate_python(text)
    except ValidationError:
        return False
    return True


def _name(entry: Entry, notes: Notes) -> str | None:
    given = entry.get("model_name")
    text = None if given is None else given.text()
    if text is not None and "*" in text:
        return text  # the deployment says what to do
    if text is not None and is_name(text):
        return text
    notes.add(
        given or entry,
        "is no name that a model can have here, and its entry was left out: use letters, digits, ._:/@+-",
    )
    return None


def _model(name: str, group: Sequence[Deployment], notes: Notes, today: str) -> dict[str, Any]:
    for deployment in group:
        _unused_info(deployment.entry.get("model_info"), notes)
    context = _size(group, ("max_input_tokens",), _CONTEXT, "context_length", notes)
    completion = _size(group, ("max_output_tokens", "max_tokens"), _COMPLETION, "max_completion_tokens", notes)
    return {
        "id": literally(name),
        "name": literally(name),
        "date": today,
        "context_length": context,
        "max_completion_tokens": min(completion, context),
        "pricing": _pricing(group, notes),
        "routes": _routes(group, notes),
    }


def _unused_info(info: Entry | None, notes: Notes) -> None:
    for key, value in notes.fields(info).items():
        if value.value is None or key in _INFO_HANDLED:
            continue
        if key in _INFO_UNNEEDED or key.startswith("supports_"):
            notes.add(value, "is not needed: requests go to the provider as they are")
        elif "cost" in key:
            notes.add(
                value, "is a price without a counterpart: a token of the prompt, of the cache and of the answer has one"
            )
        else:
            notes.add(value, "has no counterpart and was left out")


def _size(group: Sequence[Deployment], names: Sequence[str], assumed: int, key: str, notes: Notes) -> int:
    found = []
    for deployment in group:
        info = deployment.entry.get("model_info")
        given = next(filter(None, map(info.get, names)), None) if info is not None else None
        size = None if given is None else given.whole()
        if given is not None and size is None:
            notes.add(given, "is no number of tokens and was left out")
        found += [] if size is None else [size]
    if not found:
        notes.add(group[0].entry, f"says nothing of its size that can be taken: `{key}` was assumed to be {assumed}")
    return min(found, default=assumed)


def _pricing(group: Sequence[Deployment], notes: Notes) -> dict[str, str]:
    pricing: dict[str, str] = {}
    for ours, theirs in _PRICES.items():
        given = [one for deployment in group for one in _stated(deployment.entry, theirs)]
        read = {entry: price(entry) for entry in _once(given)}
        for entry, text in read.items():
            if text is None:
                notes.add(entry, "is no price of at most 12 decimals: write one into catalog.yaml")
        texts = {text for text in read.values() if text is not None}
        if len(texts) > 1:
            notes.add(
                given[0], "differs between the entries of this model: the highest price was taken for all of them"
            )
        if texts:
            pricing[ours] = max(texts, key=parse_price)
        elif ours != "input_cache_read":
            pricing[ours] = "0"
            notes.add(
                group[0].entry,
                f"has no `{theirs}` that can be taken: the price was set to 0; write the right one into catalog.yaml "
                f"(pricing.{ours})"
                if read
                else f"says nothing of `{theirs}`, which LiteLLM takes from a list of its own: the price was set to 0; "
                f"write the right one into catalog.yaml (pricing.{ours})",
            )
    return pricing


def _stated(entry: Entry, key: str) -> Iterable[Entry]:
    """Yield a price where it counts: beside the model's name before what is told about the model."""
    sections = (entry.get("litellm_params"), entry.get("model_info"))
    found = [one for section in sections if section is not None and (one := section.get(key)) is not None]
    return found[:1]


def _once(entries: Sequence[Entry]) -> list[Entry]:
    by_place = {entry.place: entry for entry in entries}
    return list(by_place.values())


def _routes(group: Sequence[Deployment], notes: Notes) -> list[dict[str, Any]]:
    first = min(deployment.order for deployment in group)
    leading = [deployment for deployment in group if deployment.order == first]
    weights = _weights(leading, notes)
    routes = [_route(one, weight) for one, weight in zip(leading, weights, strict=True)]
    later = [one for one in sorted(group, key=lambda one: one.order) if one.order != first]
    for one in later:
        params = one.entry.get("litellm_params") or one.entry
        notes.add(
            params.get("order") or params,
            "is later than another one: its route has weight 0, and is asked when the others failed",
        )
    routes += [_route(one, 0) for one in later]
    by_place: dict[tuple[str, str], dict[str, Any]] = {}
    for route in routes:
        by_place.setdefault((route["provider"], route["model"]), route)
    return list(by_place.values())


def _route(deployment: Deployment, weight: int) -> dict[str, Any]:
    route: dict[str, Any] = {"provider": deployment.provider, "model": deployment.model}
    return route if weight == 1 else {**route, "weight": weight}


def _weights(group: Sequence[Deployment], notes: Notes) -> list[int]:
    """Return whole shares: of what weights say or, where there are none, requests or tokens per minute."""
    given = [deployment.weight for deployment in group]
    if all(weight is None for weight in given):
        given = [None if one.rate is None else Decimal(one.rate) for one in group]
        if any(rate is None for rate in given):
            return [1] * len(group)
    shares = [Decimal(1) if weight is None else weight for weight in given]
    places = max(0, *(-int(share.as_tuple().exponent) for share in shares))
    whole = [int(share.scaleb(places)) for share in shares] if places <= _DECIMALS and max(shares) < 10**12 else []
    common = gcd(*whole)
    if not whole or not common or max(whole) // common > _LARGEST_WEIGHT:
        notes.add(group[0].entry, "has weights that cannot be written as whole shares: all of its routes have the same")
        return [1] * len(group)
    return [share // common for share in whole]
