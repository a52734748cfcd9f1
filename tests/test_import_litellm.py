"""`aion-proxy import litellm`: what becomes ours, to the last decimal; what does not, with its line; no secret."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.cli import run
from proxy.cli_outside import Outside
from proxy.configuration import Configuration, load
from proxy.litellm.document import Entry, read
from proxy.litellm.importing import convert
from proxy.litellm.models import price
from proxy.mistakes import ConfigurationError
from proxy.pricing import parse_price

NOW = 1_769_846_400_007
STAND_IN = "http://127.0.0.1:1/v1"
WHOLE = """\
# every kind of thing
model_list:
  - model_name: fast
    litellm_params:
      model: openai/fast-eu
      api_key: os.environ/EU_KEY
      api_base: https://eu.example/v1/
      rpm: 60
      timeout: 30
      input_cost_per_token: 1.5e-07
      output_cost_per_token: 6e-7
      cache_read_input_token_cost: 0.000_000_075
    model_info: {max_input_tokens: 200_000, max_output_tokens: 8192, supports_vision: true}
  - model_name: fast
    litellm_params:
      model: groq/fast-us
      rpm: 180
  - model_name: fast
    litellm_params: {model: mistral/fast-last, order: 2}
  - model_name: slow
    litellm_params:
      model: azure/my-deployment
      api_base: https://mine.openai.azure.com/
      api_key: sk-this-is-a-secret
      api_version: "2024-02-01"
      extra_headers: {X-Team: another-secret}
      temperature: 0.2
  - model_name: odd
    litellm_params: {model: bedrock/some.model}
  - model_name: "vendor/*"
    litellm_params: {model: "openai/*"}
  - model_name: vectors
    litellm_params: {model: openai/embedding-one}
    model_info: {mode: embedding}
litellm_settings:
  request_timeout: 600
  fallbacks: [{fast: [slow]}]
  callbacks: [langfuse]
router_settings:
  model_group_alias: {quick: fast}
  cooldown_time: 7.5
  allowed_fails: 2
general_settings:
  master_key: sk-master-secret
  database_url: postgresql://user:db-secret@db/litellm
environment_variables:
  SOME_KEY: env-secret
"""
SECRETS = ("sk-this-is-a-secret", "another-secret", "sk-master-secret", "db-secret", "env-secret")


class Bench:
    """One file, and the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.source, self.out = folder / "config.yaml", folder / "out"
        self._capsys = capsys

    def run(self, text: str, *words: str) -> tuple[int, str, str]:
        self.source.write_text(text, "utf-8")
        outside = Outside({}, lambda: NOW, bytes)
        code = run(["import", "litellm", str(self.source), "--out", str(self.out), *words], outside)
        return code, *self._capsys.readouterr()

    def document(self, text: str) -> dict[str, Any]:
        code, out, err = self.run(text, "--json", "--force")
        assert (code, err) == (0, "")
        found: dict[str, Any] = json.loads(out)
        return found

    def loaded(self, text: str) -> Configuration:
        """What the gateway reads of what was written, with the variables that were named and no other."""
        variables = self.document(text)["variables"]
        return load(self.out / "gateway.yaml", dict.fromkeys(variables, STAND_IN))

    def notes(self, text: str) -> dict[str, tuple[int, str]]:
        """The last note of each place."""
        return {note["path"]: (note["line"], note["note"]) for note in self.document(text)["notes"]}


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


def one(params: str, more: str = "") -> str:
    return f"model_list:\n  - model_name: m\n    litellm_params: {{model: openai/u, {params}}}\n{more}"


def test_models_routes_and_aliases_become_ours(bench: Bench) -> None:
    fast, slow = bench.loaded(WHOLE).catalog.models
    assert (fast.id, fast.aliases, slow.id) == ("fast", ("quick",), "slow")
    routes = [(route.provider, route.model, route.weight) for route in fast.routes]
    assert routes == [
        ("openai", "fast-eu", 1),
        ("groq", "fast-us", 3),
        ("mistral", "fast-last", 0),
        ("azure", "my-deployment", 0),
    ]
    assert (fast.context_length, fast.max_completion_tokens) == (200_000, 8_192)
    assert fast.prices.text == ("0.00000015", "0.0000006", "0.000000075")


