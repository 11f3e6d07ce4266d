"""The record every stage shares: its schema, its shards, and the quarantine for rows that leave."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tailmark.errors import DataError
from tailmark.files import sha256_json, staged_file, storage_errors
from tailmark.taxonomy import Taxonomy

ROWS_PER_SHARD = 50_000
_ZSTD_LEVEL = 6
_QUARANTINE_ROWS, _QUARANTINE_CHARS = 10_000, 1 << 24

MESSAGE = pa.struct([pa.field("role", pa.string(), nullable=False), pa.field("content", pa.string(), nullable=False)])

RECORD = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt", pa.list_(MESSAGE), nullable=False),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("source_name", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("metadata", pa.map_(pa.string(), pa.string()), nullable=False),
    ]
)
"""What ingestion writes. `prompt`: messages, the last one the user's. `split`: train or heldout. `metadata`: what the source
says of the row; a key `marker.<name>` is a value for that marker."""

QUARANTINE = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source_name", pa.string(), nullable=False),
        pa.field("where", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),
    ]
)
"""A row that left. `where`: file and row number. `reason`: a short code, e.g. `empty_completion`. `row`: the row as JSON."""

MARKER_METADATA = "marker."
TRAIN, HELDOUT = "train", "heldout"

Record = dict[str, Any]


def annotated_schema(taxonomy: Taxonomy) -> pa.Schema:
    """`RECORD` plus, per marker in alphabetical order, `markers.<name>`, and the same names under `origin` and `confidence`."""
    names = sorted(taxonomy.markers)
    types = {"categorical": pa.string(), "integer": pa.int64(), "real": pa.float64()}
    markers = pa.struct([pa.field(name, types[taxonomy.markers[name].kind]) for name in names])
    origin = pa.struct([pa.field(name, pa.string()) for name in names])
    confidence = pa.struct([pa.field(name, pa.float32()) for name in names])
    extra = [pa.field("markers", markers), pa.field("origin", origin), pa.field("confidence", confidence)]
    return pa.schema([*RECORD, *(item.with_nullable(False) for item in extra)])


def record_id(prompt: Sequence[Mapping[str, str]], completion: str) -> str:
    """The content's hash, 32 hex digits: equal content has an equal id, whatever its source."""
    content = [[message["role"], message["content"]] for message in prompt]
    return sha256_json([content, completion])[:32]


def write_shards(folder: Path, rows: Iterable[Record], schema: pa.Schema) -> int:
    """Write rows as `part-00000.parquet`, ... of `ROWS_PER_SHARD` rows each; returns the number of rows.

    The same rows give the same bytes. At least one shard is written, so that an empty result has its schema.
    """
    total = 0
    for number, batch in enumerate(_batches(rows, ROWS_PER_SHARD)):
        write_table(folder / f"part-{number:05d}.parquet", pa.Table.from_pylist(batch, schema=schema))
        total += len(batch)
    return total


def _batches(rows: Iterable[Record], size: int) -> Iterator[list[Record]]:
    batch: list[Record] = []
    first = True
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch, first = [], False
    if batch or first:
        yield batch


def write_table(path: Path, table: pa.Table) -> None:
    """Write one Parquet file by rename."""
    with staged_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=_ZSTD_LEVEL)


def shards(folder: Path) -> list[Path]:
    """The shards of a folder in order.

    Raises:
        DataError: there are none, or one of the series is missing.
    """
    paths = sorted(folder.glob("part-*.parquet"))
    expected = [folder / f"part-{number:05d}.parquet" for number in range(len(paths))]
    if not paths or paths != expected:
        missing = next((path for path in expected if path not in paths), folder / "part-00000.parquet")
        raise DataError("A shard is missing.", where=str(missing), fix="run `dvc checkout`, or `dvc repro` to make it again")
    return paths


def row_count(path: Path) -> int:
    """Rows of one Parquet file, from its footer.

    Raises:
        DataError: it is missing or corrupt.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError):
        return int(read_table(path).num_rows)


def read_table(path: Path, schema: pa.Schema | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one Parquet file, or some of its columns.

    Raises:
        DataError: it is missing, corrupt, or does not have the schema asked for.
    """
    try:
        table = pq.read_table(path, columns=list(columns) if columns else None)
    except FileNotFoundError:
        raise DataError("A data file is missing.", where=str(path), fix="run `dvc checkout`, or `dvc repro` to make it again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"A data file is corrupt: {error}", where=str(path), fix="remove it and run `dvc checkout` or `dvc repro`"
        ) from None
    if schema is not None and not table.schema.equals(schema, check_metadata=False):
        raise DataError(
            "A data file does not have the expected columns.", where=str(path), fix="run `dvc repro`: an older version wrote it"
        )
    return table


