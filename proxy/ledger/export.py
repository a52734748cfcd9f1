"""Rows of the ledger as files: CSV, JSON lines and Parquet, one row after the other.

Names are the ledger's own. A time is RFC 3339 in UTC (a timestamp in Parquet), a cost a whole number of pico-dollars;
`metadata` is JSON, as an object in JSON lines and as text elsewhere; where a row is a line, it has no line breaks.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from types import ModuleType
from typing import Any, BinaryIO, Final

import orjson

from proxy.usage_record import UsageRecord

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS: Final = UsageRecord.__struct_fields__
_STARTED: Final = _FIELDS.index("started_at")
_STREAM: Final = _FIELDS.index("stream")
_METADATA: Final = _FIELDS.index("metadata")
_BREAKS: Final = str.maketrans("\r\n", "  ")
"""Inside of a JSON text a line can only break between two values: a blank there means the same."""
_SECONDS_KEPT: Final = 1_024
_ROWS_IN_A_GROUP: Final = 50_000
_PARQUET_NEEDS: Final = "pyarrow"


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class FormatUnavailable(Exception):  # noqa: N818 - the state of this installation
    """Rows cannot be written so here; the message says what to install."""


def ensure_available(how: Format) -> None:
    """Raise `FormatUnavailable` if this installation lacks what the format needs."""
    if how is Format.PARQUET and find_spec(_PARQUET_NEEDS) is None:
        raise FormatUnavailable(
            f"Parquet needs the package {_PARQUET_NEEDS}, which is not installed: `pip install --requirement "
            "requirements-parquet.txt` beside the gateway (build an image with `--build-arg PARQUET=yes`), or choose "
            "csv or jsonl"
        )


def write(rows: Iterable[Sequence[Any]], how: Format, to: BinaryIO) -> None:
    """Write all rows, each the values of `UsageRecord`'s fields in their order; raises what the file raises.

    Ask `ensure_available` first.
    """
    {Format.CSV: _csv, Format.JSONL: _json_lines, Format.PARQUET: _parquet}[how](rows, to)


def _csv(rows: Iterable[Sequence[Any]], to: BinaryIO) -> None:
    text = io.TextIOWrapper(to, "utf-8", newline="")
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_FIELDS)
        day_and_time = lru_cache(_SECONDS_KEPT)(_day_and_time)
        for row in rows:
            values = list(row)
            values[_STREAM] = "true" if values[_STREAM] else "false"
            values[_STARTED] = _moment(values[_STARTED], day_and_time)
            values[_METADATA] = _in_one_line(values[_METADATA])
            writer.writerow(values)
        text.flush()
    finally:
        text.detach()  # the file is its owner's to close


def _json_lines(rows: Iterable[Sequence[Any]], to: BinaryIO) -> None:
    day_and_time = lru_cache(_SECONDS_KEPT)(_day_and_time)
    for row in rows:
        document = dict(zip(_FIELDS, row, strict=True))
        document["started_at"] = _moment(document["started_at"], day_and_time)
        metadata = _in_one_line(document["metadata"])
        document["metadata"] = None if metadata is None else orjson.Fragment(metadata)
        to.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def _parquet(rows: Iterable[Sequence[Any]], to: BinaryIO) -> None:
    import pyarrow as pa  # noqa: PLC0415 - large, and needed for this alone
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = _arrow_schema(pa)
    with pq.ParquetWriter(to, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            columns = [
                pa.array(values, type=field.type)
                for values, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _arrow_schema(pa: ModuleType) -> Any:  # noqa: ANN401 - the library has no types
    kinds = {int: pa.int64(), str: pa.string(), bool: pa.bool_()}
    fields = []
    for name, annotation in UsageRecord.__annotations__.items():
        options = getattr(annotation, "__args__", (annotation,))
        kind = pa.timestamp("ms", tz="UTC") if name == "started_at" else kinds[options[0]]
        fields.append(pa.field(name, kind, nullable=type(None) in options))
    return pa.schema(fields)


def _batches(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _ROWS_IN_A_GROUP)):
        yield batch


def _in_one_line(metadata: str | None) -> str | None:
    """Return what a client sent without its line breaks, with which it could end a row and begin another."""
    return None if metadata is None else metadata.translate(_BREAKS)


def _moment(ms: int, day_and_time: Callable[[int], str]) -> str:
    """Write Unix milliseconds as RFC 3339, in UTC."""
    return f"{day_and_time(ms // 1000)}.{ms % 1000:03d}Z"


def _day_and_time(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