def test_providers_have_their_addresses_headers_and_times(bench: Bench) -> None:
    found = bench.loaded(WHOLE).settings
    eu, azure = found.providers["openai"], found.providers["azure"]
    assert (eu.base_url, eu.total_timeout) == ("https://eu.example/v1", 30.0)
    assert (azure.base_url, azure.auth_header.value) == ("https://mine.openai.azure.com/openai/v1", "api-key")
    assert azure.total_timeout == 600.0
    assert (found.failover.cooling, found.failover.eject_after) == (7.5, 3)


def test_credentials_become_variables_and_are_written_nowhere(bench: Bench) -> None:
    code, out, err = bench.run(WHOLE)
    written = "".join(file.read_text() for file in bench.out.iterdir())
    assert (code, err) == (0, "")
    assert "${EU_KEY}" in written
    assert not [secret for secret in SECRETS if secret in out + written]
    assert bench.document(WHOLE)["variables"] == ["AZURE_API_KEY_2", "EU_KEY", "GROQ_API_KEY", "HEADER_X_TEAM", "MISTRAL_API_KEY"]  # fmt: skip  # noqa: E501


def test_a_literal_key_never_shares_a_variable_with_another_one(bench: Bench) -> None:
    text = (
        one("api_key: first, api_base: https://one.example/v1")
        + "  - model_name: n\n    litellm_params: {model: openai/u, api_key: second, api_base: https://two.example/v1}\n"
        + "  - model_name: o\n    litellm_params: {model: openai/u}\n"
        + "  - model_name: p\n    litellm_params: {model: groq/u, api_key: os.environ/OPENAI_API_KEY_2}\n"
    )
    bench.document(text)
    providers = yaml.safe_load((bench.out / "gateway.yaml").read_text())["providers"].values()
    by_key = {section["api_key"]: section["base_url"] for section in providers}
    assert by_key == {
        "${OPENAI_API_KEY_3}": "https://one.example/v1",
        "${OPENAI_API_KEY_4}": "https://two.example/v1",
        "${OPENAI_API_KEY}": "https://api.openai.com/v1",
        "${OPENAI_API_KEY_2}": "https://api.groq.com/openai/v1",
    }


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("model_list[0].litellm_params.rpm", "limits are of accounts"),
        ("model_list[3].litellm_params.api_key", "AZURE_API_KEY_2_FILE"),
        ("model_list[3].litellm_params.api_version", "left out"),
        ("model_list[3].litellm_params.temperature", "clients send what they want"),
        ("model_list[4].litellm_params.model", "does not speak OpenAI's API"),
        ("model_list[5].litellm_params.model", "name each in an entry of its own"),
        ("model_list[6].model_info.mode", "is no chat model"),
        ("litellm_settings.callbacks", "metrics for Prometheus"),
        ("general_settings.master_key", "aion-proxy keys create"),
        ("general_settings.database_url", "ledger: postgresql://"),
        ("environment_variables", "environment of the gateway"),
        ("model_list[2].litellm_params.order", "weight 0"),
        ("litellm_settings.fallbacks[0].fast[0]", "weight 0"),
    ],
)
def test_what_has_no_counterpart_is_told_with_its_line_and_the_remedy(bench: Bench, place: str, said: str) -> None:
    line, note = bench.notes(WHOLE)[place]
    assert said in note
    key = place.rpartition(".")[2].partition("[")[0]
    assert key in WHOLE.splitlines()[line - 1]


def test_every_setting_of_a_file_is_either_taken_or_noted(bench: Bench) -> None:
    text = one("zzz: 1", "litellm_settings: {zzz: 1}\nrouter_settings: {zzz: 1}\ngeneral_settings: {zzz: 1}\nzzz: 1\n")
    places = bench.notes(text)
    for place in ("model_list[0].litellm_params", "litellm_settings", "router_settings", "general_settings"):
        assert f"{place}.zzz" in places
    assert "zzz" in places


