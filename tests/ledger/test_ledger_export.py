"""Exports: every format holds every column of every row."""

import csv
import io
import json
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from ledger_rows import NOON, record
from msgspec.structs import asdict, astuple

from proxy.ledger.export import Format, write
from proxy.usage_record import UsageRecord

ROWS = [
    record("a", metadata='{"order": "7, \\"x\\"\\n", "n": 12345678901234567890123}'),
    record("b", ttft_ms=None, upstream_id=None, price_input_cache_read=None, stream=False, started_at=NOON + 7),
]


def written(how: Format, rows: list[UsageRecord] = ROWS) -> bytes:
    file = io.BytesIO()
    write(map(astuple, rows), how, file)
    return file.getvalue()


def test_json_lines_hold_metadata_as_an_object_and_times_as_text():
    first, second = (json.loads(line) for line in written(Format.JSONL).splitlines())
    assert first.keys() == set(UsageRecord.__struct_fields__)
    assert first["metadata"] == {"order": '7, "x"\n', "n": 12345678901234567890123}
    assert (first["started_at"], second["started_at"]) == ("2026-01-31T12:00:00.000Z", "2026-01-31T12:00:00.007Z")
    assert (second["ttft_ms"], second["stream"], second["cost_pusd"]) == (None, False, ROWS[1].cost_pusd)


def test_csv_has_a_heading_and_a_line_per_row():
    lines = list(csv.DictReader(io.StringIO(written(Format.CSV).decode(), newline="")))
    assert list(lines[0]) == list(UsageRecord.__struct_fields__)
    assert lines[0]["metadata"] == ROWS[0].metadata
    assert (lines[1]["ttft_ms"], lines[1]["stream"], lines[1]["started_at"]) == (
        "",
        "false",
        "2026-01-31T12:00:00.007Z",
    )


@pytest.mark.parametrize("metadata", ['{"a":\n{"request_id":"forged"}\r\n}', "{\r}"])
def test_metadata_that_was_sent_in_several_lines_does_not_end_a_row(metadata: str):
    rows = [record("a", metadata=metadata), record("b")]
    lines = written(Format.JSONL, rows).splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == ["a", "b"]
    assert json.loads(lines[0])["metadata"] == json.loads(metadata)

    table = written(Format.CSV, rows).decode()
    assert len(table.splitlines()) == 3
    assert [line["request_id"] for line in csv.DictReader(io.StringIO(table))] == ["a", "b"]


def test_parquet_has_typed_columns():
    table = pq.read_table(io.BytesIO(written(Format.PARQUET)))
    assert table.column_names == list(UsageRecord.__struct_fields__)
    expected = [{**asdict(row), "started_at": datetime.fromtimestamp(row.started_at / 1000, UTC)} for row in ROWS]
    assert table.to_pylist() == expected


@pytest.mark.parametrize("how", list(Format))
def test_no_rows_are_an_empty_file_of_that_format(how: Format):
    file = io.BytesIO()
    write([], how, file)
    if how is Format.PARQUET:
        assert pq.read_table(io.BytesIO(file.getvalue())).num_rows == 0
    else:
        assert file.getvalue().count(b"\n") == (1 if how is Format.CSV else 0)
