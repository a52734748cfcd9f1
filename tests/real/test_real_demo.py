"""`aion-proxy demo --real` as a person runs it: the printed key gets a real answer, Ctrl-C leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import openai
import pytest
from stack import PATIENCE, ROOT, eventually, free_ports


def living():
    """Every process that has not ended, with the process that started it."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def family(pid):
    """A living process and all that it started, and what those started."""
    parents = living()
    found = {pid} & parents.keys()
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@pytest.fixture
def demo(tmp_path):
    """The demo in a session of its own, as in a terminal; gives its port, its process and all that it wrote."""
    (port,) = free_ports(1)
    log = tmp_path / "log"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "proxy", "demo", "--port", str(port), "--real"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments, cwd=tmp_path, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield port, process, log
    finally:
        for member in family(process.pid):
            with suppress(ProcessLookupError):  # it went together with its parent
                os.kill(member, signal.SIGKILL)
        process.wait()


def printed_key(process, log):
    """The key in what the demo printed, once it stands there."""
    keys = []

    def printed():
        assert process.poll() is None, log.read_text()
        keys.extend(re.findall(r"sk-aion-[a-z0-9_]+-[0-9A-Za-z]{38}", log.read_text()))
        return keys

    assert eventually(printed), log.read_text()
    return keys[0]


def test_the_printed_key_gets_a_real_answer_and_ctrl_c_leaves_nothing_behind(demo):
    port, process, log = demo
    key = printed_key(process, log)
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, timeout=PATIENCE) as client:
        (model,) = [offered.id for offered in client.models.list() if "smollm2" in offered.id]
        messages = [{"role": "user", "content": "Count to five."}]
        chunks = list(client.chat.completions.create(model=model, messages=messages, max_tokens=20, stream=True))
    started = family(process.pid)
    assert len(started) >= 4  # the supervisor, its worker, the store, the model
    assert any(chunk.choices[0].delta.content for chunk in chunks)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(PATIENCE) == 0, log.read_text()
    assert eventually(lambda: not started & living().keys(), within=5.0)
    assert "Traceback" not in log.read_text()