@pytest.mark.parametrize("text", ["fallbacks: x", "fallbacks: [x]", "model_group_alias: [x]"])
def test_a_setting_of_another_shape_is_noted_too(bench: Bench, text: str) -> None:
    assert [
        place for place in bench.notes(one("rpm: 1", f"router_settings: {{{text}}}\n")) if "router_settings" in place
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (one("x: 1", "router_settings: {fallbacks: [{m: [{model: m, temperature: 1}]}]}"), "fallbacks[0].m[0]"),
        (one("extra_headers: {X-Map: {a: b}}"), 'extra_headers."X-Map"'),
        (one("organization: [o]"), "organization"),
        (one("additional_drop_params: [seed, {a: b}]"), "additional_drop_params[1]"),
        (one('additional_drop_params: ["tools[*].strict"]'), "additional_drop_params[0]"),
    ],
)
def test_a_part_of_a_setting_that_cannot_be_taken_is_noted(bench: Bench, text: str, place: str) -> None:
    assert any(noted.endswith(place) for noted in bench.notes(text))


def test_an_address_that_a_variable_holds_is_not_let_into_the_operator_s_own_network(bench: Bench) -> None:
    provider = bench.loaded(one("api_base: os.environ/BASE")).settings.providers["openai"]
    assert not provider.allow_private


def test_a_model_that_may_not_fail_once_is_passed_over_after_its_first_failure(bench: Bench) -> None:
    assert bench.loaded(one("x: 1", "router_settings: {allowed_fails: 0}")).settings.failover.eject_after == 1


def test_a_price_that_stands_there_and_cannot_be_taken_is_not_said_to_be_absent(bench: Bench) -> None:
    told = [note["note"] for note in bench.document(one("output_cost_per_token: 0.30000000000000004"))["notes"]]
    assert [note for note in told if "says nothing of `output_cost_per_token`" in note] == []
    assert any("pricing.completion" in note and "set to 0" in note for note in told)


def test_a_price_that_the_file_does_not_have_is_no_secret(bench: Bench) -> None:
    notes = [note["note"] for note in bench.document(one("api_key: os.environ/K"))["notes"]]
    assert sum("the price was set to 0" in note for note in notes) == 2


def test_of_differing_prices_the_highest_counts(bench: Bench) -> None:
    text = (
        one("input_cost_per_token: 9e-7")
        + "  - model_name: m\n    litellm_params: {model: groq/u, input_cost_per_token: 1e-6}\n"
    )
    assert bench.loaded(text).catalog.models[0].prices.text[0] == "0.000001"


def test_a_host_of_the_operator_s_own_network_may_be_reached(bench: Bench) -> None:
    private = bench.loaded(one('api_base: "http://vllm:8000/v1"')).settings.providers["openai"]
    public = bench.loaded(one('api_base: "https://llm.example.com/v1"')).settings.providers["openai"]
    assert (private.allow_private, public.allow_private) == (True, False)


def test_anchors_and_merges_are_followed(bench: Bench) -> None:
    text = """
defaults: &defaults {api_base: "https://a.example/v1", api_key: os.environ/K}
model_list:
  - model_name: m
    litellm_params: {<<: *defaults, model: openai/u, api_key: os.environ/OWN}
"""
    document = bench.document(text)
    assert document["variables"] == ["OWN"]
    assert bench.loaded(text).settings.providers["openai"].base_url == "https://a.example/v1"


def test_files_that_are_there_are_left_alone_without_force(bench: Bench) -> None:
    assert bench.run(WHOLE)[0] == 0
    (bench.out / "gateway.yaml").write_text("mine")
    code, out, err = bench.run(WHOLE)
    assert (code, out) == (1, "")
    assert "--force" in err
    assert (bench.out / "gateway.yaml").read_text() == "mine"
    assert bench.run(WHOLE, "--force")[0] == 0
    assert (bench.out / "gateway.yaml").read_text() != "mine"
    assert sorted(file.name for file in bench.out.iterdir()) == ["catalog.yaml", "gateway.yaml"]


