"""The models that clients may ask for: their file's model, the look-up by name, and the public listing.

The listing shows exactly what is public; where a model really runs never appears in it. Nothing is read from disk here:
that is `configuration.py`.
"""

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

import orjson
from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo

from proxy.mistakes import Place, Wrong, nearest
from proxy.pricing import Prices, parse_price
from proxy.quantities import Count, Filled, Name, Ratio, Share, Text, parse_text
from proxy.sections import Conflict, Kind, Section

_ID: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/@+-]{0,126}[A-Za-z0-9._:@+-])?")
_NO_OWNER: Final = "gateway"


@dataclass(frozen=True, slots=True)
class Route:
    """One place where a model runs: a provider of the configuration and the model's name there."""

    provider: str
    model: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the catalog. `estimate_bytes_per_token` is a rational: (numerator, denominator)."""

    id: str
    name: str
    description: str
    date: dt.date
    context_length: int
    max_completion_tokens: int
    is_moderated: bool
    modality: str
    prices: Prices
    reasoning: bool
    routes: tuple[Route, ...]
    aliases: tuple[str, ...] = ()
    disabled: bool = False
    estimate_bytes_per_token: tuple[int, int] = (4, 1)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models in the order of the file; `find` sees those that are not disabled."""

    models: tuple[Model, ...]
    _by_name: Mapping[str, Model] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the models by everything they may be called."""
        names = {name: model for model in self.enabled() for name in (model.id, *model.aliases)}
        object.__setattr__(self, "_by_name", names)

    def enabled(self) -> Iterator[Model]:
        """Yield the models that may be asked for."""
        return (model for model in self.models if not model.disabled)

    def find(self, name: str) -> Model | None:
        """Return the model with this id or alias in O(1); None if there is none or it is disabled."""
        return self._by_name.get(name)


def models_body(catalog: Catalog) -> bytes:
    """Return the JSON of the whole listing: `data` for OpenAI's clients, `models` without what only they need."""
    models = list(catalog.enabled())
    listing = {
        "object": "list",
        "data": [_listed(model) for model in models],
        "models": [_public(model) for model in models],
    }
    return orjson.dumps(listing)


def model_body(model: Model) -> bytes:
    """Return the JSON of one model, the same object as in the listing's `data`."""
    return orjson.dumps(_listed(model))


def _listed(model: Model) -> dict[str, object]:
    midnight = dt.datetime.combine(model.date, dt.time(), dt.UTC)
    owner = model.id.split("/", 1)[0] if "/" in model.id else _NO_OWNER
    return {
        "id": model.id,
        "object": "model",
        "created": int(midnight.timestamp()),
        "owned_by": owner,
        **_public(model),
    }


def _public(model: Model) -> dict[str, object]:
    prompt, completion, input_cache_read = model.prices.text
    pricing = {"prompt": prompt, "completion": completion}
    if input_cache_read is not None:
        pricing["input_cache_read"] = input_cache_read
    return {
        "id": model.id,
        "name": model.name,
        "description": model.description,
        "date": model.date.isoformat(),
        "context_length": model.context_length,
        "max_completion_tokens": model.max_completion_tokens,
        "is_moderated": model.is_moderated,
        "architecture": {"modality": model.modality},
        "pricing": pricing,
    }


def _parse_id(value: object) -> str:
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise Wrong(
            "must be 1 to 128 letters, digits and . _ : / @ + -, starting with a letter or digit, without / at the end"
        )
    return value


def _parse_date(value: object) -> dt.date:
    try:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return dt.date.fromisoformat(value)
    except ValueError:
        pass
    raise Wrong('must be a date such as "2025-12-21"')


def _price_text(value: object) -> str:
    if isinstance(value, int | float):
        raise Wrong('must be text, because numbers drift: quote it, such as "0.0000008"')
    text = parse_text(value)
    parse_price(text)
    return text


def _known_provider(name: str, info: ValidationInfo) -> str:
    known = (info.context or {}).get("providers")
    if known and name not in known:
        raise Wrong(nearest(name, known), "is {value}, which is no provider")
    return name


ModelName = Annotated[str, PlainValidator(_parse_id), Kind("text")]
Date = Annotated[dt.date, PlainValidator(_parse_date), Kind("date")]
Price = Annotated[str, PlainValidator(_price_text), Kind("decimal text in USD")]
OptionalPrice = Annotated[
    str | None, PlainValidator(lambda value: None if value is None else _price_text(value)), Kind("decimal text in USD")
]
ProviderName = Annotated[Name, AfterValidator(_known_provider), Kind("text")]


