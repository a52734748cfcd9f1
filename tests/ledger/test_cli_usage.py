"""The commands `usage` and `ledger …`: what they print for people and for programs, and their exit codes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ledger_rows import HOUR, NOON, record
from sqlalchemy import text

from proxy.cli import run
from proxy.cli_outside import Outside
from proxy.ledger import export
from proxy.ledger.database import Ledger
from specimens import ECHO_CATALOG_FILE as CATALOG

CONFIG = "data_dir: {folder}/data\nproviders: {{demo: {{builtin: demo}}}}\n{more}"
DAY = 24 * HOUR


class Bench:
    """A configuration, its ledger, and the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], more: str = "") -> None:
        self.folder = folder
        (folder / "catalog.yaml").write_text(CATALOG)
        (folder / "gateway.yaml").write_text(CONFIG.format(folder=folder, more=more))
        self._capsys = capsys

    def write(self, *rows) -> None:
        ledger = Ledger.open("embedded", self.folder / "data")
        ledger.insert(rows)
        ledger.close()

    def damage(self, sql: str) -> None:
        ledger = Ledger.open("embedded", self.folder / "data")
        with ledger.writing() as connection:
            connection.execute(text(sql))
        ledger.close()

    def run(self, *words: str) -> tuple[int, str, str]:
        outside = Outside(
            {"AION_PROXY_CONFIG": str(self.folder / "gateway.yaml"), "PATH": os.environ["PATH"]},
            lambda: NOON + DAY,
            os.urandom,
        )
        code = run(words, outside)
        return code, *self._capsys.readouterr()

    def document(self, *words: str):
        code, out, err = self.run(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


@pytest.fixture
def used(bench: Bench) -> Iterator[Bench]:
    bench.write(
        record("a"),
        record("b", account="zeta", key_id="key_2", model="demo/other", usage_source="estimated"),
        record("c", started_at=NOON - 40 * DAY),
    )
    return bench


def test_usage_before_any_request_is_an_empty_page_and_document(bench: Bench):
    assert bench.run("usage") == (0, "The ledger has no requests that match.\n", "")
    document = bench.document("usage")
    assert document["rows"] == []
    assert document["total"]["requests"] == 0


def test_usage_is_a_document_of_rows_and_a_total(used: Bench):
    document = used.document("usage", "--by", "account,model")
    counts = {"requests": 1, "prompt_tokens": 100, "cached_tokens": 40, "completion_tokens": 10, "reasoning_tokens": 3}
    zeta = {"account": "zeta", "model": "demo/other", **counts, "cost_usd": "0.000072", "estimated_requests": 1}
    assert document["rows"][1] == zeta
    assert document["total"] == {
        **{name: count * 3 for name, count in counts.items()},
        "cost_usd": "0.000216",
        "estimated_requests": 1,
    }


def test_usage_is_told_by_account_unless_asked_otherwise(used: Bench):
    assert [(row["account"], row["requests"]) for row in used.document("usage")["rows"]] == [("acme", 2), ("zeta", 1)]


def test_days_are_dates_and_hours_moments(used: Bench):
    rows = used.document("usage", "--by", "day,hour,key")["rows"]
    assert [row["day"] for row in rows] == ["2025-12-22", "2026-01-31", "2026-01-31"]
    assert rows[1]["hour"] == "2026-01-31T12:00:00.000Z"
    assert rows[2]["key"] == "key_2"


@pytest.mark.parametrize(
    ("words", "requests"),
    [
        (["--since", "7d"], 2),
        (["--since", "2d", "--account", "zeta"], 1),
        (["--until", "2026-01-01"], 1),
        (["--since", "2026-01-31T12:00:00Z"], 2),
        (["--since", "2026-01-31T13:00:00+01:00", "--until", "2026-01-31T12:00:00.001"], 2),
        (["--since", "2026-01-31T12:00:00.001Z"], 0),
        (["--account", "nobody"], 0),
    ],
)
def test_usage_of_a_span_of_time(used: Bench, words: list[str], requests: int):
    assert used.document("usage", *words)["total"]["requests"] == requests


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["usage", "--by", "colour"], "'colour' is none of account, key, model, day, hour"),
        (["usage", "--by", "day,day"], "'day,day' names a column twice"),
        (["usage", "--since", "yesterday"], "'yesterday' is neither how long ago"),
        (["usage", "--since", "9999999d"], "--since"),
        (["ledger", "export"], "--format"),
        (["ledger", "export", "--format", "xml"], "--format"),
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(bench: Bench, words: list[str], said: str):
    code, out, err = bench.run(*words)
    assert (code, out) == (2, "")
    assert said in err


