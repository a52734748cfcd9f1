"""Both files are read whole or refused with everything that is wrong with them, and no message holds a secret.

Each file in `bad_config/` is one kind of mistake; the lines that start with `# -> ` at its end are the exact messages.
"""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog import CatalogFile
from proxy.configuration import RESERVED, Configuration, describe, load
from proxy.mistakes import ConfigurationError
from proxy.quantities import Address
from proxy.settings import Settings

PROJECT = Path(__file__).parent.parent
BAD = Path(__file__).parent / "bad_config"
SECRETS = ("secret-value", "s3cr3t")


def mistakes(path: Path, **env: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(path, env)
    assert str(caught.value).splitlines() == [str(mistake) for mistake in caught.value.mistakes]
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """Write a small good configuration and return its gateway file."""
    (tmp_path / "catalog.yaml").write_text((BAD / "catalog.yaml").read_text())
    path = tmp_path / "gateway.yaml"
    path.write_text(
        """
        providers:
          demo: {builtin: demo}
          open-router:
            base_url: https://example.com/v1
            headers: {X-Title: one}
            reasoning_tags: [<a>, </a>]
        plans:
          unlimited: {}
          big_plan: {requests_per_minute: 5, budget: {usd: "25.00", per: month}}
        """
    )
    return path


class TestMistakes:
    @pytest.mark.parametrize("name", sorted(path.name for path in BAD.glob("*_*.yaml")))
    def test_every_kind_of_mistake_has_its_exact_messages(self, name, monkeypatch):
        monkeypatch.chdir(BAD)
        lines = Path(name).read_text(encoding="latin-1").encode("latin-1").decode(errors="replace").splitlines()
        expected = [line.removeprefix("# -> ") for line in lines if line.startswith("# -> ")]
        env = {"WORKERS": "s3cr3t"}
        if name.startswith("catalog_"):
            found = mistakes(Path("gateway.yaml"), AION_PROXY_CATALOG=name, **env)
        else:
            found = mistakes(Path(name), **env)
        assert found == expected
        assert not any(secret in message for secret in SECRETS for message in found)

    def test_the_files_around_the_bad_ones_are_good(self):
        assert isinstance(load(BAD / "gateway.yaml", {}), Configuration)

    def test_mistakes_of_both_files_and_of_the_environment_come_at_once(self, tmp_path):
        gateway, catalog = tmp_path / "gateway.yaml", tmp_path / "models.yaml"
        gateway.write_text("catalog: models.yaml\nserver: {workers: 0}\nproviders: {demo: {builtin: demo}}\nplan: x\n")
        catalog.write_text("models: []\n")
        assert mistakes(gateway, AION_PROXY_STOER="embedded") == [
            "environment: AION_PROXY_STOER: sets nothing; did you mean `AION_PROXY_STORE`?",
            f"{gateway}: server.workers: is 0; must be a whole number of at least 1",
            f"{gateway}: plan: is not a known key; did you mean `plans`?",
            f"{catalog}: models: is empty; must list at least one model",
        ]

    @pytest.mark.parametrize(
        "missing", ["opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"]
    )
    def test_tracing_without_its_packages_says_what_to_install(self, gateway, monkeypatch, missing):
        env = {"AION_PROXY_TRACING__ENABLED": "true"}
        assert load(gateway, env).settings.tracing.enabled
        for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, missing, None)
        (mistake,) = mistakes(gateway, **env)
        assert mistake.startswith(
            f"{gateway}: tracing.enabled: is true, and OpenTelemetry's packages are not installed"
        )
        assert "pip install --requirement requirements-otel.txt" in mistake

    def test_a_missing_file_says_where_one_comes_from(self, tmp_path):
        path = tmp_path / "gateway.yaml"
        assert mistakes(path, AION_PROXY_PROVIDERS__LOCAL__API_KEY="secret-value") == [
            f"{path}: does not exist; must be given with --config, or copied from the project's config/gateway.yaml"
        ]

    def test_a_folder_in_place_of_a_file_cannot_be_read(self, tmp_path):
        reason = "cannot be read (Is a directory); must be a file that this user may read"
        assert mistakes(tmp_path) == [f"{tmp_path}: {reason}"]

    def test_a_value_longer_than_a_line_is_shortened(self, gateway):
        [message] = mistakes(gateway, AION_PROXY_SERVER__WORKERS="9x" * 1000)
        assert len(message) < 250

    @pytest.mark.parametrize("text", ["1\n\x1b[31mforged: line", "\udc80", "\x00", "\u2028"])
    @pytest.mark.parametrize("variable", ["AION_PROXY_SERVER__WORKERS", "AION_PROXY_CATALOG", "AION_PROXY_{}"])
    def test_a_message_is_one_line_whatever_is_in_it(self, gateway, variable, text):
        for message in mistakes(gateway, **{variable.format(text): text}):
            assert message.isprintable()

    def test_a_key_that_breaks_lines_is_escaped(self, gateway):
        gateway.write_text('"a\\nb": 1\nproviders: {demo: {builtin: demo}}\n')
        [message] = mistakes(gateway)
        assert message.startswith(f"{gateway}: a\\nb: is not a known key")

    @given(content=st.binary(max_size=200))
    def test_any_bytes_are_a_configuration_or_refused(self, content, tmp_path_factory):
        path = tmp_path_factory.getbasetemp() / "any.yaml"
        path.write_bytes(content)
        assert mistakes(path)

    @given(content=st.text(alphabet=" \n-:{}[]&*!|>'\"#%@,?$ab1\t", max_size=60))
    def test_any_punctuation_is_a_configuration_or_refused(self, content, tmp_path_factory):
        path = tmp_path_factory.getbasetemp() / "any.yaml"
        path.write_text(content)
        assert mistakes(path)


