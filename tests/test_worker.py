"""One worker in this process: it serves the socket it was given, says how it is, and stops when it is told or left."""

import asyncio
import contextlib
import gc
import json
import signal
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.accounts import mint_key
from proxy.control import Files, Reload, Start, State, Stop, read_state, write
from proxy.worker import Worker
from specimens import CATALOG_FILE as CATALOG
from specimens import GATEWAY_FILE as GATEWAY
from specimens import NotingLogger
from waiting import WAIT, until

KEY = mint_key("acme", bytes(range(32)))


class Bench:
    """A worker under way, seen from its supervisor's end of the channel and from a client's."""

    def __init__(self, folder, store_url: str) -> None:
        self.gateway = folder / "gateway.yaml"
        self.catalog = folder / "catalog.yaml"
        self.gateway.write_text(f"{GATEWAY}data_dir: {folder}/data\n")
        self.catalog.write_text(CATALOG)
        self.logger = NotingLogger()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0)
        self.port = self.listener.getsockname()[1]
        self.files = Files(str(self.gateway), str(self.catalog))
        self.start = Start(self.files, 0, store_url, {})

    async def begin(self) -> None:
        ours, theirs = socket.socketpair()
        commands, control = await asyncio.open_connection(sock=theirs)
        self.states, self.orders = await asyncio.open_connection(sock=ours)
        self.control = control
        self.worker = Worker(self.start, self.listener, control, self.logger)
        self.running = asyncio.get_running_loop().create_task(self.worker.run(commands))

    def order(self, message: Reload | Stop) -> None:
        self.orders.write(write(message))

    async def state(self) -> State:
        return read_state(await asyncio.wait_for(self.states.readline(), WAIT))

    async def ask(self, method: str, path: str, body: bytes = b"", *lines: str) -> tuple[int, bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = [f"{method} {path} HTTP/1.1", "Host: h", "Connection: close", *lines, f"Content-Length: {len(body)}"]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        answer = await asyncio.wait_for(reader.read(-1), WAIT)
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head[9:12]), head, rest

    async def ended(self) -> None:
        await asyncio.wait_for(asyncio.shield(self.running), WAIT)


@contextlib.asynccontextmanager
async def working(folder, store_url: str) -> AsyncIterator[Bench]:
    thresholds = gc.get_threshold()
    bench = Bench(folder, store_url)
    await bench.begin()
    try:
        yield bench
    finally:
        bench.worker.stop(0.0)
        bench.worker.stop(0.0)
        await asyncio.wait([bench.running], timeout=WAIT)
        signal.alarm(0)
        bench.orders.close()
        bench.control.close()
        bench.listener.close()
        gc.unfreeze()
        gc.set_threshold(*thresholds)


@pytest.fixture
async def alone(tmp_path) -> AsyncIterator[Bench]:
    """A worker whose store is not there."""
    async with working(tmp_path, f"unix://{tmp_path}/nobody.sock") as bench:
        yield bench


@pytest.fixture
async def bench(tmp_path, embedded_url) -> AsyncIterator[Bench]:
    async with working(tmp_path, embedded_url) as bench:
        yield bench


async def ready(bench: Bench) -> None:
    async with asyncio.timeout(WAIT):
        while not (await bench.state()).ready:
            pass


async def test_with_its_store_it_is_ready_and_says_so(bench):
    await ready(bench)
    status, _, body = await bench.ask("GET", "/v1/models")
    assert (status, json.loads(body)["data"][0]["id"]) == (200, "m")


async def test_without_its_store_it_serves_what_needs_none_and_says_why_it_is_not_ready(alone):
    async with asyncio.timeout(WAIT):
        while "the worker is starting" in (state := await alone.state()).reasons:
            pass
    assert not state.ready
    assert "nobody.sock" in state.reasons[0]
    assert (await alone.ask("GET", "/v1/models"))[0] == 200
    status, head, _ = await alone.ask("POST", "/v1/chat/completions", b"{}", f"Authorization: Bearer {KEY}")
    assert status == 503
    assert b"Retry-After" in head
    assert (await alone.ask("POST", "/v1/chat/completions", b"{}"))[0] == 401


async def test_a_reload_is_in_force_for_the_next_request(bench):
    await ready(bench)
    bench.catalog.write_text(CATALOG.replace("id: m,", "id: other,"))
    bench.order(Reload(bench.files, {}))
    await until(lambda: bench.worker._api.serving.catalog.find("other"))
    assert b'"other"' in (await bench.ask("GET", "/v1/models"))[2]


async def test_a_reload_with_a_mistake_leaves_everything_as_it_is(bench):
    await ready(bench)
    bench.catalog.write_text("models: []\n")
    bench.order(Reload(bench.files, {}))
    await until(lambda: [event for event, _ in bench.logger.lines if event == "configuration not reloaded"])
    assert b'"m"' in (await bench.ask("GET", "/v1/models"))[2]


async def test_told_to_stop_it_accepts_nothing_more_and_ends(bench):
    await ready(bench)
    bench.order(Stop(5.0))
    await bench.ended()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", bench.port)


async def test_a_request_on_a_connection_that_was_accepted_is_still_served_and_ends_it(bench):
    """It may have been on its way when the order to stop came."""
    await ready(bench)
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT)
    bench.order(Stop(5.0))
    await until(lambda: bench.worker._api.closing)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")
    rest = await asyncio.wait_for(reader.read(-1), WAIT)
    writer.close()
    assert b"HTTP/1.1 200 OK" in rest
    assert b"Connection: close" in rest
    await bench.ended()


async def test_left_by_a_supervisor_that_had_not_heard_its_last_words_it_ends(bench, monkeypatch):
    monkeypatch.setattr("proxy.worker._LAST_RESORT", 60)
    await ready(bench)
    bench.orders.transport.pause_reading()  # as a supervisor that is killed: what it was told stays unread
    for _ in range(3):
        bench.worker._tell()
        await asyncio.sleep(0)
    bench.orders.transport.abort()
    await bench.ended()


async def test_left_by_its_supervisor_it_ends(bench, monkeypatch):
    monkeypatch.setattr("proxy.worker.ORPHAN_GRACE", 0.0)
    await ready(bench)
    bench.orders.close()
    await bench.ended()


async def test_told_twice_it_does_not_wait(bench):
    await ready(bench)
    before = asyncio.get_running_loop().time()
    bench.order(Stop(WAIT))
    bench.order(Stop(0.0))
    await bench.ended()
    assert asyncio.get_running_loop().time() - before < WAIT / 2
