"""The command: what it prints where, its exit codes, and that it never shows a key twice, a traceback, or a secret.

Most tests run it here, over stores in memory and with a clock and randomness of the test's own; the last ones run it as
an operator does, as a process with the embedded store.
"""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from proxy.accounts import account_of_key, mint_key
from proxy.admin.keys import mint_key_id
from proxy.cli import main, run
from proxy.cli_outside import Outside
from proxy.errors import StoreUnavailable
from specimens import ECHO_CATALOG_FILE as CATALOG
from tests.memory_stores import MemoryKeys, MemoryLimits

NOW = 1_769_846_400_007
CREATED = "2026-01-31T08:00:00.007Z"

GATEWAY = """
data_dir: {data}
providers:
  demo: {{builtin: demo}}
plans:
  standard:
    requests_per_minute: 600
    concurrent_requests: 32
    budget: {{usd: "25.00", per: month}}
  unlimited: {{}}
default_plan: standard
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self):
        assert self.code == 0, self
        assert not self.err
        return json.loads(self.out)


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    path = tmp_path / "gateway.yaml"
    path.write_text(GATEWAY.format(data=tmp_path / "data"))
    return path


@pytest.fixture
def records() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def limits() -> MemoryLimits:
    return MemoryLimits()


class Numbers:
    """Randomness that is the same in every run: every call gives bytes of the next number."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, count: int) -> bytes:
        self.drawn += 1
        return bytes([self.drawn]) * count


@pytest.fixture
def outside(config, records, limits) -> Outside:
    def with_stores(settings, work):
        return asyncio.run(work(records, limits))

    return Outside({"AION_PROXY_CONFIG": str(config)}, lambda: NOW, Numbers(), with_stores)


@pytest.fixture
def aion(outside, capsys):
    def aion(words: str | list[str]) -> Result:
        code = run(words.split() if isinstance(words, str) else words, outside)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Result(code, out, err)

    return aion


def refused(result: Result, code: int) -> str:
    """The one line that says why."""
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("aion-proxy: ")
    assert result.err.count("\n") == 1
    return result.err


# usage


def test_without_a_command_it_says_what_there_is(aion):
    result = aion("")
    assert (result.code, result.out) == (2, "")
    assert "COMMAND" in result.err


@pytest.mark.parametrize("words", ["fly", "ledger", "ledger fly", "accounts", "accounts fly", "keys", "keys fly"])
def test_an_unknown_word_is_wrong_usage(aion, words):
    result = aion(words)
    assert (result.code, result.out) == (2, "")
    assert "usage: aion-proxy" in result.err


@pytest.mark.parametrize("words", ["accounts create", "accounts show", "keys revoke", "keys create", "accounts list x"])
def test_a_missing_or_superfluous_word_is_wrong_usage(aion, words):
    assert aion(words).code == 2


@pytest.mark.parametrize(
    "words", ["--help", "serve --help", "accounts --help", "accounts set --help", "keys rotate --help"]
)
def test_help_is_a_result(aion, words):
    result = aion(words)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("usage: aion-proxy")


@pytest.mark.parametrize(
    "words",
    [
        "accounts set acme --requests-per-minute 0",
        "accounts set acme --requests-per-minute -1",
        "accounts set acme --tokens-per-minute 1.5",
        "accounts set acme --tokens-per-day 1_000",
        "accounts set acme --concurrent-requests many",
        "accounts set acme --concurrent-requests 9999999999999999999999",
        "accounts set acme --budget-usd 0 --budget-per day",
        "accounts set acme --budget-usd -1 --budget-per day",
        "accounts set acme --budget-usd 1e3 --budget-per day",
        "accounts set acme --budget-usd 0.0000000001 --budget-per day",
        "accounts set acme --budget-usd 5 --budget-per year",
        "accounts set acme --plan a --default-plan",
        "keys create acme --expires soon",
        "keys create acme --models echo,,echo",
        "keys rotate key_0 --grace -1s",
        "serve --workers 0",
        "demo --port 65536",
        "demo --port x",
    ],
)
def test_a_value_of_a_wrong_form_is_wrong_usage_before_anything_is_opened(aion, outside, words, monkeypatch):
    monkeypatch.setattr("proxy.cli._command", lambda *_: pytest.fail("the command was run"))
    result = aion(words)
    assert (result.code, result.out) == (2, "")
    assert re.search(r"error: (argument --|unrecognized)", result.err)


