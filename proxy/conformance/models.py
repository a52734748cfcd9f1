"""Checks of the listing of models (C)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from proxy.conformance.asks import get, models, one_model
from proxy.conformance.check import Passed, Verdict, check
from proxy.conformance.exchange import MODELS, Reply, Violation, fitted
from proxy.conformance.refusals import INVALID, refused
from proxy.conformance.shapes import Listing, Model, ModelObject

_OPENAI_KEYS: Final = ("id", "object", "created", "owned_by")
_quoted_model: Final = get("the model with its slashes as %2F", MODELS + "/{quoted}")
_no_model: Final = get("an unknown model by its URL", f"{MODELS}/conformance/no-such-model")


def _listing(reply: Reply) -> Listing:
    if reply.status != HTTPStatus.OK:
        raise Violation(f"{reply.asked.what}: {reply.summary}; expected 200")
    return reply.read(Listing)


def _entries(reply: Reply) -> Iterator[tuple[dict[str, Any], Model]]:
    for number, entry in enumerate(_listing(reply).models):
        yield entry, fitted(entry, Model, f"models[{number}]")


@check("C1.1", models)
def both_lists(reply: Reply) -> Verdict:
    """`GET /v1/models` gives `object` as `list`, and the models twice: `data` for OpenAI's clients, and `models`."""
    listing = _listing(reply)
    if not listing.data or not listing.models:
        raise Violation("a list is empty")
    return Passed(f"{len(listing.models)} models")


@check("C1.2", models)
def exact_entries(reply: Reply) -> Verdict:
    """An entry of `models` has exactly the nine documented keys; prices are decimal texts without an exponent."""
    return Passed(f"{len(list(_entries(reply)))} entries")


@check("C1.2", models)
def cache_price(reply: Reply) -> Verdict:
    """A model without a price for cached tokens has no `input_cache_read`: the key is absent, not null."""
    pricings = [entry.get("pricing", {}) for entry in _listing(reply).models]
    if any("input_cache_read" in pricing and pricing["input_cache_read"] is None for pricing in pricings):
        raise Violation("`input_cache_read` is null")
    priced = sum("input_cache_read" in pricing for pricing in pricings)
    return Passed(f"{priced} of {len(pricings)} models have one")


@check("C1.3", models)
def openai_entries(reply: Reply) -> Verdict:
    """An entry of `data` has OpenAI's `id`, `object`, `created` and `owned_by`, then the same as in `models`."""
    listing = _listing(reply)
    for number, (entry, other) in enumerate(zip(listing.data, listing.models, strict=False)):
        fitted(entry, ModelObject, f"data[{number}]")
        if tuple(entry)[: len(_OPENAI_KEYS)] != _OPENAI_KEYS:
            raise Violation(f"data[{number}]: the keys are {', '.join(entry)}")
        rest = {name: value for name, value in entry.items() if name not in _OPENAI_KEYS[1:]}
        if rest != other:
            raise Violation(f"data[{number}] says other things than models[{number}]")
    return Passed(f"{len(listing.data)} entries")


@check("C1.3", models)
def made_up_values(reply: Reply) -> Verdict:
    """In `data`, `created` is the first second of the model's date in UTC, `owned_by` what is before the first `/`."""
    for number, entry in enumerate(_listing(reply).data):
        found = fitted(entry, ModelObject, f"data[{number}]")
        try:
            date = datetime.strptime(str(entry.get("date")), "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise Violation(f"data[{number}]: the date is {entry.get('date')!r}") from None
        if found.created != int(date.timestamp()):
            raise Violation(f"data[{number}]: created is {found.created}, the date {entry.get('date')}")
        owner = found.id.partition("/")[0] if "/" in found.id else "gateway"
        if found.owned_by != owner:
            raise Violation(f"data[{number}]: owned_by is {found.owned_by!r}; expected {owner!r}")
    return Passed("both, for every model")


@check("C1.4", models)
def one_order(reply: Reply) -> Verdict:
    """Both lists have the same models in the same order, and none twice."""
    listing = _listing(reply)
    ids = [entry.get("id") for entry in listing.data]
    if ids != [entry.get("id") for entry in listing.models]:
        raise Violation("the two lists have other models, or another order")
    if len(set(ids)) != len(ids):
        raise Violation("a model is listed twice")
    return Passed(f"{len(ids)} models")


@check("C3", one_model, _quoted_model, models)
def one_by_its_url(raw: Reply, quoted: Reply, listing: Reply) -> Verdict:
    """`GET /v1/models/ID` gives the entry of `data`, with a slash in the id as it is and as `%2F`."""
    for reply in (raw, quoted):
        if reply.status != HTTPStatus.OK:
            raise Violation(f"{reply.asked.what}: {reply.summary}; expected 200")
        if reply.document not in _listing(listing).data:
            raise Violation(f"{reply.asked.what}: is none of the entries of `data`")
    return Passed(str(raw.document.get("id")))


@check("C3", _no_model)
def none_by_its_url(reply: Reply) -> Verdict:
    """`GET /v1/models/ID` of an unknown model gets 404 `model_not_found`."""
    return refused(reply, 404, INVALID, "model_not_found")


CHECKS: Final = (
    both_lists, exact_entries, cache_price, openai_entries, made_up_values, one_order, one_by_its_url, none_by_its_url,
)  # fmt: skip
