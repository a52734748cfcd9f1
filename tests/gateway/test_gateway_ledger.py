"""The ledger of a running gateway: one row for every request that reached a provider, whatever was killed meanwhile."""

import ctypes
import errno
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from gateway_process import Gateway, Key, children, eventually, is_alive
from held_stream import Held, begin
from provider_scripts import completion, failing, role, talking, usage, whole, word
from raw_client import chat, request_bytes

from conftest import catalog_entry
from proxy.journal_frames import scan
from proxy.journal_records import Marked, decode


def all_rows(gateway: Gateway) -> list[dict[str, Any]]:
    file = gateway.data_dir / "ledger.sqlite"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM usage ORDER BY started_at, request_id")]


def rows_of(key: Key, gateway: Gateway) -> list[dict[str, Any]]:
    return [row for row in all_rows(gateway) if row["account"] == key.account]


def waited_rows(key: Key, gateway: Gateway, number: int) -> list[dict[str, Any]]:
    """The rows of an account once there are so many."""
    assert eventually(lambda: len(rows_of(key, gateway)) >= number), rows_of(key, gateway)
    return rows_of(key, gateway)


def nothing_waits(gateway: Gateway) -> bool:
    return gateway.metric("aion_ledger_lag_seconds") == 0


def marks(gateway: Gateway) -> list[Marked]:
    """The marks in all journals."""
    data = b"".join(path.read_bytes() for path in (gateway.data_dir / "journal").glob("*/*.j1"))
    records = [decode(payload) for payload in scan(data, final=True).payloads]
    return [record for record in records if isinstance(record, Marked)]


def kill_all(gateway: Gateway) -> None:
    """What a machine does that loses its power: every process at once, the store included."""
    assert gateway.process is not None
    below = children(gateway.process.pid)
    for pid in (gateway.process.pid, *below):
        os.kill(pid, signal.SIGKILL)
    gateway.ended()
    assert eventually(lambda: not any(map(is_alive, below)))


def test_a_whole_answer_is_a_row_with_all_that_is_known_of_it(gateway, provider, key):
    provider.on("main", whole(told=usage(10, 5, cached=4)))
    answer = key.ask(metadata={"order": "№ 7"})
    (row,) = waited_rows(key, gateway, 1)
    line = gateway.request_line(answer.request_id)
    shared = (
        *("request_id", "upstream_id", "account", "key_id", "endpoint", "model", "provider", "status", "ending"),
        *("usage_source", "prompt_tokens", "cached_tokens", "completion_tokens", "attempts"),
    )
    assert {name: row[name] for name in shared} == {name: line[name] for name in shared}
    assert (row["upstream_model"], row["stream"], row["reasoning_tokens"]) == ("same", 0, 0)
    assert row["cost_pusd"] == (10 - 4) * 800_000 + 4 * 200_000 + 5 * 1_600_000
    prices = (row["price_prompt"], row["price_completion"], row["price_input_cache_read"])
    assert prices == ("0.0000008", "0.0000016", "0.0000002")
    assert row["metadata"] == '{"order": "\\u2116 7"}', "as the client wrote it"
    assert row["ttft_ms"] is None
    assert row["duration_ms"] == round(line["duration_ms"])
    assert row["started_at"] == int(answer.request_id.removeprefix("req_")[:12], 16)


def test_a_stream_is_a_row_with_its_time_to_the_first_byte(gateway, provider, key):
    provider.on("main", talking(["One ", "two."], usage(10, 5)))
    answer = key.ask(stream=True)
    (row,) = waited_rows(key, gateway, 1)
    assert (row["request_id"], row["stream"], row["completion_tokens"]) == (answer.request_id, 1, 5)
    assert row["ttft_ms"] == round(gateway.request_line(answer.request_id)["ttft_ms"])


def test_a_response_is_a_row_of_its_endpoint(gateway, provider, key):
    provider.on("main", whole())
    with gateway.client() as client:
        client.ask(request_bytes("POST", "/v1/responses", b'{"model":"same","input":"Hi."}', key=key.secret))
    (row,) = waited_rows(key, gateway, 1)
    assert (row["endpoint"], row["completion_tokens"]) == ("responses", 5)