@pytest.mark.parametrize(
    "words",
    [
        "accounts set acme",
        "accounts set acme --budget-usd 5",
        "accounts set acme --budget-per day",
        "accounts set acme --budget-usd none --budget-per day",
        "keys create acme --expires 0s",
    ],
)
def test_options_that_make_no_sense_together_are_wrong_usage(aion, words):
    aion("accounts create acme")
    refused(aion(words), 2)


def test_a_key_among_the_words_is_not_repeated(aion):
    key = mint_key("acme", bytes(32))
    for words in (["fly", key], ["accounts", "list", key], ["keys", "revoke", key], ["keys", "create", key]):
        result = aion(words)
        assert result.code != 0
        assert key not in result.out + result.err
        assert key[-20:] not in result.out + result.err


# accounts

ACME = {
    "account": "acme",
    "plan": "standard",
    "plan_is_default": True,
    "disabled": False,
    "created": CREATED,
    "limits": {
        "requests_per_minute": {"limit": 600, "used": 0, "remaining": 600, "resets_at": None},
        "concurrent_requests": {"limit": 32, "used": 0, "remaining": 32, "resets_at": None},
    },
    "budget": {"limit_usd": "25", "spent_usd": "0", "held_usd": "0", "resets_at": None, "per": "month"},
    "more_budgets": [],
    "in_flight": 0,
    "overrides": {},
    "problem": None,
}
UNLIMITED = ACME | {"plan": "unlimited", "plan_is_default": False, "limits": {}, "budget": None}


def test_accounts_create_as_json(aion):
    assert aion("accounts create acme --json").document == ACME
    assert aion("accounts create other --plan unlimited --json").document == UNLIMITED | {"account": "other"}


def test_accounts_create_for_people_says_what_to_do_next(aion):
    result = aion("accounts create acme")
    assert result.code == 0
    assert "plan       standard (the default)" in result.out
    assert result.err == "Now make a key for it: aion-proxy keys create acme\n"


def test_accounts_create_refuses_a_taken_name(aion):
    aion("accounts create acme")
    assert "'acme' exists already" in refused(aion("accounts create acme"), 1)


def test_accounts_create_refuses_a_name_of_another_form_as_wrong_usage(aion):
    assert "use 1 to 32 of a-z, 0-9 and _" in refused(aion(["accounts", "create", "Acme Corp"]), 2)


def test_accounts_create_refuses_an_unknown_plan_with_the_nearest(aion):
    assert "did you mean 'standard'?" in refused(aion("accounts create acme --plan standart"), 1)


def test_accounts_list_without_accounts_says_how_to_make_one(aion):
    assert aion("accounts list") == (
        0,
        "There are no accounts yet: make one with `aion-proxy accounts create NAME`.\n",
        "",
    )
    assert aion("accounts list --json").document == {"accounts": []}


def test_accounts_list(aion, limits):
    aion("accounts create zeta --plan unlimited")
    aion("accounts create acme")
    aion("accounts disable zeta")
    limits.spent_nusd, limits.in_flight = 120_000_000, 3
    zeta = UNLIMITED | {"account": "zeta", "disabled": True, "in_flight": 3}
    acme = ACME | {"in_flight": 3, "budget": ACME["budget"] | {"spent_usd": "0.12"}}
    assert aion("accounts list --json").document == {"accounts": [acme, zeta]}
    assert [re.split(r"  +", line.strip()) for line in aion("accounts list").out.splitlines()][2:] == [
        ["acme", "standard (the default)", "enabled", "2026-01-31 08:00 UTC", "3", "$0.12 of $25 a month"],
        ["zeta", "unlimited", "disabled", "2026-01-31 08:00 UTC", "3", "-"],
    ]


