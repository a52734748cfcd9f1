"""What the supervisor says of its workers, and what it does with files that change, without any process."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from proxy import listening
from proxy import supervisor as module
from proxy.control import Reload, State, Stop, read_to_worker
from proxy.listening import CannotStart
from proxy.mistakes import ConfigurationError
from proxy.quantities import Address
from proxy.supervisor import Supervisor
from proxy.worker_process import SILENT_SECONDS, WorkerProcess
from specimens import CATALOG_FILE as CATALOG
from specimens import GATEWAY_FILE as GATEWAY
from specimens import NotingLogger
from waiting import until


class Commands:
    """The writing end of a worker's control channel."""

    def __init__(self) -> None:
        self.orders: list[object] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, line: bytes) -> None:
        assert not self.closing
        self.orders.append(read_to_worker(line))


class Bench:
    def __init__(self, folder) -> None:
        self.gateway = folder / "gateway.yaml"
        self.catalog = folder / "catalog.yaml"
        self.gateway.write_text(GATEWAY)
        self.catalog.write_text(CATALOG)
        self.logger = NotingLogger()
        self.supervisor = Supervisor(self.gateway, None, self.logger)
        self.supervisor._copies = folder

    def add(self, slot: int, *reasons: str) -> Commands:
        commands = Commands()
        now = asyncio.get_running_loop().time()
        worker = WorkerProcess(slot, None, commands, now)
        worker.heard(State(ready=not reasons, reasons=list(reasons)), now)
        self.supervisor._workers[slot] = worker
        return commands

    def in_force(self) -> tuple[str, str]:
        """The files that a worker would start with now."""
        files = self.supervisor._files
        return Path(files.gateway).read_text(), Path(files.catalog).read_text()

    def reload_success(self) -> float | None:
        return self.supervisor._own.registry.get_sample_value("aion_config_reload_success")


@pytest.fixture
async def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


class TestReadiness:
    async def test_one_worker_that_is_ready_will_do(self, bench):
        bench.add(0, "the store is away")
        bench.add(1)
        assert bench.supervisor.readiness() == (True, [])

    async def test_the_reasons_of_all_are_told_each_once(self, bench):
        bench.add(0, "the store is away", "it is cold")
        bench.add(1, "the store is away")
        assert bench.supervisor.readiness() == (False, ["the store is away", "it is cold"])

    async def test_what_is_wrong_with_those_that_serve_all_the_same_is_told(self, bench):
        for slot in range(2):
            bench.add(slot)
            bench.supervisor._workers[slot].state = State(ready=True, reasons=["the store is away"])
        bench.add(2, "the worker is starting")
        assert bench.supervisor.readiness() == (True, ["the store is away"])

    async def test_without_a_worker_that_is_the_reason(self, bench):
        assert bench.supervisor.readiness() == (False, ["no worker is running"])

    async def test_a_worker_that_has_been_silent_serves_nobody(self, bench, monkeypatch):
        bench.add(0)
        now = asyncio.get_running_loop().time()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now + SILENT_SECONDS + 1)
        assert bench.supervisor.readiness() == (False, ["worker 0 is busy or stuck: silent for 6 s"])

    async def test_a_worker_that_was_just_started_is_starting(self, bench):
        bench.supervisor._workers[0] = WorkerProcess(0, None, Commands(), asyncio.get_running_loop().time())
        assert bench.supervisor.readiness() == (False, ["the worker is starting"])

    async def test_a_gateway_that_stops_is_not_ready_whatever_its_workers_say(self, bench):
        bench.add(0)
        bench.supervisor.stop()
        assert bench.supervisor.readiness() == (False, ["the gateway is stopping"])


class TestStopping:
    async def test_it_goes_on_accepting_for_a_while_unless_it_is_told_again(self, bench):
        waiting = asyncio.ensure_future(bench.supervisor._let_others_notice())
        bench.supervisor.stop()
        await asyncio.sleep(0.01)
        assert not waiting.done()
        bench.supervisor.stop()
        await asyncio.wait_for(waiting, 20)

    async def test_at_a_terminal_nobody_has_to_notice(self, bench):
        bench.supervisor.stop_at_once()
        await asyncio.wait_for(bench.supervisor._let_others_notice(), 20)

    async def test_the_second_time_what_is_open_is_cut(self, bench):
        commands = bench.add(0)
        bench.supervisor.stop()
        assert commands.orders == []
        bench.supervisor.stop()
        assert commands.orders == [Stop(0.0)]

    async def test_a_worker_that_has_gone_is_told_nothing(self, bench):
        commands = bench.add(0)
        commands.closing = True
        bench.supervisor.stop()
        bench.supervisor.stop()


