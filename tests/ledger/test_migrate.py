"""`aion-proxy migrate`: what a gateway alone has, moved to real servers; a second run makes good a kill on the way."""

import asyncio
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from gateway_process import Gateway, eventually
from ledger_rows import record
from postgresql_server import PostgresqlServer
from raw_client import chat
from reading_ledger import rows_in, sums_in, sums_of
from rows import row, started
from sqlalchemy import inspect

from proxy import cli_migrate
from proxy.accounts import Account, shard_of
from proxy.cli import run
from proxy.cli_outside import Outside
from proxy.journal_frames import frame
from proxy.journal_records import Ended, encode
from proxy.ledger import people
from proxy.ledger.database import Ledger
from proxy.ledger.people import AuditEntry, DashboardToken
from proxy.ledger.segments import Folder
from proxy.limits import Hold, Limits
from proxy.stores.data_dir import DataDir
from proxy.stores.embedded import open_store
from proxy.stores.gateways import RedisGateways
from proxy.stores.keys import RedisKeys
from proxy.stores.limits import RedisLimits
from proxy.stores.moving import StoreMove, inventory
from proxy.stores.opening import connect_store
from specimens import ECHO_CATALOG_FILE as CATALOG
from tests.conftest import debian_redis
from tests.stores.redis_servers import RedisServer, cluster, single

GATEWAY = """
data_dir: {data_dir}
store: {store}
ledger: {ledger}
providers: {{demo: {{builtin: demo}}}}
plans: {{standard: {{requests_per_minute: 600}}, gold: {{tokens_per_day: 100000}}}}
default_plan: standard
"""
ACCOUNTS = ("acme", "zeta", "third")
TOKEN = DashboardToken("token_1", "acme", "digest", "laptop", 1, None, None)
ENTRY = AuditEntry("entry_1", 1, "operator", "create", "acme", "key_1", "{}", "done")
USED = 330
"""Tokens of each account's settled request."""

# What a process is killed before or within: every transaction, every value, and the end.
KILLED = """
    import os, signal, sys
    from contextlib import contextmanager
    from proxy import cli
    from proxy.ledger.database import Ledger
    from proxy.stores.moving import StoreMove, inventory

    left = int(sys.argv.pop(1))

    def step():
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    writing, copy, finish = Ledger.writing, StoreMove._copy, StoreMove.finish

    @contextmanager
    def killed_writing(self):
        step()
        with writing(self) as connection:
            yield connection
            step()
        step()

    async def killed_copy(self, name, kind):
        step()
        await copy(self, name, kind)
        step()

    async def killed_finish(self):
        step()
        await finish(self)
        step()

    Ledger.writing, StoreMove._copy, StoreMove.finish = killed_writing, killed_copy, killed_finish
    sys.exit(cli.main(sys.argv[1:]))
"""