def test_accounts_show_as_json(aion, limits):
    aion("accounts create acme")
    limits.used, limits.spent_nusd, limits.held_nusd, limits.in_flight = 30, 5, 6, 1
    limits.resets_ms = NOW + 60_000
    resets_at = "2026-01-31T08:01:00.007Z"
    assert aion("accounts show acme --json").document == ACME | {
        "limits": {
            "requests_per_minute": {"limit": 600, "used": 30, "remaining": 570, "resets_at": resets_at},
            "concurrent_requests": {"limit": 32, "used": 30, "remaining": 2, "resets_at": resets_at},
        },
        "budget": {
            "limit_usd": "25",
            "spent_usd": "0.000000005",
            "held_usd": "0.000000006",
            "resets_at": resets_at,
            "per": "month",
        },
        "in_flight": 1,
    }


def test_accounts_show_for_people(aion, limits):
    aion("accounts create acme")
    aion("accounts set acme --concurrent-requests 40")
    limits.used, limits.spent_nusd, limits.held_nusd = 30, 10**9, 10**9
    limits.resets_ms = NOW + 60_000
    out = aion("accounts show acme").out
    lines = [re.split(r"  +", line.strip()) for line in out.splitlines()]
    assert ["requests per minute", "600", "30", "570", "2026-01-31 08:01:00 UTC"] in lines
    assert ["concurrent requests (its own)", "40", "30", "10", "2026-01-31 08:01:00 UTC"] in lines
    assert ["budget per month", "$25", "$1 + $1 held", "$23", "2026-01-31 08:01:00 UTC"] in lines


def test_an_overdrawn_budget_leaves_nothing_and_not_less(aion, limits):
    aion("accounts create acme")
    limits.spent_nusd, limits.held_nusd = 25 * 10**9, 1
    lines = [re.split(r"  +", line.strip()) for line in aion("accounts show acme").out.splitlines()]
    assert ["budget per month", "$25", "$25 + $0.000000001 held", "$0", "-"] in lines


def test_accounts_show_says_when_nothing_is_limited(aion):
    aion("accounts create acme --plan unlimited")
    assert "Nothing limits this account." in aion("accounts show acme").out


@pytest.mark.parametrize("words", ["show", "set --plan unlimited", "disable", "enable"])
def test_an_account_that_does_not_exist_is_refused_with_the_nearest(aion, words):
    aion("accounts create acme")
    operation, *options = words.split()
    assert "no account 'acne' (did you mean 'acme'?)" in refused(aion(["accounts", operation, "acne", *options]), 1)


def test_accounts_set_changes_limits_of_its_own(aion):
    aion("accounts create acme")
    words = (
        "accounts set acme --requests-per-minute 5 --tokens-per-minute 1000 --concurrent-requests none "
        "--tokens-per-day 7 --budget-usd 1.50 --budget-per day --json"
    )
    document = aion(words).document
    assert {name: limit["limit"] for name, limit in document["limits"].items()} == {
        "requests_per_minute": 5,
        "tokens_per_minute": 1000,
        "tokens_per_day": 7,
    }
    assert (document["budget"]["limit_usd"], document["budget"]["per"]) == ("1.5", "day")
    assert document["overrides"] == {
        "requests_per_minute": 5,
        "tokens_per_minute": 1000,
        "concurrent_requests": None,
        "tokens_per_day": 7,
        "budget_usd": "1.5",
        "budget_per": "day",
    }


def test_accounts_set_can_lift_and_give_back_a_budget(aion):
    aion("accounts create acme")
    aion("accounts set acme --budget-usd 1 --budget-per total")
    lifted = aion("accounts set acme --budget-usd none --json").document
    assert (lifted["budget"], lifted["overrides"]) == (None, {"budget_usd": None})
    assert aion("accounts set acme --budget-usd plan --json").document == ACME


def test_accounts_set_can_go_back_to_the_plans_limits(aion):
    aion("accounts create acme")
    aion("accounts set acme --requests-per-minute 5 --concurrent-requests none")
    words = "accounts set acme --requests-per-minute plan --concurrent-requests plan --json"
    assert aion(words).document == ACME