class Pricing(Section):
    """Prices per token in USD, as decimal text."""

    prompt: Price = Field(description="a prompt token")
    completion: Price = Field(description="a completion token, reasoning included")
    input_cache_read: OptionalPrice = Field(
        None, description="a prompt token that the provider had cached; none: as any other"
    )


class Architecture(Section):
    """What goes in and what comes out."""

    modality: Filled = Field("text->text", description="what goes in and what comes out")


class RouteEntry(Section):
    """One place where a model runs."""

    provider: ProviderName = Field(description="a provider of the gateway's file")
    model: Filled = Field(description="what the model is called there")
    weight: Share = Field(1, description="its share of the load, equal weights equally; 0: only when others failed")


class ModelEntry(Section):
    """A model as the file has it."""

    id: ModelName = Field(description="what clients ask for")
    name: Filled = Field(description="what people call it")
    description: Text = Field("", description="a sentence or two for people")
    date: Date = Field(description="when it came out")
    context_length: Count = Field(description="tokens of prompt and completion together")
    max_completion_tokens: Count = Field(description="tokens of the longest completion")
    is_moderated: bool = Field(default=False, description="the provider filters what goes in")
    architecture: Architecture = Field(default_factory=Architecture, description="what goes in and what comes out")
    pricing: Pricing = Field(
        description="prices per token: prompt, completion, and input_cache_read if cached ones cost less"
    )
    reasoning: bool = Field(
        default=False, description="it reasons: `reasoning_split` is on unless a request says otherwise"
    )
    aliases: tuple[ModelName, ...] = Field((), description="further names that clients may ask for")
    routes: tuple[RouteEntry, ...] = Field(description="where it runs, tried in order")
    disabled: bool = Field(default=False, description="it is neither listed nor found")
    estimate_bytes_per_token: Ratio = Field(
        (4, 1), description="UTF-8 bytes per token, where usage has to be estimated"
    )

    @classmethod
    def conflicts(cls, raw: Mapping[str, object]) -> Iterator[Conflict]:
        """A model runs somewhere."""
        if raw.get("routes") == []:
            yield ("routes",), [], Wrong("must list at least one {provider, model}", "is empty")

    def model(self) -> Model:
        """Return the entry as the rest of the gateway knows it."""
        return Model(
            id=self.id,
            name=self.name,
            description=self.description,
            date=self.date,
            context_length=self.context_length,
            max_completion_tokens=self.max_completion_tokens,
            is_moderated=self.is_moderated,
            modality=self.architecture.modality,
            prices=Prices.parse(self.pricing.prompt, self.pricing.completion, self.pricing.input_cache_read),
            reasoning=self.reasoning,
            routes=tuple(Route(route.provider, route.model, route.weight) for route in self.routes),
            aliases=self.aliases,
            disabled=self.disabled,
            estimate_bytes_per_token=self.estimate_bytes_per_token,
        )


class CatalogFile(Section):
    """The whole of `catalog.yaml`; the context `{"providers": names}` checks the routes against them."""

    models: tuple[ModelEntry, ...] = Field(
        description="every model that clients may ask for, in the order of the listing"
    )

    @classmethod
    def conflicts(cls, raw: Mapping[str, object]) -> Iterator[Conflict]:
        """There is a model, and no two share a name."""
        models = raw.get("models")
        if models == []:
            yield ("models",), [], Wrong("must list at least one model", "is empty")
        if isinstance(models, list):
            yield from _shared_names(models)

    def catalog(self) -> Catalog:
        """Return the models as the rest of the gateway knows them."""
        return Catalog(tuple(entry.model() for entry in self.models))


def _shared_names(models: list[object]) -> Iterator[Conflict]:
    """Yield every id and alias that another model has already; ids come first, so that the alias gives way."""
    taken: dict[str, str] = {}
    entries = [(number, entry) for number, entry in enumerate(models) if isinstance(entry, Mapping)]
    named: list[tuple[Place, object]] = [(("models", number, "id"), entry.get("id")) for number, entry in entries]
    for number, entry in entries:
        aliases = entry.get("aliases")
        named += [(("models", number, "aliases", place), alias) for place, alias in enumerate(_items(aliases))]
    for path, name in named:
        if not isinstance(name, str):
            continue
        if name in taken:
            yield path, name, Wrong("must be a name of its own", f"is {{value}}, which is {taken[name]} already")
        taken.setdefault(name, f"the {'id' if path[-1] == 'id' else 'alias'} of models[{path[1]}]")


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple) else ()