def read_shards(folder: Path, schema: pa.Schema | None = None) -> Iterator[pa.Table]:
    """The folder's shards as tables, in order."""
    return (read_table(path, schema) for path in shards(folder))


def read_rows(folder: Path, schema: pa.Schema | None = None) -> Iterator[Record]:
    """The folder's rows, in order. `metadata` comes as a dict."""
    for table in read_shards(folder, schema):
        for row in table.to_pylist():
            row["metadata"] = dict(row["metadata"])
            yield row


@dataclass
class Quarantine:
    """Takes the rows that leave a stage, each with its reason; `write` stores them all.

    Memory holds a few thousand of them; the others wait in an unnamed temporary file, which ends with the process.
    """

    stage: str
    _recent: list[Record] = field(default_factory=list, init=False)
    _recent_chars: int = field(default=0, init=False)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)
    _file: IO[bytes] | None = field(default=None, init=False)
    _writer: pq.ParquetWriter | None = field(default=None, init=False)

    def add(self, *, id: str, source_name: str, where: str, reason: str, detail: str, row: str) -> None:
        """Take one row out. `row` is its JSON text."""
        self._recent.append(
            {"id": id, "source_name": source_name, "where": where, "stage": self.stage, "reason": reason, "detail": detail, "row": row}
        )
        self._recent_chars += len(row)
        self._counts[source_name, reason] += 1
        if len(self._recent) >= _QUARANTINE_ROWS or self._recent_chars >= _QUARANTINE_CHARS:
            self._flush()

    def __len__(self) -> int:
        return self._counts.total()

    def __bool__(self) -> bool:
        return True

    def counts(self) -> dict[str, int]:
        """Number of rows by reason."""
        found: Counter[str] = Counter()
        for (_, reason), rows in sorted(self._counts.items(), key=lambda item: item[0][1]):
            found[reason] += rows
        return dict(found)

    def counts_by_source(self) -> dict[str, dict[str, int]]:
        """Source to reason to number of rows."""
        found: dict[str, dict[str, int]] = {}
        for (source, reason), rows in sorted(self._counts.items()):
            found.setdefault(source, {})[reason] = rows
        return found

    def write(self, path: Path) -> None:
        """Store the rows as Parquet, in the order in which they left. No row can be added after that."""
        if self._file is None:
            write_table(path, pa.Table.from_pylist(self._recent, schema=QUARANTINE))
            return
        if self._recent:
            self._flush()
        assert self._writer is not None
        self._writer.close()
        self._file.seek(0)
        with staged_file(path) as temporary, temporary.open("wb") as target:
            shutil.copyfileobj(self._file, target, 1 << 20)
        self._file.close()

    def _flush(self) -> None:
        with storage_errors(Path(tempfile.gettempdir())):
            if self._writer is None:
                self._file = tempfile.TemporaryFile(prefix="tailmark-")  # noqa: SIM115 - lives as long as the quarantine
                self._writer = pq.ParquetWriter(self._file, QUARANTINE, compression="zstd", compression_level=_ZSTD_LEVEL)
            self._writer.write_table(pa.Table.from_pylist(self._recent, schema=QUARANTINE))
        self._recent, self._recent_chars = [], 0


@dataclass(frozen=True)
class RowIdentity:
    """Rows in = kept + duplicates + near duplicates + contaminated + quarantined + not sampled, for one source or in all.

    `not_sampled`: rows without fault that a stratified subset (`ingest.rows`) left out.
    """

    rows_in: int
    kept: int
    duplicates: int = 0
    contaminated: int = 0
    quarantined: int = 0
    not_sampled: int = 0
    near_duplicates: int = 0

    def check(self, what: str) -> None:
        """Raise if rows were lost or made: a defect of ours, not of the user's data."""
        out = self.kept + self.duplicates + self.near_duplicates + self.contaminated + self.quarantined + self.not_sampled
        assert self.rows_in == out, f"{what}: {self.rows_in} rows in, {out} accounted for"

    def __str__(self) -> str:
        near = f" + {self.near_duplicates:,} near duplicates" if self.near_duplicates else ""
        text = (
            f"{self.rows_in:,} in = {self.kept:,} kept + {self.duplicates:,} duplicates{near}"
            f" + {self.contaminated:,} contaminated + {self.quarantined:,} quarantined"
        )
        return f"{text} + {self.not_sampled:,} not sampled" if self.not_sampled else text
