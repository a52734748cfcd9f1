"""A running gateway before a scripted provider, one of each for the whole run; a test that ends or breaks a gateway
starts one of its own.

Accounts are new in every test, so that limits, log and metrics of one test are never those of another.
"""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateway_process import Gateway, Key
from scripted_provider import ScriptedProvider

MAIN_KEY = "prov-key-of-main-4711"
SECOND_KEY = "prov-key-of-second-0815"
CONFIG = """\
server: {{listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0", max_body: 1MiB}}
catalog: catalog.yaml
store_timeout: 1s
failover: {{health: false, retry_burst: 1000000}}
providers:
  main: {{base_url: "{main}", api_key: "${{MAIN_PROVIDER_KEY}}"}}
  second: {{base_url: "{second}", api_key: "${{SECOND_PROVIDER_KEY}}", auth_header: api-key,
            headers: {{X-Operator: our-header}}}}
  quick: {{base_url: "{quick}", first_byte_timeout: 400ms, idle_timeout: 400ms}}
  drain: {{base_url: "{drain}", on_disconnect: drain}}
  counting: {{base_url: "{counting}", continuous_usage_stats: true}}
  down: {{base_url: "http://127.0.0.1:{closed}/v1"}}
  dialect: {{base_url: "{dialect}", max_tokens_param: max_completion_tokens, developer_role: system,
             drop_params: [top_k], extra_body: {{safe_mode: true}}, strip_fields: [vendor]}}
  native: {{base_url: "{native}", native_responses: true}}
  tagged: {{base_url: "{tagged}", reasoning_style: tags}}
  literal: {{base_url: "{literal}", reasoning_style: none}}
  silenced: {{base_url: "{silenced}", reasoning_style: prefilled,
              extra_body: {{chat_template_kwargs: {{enable_thinking: false}}}}}}
"""
ENTRY = """\
  - id: {id}
    name: A model
    description: It says what its provider says.
    date: "2025-01-02"
    context_length: 8192
    max_completion_tokens: 1024
    aliases: [{aliases}]
    pricing: {{prompt: "0.0000008", completion: "0.0000016", input_cache_read: "0.0000002"}}
    reasoning: {reasons}
    routes: [{routes}]
"""
MODELS = {
    "same": [("main", "same")],
    "test/renamed": [("main", "name-upstream")],
    "quick": [("quick", "quick")],
    "drained": [("drain", "drained")],
    "counted": [("counting", "counted")],
    "down": [("down", "down")],
    "dialect": [("dialect", "dialect")],
    "second": [("second", "second")],
    "main-then-second": [("main", "m1"), ("second", "m2")],
    "down-then-second": [("down", "m1"), ("second", "m2")],
    "quick-then-second": [("quick", "m1"), ("second", "m2")],
    "reasoner": [("main", "reasoner")],
    "tagged-reasoner": [("tagged", "tagged-reasoner")],
    "literal": [("literal", "literal")],
    "silenced": [("silenced", "silenced")],
    "native": [("native", "native-upstream")],
    "native-or-chat": [("native", "n1"), ("main", "m1")],
    "chat-or-native": [("main", "m1"), ("native", "n1")],
}
ALIASES = {"test/renamed": "renamed"}
REASONERS = {"reasoner", "tagged-reasoner", "literal", "silenced"}


def catalog_entry(name: str, routes: list[tuple[str, str]]) -> str:
    weighted = [
        f"{{provider: {provider}, model: {model}, weight: {0 if number else 1}}}"
        for number, (provider, model) in enumerate(routes)
    ]
    reasons = "true" if name in REASONERS else "false"
    return ENTRY.format(id=name, routes=", ".join(weighted), aliases=ALIASES.get(name, ""), reasons=reasons)


CATALOG = "models:\n" + "".join(catalog_entry(name, routes) for name, routes in MODELS.items())


@pytest.fixture(scope="session")
def all_providers() -> Iterator[ScriptedProvider]:
    provider = ScriptedProvider()
    yield provider
    provider.close()


@pytest.fixture
def provider(all_providers: ScriptedProvider) -> Iterator[ScriptedProvider]:
    """The providers, which have forgotten every other test."""
    yield all_providers
    all_providers.reset()


@pytest.fixture(scope="session")
def make_gateway(
    all_providers: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Gateway]]:
    """Make the files of a gateway, without starting it; whatever of it still runs in the end is stopped."""
    made: list[Gateway] = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and never listened on: connecting to it is refused

        def make(folder: Path | None = None, more: str = "") -> Gateway:
            names = (
                *("main", "second", "quick", "drain", "counting", "dialect", "native", "tagged", "literal", "silenced"),
            )
            urls = {name: all_providers.url(name) for name in names}
            config = CONFIG.format(closed=closed.getsockname()[1], **urls) + more
            keys = {"MAIN_PROVIDER_KEY": MAIN_KEY, "SECOND_PROVIDER_KEY": SECOND_KEY}
            gateway = Gateway(folder or tmp_path_factory.mktemp("gateway"), config, CATALOG, keys)
            made.append(gateway)
            return gateway

        yield make
        for gateway in made:
            if gateway.process is not None:
                gateway.stop()
        all_providers.reset()
        hidden = (MAIN_KEY, SECOND_KEY, *all_providers.told)
        leaks = [leak for gateway in made for leak in gateway.leaks(*hidden)]
        assert not leaks, leaks


@pytest.fixture(scope="session")
def shared_gateway(make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    gateway = make_gateway()
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, f"the gateway did not stop in order:\n{gateway.log.read_text()[-4000:]}"
    bugs = [line for line in gateway.lines() if line["event"] == "bug"]
    assert not bugs, bugs
    assert "Traceback" not in gateway.log.read_text(), gateway.log.read_text()[-8000:]


@pytest.fixture
def gateway(shared_gateway: Gateway, provider: ScriptedProvider) -> Gateway:
    """The running gateway, before providers that this test scripts."""
    return shared_gateway


@pytest.fixture
def key(gateway: Gateway) -> Key:
    """A key without limits, of an account of this test's own."""
    return gateway.new_key()
