"""Clients see the models as the operator wrote them, to the digit, and nothing of where they run."""

import datetime as dt

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.catalog import Catalog, CatalogFile, Model, Route, model_body, models_body
from proxy.pricing import Prices

ENTRY = {
    "id": "aion-labs/aion-2.0",
    "name": "AionLabs: Aion 2.0",
    "description": "A model.",
    "date": "2025-12-21",
    "context_length": 131072,
    "max_completion_tokens": 32768,
    "is_moderated": False,
    "architecture": {"modality": "text->text"},
    "pricing": {"prompt": "0.0000008", "completion": "0.0000016", "input_cache_read": "0.0000002"},
    "reasoning": True,
    "aliases": ["aion-2.0", "aion"],
    "routes": [
        {"provider": "local", "model": "secret-upstream-name", "weight": 3},
        {"provider": "spare", "model": "secret-spare-name"},
    ],
    "estimate_bytes_per_token": "7/2",
}
PUBLIC = {
    "id": "aion-labs/aion-2.0",
    "name": "AionLabs: Aion 2.0",
    "description": "A model.",
    "date": "2025-12-21",
    "context_length": 131072,
    "max_completion_tokens": 32768,
    "is_moderated": False,
    "architecture": {"modality": "text->text"},
    "pricing": {"prompt": "0.0000008", "completion": "0.0000016", "input_cache_read": "0.0000002"},
}
PLAIN = {**ENTRY, "id": "plain", "aliases": [], "pricing": {"prompt": "0.00000080", "completion": "1"}}


def catalog(*entries: dict[str, object]) -> Catalog:
    return CatalogFile.model_validate({"models": list(entries)}).catalog()


def test_every_key_of_a_model_is_read():
    assert catalog(ENTRY).models == (
        Model(
            id="aion-labs/aion-2.0",
            name="AionLabs: Aion 2.0",
            description="A model.",
            date=dt.date(2025, 12, 21),
            context_length=131072,
            max_completion_tokens=32768,
            is_moderated=False,
            modality="text->text",
            prices=Prices.parse("0.0000008", "0.0000016", "0.0000002"),
            reasoning=True,
            routes=(Route("local", "secret-upstream-name", 3), Route("spare", "secret-spare-name", 1)),
            aliases=("aion-2.0", "aion"),
            disabled=False,
            estimate_bytes_per_token=(7, 2),
        ),
    )


def test_what_is_left_out_has_the_documented_defaults():
    needed = ("id", "name", "date", "context_length", "max_completion_tokens", "pricing", "routes")
    [model] = catalog({key: ENTRY[key] for key in needed}).models
    assert (model.description, model.is_moderated, model.modality) == ("", False, "text->text")
    assert (model.reasoning, model.aliases, model.disabled) == (False, (), False)
    assert model.estimate_bytes_per_token == (4, 1)


def test_a_date_may_be_written_without_quotes_in_yaml_because_dates_stay_text(tmp_path):
    from proxy.yaml_file import read_mapping  # noqa: PLC0415 - this test alone needs a file

    path = tmp_path / "catalog.yaml"
    path.write_text("date: 2025-12-21\n")
    assert read_mapping(path, "") == ({"date": "2025-12-21"}, [])


@pytest.mark.parametrize("name", ["aion-labs/aion-2.0", "aion-2.0", "aion"])
def test_a_model_is_found_by_its_id_and_by_every_alias(name):
    models = catalog(ENTRY, PLAIN)
    assert models.find(name) is models.models[0]


@pytest.mark.parametrize("name", ["", "Aion", "aion-labs/", "secret-upstream-name", "AionLabs: Aion 2.0"])
def test_nothing_else_finds_it(name):
    assert catalog(ENTRY, PLAIN).find(name) is None


def test_a_disabled_model_is_neither_found_nor_listed_nor_enabled():
    models = catalog({**ENTRY, "disabled": True}, PLAIN)
    assert models.find("aion") is None
    assert models.find("aion-labs/aion-2.0") is None
    assert [model.id for model in models.enabled()] == ["plain"]
    assert [entry["id"] for entry in orjson.loads(models_body(models))["models"]] == ["plain"]


def test_a_disabled_model_keeps_its_names():
    with pytest.raises(ValidationError):
        catalog({**ENTRY, "disabled": True}, {**PLAIN, "aliases": ["aion"]})


def test_the_listing_serves_both_kinds_of_client_in_the_order_of_the_file():
    listing = orjson.loads(models_body(catalog(ENTRY, PLAIN)))
    assert list(listing) == ["object", "data", "models"]
    assert listing["object"] == "list"
    assert [entry["id"] for entry in listing["data"]] == ["aion-labs/aion-2.0", "plain"]
    assert [entry["id"] for entry in listing["models"]] == ["aion-labs/aion-2.0", "plain"]


def test_a_public_entry_has_exactly_the_public_keys_in_order():
    [entry] = orjson.loads(models_body(catalog(ENTRY)))["models"]
    assert list(entry.items()) == list(PUBLIC.items())


def test_an_entry_for_openais_clients_has_their_keys_first():
    [entry] = orjson.loads(models_body(catalog(ENTRY)))["data"]
    theirs = {"id": "aion-labs/aion-2.0", "object": "model", "created": 1766275200, "owned_by": "aion-labs"}
    assert entry == {**theirs, **PUBLIC}
    assert list(entry)[:4] == list(theirs)


def test_a_model_without_an_owner_in_its_id_is_the_gateways():
    [entry] = orjson.loads(models_body(catalog(PLAIN)))["data"]
    assert entry["owned_by"] == "gateway"


def test_prices_are_shown_as_they_were_written_and_a_missing_one_is_absent():
    [entry] = orjson.loads(models_body(catalog(PLAIN)))["models"]
    assert entry["pricing"] == {"prompt": "0.00000080", "completion": "1"}


def test_one_model_is_the_object_of_the_listing():
    models = catalog(ENTRY, PLAIN)
    assert orjson.loads(model_body(models.models[0])) == orjson.loads(models_body(models))["data"][0]


def test_nothing_of_the_upstream_is_listed():
    assert b"secret" not in models_body(catalog(ENTRY))
    assert b"local" not in models_body(catalog(ENTRY))


def test_routes_are_checked_against_the_providers_that_there_are():
    document = {"models": [ENTRY]}
    assert CatalogFile.model_validate(document, context={"providers": ["local", "spare"]})
    with pytest.raises(ValidationError):
        CatalogFile.model_validate(document, context={"providers": ["local"]})


@given(st.text(max_size=200))
def test_an_id_is_one_that_a_url_and_a_label_can_hold(text):
    try:
        [model] = catalog({**PLAIN, "id": text}).models
    except ValidationError:
        return
    assert model.id == text
    assert text.isascii()
    assert text.isprintable()
    assert not set(text) & set(" ?#%\\\"'<>")
    assert not text.endswith("/")


@given(st.dates(min_value=dt.date(1970, 1, 1)))
def test_created_is_midnight_utc_of_the_date(date):
    [entry] = orjson.loads(models_body(catalog({**PLAIN, "date": date.isoformat()})))["data"]
    assert entry["created"] == (date - dt.date(1970, 1, 1)).days * 86_400
