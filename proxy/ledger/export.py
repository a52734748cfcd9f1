"""Rows of the ledger as files: CSV, JSON lines and Parquet, one row after the other.

Names are the ledger's own. A time is RFC 3339 in UTC (a timestamp in Parquet), a cost a whole number of pico-dollars;
`metadata` is JSON, as an object in JSON lines and as text elsewhere.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from types import ModuleType
from typing import Any, BinaryIO, Final

import orjson
from msgspec.structs import asdict, astuple

from proxy.usage_record import UsageRecord

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS: Final = UsageRecord.__struct_fields__
_STARTED: Final = _FIELDS.index("started_at")
_ROWS_IN_A_GROUP: Final = 50_000


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def write(rows: Iterable[UsageRecord], how: Format, to: BinaryIO) -> None:
    """Write all rows; raises what the file raises."""
    {Format.CSV: _csv, Format.JSONL: _json_lines, Format.PARQUET: _parquet}[how](rows, to)


def moment(ms: int) -> str:
    """Write Unix milliseconds as RFC 3339, in UTC."""
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def _csv(rows: Iterable[UsageRecord], to: BinaryIO) -> None:
    text = io.TextIOWrapper(to, "utf-8", newline="")
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_FIELDS)
        for row in rows:
            values = list(astuple(row))
            values[_STARTED] = moment(row.started_at)
            writer.writerow("" if value is None else _plain(value) for value in values)
        text.flush()
    finally:
        text.detach()  # the file is its owner's to close


def _plain(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _json_lines(rows: Iterable[UsageRecord], to: BinaryIO) -> None:
    for row in rows:
        document = {**asdict(row), "started_at": moment(row.started_at)}
        if row.metadata is not None:
            document["metadata"] = orjson.Fragment(row.metadata)
        to.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def _parquet(rows: Iterable[UsageRecord], to: BinaryIO) -> None:
    import pyarrow as pa  # noqa: PLC0415 - large, and needed for this alone
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = _arrow_schema(pa)
    with pq.ParquetWriter(to, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            writer.write_table(pa.Table.from_pylist([asdict(row) for row in batch], schema=schema))


def _arrow_schema(pa: ModuleType) -> Any:  # noqa: ANN401 - the library has no types
    kinds = {int: pa.int64(), str: pa.string(), bool: pa.bool_()}
    fields = []
    for name, annotation in UsageRecord.__annotations__.items():
        options = getattr(annotation, "__args__", (annotation,))
        kind = pa.timestamp("ms", tz="UTC") if name == "started_at" else kinds[options[0]]
        fields.append(pa.field(name, kind, nullable=type(None) in options))
    return pa.schema(fields)


def _batches(rows: Iterable[UsageRecord]) -> Iterator[list[UsageRecord]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _ROWS_IN_A_GROUP)):
        yield batch