def test_accounts_set_changes_the_plan_and_back_to_the_default(aion):
    aion("accounts create acme")
    assert aion("accounts set acme --plan unlimited --json").document == UNLIMITED
    assert aion("accounts set acme --default-plan --json").document == ACME


def test_accounts_set_refuses_an_unknown_plan(aion):
    aion("accounts create acme")
    assert "no plan 'gold'; known: standard, unlimited" in refused(aion("accounts set acme --plan gold"), 1)


def test_accounts_disable_and_enable(aion):
    aion("accounts create acme")
    assert aion("accounts disable acme --json").document == ACME | {"disabled": True}
    assert "state      disabled" in aion("accounts disable acme").out
    assert aion("accounts enable acme --json").document == ACME


def test_an_account_whose_plan_is_gone_is_shown_with_a_warning(aion, config):
    aion("accounts create acme --plan unlimited")
    config.write_text(config.read_text().replace("unlimited", "boundless"))
    shown = aion("accounts show acme")
    assert "WARNING: account 'acme' is on the plan 'unlimited', which the configuration does not have" in shown.out
    assert "Nothing limits" not in shown.out
    assert aion("accounts show acme --json").document["problem"] in shown.out
    assert "refused: see `accounts show`" in aion("accounts list").out


# keys


@pytest.fixture
def acme(aion):
    aion("accounts create acme")
    return "acme"


def test_keys_create_as_json(aion, acme):
    assert aion("keys create acme --name ci --expires 90d --models echo --json").document == {
        "key_id": mint_key_id(b"\x04" * 16),
        "account": "acme",
        "key": mint_key("acme", b"\x03" * 32),
        "name": "ci",
        "expires": "2026-05-01T08:00:00.007Z",
        "models": ["demo/echo"],
    }


def test_keys_create_without_options_makes_a_key_for_everything_and_for_ever(aion, acme):
    document = aion("keys create acme --json").document
    assert (document["name"], document["expires"], document["models"]) == ("", None, None)


def test_keys_create_prints_the_key_alone_on_standard_output(aion, acme):
    result = aion("keys create acme")
    assert result == (
        0,
        mint_key("acme", b"\x03" * 32) + "\n",
        f"This is {mint_key_id(bytes([4]) * 16)}, good. Keep the key: it is shown this once.\n",
    )


def test_keys_create_refuses_an_account_that_does_not_exist(aion):
    assert "make it with `aion-proxy accounts create acme`" in refused(aion("keys create acme"), 1)


def test_keys_create_refuses_a_model_that_the_catalog_does_not_have(aion, acme, records):
    assert "no model 'ecko'; did you mean 'echo'?" in refused(aion("keys create acme --models ecko"), 1)
    assert not records.by_digest


def test_keys_create_refuses_a_name_that_would_spoil_a_table(aion, acme):
    assert "printable" in refused(aion(["keys", "create", "acme", "--name", "a\nb"]), 2)


def test_keys_list_shows_hints_and_never_a_key(aion, acme):
    made = aion("keys create acme --name ci --json").document
    aion("keys create acme --expires 1d --models echo")
    listed = aion("keys list acme --json")
    first, second = listed.document["keys"]
    assert first == {
        "key_id": made["key_id"],
        "account": "acme",
        "name": "ci",
        "hint": f"sk-aion-acme-…{made['key'][-4:]}",
        "created": CREATED,
        "expires": None,
        "revoked": None,
        "models": None,
        "last_used": None,
    }
    assert (second["expires"], second["models"]) == ("2026-02-01T08:00:00.007Z", ["demo/echo"])
    table = aion("keys list acme").out
    assert first["hint"] in table
    for shown in (listed.out, table):
        assert made["key"] not in shown
        assert made["key"][13:-4] not in shown


def test_keys_list_for_people(aion, acme):
    key_ids = [aion(f"keys create acme --name {name} --json").document["key_id"] for name in ("1e5", "007")]
    aion(f"keys revoke {key_ids[1]}")
    lines = [re.split(r"  +", line.strip()) for line in aion("keys list acme").out.splitlines()]
    assert [(line[0], line[1], line[3]) for line in lines[2:]] == [
        (key_ids[0], "1e5", "good"),
        (key_ids[1], "007", "revoked 2026-01-31 08:00 UTC"),
    ]


