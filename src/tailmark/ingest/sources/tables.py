"""Rows of JSON lines, CSV and Parquet, one after the other, each with its number in the file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from tailmark.errors import DataError
from tailmark.ingest.candidate import Reject
from tailmark.ingest.sources.columns import Columns
from tailmark.ingest.sources.locations import SourceFile, reading
from tailmark.ingest.sources.values import Row

_BATCH = 1_024
_LONGEST_CELL = 10_000_000
"""Characters of a cell of CSV, so that a quote which is never closed takes neither the memory nor the rest of the file."""

_ARRAY = re.compile(rb"\s*\[\s*(\{|$)")

Numbered = Iterator[tuple[int, Row | Reject]]


def read_jsonl(file: SourceFile) -> Numbered:
    """JSON objects, one a line. Blank lines are no rows."""
    with reading(file.name), file.unpacked() as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                    _check_no_array(line, file.name)
                yield number, _parse(line)


def _check_no_array(line: bytes, name: str) -> None:
    if _ARRAY.match(line):
        raise DataError("The file is one JSON array, not JSON lines.", where=name, fix="`jq -c '.[]' FILE > FILE.jsonl` makes lines of it")


def _parse(line: bytes) -> Row | Reject:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Reject("", "corrupt_encoding", str(error), line.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError) as error:
        return Reject("", "corrupt_json", str(error), line.decode("utf-8"))
    if not isinstance(row, dict):
        return Reject("", "not_an_object", f"the line holds a {type(row).__name__}", line.decode("utf-8"))
    return row


class _Recorded:
    """Lines, of which those since the last `take` can be had again."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._since: list[str] = []

    def __iter__(self) -> _Recorded:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._since.append(line)
        return line

    def take(self) -> str:
        text, self._since = "".join(self._since), []
        return text


def read_csv(file: SourceFile, columns: Columns, delimiter: str | None) -> Numbered:
    """Rows of CSV with a head. A row's number is that of its first line; an empty cell is an empty text."""
    csv.field_size_limit(_LONGEST_CELL)
    delimiter = delimiter or ("\t" if ".tsv" in file.name.lower() else ",")
    with reading(file.name), file.unpacked() as stream:
        # Bytes that are not UTF-8 become surrogates, which `checked` finds, so that only their row leaves.
        lines = _Recorded(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=""))
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        head = next(reader, None)
        _check_head(head or [], columns, file.name)
        yield from _csv_rows(reader, head or [], lines)


def _check_head(head: list[str], columns: Columns, name: str) -> None:
    twice = next((column for column in columns.among(head, name) if head.count(column) > 1), None)
    if twice:
        raise DataError(f"The column '{twice}' stands twice in the head.", where=name, fix="rename one of them")


def _csv_rows(reader: Iterator[list[str]], head: list[str], lines: _Recorded) -> Numbered:
    while True:
        lines.take()
        number = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, Reject("", "corrupt_csv", str(error), _printable(lines.take()))
            continue
        if not cells:
            continue
        if len(cells) != len(head):
            detail = f"{len(cells)} cells; the head has {len(head)}"
            yield number, Reject("", "wrong_columns", detail, _printable(lines.take()))
            continue
        yield number, dict(zip(head, cells, strict=True))


def _printable(text: str) -> str:
    """The text with replacement characters for what is not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_parquet(file: SourceFile, columns: Columns) -> Numbered:
    """Rows of Parquet, of the columns asked for; numbers count from 1."""
    with reading(file.name), file.open() as stream:
        parquet = pq.ParquetFile(stream)
        chosen = columns.among(parquet.schema_arrow.names, file.name)
        number = 0
        for batch in parquet.iter_batches(batch_size=_BATCH, columns=chosen):
            for row in _rows(batch):
                number += 1
                yield number, row


def _rows(batch: pa.RecordBatch) -> Iterator[Row | Reject]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            yield _row(batch.slice(place, 1))


def _row(single: pa.RecordBatch) -> Row | Reject:
    try:
        return single.to_pylist()[0]
    except UnicodeDecodeError as error:
        return Reject("", "corrupt_encoding", str(error), "")