class TestReload:
    async def test_a_good_change_goes_to_every_worker(self, bench):
        workers = [bench.add(0), bench.add(1)]
        bench.catalog.write_text(CATALOG.replace("name: m", "name: another"))
        await bench.supervisor._reload()
        assert [commands.orders for commands in workers] == [[Reload(bench.supervisor._files, {})]] * 2
        assert bench.supervisor.configuration.catalog.models[0].name == "another"
        assert bench.logger.lines == [("configuration reloaded", {})]
        assert bench.reload_success() == 1

    async def test_a_mistake_changes_nothing_and_is_told(self, bench):
        commands = bench.add(0)
        before = bench.supervisor.configuration
        bench.gateway.write_text(GATEWAY + "colour: red\n")
        await bench.supervisor._reload()
        assert commands.orders == []
        assert bench.supervisor.configuration is before
        ((event, facts),) = bench.logger.lines
        assert "not reloaded" in event
        assert "colour" in facts["mistakes"][0]
        assert bench.reload_success() == 0
        bench.gateway.write_text(GATEWAY)
        await bench.supervisor._reload()
        assert bench.reload_success() == 1

    async def test_what_is_in_force_is_kept_for_workers_that_start_later(self, bench):
        """By then the files may have a mistake."""
        await bench.supervisor._reload()
        bench.gateway.write_text("colour: red\n")
        await bench.supervisor._reload()
        assert bench.in_force() == (GATEWAY, CATALOG)

    async def test_what_waits_for_a_restart_is_named(self, bench):
        bench.gateway.write_text(GATEWAY.replace('"127.0.0.1:0", admin', '"127.0.0.1:8099", admin') + "data_dir: x\n")
        await bench.supervisor._reload()
        assert bench.logger.lines == [
            ("configuration reloaded", {"takes_effect_after_a_restart": ["data_dir", "server.listen"]})
        ]

    async def test_a_changed_file_is_noticed_and_an_unchanged_one_is_not(self, bench, monkeypatch):
        monkeypatch.setattr(module, "WATCH_SECONDS", 0.005)
        commands = bench.add(0)
        watching = asyncio.get_running_loop().create_task(bench.supervisor._watch())
        try:
            await asyncio.sleep(0.05)
            assert commands.orders == []
            bench.catalog.write_text(CATALOG.replace("name: m", "name: another one"))
            await until(lambda: commands.orders)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def test_a_file_that_goes_is_a_change(self, bench):
        seen = module._fingerprint(bench.supervisor.configuration.files)
        bench.catalog.unlink()
        assert module._fingerprint(bench.supervisor.configuration.files) != seen

    async def test_a_file_that_was_replaced_by_another_is_a_change(self, bench, tmp_path):
        seen = module._fingerprint(bench.supervisor.configuration.files)
        new = tmp_path / "new"
        new.write_text(CATALOG)
        stat = bench.catalog.stat()
        os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        new.replace(bench.catalog)
        assert module._fingerprint(bench.supervisor.configuration.files) != seen


class TestListening:
    async def test_a_port_of_its_own_choice_can_be_asked_for(self):
        with await listening.listen(Address("127.0.0.1", 0)) as listener:
            address = listening.address_of(listener)
            assert address.port > 0
            with socket.create_connection((address.host, address.port), timeout=20):
                pass

    async def test_it_listens_on_ipv6_too(self):
        with await listening.listen(Address("::1", 0)) as listener:
            assert listener.family is socket.AF_INET6
            assert str(listening.address_of(listener)).startswith("[::1]:")

    async def test_a_port_that_stays_taken_says_what_to_do(self, monkeypatch):
        monkeypatch.setattr(listening, "BIND_SECONDS", -1)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = Address(*taken.getsockname())
            with pytest.raises(CannotStart, match="stop what uses it, or choose another address") as why:
                await listening.listen(address)
        assert str(address) in str(why.value)

    async def test_a_predecessor_that_winds_down_is_waited_for(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            binding = asyncio.get_running_loop().create_task(listening.listen(Address(*taken.getsockname())))
            await asyncio.sleep(0.01)
            assert not binding.done()
        with await asyncio.wait_for(binding, 20) as listener:
            assert listener.fileno() > 0


def test_a_configuration_with_mistakes_makes_no_supervisor(tmp_path):
    (tmp_path / "gateway.yaml").write_text("providers: {}\n")
    with pytest.raises(ConfigurationError):
        Supervisor(tmp_path / "gateway.yaml", None, NotingLogger())


async def test_the_number_of_workers_is_the_commands_or_else_the_files(tmp_path):
    bench = Bench(tmp_path)
    assert bench.supervisor._worker_count == 1
    assert Supervisor(bench.gateway, 3, NotingLogger())._worker_count == 3
