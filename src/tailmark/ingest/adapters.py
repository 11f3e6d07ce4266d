"""The user's own data: JSON lines (also gzip) and Parquet, row by row, with the columns that the config names."""

from __future__ import annotations

import glob
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tailmark.config import Source
from tailmark.errors import DataError
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.records import MARKER_METADATA

_ROLES = ("system", "user", "assistant")
_SUFFIXES = {"jsonl": (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"), "parquet": (".parquet",)}
_COLUMN = "column:"
_BATCH = 4_096

Row = dict[str, Any]


class _Unusable(Exception):
    """A row cannot become a candidate."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read_source(source: Source, root: Path) -> Iterator[Candidate | Reject]:
    """Every row of a `jsonl` or `parquet` source, as a candidate or with the reason why it is none.

    Raises:
        DataError: a file or a column is missing, or a file is not what its name says.
    """
    read = _read_jsonl if source.kind == "jsonl" else _read_parquet
    for path in source_files(source, root):
        shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        for number, row in read(path, source):
            where = f"{shown}:{number}"
            if isinstance(row, Reject):
                yield Reject(where, row.reason, row.detail, row.row)
                continue
            try:
                yield _candidate(row, source, where)
            except _Unusable as problem:
                yield Reject(where, problem.reason, problem.detail, json.dumps(row, ensure_ascii=False, default=str))


def source_files(source: Source, root: Path) -> list[Path]:
    """The files a source's `path` names (a file, a folder or a glob, relative to `root`), in order.

    Raises:
        DataError: there are none.
    """
    assert source.path is not None
    path = root / Path(source.path).expanduser()
    if path.is_file():
        return [path]
    suffixes = _SUFFIXES[source.kind]
    found = path.rglob("*") if path.is_dir() else (Path(name) for name in glob.glob(str(path), recursive=True))
    files = sorted(item for item in found if item.is_file() and item.name.endswith(suffixes))
    if not files:
        what = "has no file ending in " + " or ".join(suffixes) if path.is_dir() else "does not exist"
        fix = "correct `path` under `ingest.sources` in params.yaml"
        raise DataError(f"The path of source '{source.name}' {what}.", where=str(path), fix=fix)
    return files


def needed_columns(source: Source) -> list[str]:
    """The columns without which no row of the source can be read."""
    named = [source.prompt, source.completion, source.messages, source.system, *source.markers.values()]
    named.append(source.license.removeprefix(_COLUMN) if source.license.startswith(_COLUMN) else None)
    return list(dict.fromkeys(name for name in named if name))


def _missing_column(source: Source, column: str, path: Path, known: list[str]) -> DataError:
    fix = f"name one of its columns under `ingest.sources`: {', '.join(known)}" if known else "correct `ingest.sources`"
    return DataError(f"Source '{source.name}' has no column '{column}'.", where=str(path), fix=fix)


def _read_jsonl(path: Path, source: Source) -> Iterator[tuple[int, Row | Reject]]:
    seen: set[str] = set()
    rows = 0
    for number, line in _lines(path):
        if not line.strip():
            continue
        row = _parse(line)
        if isinstance(row, dict):
            rows += 1
            seen.update(row)
        yield number, row
    missing = next((column for column in needed_columns(source) if column not in seen), None)
    if rows and missing:
        raise _missing_column(source, missing, path, sorted(seen))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            yield from enumerate(file, 1)
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise DataError(f"A source file cannot be read to its end: {error}", where=str(path), fix="fetch or pack the file again") from None


def _parse(line: bytes) -> Row | Reject:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Reject("", "corrupt_encoding", str(error), line.decode("utf-8", errors="replace"))
    except (json.JSONDecodeError, RecursionError) as error:
        return Reject("", "corrupt_json", str(error), line.decode("utf-8"))
    if not isinstance(row, dict):
        return Reject("", "not_an_object", f"the line holds a {type(row).__name__}", line.decode("utf-8"))
    return row


def _read_parquet(path: Path, source: Source) -> Iterator[tuple[int, Row | Reject]]:
    columns = needed_columns(source)
    try:
        file = pq.ParquetFile(path)
        known = list(file.schema_arrow.names)
        for column in columns:
            if column not in known:
                raise _missing_column(source, column, path, known)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"A source file is not readable Parquet: {error}", where=str(path), fix="fetch or write the file again") from None


def _candidate(row: Row, source: Source, where: str) -> Candidate:
    prompt, completion = _conversation(row, source)
    if not completion.strip():
        raise _Unusable("empty_completion", "the completion is empty")
    if not prompt or prompt[-1][0] != "user" or not prompt[-1][1].strip():
        raise _Unusable("empty_prompt", "there is no text of the user before the completion")
    return Candidate(where, prompt, completion, _license(row, source), _metadata(row, source))


def _conversation(row: Row, source: Source) -> tuple[tuple[tuple[str, str], ...], str]:
    if source.messages:
        *turns, last = _messages(row.get(source.messages), source.messages) or [("", "")]
        if last[0] != "assistant":
            raise _Unusable("missing_completion", "the last turn is not the assistant's")
        return _with_system(row, source, turns), last[1]
    assert source.prompt is not None
    assert source.completion is not None
    prompt = row.get(source.prompt)
    turns = _messages(prompt, source.prompt) if isinstance(prompt, list) else [("user", _text(prompt, source.prompt, "empty_prompt"))]
    return _with_system(row, source, turns), _text(row.get(source.completion), source.completion, "missing_completion")


def _with_system(row: Row, source: Source, turns: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    system = row.get(source.system) if source.system else None
    if system is None or system == "":
        return tuple(turns)
    return (("system", _text(system, str(source.system), "wrong_type")), *turns)


def _messages(value: object, column: str) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not value:
        raise _Unusable("bad_messages", f"column '{column}' does not hold a list of messages")
    turns = []
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in _ROLES or not isinstance(message.get("content"), str):
            raise _Unusable("bad_messages", f"column '{column}': a message needs a role ({', '.join(_ROLES)}) and text content")
        turns.append((message["role"], message["content"]))
    return turns


def _text(value: object, column: str, when_missing: str) -> str:
    if value is None:
        raise _Unusable(when_missing, f"column '{column}' has no value")
    if not isinstance(value, str):
        raise _Unusable("wrong_type", f"column '{column}' holds a {type(value).__name__}, not text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise _Unusable("corrupt_encoding", f"column '{column}' holds half of a surrogate pair")
    return value


def _license(row: Row, source: Source) -> str:
    if not source.license.startswith(_COLUMN):
        return source.license
    value = row.get(source.license.removeprefix(_COLUMN))
    return value if isinstance(value, str) and value else "unknown"


def _metadata(row: Row, source: Source) -> dict[str, str]:
    found = {MARKER_METADATA + name: str(value) for name, value in source.constants.items()}
    for name, column in source.markers.items():
        value = row.get(column)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _Unusable("wrong_type", f"column '{column}' of marker '{name}' holds a {type(value).__name__}, not text or a number")
        found[MARKER_METADATA + name] = source.values.get(name, {}).get(str(value), str(value))
    return found