class TestVariables:
    def test_a_variable_stands_for_its_value_anywhere_in_a_text(self, gateway):
        with gateway.open("a") as file:
            file.write("\n        data_dir: /srv/${NAME}/$${HOME}/$5\n")
        assert load(gateway, {"NAME": "x${NAME}"}).settings.data_dir == Path("/srv/x${NAME}/${HOME}/$5")

    def test_a_key_from_the_environment_is_a_secret(self, gateway):
        gateway.write_text(gateway.read_text().replace("{builtin: demo}", '{builtin: demo, api_key: "${KEY}"}'))
        key = load(gateway, {"KEY": "secret-value"}).settings.providers["demo"].api_key
        assert key is not None
        assert key.get_secret_value() == "secret-value"

    def test_the_catalog_has_variables_too(self, gateway):
        catalog = gateway.with_name("catalog.yaml")
        catalog.write_text(catalog.read_text().replace("name: Echo", "name: ${NAME}"))
        assert load(gateway, {"NAME": "Parrot"}).catalog.models[0].name == "Parrot"
        assert mistakes(gateway) == [
            f"{catalog}: models[0].name: needs the variable NAME, which is not set; must be set in the environment"
        ]

    def test_an_override_makes_the_variable_unnecessary(self, gateway):
        gateway.write_text(gateway.read_text() + '\n        server: {workers: "${WORKERS}"}\n')
        assert load(gateway, {"AION_PROXY_SERVER__WORKERS": "2"}).settings.server.workers == 2

    def test_two_places_of_one_anchor_are_two(self, gateway):
        gateway.write_text(
            "providers: {demo: &one {builtin: demo, api_key: a}, other: *one, third: {<<: *one, api_key: c}}\n"
        )
        providers = load(gateway, {"AION_PROXY_PROVIDERS__DEMO__API_KEY": "b"}).settings.providers
        keys = {name: provider.api_key.get_secret_value() for name, provider in providers.items() if provider.api_key}
        assert keys == {"demo": "b", "other": "a", "third": "c"}


