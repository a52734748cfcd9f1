"""The model server as a process: it answers, it ends at once when told, and it never outlives who started it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from stack import PATIENCE, ROOT, ModelServer, eventually, free_ports, running

from proxy.real_provider import MODEL, SLOTS, command, wait_ready

ENDLESS = {"max_tokens": 900, "extra_body": {"ignore_eos": True}}


def direct(port):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


def asking(prompt):
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}


def state(pid):
    """The state letter of a process, or None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None


def test_it_offers_the_model_under_its_name_and_answers(model: ModelServer):
    with direct(model.port) as client:
        assert [offered.id for offered in client.models.list()] == [MODEL]
        answer = client.chat.completions.create(**asking("Say something."), max_tokens=20)
    assert answer.choices[0].message.content


def test_it_has_its_slots(model: ModelServer):
    with direct(model.port) as client:
        streams = [client.chat.completions.create(**asking("Count."), **ENDLESS, stream=True) for _ in range(SLOTS)]
        for stream in streams:
            next(iter(stream))
        assert eventually(lambda: model.busy_slots() == SLOTS)
        for stream in streams:
            stream.close()
    assert eventually(lambda: model.busy_slots() == 0)


def test_its_counters_agree_with_the_usage_it_reports(idle_model: ModelServer):
    before = idle_model.counted()
    with direct(idle_model.port) as client:
        usage = client.chat.completions.create(**asking("Name three colours."), max_tokens=20).usage
    after = idle_model.counted()
    assert after["prompt"] - before["prompt"] == usage.prompt_tokens
    assert after["completion"] - before["completion"] == usage.completion_tokens


@pytest.fixture
def server_of_its_own(tmp_path):
    (port,) = free_ports(1)
    with running(command(port), tmp_path / "log") as process:
        asyncio.run(wait_ready(port, PATIENCE))
        yield port, process


def test_sigterm_ends_it_at_once_even_while_it_talks(server_of_its_own):
    port, process = server_of_its_own
    with direct(port) as client:
        stream = client.chat.completions.create(**asking("Tell a story."), **ENDLESS, stream=True)
        next(iter(stream))
        process.terminate()
        assert process.wait(10) == 0
        with pytest.raises(openai.APIConnectionError):
            client.models.list()


def test_ctrl_c_is_left_to_the_gateway_that_started_it(server_of_its_own):
    port, process = server_of_its_own
    process.send_signal(signal.SIGINT)
    with direct(port) as client:
        assert client.models.list().data
    assert process.poll() is None


def test_it_ends_when_the_process_that_started_it_is_killed(tmp_path):
    (port,) = free_ports(1)
    parent = (
        "import subprocess, sys, time; from proxy.real_provider import command\n"
        f"print(subprocess.Popen(command({port})).pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        asyncio.run(wait_ready(port, PATIENCE))
        assert state(child) is not None
        process.kill()
    assert eventually(lambda: state(child) in (None, "Z"), 10), os.kill(child, signal.SIGKILL)


def test_a_port_that_is_taken_is_said_in_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(command(port), cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert f"The model server did not start: choose another port if {port} is taken" in done.stderr.decode()
    assert b"Traceback" not in done.stderr
