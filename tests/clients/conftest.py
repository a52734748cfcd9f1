"""A gateway before one model in the forms of several servers, for client libraries that know nothing of it.

One gateway, one provider and one key serve the whole run: what is metered and limited is tested elsewhere.
"""

from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from chat_forms import Form, speaking
from gateway_process import Gateway
from native_form import speaking_natively
from scripted_provider import PATIENCE, ScriptedProvider

PROVIDERS = """\
server: {{listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0", stop_delay: 0s}}
providers:
  plain: {{base_url: "{plain}"}}
  vllm: {{base_url: "{vllm}", reasoning_style: field}}
  sglang: {{base_url: "{sglang}"}}
  openrouter: {{base_url: "{openrouter}", strip_fields: [provider]}}
  tags: {{base_url: "{tags}", reasoning_style: tags}}
  prefilled: {{base_url: "{prefilled}", reasoning_style: prefilled}}
  native: {{base_url: "{native}", native_responses: true}}
"""
MODEL = """\
  - id: {id}
    name: A model
    date: "2025-01-02"
    context_length: 8192
    max_completion_tokens: 1024
    reasoning: {reasons}
    pricing: {{prompt: "0.0000008", completion: "0.0000016"}}
    routes: [{{provider: {provider}, model: {upstream}}}]
"""
SAME_NAME = ("plain", "vllm")  # as the provider calls them, so that their streams can be handed through unread
RENAMED = ("sglang", "openrouter", "tags", "prefilled", "native")
CATALOG = "models:\n" + "".join(
    MODEL.format(id=model, provider=provider, upstream=upstream, reasons=str(provider != "plain").lower())
    for model, provider, upstream in [
        *((name, name, name) for name in SAME_NAME),
        *((f"lab/{name}", name, f"{name}-upstream") for name in RENAMED),
    ]
)
THINKERS = ["vllm", "lab/sglang", "lab/openrouter", "lab/tags", "lab/prefilled"]
MODELS = {"chat": ["plain", *THINKERS], "responses": ["plain", *THINKERS, "lab/native"]}


@pytest.fixture(params=THINKERS)
def thinker(request: pytest.FixtureRequest) -> str:
    """A model that reasons, in each form of telling it."""
    return str(request.param)


@pytest.fixture(params=MODELS["chat"])
def model(request: pytest.FixtureRequest) -> str:
    """A model behind chat completions."""
    return str(request.param)


@pytest.fixture(params=MODELS["responses"])
def any_model(request: pytest.FixtureRequest) -> str:
    """A model for the Responses API, the one that is passed on to a provider which speaks it included."""
    return str(request.param)


@pytest.fixture(
    params=[
        *("chat plain", "chat vllm", "chat lab/sglang", "chat lab/tags"),
        *("responses plain", "responses vllm", "responses lab/tags", "responses lab/native"),
    ]
)
def over(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An endpoint, and a model that is asked over it; for libraries that hide which it is."""
    endpoint, _, model = request.param.partition(" ")
    return endpoint, model


@pytest.fixture(scope="session")
def all_providers() -> Iterator[ScriptedProvider]:
    provider = ScriptedProvider()
    yield provider
    provider.close()


@pytest.fixture(scope="session")
def gateway(all_providers: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = PROVIDERS.format(**{name: all_providers.url(name) for name in (*SAME_NAME, *RENAMED)})
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), config, CATALOG)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, f"the gateway did not stop in order:\n{gateway.log.read_text()[-4000:]}"
    assert not [line for line in gateway.lines() if line["event"] == "bug"]
    assert "Traceback" not in gateway.log.read_text(), gateway.log.read_text()[-8000:]


@pytest.fixture(autouse=True)
def provider(all_providers: ScriptedProvider) -> Iterator[ScriptedProvider]:
    """The provider, which speaks in every form and has forgotten every other test."""
    for form in Form:
        all_providers.on(form.value, speaking(form))
    all_providers.on("native", speaking_natively())
    yield all_providers
    all_providers.reset()


@pytest.fixture(scope="session")
def url(gateway: Gateway) -> str:
    """What a library is given as its base URL."""
    return f"http://127.0.0.1:{gateway.api}/v1"


@pytest.fixture(scope="session")
def models() -> dict[str, list[str]]:
    """The models by the endpoint that they are asked over."""
    return MODELS


@pytest.fixture(scope="session")
def secret(gateway: Gateway) -> str:
    """What a library is given as its key."""
    return gateway.new_key().secret


@pytest.fixture
async def async_client(url: str, secret: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """The asynchronous `openai` library, on which others stand; without certificates, which take longer than a test."""
    http = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=url, api_key=secret, timeout=PATIENCE, max_retries=0, http_client=http
    ) as client:
        yield client


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_told_to_strangers() -> Iterator[None]:
    """Libraries that report their runs to a service are told not to, and none is led around the gateway."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGSMITH_TRACING", "false")
        patch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        yield
