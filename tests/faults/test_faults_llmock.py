"""What another program thinks of us: llmock plays a provider that fails, sees every attempt, and gives its verdict on
how it was treated.

It knows its callers by their requests alone, so the application that it judges is this gateway together with the
client library before it.
"""

import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from gateway_process import Gateway, Key, eventually
from provider_rows import ENTRY, gateway_file

FIRST, OTHER = "{provider: one, model: gpt-4o}", "{provider: two, model: gpt-4o-mini, weight: 0}"
MODELS = {"one": (FIRST,), "two": (FIRST, OTHER), "twins": (FIRST, OTHER.replace("-mini", ""))}
"""One call is one body for llmock: it sees that a stream was tried elsewhere only if both routes have the same name,
and that a pause concerns one of two providers only if they differ.
"""
SETTINGS = "api_key: mock, first_byte_timeout: 2s, idle_timeout: 1s"


class Mock:
    """A running llmock."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def call(self, path: str, data: object = None) -> dict[str, object]:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}/_llmock/{path}", body, {"Content-Type": "application/json"})  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return json.load(answer)

    def is_up(self) -> bool:
        try:
            return bool(self.call("verdict"))
        except OSError:
            return False


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    beside = Path(sys.executable).with_name("llmock")
    program = str(beside) if beside.exists() else shutil.which("llmock")
    if program is None:
        pytest.skip("llmock is not in this environment; `python3 run.py test` installs it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [program, "serve", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        mock = Mock(port)
        try:
            assert eventually(mock.is_up), "llmock does not start"
            yield mock
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def gateway(mock: Mock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    providers = "".join(f'  {name}: {{base_url: "{mock.url}/v1", {SETTINGS}}}\n' for name in ("one", "two"))
    catalog = "models:\n" + "".join(
        ENTRY.format(model=model, routes=", ".join(routes)) for model, routes in MODELS.items()
    )
    gateway = Gateway(tmp_path_factory.mktemp("llmock"), gateway_file(providers), catalog)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> Key:
    return gateway.new_key()


def fault(what: str, **more: object) -> dict[str, object]:
    return {"type": what, **more}


FAULTS = {
    "429 twice, with Retry-After": fault("fail", status=429, retry_after=1, times=2),
    "429 with half a second": fault("fail", status=429, retry_after=0.5),
    "500 twice": fault("fail", status=500, times=2),
    "400": fault("fail", status=400),
    "401": fault("fail", status=401),
    "an outage": fault("fail", status=503, times=None),
    "a stream that is cut": fault("stream_fault", kind="disconnect", after_chunks=3),
    "a stream that ends too early": fault("stream_fault", kind="truncate", after_chunks=3),
    "a stream that ends before its first word": fault("stream_fault", kind="truncate", after_chunks=0),
    "a chunk that is no JSON": fault("stream_fault", kind="malformed", after_chunks=3),
    "a stream that stalls": fault("stream_fault", kind="stall", stall_seconds=5, after_chunks=3),
}


@pytest.mark.parametrize("routes", [1, 2], ids=["one route", "two routes"])
@pytest.mark.parametrize("behavior", FAULTS.values(), ids=FAULTS)
def test_the_verdict_has_no_error(mock, gateway, key, behavior, routes, request):
    """The application tries a stream again that told it of an error, and nothing else; the library does as it does."""
    mock.call("reset", {})
    mock.call("scenario", {"behaviors": [behavior]})
    stream = behavior["type"] == "stream_fault"
    model = "one" if routes == 1 else "twins" if stream else "two"
    ask = [{"role": "user", "content": request.node.name}]
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.api}/v1", api_key=key.secret) as client:
        for _ in range(2 if stream else 1):
            try:
                answer = client.chat.completions.create(model=model, messages=ask, stream=stream)
                if stream:
                    for _chunk in answer:
                        pass
                break
            except openai.OpenAIError:
                continue
    verdict = mock.call("verdict")
    errors = [finding for finding in verdict["findings"] if finding["severity"] == "error"]
    assert not errors
    assert verdict["calls"]
