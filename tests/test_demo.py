"""The demonstration: files that can be served, a key that works, and words that can be pasted."""

import os
import re
import socket
from types import SimpleNamespace

import pytest
import yaml

from proxy import demo as demonstration
from proxy.accounts import account_of_key, digest_of_key
from proxy.configuration import load
from proxy.demo import ACCOUNT, demo
from proxy.demo_script import SCRIPT
from proxy.quantities import Address
from proxy.stores.keys import RedisKeys
from proxy.stores.opening import connect_store


@pytest.mark.parametrize(("model_port", "models"), [(None, ["demo/echo", "demo/thinker"]), (8123, ["smollm2-135m"])])
def test_what_it_writes_can_be_served(tmp_path, model_port, models):
    path = demonstration._write_files(tmp_path, 8765, model_port)
    configuration = load(path, {})
    settings = configuration.settings
    assert settings.server.listen == Address("127.0.0.1", 8765)
    assert settings.server.admin_listen.host == "127.0.0.1"
    assert str(settings.data_dir) == f"{tmp_path}/data"
    assert settings.plans[settings.default_plan].limits().budget_nusd == 5_000_000_000
    assert [found.id for found in configuration.catalog.models] == models
    (provider,) = settings.providers.values()
    assert provider.base_url == (None if model_port is None else "http://127.0.0.1:8123/v1")


def test_a_folder_with_an_odd_name_is_no_trouble(tmp_path):
    folder = tmp_path / "a: b #c 'd'"
    folder.mkdir()
    configuration = load(demonstration._write_files(folder, 0, None), {})
    assert str(configuration.settings.data_dir) == f"{folder}/data"


def test_overrides_for_a_configuration_of_the_operators_do_not_reach_it(tmp_path, monkeypatch):
    monkeypatch.setenv("AION_PROXY_SERVER__LISTEN", "0.0.0.0:1")
    monkeypatch.setenv("AION_PROXY_ADMIN_TOKEN", "kept")
    path = demonstration._write_files(tmp_path, 8765, None)
    assert load(path, os.environ).settings.server.listen == Address("127.0.0.1", 8765)
    assert os.environ["AION_PROXY_ADMIN_TOKEN"] == "kept"


def test_an_admin_port_that_is_taken_is_replaced_by_any_other(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(demonstration, "ADMIN_PORT", port)
        configuration = load(demonstration._write_files(tmp_path, 8765, None), {})
        assert configuration.settings.server.admin_listen.port == 0
    configuration = load(demonstration._write_files(tmp_path, 8765, None), {})
    assert configuration.settings.server.admin_listen.port == port


async def test_the_key_that_it_makes_is_good(embedded_url):
    key = await demonstration._make_key(embedded_url)
    assert account_of_key(key) == ACCOUNT
    async with connect_store(embedded_url) as connection:
        identity = await RedisKeys(connection).identify(ACCOUNT, digest_of_key(key))
    assert (identity.account.name, identity.account.plan, identity.account.disabled) == (ACCOUNT, None, False)
    assert identity.key.hint.endswith(key[-4:])
    assert key not in repr(identity)


class TestBanner:
    def banner(self, *, real: bool = False) -> str:
        supervisor = SimpleNamespace(api_address=Address("127.0.0.1", 8080), admin_address=Address("127.0.0.1", 9090))
        return demonstration._banner(supervisor, "sk-aion-demo-KEY", "demo/echo", "admin-TOKEN", real=real)

    def test_the_curl_line_is_whole(self):
        text = self.banner().replace("\\\n", "")
        (line,) = [line for line in text.splitlines() if "curl -N" in line]
        assert "http://127.0.0.1:8080/v1/chat/completions" in line
        assert "'Authorization: Bearer sk-aion-demo-KEY'" in line
        body = yaml.safe_load(re.search(r"-d '(\{.*\})'", line)[1])
        assert (body["model"], body["stream"], body["messages"][0]["role"]) == ("demo/echo", True, "user")

    def test_the_snippet_is_python(self):
        code = self.banner().split("or this into Python")[1]
        lines = code.splitlines()[2:]
        snippet = "\n".join(line[2:] for line in lines[: lines.index("", 1)])
        compile(snippet, "snippet", "exec")
        assert 'base_url="http://127.0.0.1:8080/v1"' in snippet
        assert 'api_key="sk-aion-demo-KEY"' in snippet

    def test_it_says_what_the_script_listens_for(self):
        assert all(word in self.banner() for word, _ in SCRIPT)
        assert not any(what in self.banner(real=True) for _, what in SCRIPT)

    def test_it_says_where_the_metrics_are(self):
        assert "http://127.0.0.1:9090/metrics" in self.banner()

    def test_the_dashboard_and_its_token_are_named(self):
        assert "The dashboard: http://127.0.0.1:9090/\nwith the token admin-TOKEN" in self.banner()


def test_without_the_model_it_says_how_to_get_it_and_starts_nothing(monkeypatch, capsys):
    monkeypatch.setattr(demonstration, "missing", lambda: "install the model first")
    monkeypatch.setattr(demonstration, "serve", lambda *_, **__: pytest.fail("nothing to serve"))
    assert demo(0, real=True) == 1
    assert "install the model first" in capsys.readouterr().err