def test_a_person_sees_a_table_with_a_total(used: Bench):
    _, out, _ = used.run("usage")
    lines = out.splitlines()
    assert lines[0].split() == [
        *("account", "requests", "estimated", "prompt", "cached", "completion", "reasoning", "cost", "USD")
    ]
    assert lines[-1].split() == ["in", "all", "3", "1", "300", "120", "30", "9", "0.000216"]


def test_rows_are_exported_by_time_and_span(used: Bench):
    code, out, _ = used.run("ledger", "export", "--format", "jsonl")
    assert (code, [json.loads(line)["request_id"] for line in out.splitlines()]) == (0, ["c", "a", "b"])
    _, out, _ = used.run("ledger", "export", "--format", "csv", "--since", "7d")
    assert len(out.splitlines()) == 3


def test_an_export_goes_into_a_file(used: Bench):
    file = used.folder / "rows.parquet"
    assert used.run("ledger", "export", "--format", "parquet", "--output", str(file)) == (0, "", "")
    assert pq.read_table(file).num_rows == 3


def test_without_its_library_parquet_is_refused_with_the_remedy_and_no_file_is_touched(used: Bench, monkeypatch):
    monkeypatch.setattr(export, "_PARQUET_NEEDS", "a_package_that_nobody_has")
    file = used.folder / "rows.parquet"
    file.write_bytes(b"older rows")
    code, out, err = used.run("ledger", "export", "--format", "parquet", "--output", str(file))
    assert (code, out, file.read_bytes()) == (1, "", b"older rows")
    assert "requirements-parquet.txt" in err


def test_a_folder_that_is_not_there_is_named(used: Bench):
    code, out, err = used.run("ledger", "export", "--format", "csv", "--output", str(used.folder / "no" / "file"))
    assert (code, out) == (1, "")
    assert "no/file" in err


def test_a_whole_ledger_is_proved(used: Bench):
    document = used.document("ledger", "verify")
    assert (document["ok"], document["rows"]) == (True, 3)
    assert [check["name"] for check in document["checks"]] == [
        "no request id twice",
        "cost is tokens times prices",
        "hourly sums equal rows",
        "daily sums equal rows",
        "account totals equal rows",
        "counters equal account totals",
    ]


def test_a_damaged_ledger_is_an_exit_code_and_a_line(used: Bench):
    used.damage("UPDATE usage SET cost_pusd = 1 WHERE request_id = 'a'")
    code, out, _ = used.run("ledger", "verify")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["ok", "WRONG", "WRONG", "WRONG", "WRONG", "ok"]


def test_a_counter_that_differs_is_told(bench: Bench):
    bench.run("accounts", "create", "acme")
    bench.write(record("a"))
    code, out, _ = bench.run("ledger", "verify", "--json")
    (check,) = [check for check in json.loads(out)["checks"] if check["name"].startswith("counters")]
    assert (code, check["ok"]) == (1, False)
    assert "acme 110 tokens and 0.000072 USD" in check["detail"]


def test_a_ledger_of_a_newer_version_is_refused_with_the_way_out(used: Bench):
    used.damage("INSERT INTO ledger_version (version) VALUES (99)")
    code, out, err = used.run("usage")
    assert (code, out) == (1, "")
    assert err.startswith("aion-proxy: the ledger has version 99")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["usage", "--since", "90m"], ["ledger", "export", "--format", "csv"], ["ledger", "verify"]]
)
def test_a_ledger_that_fails_while_it_is_read_is_one_line_that_says_so(used: Bench, words: list[str]):
    used.damage("DROP TABLE usage")
    code, _, err = used.run(*words)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("aion-proxy: the ledger cannot be used: no such table: usage (`ledger` in the configuration")


def test_a_database_that_is_away_is_one_line_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
):
    url = f"postgresql://ledger:hunter2@127.0.0.1:{unused_tcp_port}/usage"
    code, out, err = Bench(tmp_path, capsys, f"ledger: {url}\n").run("usage")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("aion-proxy: the ledger cannot be used: connection failed")
    assert "hunter2" not in err