def test_keys_list_tells_an_expired_key_from_one_that_will_expire(aion, acme, records):
    key_id = aion("keys create acme --expires 1d --json").document["key_id"]
    assert "good until 2026-02-01 08:00 UTC" in aion("keys list acme").out
    asyncio.run(records.change_key(key_id, expires_ms=NOW))
    assert "expired 2026-01-31 08:00 UTC" in aion("keys list acme").out


def test_keys_list_without_keys_says_how_to_make_one(aion, acme):
    assert (
        aion("keys list acme").out == "The account acme has no keys yet: make one with `aion-proxy keys create acme`.\n"
    )
    assert aion("keys list acme --json").document == {"keys": []}


def test_keys_list_refuses_an_account_that_does_not_exist(aion):
    assert "no account 'acme'" in refused(aion("keys list acme"), 1)


def test_keys_revoke(aion, acme):
    made = aion("keys create acme --json").document
    assert aion(f"keys revoke {made['key_id']}") == (
        0,
        f"{made['key_id']} (sk-aion-acme-…{made['key'][-4:]}) of account acme: revoked 2026-01-31 08:00 UTC.\n",
        "",
    )
    again = aion(f"keys revoke {made['key_id']} --json").document
    assert (again["key_id"], again["revoked"]) == (made["key_id"], CREATED)


@pytest.mark.parametrize("operation", ["revoke", "rotate"])
def test_a_key_id_that_does_not_exist_is_refused(aion, operation):
    assert "there is no key 'key_0'" in refused(aion(f"keys {operation} key_0"), 1)


def test_keys_rotate_prints_the_new_key_and_gives_the_old_one_a_day(aion, acme):
    old = aion("keys create acme --name ci --models echo --json").document
    document = aion(f"keys rotate {old['key_id']} --json").document
    assert account_of_key(document["key"]) == "acme"
    assert document["key"] != old["key"]
    assert (document["name"], document["models"], document["expires"]) == ("ci", ["demo/echo"], None)
    assert document["replaces"] == aion("keys list acme --json").document["keys"][0]
    assert document["replaces"]["key_id"] == old["key_id"]
    assert document["replaces"]["expires"] == "2026-02-01T08:00:00.007Z"


def test_keys_rotate_for_people(aion, acme):
    old = aion("keys create acme --json").document["key_id"]
    result = aion(f"keys rotate {old} --grace 2h")
    assert account_of_key(result.out.strip()) == "acme"
    assert f"The key it replaces, {old}: good until 2026-01-31 10:00 UTC." in result.err


def test_keys_rotate_without_grace_revokes_at_once(aion, acme):
    old = aion("keys create acme --json").document["key_id"]
    assert aion(f"keys rotate {old} --grace 0s --json").document["replaces"]["revoked"] == CREATED
    assert "has been revoked" in refused(aion(f"keys rotate {old}"), 1)


# the configuration


def test_check_sums_up_a_good_configuration(aion, config):
    assert aion("check") == (0, f"{config}: good: 1 provider, 1 model, 2 plans\n", "")
    assert aion("check --json").document == {"ok": True, "mistakes": []}


def test_check_reports_every_mistake_of_both_files(aion, config):
    config.write_text(config.read_text().replace("default_plan: standard", "default_plan: gold\nworkers: 3"))
    catalog = config.with_name("catalog.yaml")
    catalog.write_text(CATALOG.replace('"0.1"', '"cheap"'))
    result = aion("check")
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert {line.split(": ")[0] for line in lines} == {str(config), str(catalog)}
    assert len(lines) == 3
    as_json = aion("check --json")
    assert (as_json.code, as_json.err) == (2, "")
    document = json.loads(as_json.out)
    assert document["ok"] is False
    assert [
        f"{one['file']}: {one['path']}: {one['problem']}; {one['allowed']}" for one in document["mistakes"]
    ] == lines


