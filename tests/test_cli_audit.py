"""What commands change stands in the audit log beside what people change in the dashboard."""

import asyncio
import json
import os
import pwd
from pathlib import Path

import pytest

from proxy import cli
from proxy.cli_outside import Outside
from proxy.ledger import people
from proxy.ledger.database import Ledger
from proxy.ledger.people import AuditEntry
from specimens import ECHO_CATALOG_FILE as CATALOG
from tests.memory_stores import MemoryKeys, MemoryLimits
from tests.test_cli import GATEWAY, NOW, Numbers

AWAY = "postgresql://127.0.0.1:1/nothing?connect_timeout=2"


class Commands:
    """Commands over one store in memory, and the ledger of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "catalog.yaml").write_text(CATALOG)
        (folder / "gateway.yaml").write_text(GATEWAY.format(data=folder / "data"))
        self.records = MemoryKeys()
        self.outside = Outside(
            {"AION_PROXY_CONFIG": str(folder / "gateway.yaml")}, lambda: NOW, Numbers(), self._with_stores, "alice"
        )

    def _with_stores(self, settings, work):
        return asyncio.run(work(self.records, MemoryLimits()))

    def run(self, words: str) -> int:
        return cli.run(words.split(), self.outside)

    def log(self) -> list[AuditEntry]:
        ledger = Ledger.open("embedded", self.folder / "data")
        try:
            with ledger.reading() as connection:
                return people.entries(connection, None, 100)
        finally:
            ledger.close()


@pytest.fixture
def commands(tmp_path) -> Commands:
    return Commands(tmp_path)


def test_every_change_is_written_down_with_the_system_s_user(commands: Commands, capsys):
    assert commands.run("accounts create acme --plan unlimited") == 0
    assert commands.run("accounts set acme --requests-per-minute 60 --budget-usd none") == 0
    assert commands.run("accounts disable acme") == 0
    assert commands.run("accounts enable acme") == 0
    capsys.readouterr()
    assert commands.run("keys create acme --name ci --json") == 0
    key = json.loads(capsys.readouterr().out)
    assert commands.run(f"keys rotate {key['key_id']} --grace 1h --json") == 0
    new = json.loads(capsys.readouterr().out)
    assert commands.run(f"keys revoke {key['key_id']}") == 0
    entries = commands.log()
    assert {(entry.person, entry.at, entry.account, entry.outcome) for entry in entries} == {
        ("cli (alice)", NOW, "acme", "done")
    }
    told = {entry.action: (entry.subject, json.loads(entry.detail)) for entry in entries}
    assert told == {
        "create account": ("acme", {"plan": "unlimited"}),
        "change account": ("acme", {"requests_per_minute": 60, "budget_nusd": "none", "budget_per": "plan"}),
        "disable account": ("acme", {}),
        "enable account": ("acme", {}),
        "create key": (key["key_id"], {"name": "ci"}),
        "rotate key": (
            f"{key['key_id']}, now {new['key_id']}",
            {"hint": key["key"][:13] + "…" + key["key"][-4:], "grace_ms": 3_600_000},
        ),
        "revoke key": (key["key_id"], {"hint": key["key"][:13] + "…" + key["key"][-4:]}),
    }
    assert key["key"] not in str(entries)


def test_what_was_refused_is_written_down_as_refused(commands: Commands):
    assert commands.run("keys create nobody") == 1
    assert commands.run("accounts create acme --plan none-such") == 1
    told = {(entry.action, entry.outcome.partition(":")[0]) for entry in commands.log()}
    assert told == {("create key", "refused"), ("create account", "refused")}


def test_what_only_looks_opens_no_ledger(commands: Commands):
    for words in ("accounts list", "keys list acme", "accounts show acme"):
        commands.run(words)
    assert not (commands.folder / "data").exists()


def test_a_ledger_that_is_away_keeps_nobody_from_revoking_a_key_and_is_told(commands: Commands, capsys):
    commands.run("accounts create acme")
    commands.run("keys create acme")
    config = commands.folder / "gateway.yaml"
    config.write_text(f"ledger: {AWAY}\n" + config.read_text())
    (key,) = commands.records.by_digest.values()
    capsys.readouterr()
    assert commands.run(f"keys revoke {key.key_id} --json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["revoked"] is not None
    assert err.startswith("This is not in the audit log: the ledger cannot be used")
    assert err.count("\n") == 1


def test_the_user_is_the_system_s_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("USER", "somebody-else")
    assert cli._user() == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert cli._user() == "4000000000"