class Bench:
    """One configuration with everything embedded, another with servers, and the command."""

    def __init__(self, folder: Path, store: str, ledger: str) -> None:
        self.folder = folder
        self.old, self.new = folder / "old.yaml", folder / "new.yaml"
        self.data = folder / "data"
        (folder / "catalog.yaml").write_text(CATALOG)
        self.old.write_text(GATEWAY.format(data_dir=self.data, store="embedded", ledger="embedded"))
        self.new.write_text(GATEWAY.format(data_dir=folder / "new-data", store=store, ledger=ledger))
        self.store, self.ledger = store, ledger

    def run(self, *words: str, config: Path | None = None) -> tuple[int, str, str]:
        outside = Outside({}, now, secrets.token_bytes)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*words, "--config", str(config or self.old)], outside)
        return code, out.getvalue(), err.getvalue()

    def document(self, *words: str, config: Path | None = None) -> Any:
        code, out, err = self.run(*words, "--json", config=config)
        assert (code, err) == (0, ""), out
        return json.loads(out)

    def migrate(self, *words: str) -> tuple[int, str, str]:
        return self.run("migrate", "--to", str(self.new), *words)

    def fill(self) -> None:
        """Accounts with keys, limits of their own and plans; requests that were settled, and one that was not."""
        for name in ACCOUNTS:
            assert self.run("accounts", "create", name)[0] == 0
            assert self.run("keys", "create", name)[0] == 0
        assert (
            self.run("accounts", "set", "acme", "--plan", "gold", "--budget-usd", "10", "--budget-per", "month")[0] == 0
        )
        with open_store("embedded", self.data) as url:
            asyncio.run(self._use(url))
        assert self.run("accounts", "disable", "third")[0] == 0
        rows = [
            record(f"req_{name}", account=name, prompt_tokens=300, completion_tokens=30, started_at=now())
            for name in ACCOUNTS
        ]
        with closing(Ledger.open("embedded", self.data)) as ledger:
            ledger.insert(rows)
            with ledger.writing() as connection:
                people.add_token(connection, TOKEN)
                people.add_entry(connection, ENTRY)

    async def _use(self, url: str) -> None:
        async with connect_store(url) as store:
            keys, limits = RedisKeys(store), RedisLimits(store)
            for name in ACCOUNTS:
                digest = (await store.call("HVALS", _key(name, "keys")))[0].decode()
                identity = await keys.identify(name, digest)
                assert identity is not None
                cost = record(prompt_tokens=300, completion_tokens=30).cost_pusd
                settled, open_ = Hold(f"req_{name}", 50, 5_000), Hold(f"req_open_{name}", 7, 900)
                await limits.admit(identity, Limits(), settled)
                await limits.admit(identity, Limits(), open_)
                await limits.settle(name, settled, USED, -(-cost // 1_000), Limits())

    def moved(self) -> None:
        """The target has what the source has, and its counters are what its ledger says."""
        for name in ACCOUNTS:
            ours, theirs = (self.document("keys", "list", name, config=one) for one in (self.old, self.new))
            assert ours == theirs
            ours, theirs = (self.document("accounts", "show", name, config=one) for one in (self.old, self.new))
            assert {field: theirs[field] for field in theirs if field != "limits"} == {
                field: ours[field] for field in ours if field != "limits"
            }
        use = self.document("accounts", "show", "acme", config=self.new)
        assert use["limits"]["tokens_per_day"]["used"] == USED
        assert self.document("usage", config=self.new)["total"] == self.document("usage")["total"]
        checks = self.document("ledger", "verify", config=self.new)
        assert checks["ok"], checks
        with closing(Ledger.open(self.ledger, self.folder)) as ledger, ledger.reading() as connection:
            assert people.tokens_of(connection, "acme") == [TOKEN]
            assert people.entries(connection, None, 100)[-1] == ENTRY


def now() -> int:
    return time.time_ns() // 1_000_000


def _key(account: str, kind: str) -> str:
    return f"aion:{{s{shard_of(account):02d}}}:{kind}:{account}"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with single(debian_redis(), tmp_path / "redis") as server:
        yield server


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a gateway alone has when it is stopped; every test gets a copy."""
    bench = Bench(tmp_path_factory.mktemp("source"), "redis://127.0.0.1:1/0", "postgresql://nobody@127.0.0.1/none")
    bench.fill()
    return bench.data


@pytest.fixture
def filled(tmp_path: Path, data: Path, redis: RedisServer, postgresql: PostgresqlServer) -> Bench:
    shutil.copytree(data, tmp_path / "data")
    return Bench(tmp_path, f"redis://127.0.0.1:{redis.port}/0", postgresql.url())


def test_everything_is_moved_to_redis_and_postgresql(filled: Bench) -> None:
    document = filled.document("migrate", "--to", str(filled.new))
    assert (document["ok"], document["dry_run"]) == (True, False)
    assert document["store"] == {"accounts": 3, "keys": 3, "done_before": False}
    assert (document["ledger"]["rows"], document["ledger"]["dashboard_tokens"]) == (3, 1)
    assert all(check["ok"] for check in document["checks"])
    filled.moved()


def test_a_cluster_gets_everything_too(tmp_path: Path, data: Path, postgresql: PostgresqlServer) -> None:
    shutil.copytree(data, tmp_path / "data")
    with cluster(debian_redis(), tmp_path / "cluster") as nodes:
        bench = Bench(tmp_path, nodes.url(), postgresql.url())
        assert bench.migrate()[0] == 0
        bench.moved()


def test_one_redis_is_moved_to_another_as_well(filled: Bench, tmp_path: Path) -> None:
    assert filled.migrate()[0] == 0
    with single(debian_redis(), tmp_path / "second") as second:
        filled.old.write_text(filled.new.read_text())
        filled.new.write_text(filled.new.read_text().replace(filled.store, f"redis://127.0.0.1:{second.port}/0"))
        assert filled.migrate()[0] == 0
        filled.moved()


def test_a_dry_run_tells_what_there_is_and_changes_neither_side(filled: Bench, redis: RedisServer) -> None:
    document = filled.document("migrate", "--to", str(filled.new), "--dry-run")
    assert (document["dry_run"], document["store"]["keys"], document["ledger"]["rows"]) == (True, 3, 3)
    assert not written(redis)
    with closing(Ledger.open(filled.ledger, filled.folder, prepare=False)) as ledger, ledger.reading() as connection:
        assert not inspect(connection).has_table("usage")
    assert "Nothing was changed" in filled.migrate("--dry-run")[1]


@pytest.mark.parametrize("steps", [(0, 2, 4), (6, 8, 10, 12), (14, 100, 250), (307, 308, 309)], ids=str)
def test_after_a_kill_at_any_step_the_next_run_ends_right(filled: Bench, steps: tuple[int, ...]) -> None:
    words = ["migrate", "--to", str(filled.new), "--config", str(filled.old)]
    killed = []
    for step in steps:
        process = [sys.executable, "-c", textwrap.dedent(KILLED), str(step), *words]
        done = subprocess.run(process, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        killed.append(done.returncode != 0)
    assert killed[0]
    document = filled.document("migrate", "--to", str(filled.new))
    assert document["ok"], document
    filled.moved()


def test_a_second_run_after_the_end_changes_nothing_that_was_done_since(filled: Bench) -> None:
    assert filled.migrate()[0] == 0
    assert filled.run("accounts", "set", "acme", "--plan", "standard", config=filled.new)[0] == 0
    assert filled.run("accounts", "create", "later", config=filled.new)[0] == 0
    with closing(Ledger.open(filled.ledger, filled.folder)) as ledger, ledger.writing() as connection:
        people.revoke_token(connection, TOKEN.token_id, 99)
    with closing(Ledger.open(filled.ledger, filled.folder)) as ledger:
        ledger.insert([record("req_later", account="later")])
    document = filled.document("migrate", "--to", str(filled.new))
    assert (document["ok"], document["store"]["done_before"]) == (True, True)
    assert filled.document("accounts", "show", "acme", config=filled.new)["plan"] == "standard"
    assert len(filled.document("accounts", "list", config=filled.new)["accounts"]) == 4
    with closing(Ledger.open(filled.ledger, filled.folder)) as ledger, ledger.reading() as connection:
        assert people.tokens_of(connection, "acme")[0].revoked_at == 99


def test_what_a_killed_gateway_had_in_its_journal_goes_too(filled: Bench) -> None:
    folder, lock = Folder.create(filled.data / "journal", "dead")
    records = [started(1), Ended(row(1)), started(2)]
    folder.segment(1).write_bytes(b"".join(frame(encode(one)) for one in records))
    os.close(lock)
    code, out, err = filled.migrate()
    assert code == 0, out + err
    with closing(Ledger.open(filled.ledger, filled.folder)) as ledger:
        rows = rows_in(ledger)
        assert {one.request_id for one in rows} > {row(1).request_id, row(2).request_id}
        assert sums_in(ledger) == sums_of(rows)


def written(redis: RedisServer) -> list[bytes]:
    """Every key of the target, but for the one that each connection tries itself on."""
    with redis.client() as client:
        return [key for key in client.scan_iter() if key != b"aion:{s00}:probe"]


def refused(bench: Bench, said: str, *words: str) -> None:
    code, out, err = bench.migrate(*words)
    assert (code > 0, out) == (True, "")
    assert said in err, err


def test_a_gateway_that_runs_is_not_moved(filled: Bench) -> None:
    data = DataDir.locked(filled.data, 0)
    try:
        refused(filled, "a gateway (or another command) uses")
    finally:
        data.unlock()


def test_a_worker_that_has_outlived_its_gateway_is_noticed(filled: Bench) -> None:
    _, lock = Folder.create(filled.data / "journal", "alive")
    try:
        refused(filled, "a gateway (or another command) uses")
    finally:
        os.close(lock)


def test_no_command_changes_the_source_meanwhile(filled: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def look(*_: object) -> str:
        with DataDir.at(filled.data).as_user() as admitted:
            found.append(admitted)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_migrate, "_ledger", look)
    assert filled.migrate()[0] == 130
    assert found == [False]
    assert filled.run("accounts", "list")[0] == 0


def test_a_store_with_accounts_of_its_own_is_not_written_to(filled: Bench, redis: RedisServer) -> None:
    async def create() -> None:
        async with connect_store(filled.store) as store:
            await RedisKeys(store).create_account(Account("stranger", None, disabled=False, version=1, created_ms=1))

    asyncio.run(create())
    refused(filled, "accounts or keys that are not from here")
    refused(filled, "accounts or keys that are not from here", "--dry-run")
    with redis.client() as client:
        assert not client.exists("aion:{s00}:migration")


def test_a_store_that_somebody_wrote_to_after_a_kill_is_not_overwritten(filled: Bench, redis: RedisServer) -> None:
    assert filled.migrate()[0] == 0
    with redis.client() as client:
        client.hset("aion:{s00}:migration", "state", "begun")
    assert filled.run("accounts", "create", "stranger", config=filled.new)[0] == 0
    refused(filled, "accounts or keys that are not from here")


def test_a_store_that_gateways_use_already_is_left_alone(filled: Bench) -> None:
    async def attend() -> None:
        async with connect_store(filled.store) as store:
            await RedisGateways(store, "worker").attend()

    asyncio.run(attend())
    refused(filled, "1 workers of gateways use the target's store already")


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_ledger_with_rows_of_others_is_not_written_to(filled: Bench, words: tuple[str, ...]) -> None:
    with closing(Ledger.open(filled.ledger, filled.folder)) as ledger:
        ledger.insert([record("stranger")])
    refused(filled, "the target's ledger has rows of another gateway", *words)


def test_a_plan_that_the_target_lacks_is_missed_before_anything_is_written(filled: Bench, redis: RedisServer) -> None:
    filled.new.write_text(filled.new.read_text().replace("gold:", "golden:"))
    refused(filled, "the account acme is on the plan 'gold'")
    assert not written(redis)


def write(file: Path, text: str, old: str, new: str) -> None:
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_store_alone_is_moved_where_the_ledger_stays(filled: Bench) -> None:
    write(filled.new, filled.new.read_text(), filled.ledger, "embedded")
    refused(filled, "the ledger stays embedded")
    write(filled.new, filled.new.read_text(), "/new-data", "/data")
    document = filled.document("migrate", "--to", str(filled.new))
    assert (document["ok"], document["ledger"], document["store"]["keys"]) == (True, None, 3)


def test_the_ledger_alone_is_moved_where_the_store_stays(filled: Bench) -> None:
    write(filled.new, filled.old.read_text(), "ledger: embedded", f"ledger: {filled.ledger}")
    document = filled.document("migrate", "--to", str(filled.new))
    assert (document["ok"], document["ledger"]["rows"], document["store"]) == (True, 3, None)
    assert filled.document("ledger", "verify", config=filled.new)["ok"]


def test_files_that_name_the_same_leave_nothing_to_move(filled: Bench) -> None:
    filled.new.write_text(filled.old.read_text())
    refused(filled, "name the same store and the same ledger")


def test_a_folder_without_a_store_is_not_taken_for_an_empty_one(filled: Bench) -> None:
    write(filled.old, filled.old.read_text(), "/data\n", "/elsewhere\n")
    refused(filled, "there is no store")
    assert not (filled.folder / "elsewhere").exists()


def test_a_value_that_did_not_arrive_is_found(filled: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = StoreMove._copy

    async def forgetful(self: StoreMove, name: str, kind: Any) -> None:
        if "acct:acme" not in name:
            await copy(self, name, kind)

    monkeypatch.setattr(StoreMove, "_copy", forgetful)
    code, out, _ = filled.migrate()
    assert code == 1
    assert "WRONG" in out
    assert "acct:acme" in out
    monkeypatch.undo()
    assert filled.migrate()[0] == 0
    filled.moved()


def test_a_row_that_the_database_refuses_is_named_and_the_others_are_moved(filled: Bench) -> None:
    with closing(Ledger.open("embedded", filled.data)) as ledger:
        ledger.insert([record("req_odd", upstream_id="nul\x00nul")])
    code, out, _ = filled.migrate()
    assert code == 1
    assert "req_odd" in out
    with closing(Ledger.open(filled.ledger, filled.folder)) as ledger:
        assert {one.request_id for one in rows_in(ledger)} == {f"req_{name}" for name in ACCOUNTS}


def test_progress_is_told_while_it_lasts(filled: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(cli_migrate, "progress", told.append)
    assert filled.migrate()[0] == 0
    assert told[0] == "ledger: 3 of 3 rows"
    assert told[-1] == "store: 147 of 147 values"


def test_a_ledger_that_is_not_whole_keeps_no_store_from_going_its_own_way(filled: Bench) -> None:
    with closing(Ledger.open("embedded", filled.data)) as ledger:
        ledger.insert([record("req_odd", upstream_id="nul\x00nul")])
    assert filled.migrate()[0] == 1
    assert filled.run("accounts", "create", "later", config=filled.new)[0] == 0
    assert filled.migrate()[0] == 1
    assert len(filled.document("accounts", "list", config=filled.new)["accounts"]) == 4


async def test_values_of_any_size_and_kind_arrive(tmp_path: Path, redis: RedisServer) -> None:
    with single(debian_redis(), tmp_path / "second") as second:
        urls = [f"redis://127.0.0.1:{server.port}/0" for server in (redis, second)]
        async with connect_store(urls[0], call_timeout=30) as ours, connect_store(urls[1], call_timeout=30) as theirs:
            await ours.call("SADD", _key("acme", "accounts").rpartition(":")[0], "acme")
            await ours.call("RPUSH", _key("acme", "charged"), *(f"req_{number} 1 2" for number in range(20_000)))
            await ours.call(
                "ZADD", _key("acme", "late"), *(word for n in range(1_501) for word in (n + 0.5, f"r{n} 1 2"))
            )
            await ours.call("PEXPIRE", _key("acme", "late"), 3_600_000)
            await ours.call("HSET", _key("acme", "acct"), "total_nusd", 2**63 - 1, "of_a_newer_release", b"\x00\xff")
            having = await inventory(ours)
            move = StoreMove(ours, theirs, "name")
            await move.copy(having, lambda done, total: None)
            assert await move.differing(having) == []
            assert await theirs.call("LLEN", _key("acme", "charged")) == 20_000
            assert 3_000_000 < await theirs.call("PTTL", _key("acme", "late")) <= 3_600_000
            assert await theirs.call("HGET", _key("acme", "acct"), "of_a_newer_release") == b"\x00\xff"


def test_a_gateway_that_was_killed_goes_on_elsewhere_with_its_keys_and_what_they_used(
    tmp_path: Path, redis: RedisServer, postgresql: PostgresqlServer
) -> None:
    ports = 'server: {listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0"}\n'
    old = ports + GATEWAY.format(data_dir=tmp_path / "data", store="embedded", ledger="embedded")
    gateway = Gateway(tmp_path, old, CATALOG)
    gateway.start()
    try:
        key = gateway.new_key()
        assert key.ask("demo/echo").status == 200
        with gateway.client() as client:
            client.send(chat(key.secret, "demo/echo", "slow long 200", stream=True))
            client.until(b"data: ")
            gateway.signal(signal.SIGKILL)
            gateway.ended()
        target = tmp_path / "new.yaml"
        store = f"redis://127.0.0.1:{redis.port}/0"
        target.write_text(ports + GATEWAY.format(data_dir=tmp_path / "data", store=store, ledger=postgresql.url()))
        assert eventually(lambda: _migrated(gateway, target))
        gateway.config, gateway.store_url = target, store
        gateway.start()
        answer = key.ask("demo/echo")
        assert answer.status == 200, answer
        usage = gateway.command("usage")["rows"]
        assert usage[0]["requests"] >= 2  # the whole one, and the one that was killed, by estimate
        assert gateway.stop() == 0
        assert gateway.command("ledger", "verify")["ok"]
        assert gateway.command("usage")["rows"][0]["requests"] == 3
    finally:
        gateway.stop()


def _migrated(gateway: Gateway, target: Path) -> bool:
    """Workers of a gateway that was killed may live on for a moment; until then it is refused."""
    try:
        return bool(gateway.command("migrate", "--to", str(target))["ok"])
    except AssertionError as refused:
        assert "a gateway (or another command) uses" in str(refused), refused
        return False