def test_check_reports_the_variables_that_serve_would_refuse_while_it_traces(aion, config, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "soon")
    assert aion("check").code == 0
    config.write_text(f"{config.read_text()}tracing: {{enabled: true}}\n")
    result = aion("check")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("environment: OTEL_…: cannot be used: ")
    assert result.err.count("\n") == 1
    monkeypatch.delenv("OTEL_BSP_SCHEDULE_DELAY")
    assert aion("check").code == 0


def test_every_command_reports_a_bad_configuration_and_opens_nothing(aion, config, records):
    records.fail_on = {"accounts"}
    config.write_text("plans: 3")
    result = aion("accounts list")
    assert (result.code, result.out) == (2, "")
    assert str(config) in result.err


def test_a_configuration_that_is_not_there_is_wrong_usage(aion, tmp_path):
    result = aion(["check", "--config", str(tmp_path / "none.yaml")])
    assert result.code == 2
    assert str(tmp_path / "none.yaml") in result.err
    assert "--config" in result.err


@pytest.mark.parametrize(
    "words", ["--config {} accounts list", "accounts --config {} list", "accounts list --config {}"]
)
def test_config_may_stand_anywhere_and_wins_over_the_environment(aion, config, tmp_path, words):
    other = config.rename(tmp_path / "other.yaml")
    assert aion("accounts list").code == 2
    assert aion(words.format(other)).code == 0


def test_the_default_configuration_is_in_the_folder_config(aion, outside, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["check"], Outside({}, outside.clock, outside.random)) == 2
    assert "config/gateway.yaml" in capsys.readouterr().err


# the server's commands


@pytest.fixture
def started(monkeypatch) -> list[tuple[object, ...]]:
    """Stand-ins for the two programs that serve; what they were started with."""
    calls: list[tuple[object, ...]] = []

    def stand_in(*args):
        calls.append(args)
        return 7

    for name in ("app", "demo"):
        module = ModuleType(f"proxy.{name}")
        setattr(module, {"app": "serve"}.get(name, name), stand_in)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_serve_passes_on_its_options_and_the_exit_code(aion, config, started):
    assert aion("serve").code == 7
    assert aion("serve --workers 2 --config other.yaml").code == 7
    assert started == [(config, None), (Path("other.yaml"), 2)]


def test_demo_passes_on_its_options_and_the_exit_code(aion, started):
    assert aion("demo").code == 7
    assert aion("demo --port 9000 --real").code == 7
    assert started == [(8080, False), (9000, True)]


# what can go wrong on the way


def failing(outside: Outside, error: BaseException) -> Outside:
    def with_stores(settings, work):
        raise error

    return Outside(outside.environ, outside.clock, outside.random, with_stores)


def test_a_store_that_is_away_is_one_line_with_what_to_do(outside, capsys):
    away = StoreUnavailable("the store at 10.0.0.1:6379 cannot be used: connection refused")
    assert run(["accounts", "list"], failing(outside, away)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "aion-proxy: the store at 10.0.0.1:6379 cannot be used: connection refused "
        "(`store` in the configuration names the server; try again when it answers)\n"
    )


