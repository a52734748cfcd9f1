"""A configuration that changes while the gateway runs: put in force whole or not at all, and no open stream minds."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from gateway_process import Gateway, eventually
from held_stream import Held, begin
from provider_scripts import whole
from raw_client import request_bytes

from conftest import catalog_entry


@pytest.fixture(scope="module")
def changing(make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    gateway = make_gateway()
    gateway.start()
    yield gateway
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.log.read_text(), gateway.log.read_text()[-4000:]


@pytest.fixture
def own(changing: Gateway, provider) -> Iterator[Gateway]:
    """A gateway whose files this test may change; they are put back, and in force again, afterwards."""
    config, catalog, listed = changing.config.read_text(), changing.catalog.read_text(), models(changing)
    yield changing
    changing.config.write_text(config)
    changing.catalog.write_text(catalog)
    begin = changing.log.stat().st_size
    changing.signal(signal.SIGHUP)
    changing.wait_logged("configuration reloaded", after=begin)
    assert eventually(lambda: models(changing) == listed)


def models(gateway: Gateway) -> list[str]:
    with gateway.client() as client:
        return [model["id"] for model in client.ask(request_bytes("GET", "/v1/models")).json["data"]]


def test_a_changed_file_and_a_signal_put_new_models_in_force(own, provider):
    key = own.new_key()
    catalog = own.catalog.read_text()
    assert "new" not in models(own)
    own.catalog.write_text(catalog + catalog_entry("new", [("main", "brand-new")]))
    assert eventually(lambda: "new" in models(own))
    provider.on("main", whole(model="brand-new"))
    assert key.ask("new").json["model"] == "new"
    own.catalog.write_text(catalog + catalog_entry("newer", [("main", "x")]))
    own.signal(signal.SIGHUP)
    assert eventually(lambda: "newer" in models(own))
    assert "new" not in models(own)
    assert own.metric("aion_config_reload_success") == 1


def test_a_file_with_a_mistake_changes_nothing_and_log_and_metric_say_so(own, provider):
    key = own.new_key()
    provider.on("main", whole())
    catalog = own.catalog.read_text()
    listed = models(own)
    own.catalog.write_text(catalog + "  - id: broken\n    nonsense: 1\n")
    own.signal(signal.SIGHUP)
    line = own.wait_logged("configuration not reloaded: the old one stays in force")
    assert any("catalog.yaml" in mistake and "nonsense" in mistake for mistake in line["mistakes"])
    assert own.metric("aion_config_reload_success") == 0
    assert models(own) == listed
    assert key.ask().status == 200
    own.catalog.write_text(catalog)
    assert eventually(lambda: own.metric("aion_config_reload_success") == 1)


def test_a_worker_that_dies_while_the_files_have_a_mistake_is_replaced_by_one_that_serves(own, provider):
    key = own.new_key()
    provider.on("main", whole())
    catalog = own.catalog.read_text()
    begin = own.log.stat().st_size
    own.catalog.write_text(catalog + "  - id: broken\n    nonsense: 1\n")
    own.wait_logged("configuration not reloaded: the old one stays in force", after=begin)
    for worker in own.workers():
        os.kill(worker, signal.SIGKILL)
    own.wait_logged("a worker died and is replaced", after=begin)
    assert eventually(own.ready)
    assert key.ask().status == 200


def test_an_open_stream_survives_a_reload_that_takes_its_model_and_provider_away(own, provider):
    key, script = own.new_key(), Held()
    provider.on("main", script)
    with own.client() as client:
        begin(client, key)
        own.catalog.write_text("models:\n" + catalog_entry("only", [("second", "x")]))
        own.config.write_text(own.config.read_text().replace("main: {", "renamed: {"))
        assert eventually(lambda: models(own) == ["only"])
        script.go.set()
        assert b" more." in client.stream_rest()
    assert own.only_line_of(key)["completion_tokens"] == 3
    assert key.ask().error["code"] == "model_not_found"


def test_a_changed_plan_holds_from_the_next_request(own, provider):
    key = own.new_key()
    provider.on("main", whole())
    assert key.ask().header("x-ratelimit-limit-requests") is None
    own.config.write_text(own.config.read_text() + "plans: {small: {requests_per_minute: 1}}\ndefault_plan: small\n")
    own.signal(signal.SIGHUP)
    assert eventually(lambda: key.ask(temperature="x") and key.ask().header("x-ratelimit-limit-requests") == "1")
    assert key.ask().error["code"] == "rate_limit_exceeded"


def test_the_demo_provider_can_be_added_while_it_runs_and_is_reached_like_any_other(own, provider):
    key = own.new_key()
    own.config.write_text(own.config.read_text().replace("providers:\n", "providers:\n  demo: {builtin: demo}\n"))
    own.catalog.write_text(own.catalog.read_text() + catalog_entry("demo", [("demo", "demo")]))
    assert eventually(lambda: "demo" in models(own))
    answer = key.ask("demo", content="Say hello.", stream=True)
    assert answer.text
    line = own.request_line(answer.request_id)
    assert (line["provider"], line["usage_source"]) == ("demo", "upstream")