def test_a_file_without_a_model_that_can_be_served_writes_nothing(bench: Bench) -> None:
    code, out, err = bench.run("model_list:\n  - model_name: m\n    litellm_params: {model: bedrock/x}\n")
    assert (code, bench.out.exists()) == (1, False)
    assert "config.yaml:3: model_list[0].litellm_params.model" in out
    assert "nothing was written" in err


@pytest.mark.parametrize(
    "text", ["", "- 1\n", "a: [", "a: 1\na: 2\n", "a: !!python/object:os.system x\n", "a: &a [*a]\n"]
)
def test_what_is_no_configuration_is_refused_with_its_place(bench: Bench, text: str) -> None:
    code, out, err = bench.run(text)
    assert (code, out, bench.out.exists()) == (2, "", False)
    assert "config.yaml" in err


def entry(text: str) -> Entry:
    return Entry(1, (), text)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("1.5e-07", "0.00000015"),
        ("0.1", "0.1"),
        ("3e-12", "0.000000000003"),
        ("1E+1", "10"),
        ("0", "0"),
        ("0e-400", None),
        ("3e-13", None),
        ("-1", None),
        (".inf", None),
        ("1e999", None),
        ("abc", None),
    ],
)
def test_a_price_is_what_was_written_to_the_last_decimal(written: str, wanted: str | None) -> None:
    assert price(entry(written)) == wanted


@given(st.integers(0, 10**14), st.integers(-12, 0))
def test_every_price_that_can_be_written_survives(value: int, exponent: int) -> None:
    text = price(entry(f"{value}e{exponent}"))
    assert text is not None
    assert parse_price(text) == value * 10 ** (12 + exponent)


SECRET = "sk-very-secret-value"
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from(["os.environ/NAME", "openai/m", "gpt", "https://h.example/v1", "http://h/?q", "${X}", "*"]),
)  # fmt: skip
KEYS = st.sampled_from(
    [
        *("model", "api_base", "api_key", "rpm", "tpm", "weight", "order", "timeout", "stream_timeout", "organization"),
        *("extra_headers", "additional_drop_params", "custom_llm_provider", "input_cost_per_token", "drop_params"),
        *("output_cost_per_token", "max_tokens", "max_input_tokens", "mode", "fallbacks", "default_fallbacks"),
        *("model_group_alias", "cooldown_time", "allowed_fails", "request_timeout"),
    ]
) | st.text(string.printable, max_size=8)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5))
SECTION = st.dictionaries(KEYS, TREES, max_size=6) | TREES
DEPLOYMENTS = st.lists(
    TREES
    | st.fixed_dictionaries(
        {"model_name": st.sampled_from(["a", "b"]) | TREES},
        optional={
            "litellm_params": SECTION.map(
                lambda found: {"model": "openai/m", **found, "api_key": SECRET} if isinstance(found, dict) else found
            ),
            "model_info": SECTION,
            "rpm": TREES,
        },
    ),
    max_size=4,
)
CONFIGS = st.fixed_dictionaries(
    {"model_list": DEPLOYMENTS | TREES},
    optional={"litellm_settings": SECTION, "router_settings": SECTION, "general_settings": SECTION},
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(CONFIGS)
def test_whatever_stands_in_the_file_what_comes_of_it_is_a_configuration_without_its_secrets(
    tmp_path: Path, tree: dict[str, Any]
) -> None:
    source = tmp_path / "config.yaml"
    source.write_text(yaml.safe_dump(tree, allow_unicode=True), "utf-8")
    try:
        imported = convert(read(source), source.name, "2026-01-31")  # proves by itself that it can be loaded
    except ConfigurationError as error:
        assert all(mistake.file == str(source) for mistake in error.mistakes), error
        return
    assert SECRET not in repr(imported)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_bytes_it_is_they_are_refused_or_read(tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "config.yaml"
    source.write_bytes(data)
    try:
        convert(read(source), source.name, "2026-01-31")
    except ConfigurationError as error:
        assert error.mistakes