def test_a_request_that_was_tried_twice_is_one_row_of_the_provider_that_answered(gateway, provider, key):
    provider.on("main", failing(500))
    provider.on("second", whole(model="m2"))
    key.ask("main-then-second")
    (row,) = waited_rows(key, gateway, 1)
    assert (row["provider"], row["upstream_model"], row["attempts"]) == ("second", "m2", 2)


def test_a_client_that_leaves_is_a_row_with_what_was_produced(gateway, provider, key):
    held = Held()
    provider.on("main", held)
    with gateway.client() as client:
        begin(client, key)
    (row,) = waited_rows(key, gateway, 1)
    assert (row["ending"], row["usage_source"], row["completion_tokens"]) == ("client_gone", "estimated", 1)


def test_requests_that_reached_no_provider_have_no_row_and_those_it_refused_one_of_zeros(gateway, provider, key):
    provider.on("main", failing(500))
    assert key.ask().status == 502
    assert key.ask("down").status == 502
    assert key.ask("unheard-of").status == 400
    poor = gateway.new_key(budget_nusd=1, budget_per="total")
    assert poor.ask().status == 429
    provider.on("main", whole())
    key.ask()
    waited_rows(key, gateway, 2)
    assert eventually(lambda: nothing_waits(gateway))
    assert [(row["status"], row["cost_pusd"] > 0) for row in rows_of(key, gateway)] == [(502, False), (200, True)]
    assert rows_of(poor, gateway) == []


def test_g3_1_an_answer_that_cannot_be_served_leaves_a_row_of_zeros_whole_or_not(gateway, provider, key):
    provider.on("main", lambda exchange: exchange.answer({"choices": "none"}))
    assert key.ask().status == 502
    assert key.ask(stream=True).status == 502
    rows = waited_rows(key, gateway, 2)
    assert [(row["status"], row["usage_source"], row["cost_pusd"]) for row in rows] == [(502, "none", 0)] * 2


@pytest.fixture
def own(make_gateway: Callable[..., Gateway], provider) -> Iterator[Gateway]:
    """A gateway that this test may kill."""
    gateway = make_gateway()
    gateway.start()
    yield gateway
    if gateway.process is not None and gateway.process.poll() is None:
        gateway.stop()


def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(own, provider):
    key = own.new_key()
    provider.on("main", whole(told=usage(10, 5)))
    served = [key.ask().request_id for _ in range(5)]
    asked = len(provider.asked())
    held, go = Held(), threading.Event()

    def slow(exchange):
        exchange.wait(go)
        exchange.answer(completion("late", usage(1, 1)))

    with ExitStack() as stack:
        provider.on("main", held)
        streaming = stack.enter_context(own.client())
        begin(streaming, key)
        provider.on("main", slow)
        waiting = stack.enter_context(own.client())
        waiting.send(chat(key.secret))
        provider.wait_asked(asked + 2)
        (worker,) = own.workers()
        os.kill(worker, signal.SIGKILL)
        rows = waited_rows(key, own, 7)
    assert {row["request_id"] for row in rows if row["ending"] == "complete"} == set(served)
    crashed = [row for row in rows if row["ending"] == "crashed"]
    assert len(rows) == 7
    assert [(row["usage_source"], row["prompt_tokens"], row["cost_pusd"]) for row in crashed] == [
        ("estimated", 5, 5 * 800_000)
    ] * 2
    assert eventually(own.ready)
    provider.on("main", whole())
    key.ask()
    assert len(waited_rows(key, own, 8)) == 8
    assert own.metric("aion_ledger_rows_total", source="estimated") == 2
    go.set()


def test_a_gateway_that_is_killed_has_every_row_when_it_starts_again(own, provider):
    key = own.new_key()
    provider.on("main", whole(told=usage(10, 5)))
    served = [key.ask().request_id for _ in range(20)]
    held = Held()
    provider.on("main", held)
    with own.client() as client:
        begin(client, key)
        kill_all(own)
    held.go.set()
    own.start()
    rows = waited_rows(key, own, 21)
    assert {row["request_id"] for row in rows if row["ending"] == "complete"} == set(served)
    assert sum(row["ending"] == "crashed" for row in rows) == 1
    kill_all(own)
    own.start()
    assert eventually(lambda: nothing_waits(own))
    assert rows_of(key, own) == rows
    assert own.stop() == 0
    assert [path.name for path in (own.data_dir / "journal").iterdir()] == ["sink.lock"]


