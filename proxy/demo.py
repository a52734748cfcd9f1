"""`aion-proxy demo`: the whole gateway on this machine alone, with an account and a key made on the spot, ready to
paste.

Everything it makes lies in a temporary folder and goes with it. With `--real` a small real model answers instead of
the script.
"""

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import orjson

from proxy.accounts import Account, ApiKey, digest_of_key, hint_of_key, mint_key
from proxy.app import serve
from proxy.configuration import PREFIX, RESERVED
from proxy.dashboard.token_file import VARIABLE, admin_token
from proxy.demo_script import SCRIPT
from proxy.errors import StoreUnavailable
from proxy.listening import CannotStart
from proxy.real_provider import ModelServerError, missing, wait_ready
from proxy.real_provider import command as real_command
from proxy.stores.keys import RedisKeys
from proxy.stores.opening import connect_store
from proxy.supervisor import Supervisor

ACCOUNT: Final = "demo"
ADMIN_PORT: Final = 9090
_GATEWAY: Final = """\
server: {{listen: "127.0.0.1:{port}", admin_listen: "127.0.0.1:{admin_port}", stop_delay: 0s, stop_grace: 2s}}
data_dir: {data_dir}
providers:
  {provider}
plans:
  demo:
    requests_per_minute: 600
    tokens_per_minute: 200000
    concurrent_requests: 32
    budget: {{usd: "5.00", per: day}}
default_plan: demo
"""
_MODEL: Final = """\
  - id: {model}
    name: {name}
    description: {description}
    date: "2026-11-23"
    reasoning: {reasoning}
    context_length: {context}
    max_completion_tokens: {context}
    pricing: {{prompt: "0.0000008", completion: "0.0000016", input_cache_read: "0.0000002"}}
    routes: [{{provider: demo, model: {model}}}]
"""
_DEMO_MODEL: Final = "demo/echo"
_DEMO_THINKER: Final = "demo/thinker"
_REAL_MODEL: Final = "smollm2-135m"


def demo(port: int, real: bool) -> int:  # noqa: FBT001 - the two words of the command
    """Run the demonstration until Ctrl-C; returns the exit code."""
    if real and (problem := missing()) is not None:
        print(f"aion-proxy: {problem}", file=sys.stderr)
        return 1
    with TemporaryDirectory(prefix="aion-proxy-demo-") as folder:
        model = _start_model() if real else None
        try:
            config = _write_files(Path(folder), port, None if model is None else model[1])
            shown = _REAL_MODEL if real else _DEMO_MODEL

            async def ready(supervisor: Supervisor) -> None:
                try:
                    if model is not None:
                        await wait_ready(model[1], 60.0)
                    key = await _make_key(supervisor.store_url)
                except (ModelServerError, StoreUnavailable) as error:
                    raise CannotStart(str(error)) from None
                print(_banner(supervisor, key, shown, _admin_token(supervisor), real=real), flush=True)

            return serve(config, 1, ready, in_terminal=True)
        finally:
            if model is not None:
                model[0].terminate()
                model[0].wait()


def _start_model() -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print("Starting the model (SmolLM2-135M on this machine's processor)…", file=sys.stderr)
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(real_command(port), stdout=quiet, stderr=quiet, start_new_session=True)  # noqa: S603 - ours
    return process, port


def _model(model: str, name: str, description: str, context: int, *, reasoning: bool = False) -> str:
    """One model of the catalog; YAML reads JSON's texts and words."""
    texts = {"name": orjson.dumps(name).decode(), "description": orjson.dumps(description).decode()}
    return _MODEL.format(model=model, context=context, reasoning=orjson.dumps(reasoning).decode(), **texts)


def _write_files(folder: Path, port: int, model_port: int | None) -> Path:
    provider = (
        "demo: {builtin: demo}" if model_port is None else f'demo: {{base_url: "http://127.0.0.1:{model_port}/v1"}}'
    )
    data_dir = orjson.dumps(str(folder / "data")).decode()  # quoted: a folder may have any name
    gateway = _GATEWAY.format(port=port, admin_port=_free_or_any(ADMIN_PORT), data_dir=data_dir, provider=provider)
    if model_port is None:
        models = [
            _model(_DEMO_MODEL, "Demo: Echo", "The scripted demo provider.", 131072),
            _model(_DEMO_THINKER, "Demo: Thinker", "The same as a reasoning model.", 131072, reasoning=True),
        ]
    else:
        models = [_model(_REAL_MODEL, "SmolLM2 135M", "A small real model.", 1024)]
    (folder / "catalog.yaml").write_text("models:\n" + "".join(models))
    config = folder / "gateway.yaml"
    config.write_text(gateway)
    for name in [name for name in os.environ if name.startswith(PREFIX) and name not in RESERVED]:
        del os.environ[name]  # overrides are meant for a configuration of the operator's
    return config


def _free_or_any(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


async def _make_key(store_url: str) -> str:
    now_ms = time.time_ns() // 1_000_000
    key = mint_key(ACCOUNT, secrets.token_bytes(32))
    async with connect_store(store_url) as connection:
        keys = RedisKeys(connection)
        await keys.create_account(Account(ACCOUNT, None, disabled=False, version=1, created_ms=now_ms))
        record = ApiKey(f"key_{secrets.token_hex(8)}", ACCOUNT, "demo", hint_of_key(key, ACCOUNT), now_ms)
        await keys.create_key(record, digest_of_key(key))
    return key


def _banner(supervisor: Supervisor, key: str, model: str, token: str, *, real: bool) -> str:
    base = f"http://{supervisor.api_address}"
    words = (
        ""
        if real
        else "\nWhat the demo provider does depends on what you say:\n"
        + "\n".join(f"  {word:<22} {what}" for word, what in SCRIPT)
    )
    thinker = (
        ""
        if real
        else f"""
{_DEMO_THINKER} is the same as a reasoning model: say `think`, and its reasoning comes apart from its answer.
"""
    )
    return f"""
The gateway runs. Paste this into another terminal:

  curl -N {base}/v1/chat/completions \\
    -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

or this into Python, after `pip install openai`:

  from openai import OpenAI
  client = OpenAI(base_url="{base}/v1", api_key="{key}")
  for chunk in client.chat.completions.create(
      model="{model}", stream=True, messages=[{{"role": "user", "content": "Hello!"}}]
  ):
      print(chunk.choices[0].delta.content or "", end="", flush=True)
{words}
{thinker}
The dashboard: http://{supervisor.admin_address}/
with the token {token}

Tokens and cost: curl -s http://{supervisor.admin_address}/metrics | grep aion_
Ctrl-C ends it."""


def _admin_token(supervisor: Supervisor) -> str:
    """Return the token that the gateway goes by: of the environment, or made when it started."""
    return admin_token(os.environ.get(VARIABLE), supervisor.configuration.settings.data_dir, secrets.token_bytes)
