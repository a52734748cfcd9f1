"""A LiteLLM configuration, imported by the command and served: names, keys and prices are where they belong."""

import json
import subprocess
import sys
from pathlib import Path

from gateway_process import Gateway
from provider_scripts import usage, whole
from scripted_provider import ScriptedProvider

CONFIG = """
model_list:
  - model_name: chat-small
    litellm_params:
      model: openai/upstream-small
      api_base: {url}
      api_key: os.environ/SMALL_KEY
      input_cost_per_token: 8e-07
      output_cost_per_token: 0.0000016
      cache_read_input_token_cost: 2.0e-7
router_settings:
  model_group_alias: {{small: chat-small}}
"""


KEY = "sk-imported-key"


def test_an_imported_configuration_is_served(provider: ScriptedProvider, tmp_path: Path) -> None:
    source, out = tmp_path / "config.yaml", tmp_path / "out"
    source.write_text(CONFIG.format(url=provider.url("main")))
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "import", "litellm", str(source), "--out", str(out), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["variables"] == ["SMALL_KEY"]
    files = [(out / name).read_text() for name in ("gateway.yaml", "catalog.yaml")]
    ports = 'server: {listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0"}\n'
    (tmp_path / "run").mkdir()
    gateway = Gateway(tmp_path / "run", files[0] + ports, files[1], {"SMALL_KEY": KEY})
    provider.on("main", whole(told=usage(1_200, 300, 1_000)))
    gateway.start()
    try:
        answer = gateway.new_key().ask("small", "Hi.")
        line = gateway.request_line(answer.request_id)
    finally:
        gateway.stop()
    assert (answer.status, line["model"]) == (200, "chat-small")
    seen = provider.only()
    assert seen.json["model"] == "upstream-small"
    assert ("authorization", f"Bearer {KEY}") in seen.headers
    assert line["cost_usd"] == "0.00084"
