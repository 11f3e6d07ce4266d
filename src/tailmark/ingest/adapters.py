"""The user's own data, row by row: from files, folders, URLs and Hugging Face data sets to candidates and rejects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tailmark.config import Source
from tailmark.config.fields import parse_field
from tailmark.console import say
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.ingest.sources.columns import Columns, Seen, required, used_of
from tailmark.ingest.sources.hub import hub_version, read_hub
from tailmark.ingest.sources.locations import SourceFile, source_files, unwatched
from tailmark.ingest.sources.rows import RowReader
from tailmark.ingest.sources.tables import Numbered, read_csv, read_jsonl, read_parquet
from tailmark.ingest.sources.values import Get, Row, condition, getter, written

__all__ = ["read_source", "source_files", "source_versions", "unwatched"]

Found = dict[str, dict[str, Row]]
"""Name of a lookup to key to the row that others refer to."""

_HEADLESS = ("jsonl", "huggingface")


def read_source(source: Source, root: Path) -> Iterator[Candidate | Reject]:
    """What becomes of every row of a source (of any kind but `starter`), one after the other.

    A row gives one candidate or one reject; with `turns: every`, one of them for each answer of the conversation.

    Args:
        root: the checkout, to which a local path is relative.

    Raises:
        DataError: a file or a column is missing, a file is not what its name says, or an address cannot be reached.
    """
    reader = RowReader(source)
    found = _lookups(source, root)
    keys = {name: getter(parse_field(lookup.on)) for name, lookup in source.lookup.items()}
    for where, row in _rows(source, root, source.limit):
        if isinstance(row, Reject):
            yield Reject(where, row.reason, row.detail, row.row)
        else:
            yield from reader.read(row | _referred(row, found, keys) if found else row, where)


def source_versions(source: Source, root: Path) -> dict[str, dict[str, Any]]:
    """What tells whether a source changed, by file: size and sha256 of a local one, entity tag of a remote one.

    Raises:
        DataError: a file is missing, or an address cannot be reached.
    """
    if source.kind == "starter":
        return {}
    if source.kind == "huggingface":
        return {str(source.path): dict(hub_version(source))}
    return {file.name: dict(file.version()) for file in source_files(source, root)}


def _rows(source: Source, root: Path, limit: int | None = None) -> Iterator[tuple[str, Row | Reject]]:
    """Every row with the place where a person finds it, up to `limit`."""
    columns = Columns(source)
    seen = Seen(columns, required(source))
    for count, (name, number, row) in enumerate(_numbered(source, root, columns), 1):
        if source.kind in _HEADLESS and not isinstance(row, Reject):
            seen.add(row, name)
        yield f"{name}:{number}", row
        if count == limit:
            say(f"  source '{source.name}': stopped after {count:,} rows, its `limit`")
            break
    seen.close(str(source.path))


def _numbered(source: Source, root: Path, columns: Columns) -> Iterator[tuple[str, int, Row | Reject]]:
    if source.kind == "huggingface":
        for number, row in read_hub(source, root, columns):
            yield f"{source.path}/{source.split}", number, row
        return
    for file in source_files(source, root):
        for number, row in _read(file, source, columns):
            yield file.name, number, row


def _read(file: SourceFile, source: Source, columns: Columns) -> Numbered:
    if source.kind == "jsonl":
        return read_jsonl(file)
    if source.kind == "csv":
        return read_csv(file, columns, source.delimiter)
    return read_parquet(file, columns)


def _lookups(source: Source, root: Path) -> Found:
    """The rows that others refer to: of equal keys the first, of each row only what is used."""
    tests = {name: (condition(lookup.where), getter(parse_field(lookup.on))) for name, lookup in source.lookup.items()}
    used = {name: used_of(source, name) for name in source.lookup}
    found: Found = {name: {} for name in source.lookup}
    for _, row in _rows(source, root) if tests else ():
        if isinstance(row, Reject):
            continue
        for name, (fits, key) in tests.items():
            if fits(row) and (value := key(row)) is not None:
                found[name].setdefault(written(value), {column: row.get(column) for column in used[name]})
    return found


def _referred(row: Row, found: Found, keys: Mapping[str, Get]) -> Row:
    values = {name: key(row) for name, key in keys.items()}
    return {name: None if value is None else found[name].get(written(value)) for name, value in values.items()}