def test_ctrl_c_ends_it_silently(outside, capsys):
    assert run(["accounts", "list"], failing(outside, KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_a_file_that_cannot_be_used_is_named(outside, capsys):
    assert run(["accounts", "list"], failing(outside, PermissionError(13, "Permission denied", "data/x"))) == 1
    assert capsys.readouterr().err.startswith("aion-proxy: Permission denied: data/x; see that")


def test_an_unforeseen_error_is_one_line_without_its_text(outside, capsys):
    assert run(["accounts", "list"], failing(outside, RuntimeError("password=hunter2"))) == 1
    out, err = capsys.readouterr()
    assert out == ""
    place = r"\(RuntimeError at test_cli\.py:\d+\)"
    assert re.fullmatch(f"aion-proxy: a mistake in the program {place}: please report it with what you typed\n", err)


def test_main_takes_the_words_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["aion-proxy", "--help"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("usage: aion-proxy")


# as a process


def command(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **{"env": environment()} | options,
    )


def environment() -> dict[str, str]:
    """Ours, without what would change the configuration, or how Python writes its output."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("AION_PROXY_", "PYTHONUNBUFFERED"))
    }


def test_accounts_and_keys_outlive_the_command_in_the_embedded_store(config):
    def aion(*words: str):
        result = command(*words, "--config", str(config), "--json")
        assert (result.returncode, result.stderr) == (0, "")
        return json.loads(result.stdout)

    created = aion("accounts", "create", "acme")
    assert created["limits"]["requests_per_minute"]["limit"] == 600
    key = aion("keys", "create", "acme", "--name", "ci", "--expires", "90d", "--models", "echo")
    changed = aion(
        "accounts", "set", "acme", "--tokens-per-day", "5", "--budget-usd", "none", "--concurrent-requests", "9"
    )
    assert changed["overrides"] == {"concurrent_requests": 9, "tokens_per_day": 5, "budget_usd": None}
    assert aion("accounts", "disable", "acme")["disabled"] is True
    assert aion("accounts", "show", "acme") == changed | {"disabled": True}
    assert [account["account"] for account in aion("accounts", "list")["accounts"]] == ["acme"]
    rotated = aion("keys", "rotate", key["key_id"], "--grace", "1h")
    assert rotated["models"] == ["demo/echo"]
    assert aion("keys", "revoke", rotated["key_id"])["revoked"] is not None
    listed = aion("keys", "list", "acme")["keys"]
    assert {one["key_id"]: (one["hint"][-4:], one["revoked"] is None) for one in listed} == {
        key["key_id"]: (key["key"][-4:], True),
        rotated["key_id"]: (rotated["key"][-4:], False),
    }


def test_no_key_is_written_into_the_data_directory(config, tmp_path):
    command("accounts", "create", "acme", "--config", str(config))
    key = command("keys", "create", "acme", "--config", str(config)).stdout.strip()
    assert account_of_key(key) == "acme"
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(b"acme" in path.read_bytes() for path in files)
    assert not any(key.encode() in path.read_bytes() for path in files)


def test_a_letter_that_the_terminal_cannot_show_is_no_reason_to_fail(config):
    command("accounts", "create", "acme", "--config", str(config))
    command("keys", "create", "acme", "--name", "Łódź", "--config", str(config))
    latin = environment() | {"PYTHONIOENCODING": "latin-1"}
    result = command("keys", "list", "acme", "--config", str(config), env=latin, encoding="latin-1")
    assert (result.returncode, result.stderr) == (0, "")
    assert r"\u0141ód\u017a" in result.stdout


def test_a_refusal_is_one_line_and_exit_code_1(config):
    result = command("accounts", "show", "acme", "--config", str(config))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "aion-proxy: there is no account 'acme' (there are none yet); make it with `aion-proxy accounts create acme`\n"
    )


def test_a_store_that_refuses_connections_is_exit_code_1(config):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config.write_text(f"store: redis://:hunter2@127.0.0.1:{unused.getsockname()[1]}\n{config.read_text()}")
        result = command("accounts", "list", "--config", str(config))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("aion-proxy: the store at 127.0.0.1:")
    assert result.stderr.count("\n") == 1
    assert "hunter2" not in result.stderr


def test_ctrl_c_while_the_store_is_silent_is_exit_code_130(config, tmp_path):
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        silent.settimeout(60)
        config.write_text(f"store: unix://{path}\n{config.read_text()}")
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "accounts", "list", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        with silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_has_gone_is_no_traceback(config):
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "proxy", "check", "--config", str(config)],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        env=environment(),
    )
    os.close(writing)
    assert (process.returncode, process.stderr) == (1, b"")


def test_help_loads_no_library_and_no_command_loads_the_server(config):
    code = (
        "import sys; from proxy.cli import main; main(sys.argv[1:]); "
        "print([name for name in ('aiohttp', 'pydantic', 'redis', 'proxy.app', 'uvloop') if name in sys.modules])"
    )

    def loaded(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=environment(),
        )
        return done.stdout.splitlines()[-1]

    assert loaded("--help") == "[]"
    assert loaded("check", "--config", str(config)) == "['pydantic']"
    assert loaded("accounts", "list", "--config", str(config)) == "['pydantic', 'redis']"