class TestOverrides:
    @pytest.mark.parametrize(
        ("variable", "value", "read"),
        [
            ("AION_PROXY_SERVER__LISTEN", "[::1]:0", lambda s: s.server.listen == Address("::1", 0)),
            ("AION_PROXY_SERVER__MAX_BODY", "1KiB", lambda s: s.server.max_body == 1024),
            ("AION_PROXY_STORE", "redis://127.0.0.1", lambda s: s.store == "redis://127.0.0.1"),
            ("AION_PROXY_METRICS__ACCOUNT_LABEL", "false", lambda s: s.metrics.account_label is False),
            ("AION_PROXY_LIMITS__DEFAULT_HOLD", "7", lambda s: s.limits.default_hold == 7),
            (
                "AION_PROXY_PROVIDERS__OPEN_ROUTER__IDLE_TIMEOUT",
                "3s",
                lambda s: s.providers["open-router"].idle_timeout == 3,
            ),
            (
                "AION_PROXY_PROVIDERS__OPEN_ROUTER__HEADERS__X_TITLE",
                "two",
                lambda s: s.providers["open-router"].headers["X-Title"].get_secret_value() == "two",
            ),
            ("AION_PROXY_PLANS__BIG_PLAN__BUDGET__USD", "0.5", lambda s: s.plans["big_plan"].budget.pusd == 5 * 10**11),
            ("aion_proxy_plans__unlimited__tokens_per_day", "9", lambda s: s.plans["unlimited"].tokens_per_day == 9),
        ],
    )
    def test_a_variable_sets_a_value(self, gateway, variable, value, read):
        assert not read(load(gateway, {}).settings)
        assert read(load(gateway, {variable: value}).settings)

    def test_an_override_is_taken_as_it_is(self, gateway):
        """It comes from the environment already: what looks like a variable in it is not replaced again."""
        env = {"AION_PROXY_DATA_DIR": "/srv/${HOME}", "HOME": "x"}
        assert load(gateway, env).settings.data_dir == Path("/srv/${HOME}")

    def test_a_mistake_in_an_override_names_the_variable(self, gateway):
        assert mistakes(gateway, AION_PROXY_SERVER__WORKERS="-1") == [
            'environment: AION_PROXY_SERVER__WORKERS: is "-1"; must be a whole number of at least 1'
        ]

    def test_a_secret_in_an_override_is_not_shown(self, gateway):
        [message] = mistakes(gateway, AION_PROXY_PROVIDERS__DEMO__API_KEY="secret-value\n")
        assert "secret" not in message

    @pytest.mark.parametrize("variable", RESERVED)
    def test_variables_with_another_purpose_are_no_overrides(self, gateway, variable):
        assert load(gateway, {variable: "anything"})

    @pytest.mark.parametrize(
        "variable",
        [
            "AION_PROXY_SERVICE_HOST",
            "AION_PROXY_SERVICE_PORT_HTTP",
            "AION_PROXY_PORT",
            "AION_PROXY_PORT_8080_TCP",
            "AION_PROXY_PORT_8080_TCP_ADDR",
        ],
    )
    def test_what_a_container_platform_sets_for_a_service_of_this_name_is_no_override(self, gateway, variable):
        assert load(gateway, {variable: "tcp://10.0.0.1:8080"})

    @pytest.mark.parametrize(
        ("variable", "rest"),
        [
            ("AION_PROXY_SERVER__WORKER", "sets nothing; did you mean `AION_PROXY_SERVER__WORKERS`?"),
            ("AION_PROXY_TELEMETRY", "sets nothing; unset it, or name a key with __ between its levels"),
            ("AION_PROXY_", "sets nothing; unset it, or name a key with __ between its levels"),
            (
                "AION_PROXY_PROVIDERS__ABSENT__BASE_URL",
                "sets nothing; did you mean `AION_PROXY_PROVIDERS__DEMO__BASE_URL`?",
            ),
            (
                "AION_PROXY_PROVIDERS__OPEN_ROUTER__REASONING_TAGS",
                "stands for two texts, which no variable can hold; must be set in the file",
            ),
        ],
    )
    def test_a_variable_that_sets_nothing_is_a_mistake(self, gateway, variable, rest):
        assert mistakes(gateway, **{variable: "x"}) == [f"environment: {variable}: {rest}"]

    def test_a_variable_that_fits_two_names_is_a_mistake(self, gateway):
        gateway.write_text("providers: {demo: {builtin: demo}, a-b: {builtin: demo}, a_b: {builtin: demo}}\n")
        [message] = mistakes(gateway, AION_PROXY_PROVIDERS__A_B__API_KEY="x")
        places = "could set providers.a-b.api_key or providers.a_b.api_key"
        assert message == f"environment: AION_PROXY_PROVIDERS__A_B__API_KEY: {places}; must be set in the file"

    def test_an_override_does_not_hide_a_mistake_in_the_file(self, gateway):
        gateway.write_text("server: 8080\nproviders: {demo: {builtin: demo}}\n")
        assert mistakes(gateway, AION_PROXY_SERVER__WORKERS="2") == [
            f"{gateway}: server: is a number; must be a mapping"
        ]

    def test_every_scalar_of_the_gateways_file_has_an_override(self, gateway):
        """Each is set to what it cannot be, and each complains about the value: none is silently ignored. Only what
        stands in a list has no name that a variable could have.
        """
        scalars = [
            path
            for path, kind, *_ in describe(Settings)
            if kind not in ("two texts", "list of text", "mapping") and "[]" not in path
        ]
        for path in scalars:
            there = path.replace("providers.<name>", "providers.open-router").replace("plans.<name>", "plans.big_plan")
            key = there.replace("<name>", "X-Title").replace(".", "__").replace("-", "_").upper()
            messages = mistakes(gateway, **{f"AION_PROXY_{key}": ""})
            assert any(message.startswith(f"environment: AION_PROXY_{key}: is ") for message in messages)


