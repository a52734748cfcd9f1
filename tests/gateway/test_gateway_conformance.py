"""The gateway is the first endpoint that its own conformance command is run against: as a process, before the demo
provider.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from gateway_process import ROOT, Gateway, Key
from scripted_provider import PATIENCE

CONFIG = """
server: {listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0"}
providers:
  demo: {builtin: demo}
"""
CATALOG = """
models:
  - id: demo/echo
    name: Echo
    date: "2026-01-31"
    context_length: 8192
    max_completion_tokens: 1024
    pricing: {prompt: "0.0000008", completion: "0.0000016", input_cache_read: "0.0000002"}
    routes: [{provider: demo, model: demo/echo}]
  - id: demo/thinker
    name: Thinker
    date: "2026-01-31"
    context_length: 8192
    max_completion_tokens: 1024
    pricing: {prompt: "0.0000008", completion: "0.0000016"}
    reasoning: true
    routes: [{provider: demo, model: thinker}]
"""


@pytest.fixture(scope="module")
def demo_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("conformance"), CONFIG, CATALOG)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0


def conformance(gateway: Gateway, key: Key, *words: str) -> dict:
    """The document of one run of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "conformance", "--base-url", f"http://127.0.0.1:{gateway.api}/v1", "--json",
         *words],
        cwd=ROOT,
        env={**os.environ, "AION_PROXY_API_KEY": key.secret},
        capture_output=True,
        timeout=2 * PATIENCE,
        check=False,
    )  # fmt: skip
    assert key.secret.encode() not in done.stdout + done.stderr
    assert done.returncode in {0, 1}, done.stderr.decode()
    document = json.loads(done.stdout)
    assert done.returncode == (1 if document["failed"] else 0)
    return document


@pytest.mark.parametrize(("model", "skipped"), [("demo/echo", ["F6.5"]), ("demo/thinker", [])])
def test_the_gateway_passes_its_own_conformance_command(demo_gateway: Gateway, model: str, skipped: list[str]) -> None:
    """A model that is not marked as reasoning shows no reasoning item of its own accord."""
    key = demo_gateway.new_key(requests_per_minute=10_000, tokens_per_minute=10_000_000)
    document = conformance(demo_gateway, key, "--model", model)
    assert [one for one in document["checks"] if one["result"] == "fail"] == []
    assert [one["clause"] for one in document["checks"] if one["result"] == "skip"] == skipped
    assert document["passed"] > 90


def test_a_key_without_limits_skips_what_is_said_of_limits(demo_gateway: Gateway) -> None:
    document = conformance(demo_gateway, demo_gateway.new_key(), "--only", "A5.4")
    assert [one["result"] for one in document["checks"]] == ["skip"]