def test_a_stream_that_lasts_is_billed_at_its_last_mark_when_its_gateway_is_killed(own, provider):
    key, go = own.new_key(), threading.Event()

    def long(exchange):
        exchange.start_stream()
        exchange.chunk(role() + word("12345678" * 10))
        exchange.wait(go)

    provider.on("main", long)
    with own.client() as client:
        client.send(chat(key.secret, stream=True))
        client.head()
        client.body_until(b"12345678")
        assert eventually(lambda: marks(own))
        kill_all(own)
    go.set()
    own.start()
    (row,) = waited_rows(key, own, 1)
    assert (row["ending"], row["usage_source"], row["status"]) == ("crashed", "estimated", 500)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (5, 20)
    assert row["cost_pusd"] == 5 * 800_000 + 20 * 1_600_000
    assert row["duration_ms"] >= 1_900
    assert row["upstream_id"] == "chatcmpl-upstream-1"


def test_a_gateway_that_stops_in_order_has_every_row(own, provider):
    key = own.new_key()
    provider.on("main", whole())
    for _ in range(30):
        key.ask()
    assert own.stop() == 0
    assert len(rows_of(key, own)) == 30


def test_a_row_keeps_the_prices_of_the_moment_when_its_request_was_accepted(own, provider):
    key, held = own.new_key(), Held()
    provider.on("main", held)
    with own.client() as client:
        begin(client, key)
        catalog = own.catalog.read_text()
        own.catalog.write_text(catalog.replace('completion: "0.0000016"', 'completion: "0.000003"'))
        own.signal(signal.SIGHUP)
        with own.client() as other:
            assert eventually(lambda: b"0.000003" in other.ask(request_bytes("GET", "/v1/models")).body)
        held.go.set()
        client.stream_rest()
    provider.on("main", whole(told=usage(7, 3)))
    assert key.ask().status == 200
    first, last = waited_rows(key, own, 2)
    assert (first["price_completion"], first["cost_pusd"]) == ("0.0000016", 7 * 800_000 + 3 * 1_600_000)
    assert last["price_completion"] == "0.000003"
    assert last["cost_pusd"] == 7 * 800_000 + 3 * 3_000_000


def test_a_ledger_of_a_newer_version_is_refused(make_gateway):
    gateway = make_gateway()
    gateway.start()
    gateway.stop()
    with closing(sqlite3.connect(gateway.data_dir / "ledger.sqlite")) as connection, connection:
        connection.execute("INSERT INTO ledger_version (version) VALUES (99)")
    with pytest.raises(AssertionError, match="use the newer aion-proxy"):
        gateway.start()
    assert gateway.ended() == 1


class JournalDisk:
    """A small file system in memory under a gateway's journal, which a test fills and empties."""

    def __init__(self, path: Path) -> None:
        self._filler = path / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as filler:
            for size in (4096, 1):
                try:
                    while True:
                        filler.write(b"x" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC

    def empty(self) -> None:
        self._filler.unlink()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[Path], JournalDisk]]:
    libc = ctypes.CDLL(None, use_errno=True)
    paths: list[Path] = []

    def mount(path: Path) -> JournalDisk:
        path.mkdir(parents=True)
        if libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, b"size=256k"):
            pytest.skip(f"a file system cannot be mounted here: {os.strerror(ctypes.get_errno())}")
        paths.append(path)
        return JournalDisk(path)

    yield mount
    for path in paths:
        libc.umount2(os.fsencode(path), 2)


def started_on(disk_of: Callable[[Path], JournalDisk], gateway: Gateway) -> JournalDisk:
    disk = disk_of(gateway.data_dir / "journal")
    gateway.start()
    return disk


