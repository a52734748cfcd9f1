"""A real model server and a real gateway before it, on free ports; run by `python3 run.py test-real`.

Both are processes of their own for the whole run. Each test has an account of its own, so that what the gateway metered
for that account is what that test used.
"""

import asyncio
import sys
from collections.abc import Iterator
from itertools import count

import msgspec
import pytest
from stack import PATIENCE, PRICES, RENAMED, Account, Gateway, ModelServer, eventually, free_ports, get, running

from proxy.real_provider import MODEL, command, missing, wait_ready

GATEWAY = """\
server: {{listen: "127.0.0.1:{api}", admin_listen: "127.0.0.1:{admin}", stop_delay: 0s}}
store: embedded
ledger: embedded
data_dir: {data}
catalog: catalog.yaml
providers:
  real: {{base_url: "http://127.0.0.1:{model}/v1"}}
plans:
  ample:
    requests_per_minute: 100000
    tokens_per_minute: 100000000
    concurrent_requests: 64
    budget: {{usd: "1000", per: month}}
default_plan: ample
"""

CATALOG_ENTRY = """\
  - id: {id}
    name: SmolLM2 135M
    description: A small model on this machine's CPU.
    date: "2024-11-01"
    context_length: 1024
    max_completion_tokens: 1024
    is_moderated: false
    architecture: {{modality: "text->text"}}
    pricing: {prices}
    routes: [{{provider: real, model: {model}}}]
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """The model server, ready."""
    assert missing() is None, missing()
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("model") / "log"
    with running(command(port), log):
        asyncio.run(wait_ready(port, PATIENCE))
        yield ModelServer(port)


@pytest.fixture(scope="session")
def gateway(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway before it, ready to serve."""
    folder = tmp_path_factory.mktemp("gateway")
    api, admin = free_ports(2)
    config = folder / "gateway.yaml"
    config.write_text(GATEWAY.format(api=api, admin=admin, data=folder / "data", model=model.port))
    prices = msgspec.json.encode(PRICES).decode()
    entries = [CATALOG_ENTRY.format(id=name, prices=prices, model=MODEL) for name in (MODEL, RENAMED)]
    (folder / "catalog.yaml").write_text("models:\n" + "".join(entries))
    log = folder / "log"
    with running([sys.executable, "-m", "proxy", "serve", "--config", str(config)], log) as process:

        def ready() -> bool:
            assert process.poll() is None, f"the gateway ended:\n{log.read_text()}"
            try:
                get(admin, "/readyz")
            except (OSError, AssertionError):
                return False
            return True

        assert eventually(ready), f"the gateway was never ready:\n{log.read_text()}"
        yield Gateway(api, admin, config, (f"real_{number}" for number in count(1)))
    assert process.returncode == 0, f"the gateway did not stop in order:\n{log.read_text()}"


@pytest.fixture
def idle_model(model: ModelServer) -> Iterator[ModelServer]:
    """The model server with no request in work, before the test and after it."""
    assert eventually(lambda: model.busy_slots() == 0)
    yield model
    assert eventually(lambda: model.busy_slots() == 0)


@pytest.fixture
def account(gateway: Gateway) -> Account:
    """An account of this test's own."""
    return gateway.new_account()