class TestFiles:
    def test_the_files_of_the_project_are_good_and_use_the_demo_provider(self):
        configuration = load(PROJECT / "config" / "gateway.yaml", {})
        assert [model.id for model in configuration.catalog.models] == ["demo/echo", "demo/thinker"]
        assert [model.reasoning for model in configuration.catalog.models] == [False, True]
        assert list(configuration.settings.providers) == ["demo"]

    def test_the_commented_examples_in_the_projects_files_are_good(self, tmp_path):
        for name in ("gateway.yaml", "catalog.yaml"):
            lines = (PROJECT / "config" / name).read_text().splitlines()
            start = next(number for number, line in enumerate(lines) if line.lstrip().startswith("# A real one"))
            example = [line.replace("# ", "", 1) if line.startswith("  # ") else line for line in lines[start + 1 :]]
            (tmp_path / name).write_text("\n".join([*lines[:start], *example]))
        configuration = load(tmp_path / "gateway.yaml", {"LOCAL_API_KEY": "k"})
        assert list(configuration.settings.providers) == ["demo", "local"]
        assert configuration.catalog.find("model") is not None

    def test_a_byte_order_mark_is_no_mistake(self, gateway):
        gateway.write_bytes(b"\xef\xbb\xbf" + gateway.read_bytes())
        assert load(gateway, {})

    def test_the_catalog_is_relative_to_the_gateways_file(self, gateway):
        assert load(gateway, {}).files == (gateway, gateway.parent / "catalog.yaml")

    def test_the_first_mistake_of_a_repeated_key_does_not_hide_the_others(self, gateway):
        gateway.write_text("server: {workers: 0}\nserver: {workers: -2}\nproviders: {demo: {builtin: demo}}\n")
        assert len(mistakes(gateway)) == 2


class TestReference:
    @pytest.mark.parametrize("section", [Settings, CatalogFile])
    def test_every_key_is_described(self, section):
        rows = describe(section)
        assert all(path and kind and what for path, kind, _, what in rows)
        assert len({path for path, *_ in rows}) == len(rows)
        assert not any("Undefined" in default or "0x" in default for _, _, default, _ in rows)

    def test_paths_types_and_defaults_are_written_as_in_the_file(self):
        rows = {path: (kind, default) for path, kind, default, _ in [*describe(Settings), *describe(CatalogFile)]}
        assert rows["server.listen"] == ("host:port", "127.0.0.1:8080")
        assert rows["server.max_body"] == ("size", "20MiB")
        assert rows["providers.<name>.connect_timeout"] == ("duration", "5s")
        assert rows["providers.<name>.on_disconnect"] == ("cancel | drain", "cancel")
        assert rows["providers.<name>.headers.<name>"] == ("secret text", "none")
        assert rows["plans.<name>.budget.usd"] == ("decimal text in USD", "required")
        assert rows["models[].routes[].weight"] == ("whole number, at least 0", "1")
        assert rows["models[].estimate_bytes_per_token"] == ("number or fraction", "4")


class TestSecretsInFiles:
    @pytest.fixture
    def keyed(self, gateway: Path) -> Path:
        text = gateway.read_text().replace("base_url:", "api_key: ${KEY}\n            base_url:")
        gateway.write_text(text)
        return gateway

    def key(self, path: Path, **env: str) -> str:
        key = load(path, env).settings.providers["open-router"].api_key
        assert key is not None
        return key.get_secret_value()

    def test_a_variable_that_is_not_set_is_read_from_the_file_that_its_file_variable_names(self, keyed, tmp_path):
        (tmp_path / "secret").write_text("s3cr3t\n")
        assert self.key(keyed, KEY_FILE=str(tmp_path / "secret")) == "s3cr3t"

    def test_the_variable_itself_comes_first(self, keyed):
        assert self.key(keyed, KEY="s3cr3t", KEY_FILE="/nonexistent") == "s3cr3t"

    def test_a_file_that_cannot_be_read_is_a_mistake_that_says_why(self, keyed):
        (found,) = mistakes(keyed, KEY_FILE="/nonexistent")
        assert found.endswith(
            "api_key: needs the file that KEY_FILE names, which cannot be read: No such file or directory; must be a "
            "file that this user may read, or set the variable itself"
        )

    def test_a_file_that_is_no_text_is_a_mistake(self, keyed, tmp_path):
        (tmp_path / "secret").write_bytes(b"\xff")
        (found,) = mistakes(keyed, KEY_FILE=str(tmp_path / "secret"))
        assert "it is no text" in found