def test_while_the_journal_s_disk_is_full_requests_are_refused_and_nothing_of_those_before_is_lost(
    make_gateway, provider, mounted
):
    gateway = make_gateway()
    disk = started_on(mounted, gateway)
    key, held = gateway.new_key(), Held()
    provider.on("main", held)
    with gateway.client() as client:
        begin(client, key)
        provider.on("main", whole(told=usage(10, 5)))
        served = [key.ask().request_id for _ in range(3)]
        disk.fill()
        refused = None
        for _ in range(100):
            answer = key.ask()
            if answer.status != 200:
                refused = answer
                break
            served.append(answer.request_id)
        assert refused is not None
        assert (refused.status, refused.error["code"]) == (503, "overloaded")
        assert "cannot record usage" in refused.error["message"]
        assert refused.header("retry-after") == "5"
        asked = len(provider.asked())
        assert key.ask().status == 503
        assert len(provider.asked()) == asked, "no provider is asked"
        gateway.wait_logged("the journal cannot be written", detail="No space left on device")
        assert eventually(lambda: not gateway.ready())
        assert "No space left" in gateway.admin_page("/readyz")[1].decode()
        assert gateway.metric("aion_journal_writable") == 0
        assert gateway.metric("aion_refused_total", reason="journal_unavailable") >= 1
        held.go.set()
        client.stream_rest()
        assert key.settled().in_flight == 0
        disk.empty()
        assert eventually(gateway.ready)
        last = key.ask()
        assert last.status == 200
    rows = waited_rows(key, gateway, len(served) + 2)
    assert len(rows) == len(served) + 2
    assert {row["ending"] for row in rows} == {"complete"}
    assert {row["request_id"] for row in rows} >= {*served, last.request_id}
    assert gateway.stop() == 0


def test_while_the_journal_s_disk_is_full_requests_may_continue_and_their_rows_follow(make_gateway, provider, mounted):
    gateway = make_gateway(more="journal_full: continue\n")
    disk = started_on(mounted, gateway)
    key = gateway.new_key()
    provider.on("main", whole(told=usage(10, 5)))
    disk.fill()
    served = [key.ask() for _ in range(20)]
    assert {answer.status for answer in served} == {200}
    gateway.wait_logged("the journal cannot be written")
    assert gateway.ready()
    disk.empty()
    rows = waited_rows(key, gateway, 20)
    assert sorted(row["request_id"] for row in rows) == sorted(answer.request_id for answer in served)
    assert gateway.stop() == 0


def test_a_gateway_that_waits_for_the_disk_each_time_serves_and_records(make_gateway, provider):
    gateway = make_gateway(more="journal_sync: always\n")
    gateway.start()
    key = gateway.new_key()
    provider.on("main", whole())
    for _ in range(5):
        assert key.ask().status == 200
    assert len(waited_rows(key, gateway, 5)) == 5
    assert gateway.stop() == 0


def test_a_gateway_whose_ledger_is_away_serves_and_says_so(make_gateway, provider, tmp_path):
    gateway = make_gateway(more=f"ledger: postgresql://gateway@/ledger?host={tmp_path}\n")
    gateway.start()
    key = gateway.new_key()
    provider.on("main", whole())
    assert key.ask().status == 200
    gateway.wait_logged("the ledger is away: rows wait in the journal")
    assert eventually(lambda: gateway.metric("aion_ledger_lag_seconds") > 0)
    assert gateway.metric("aion_journal_bytes") > 0
    assert gateway.ready()
    assert gateway.stop() == 0
    gateway.config.write_text(gateway.config.read_text().replace("ledger: postgresql", "# ledger: postgresql"))
    gateway.start()
    assert len(waited_rows(key, gateway, 1)) == 1
    assert gateway.stop() == 0


def test_rows_of_models_that_are_gone_are_rows_all_the_same(own, provider):
    key = own.new_key()
    catalog = own.catalog.read_text()
    own.catalog.write_text(catalog + catalog_entry("short-lived", [("main", "short")]))
    own.signal(signal.SIGHUP)
    held = Held()
    provider.on("main", held)

    with own.client() as other:
        assert eventually(lambda: b"short-lived" in other.ask(request_bytes("GET", "/v1/models")).body)
    with own.client() as client:
        client.send(chat(key.secret, "short-lived", stream=True))
        client.head()
        own.catalog.write_text(catalog)
        own.signal(signal.SIGHUP)
        assert eventually(lambda: own.log.read_text().count("configuration reloaded") == 2)
        kill_all(own)
    held.go.set()
    own.start()
    (row,) = waited_rows(key, own, 1)
    assert (row["model"], row["ending"]) == ("short-lived", "crashed")
