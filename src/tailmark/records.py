"""The record every stage shares: its schema, its shards, and the quarantine for rows that leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tailmark.errors import DataError
from tailmark.files import sha256_json, staged_file
from tailmark.taxonomy import Taxonomy

ROWS_PER_SHARD = 50_000
_ZSTD_LEVEL = 6

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


def read_table(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """Read one Parquet file.

    Raises:
        DataError: it is missing, corrupt, or does not have the schema asked for.
    """
    try:
        table = pq.read_table(path)
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
    """Collects the rows that leave a stage, each with its reason; `write` stores them all."""

    stage: str
    rows: list[Record] = field(default_factory=list)

    def add(self, *, id: str, source_name: str, where: str, reason: str, detail: str, row: str) -> None:
        """Take one row out. `row` is its JSON text."""
        self.rows.append(
            {"id": id, "source_name": source_name, "where": where, "stage": self.stage, "reason": reason, "detail": detail, "row": row}
        )

    def counts(self) -> dict[str, int]:
        """Number of rows by reason."""
        return dict(sorted(Counter(row["reason"] for row in self.rows).items()))

    def write(self, path: Path) -> None:
        """Store the rows as Parquet."""
        write_table(path, pa.Table.from_pylist(self.rows, schema=QUARANTINE))


@dataclass(frozen=True)
class RowIdentity:
    """Rows in = kept + duplicates + contaminated + quarantined + not sampled, for one source or in all.

    `not_sampled`: rows without fault that a stratified subset (`ingest.rows`) left out.
    """

    rows_in: int
    kept: int
    duplicates: int = 0
    contaminated: int = 0
    quarantined: int = 0
    not_sampled: int = 0

    def check(self, what: str) -> None:
        """Raise if rows were lost or made: a defect of ours, not of the user's data."""
        out = self.kept + self.duplicates + self.contaminated + self.quarantined + self.not_sampled
        assert self.rows_in == out, f"{what}: {self.rows_in} rows in, {out} accounted for"

    def __str__(self) -> str:
        text = (
            f"{self.rows_in:,} in = {self.kept:,} kept + {self.duplicates:,} duplicates"
            f" + {self.contaminated:,} contaminated + {self.quarantined:,} quarantined"
        )
        return f"{text} + {self.not_sampled:,} not sampled" if self.not_sampled else text
