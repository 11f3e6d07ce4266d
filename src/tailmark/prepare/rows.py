"""The annotated rows, encoded: those that are kept, and those that leave with a reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from tailmark.console import Progress
from tailmark.engine import Run
from tailmark.errors import DataError
from tailmark.prepare.examples import Example, Rejected
from tailmark.prepare.work import encode
from tailmark.records import Quarantine, RowIdentity, read_table, shards

BATCH = 500
"""Rows that a worker gets at once."""


@dataclass
class Rows:
    """What became of the annotated rows."""

    examples: list[Example] = field(default_factory=list)
    quarantine: Quarantine = field(default_factory=lambda: Quarantine("prepare"))
    rows_in: int = 0

    @classmethod
    def read(cls, folder: Path, schema: pa.Schema, run: Run) -> Rows:
        """Read and encode every row of a folder, batch by batch."""
        rows = cls()
        tables = [(path, read_table(path, schema)) for path in shards(folder)]
        progress = Progress("tokenizing", sum(table.num_rows for _, table in tables))
        places = [(path, start, table.slice(start, BATCH)) for path, table in tables for start in range(0, table.num_rows, BATCH)]
        results = run(encode, (table.to_pylist() for _, _, table in places))
        for (path, start, table), encoded in zip(places, results, strict=True):
            rows._take(table, encoded, path, start)
            progress.advance(table.num_rows)
        progress.close()
        rows.identity.check("prepare")
        return rows

    def _take(self, batch: pa.Table, results: Sequence[Example | Rejected], path: Path, start: int) -> None:
        self.rows_in += batch.num_rows
        for number, result in enumerate(results, start):
            if isinstance(result, Example):
                self.examples.append(result)
            else:
                (row,) = batch.slice(number - start, 1).to_pylist()
                text = json.dumps(row, ensure_ascii=False, sort_keys=True)
                where = f"{path.name}, row {number}"
                source = row["source_name"]
                self.quarantine.add(id=row["id"], source_name=source, where=where, reason=result.reason, detail=result.detail, row=text)

    def of(self, split: str) -> list[Example]:
        """The examples of a split, by id."""
        found = sorted((example for example in self.examples if example.split == split), key=lambda example: example.id)
        if not found:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in self.quarantine.counts().items()) or "none in quarantine"
            raise DataError(
                f"No {split} row is left of {self.rows_in:,} annotated rows ({counts}).",
                where="prepare",
                fix="raise `prepare.pack_length` if rows are too long; raise `ingest.rows` or `ingest.heldout_fraction` if there are none",
            )
        return found

    @property
    def identity(self) -> RowIdentity:
        """Rows in = kept + quarantined."""
        return RowIdentity(self.rows_in, len(self.examples), quarantined=len(self.quarantine))
