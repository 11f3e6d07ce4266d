"""The settled rows on disk, between sorting and writing: by number, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tailmark.console import Progress
from tailmark.ingest.words import Places
from tailmark.records import HELDOUT, RECORD, ROWS_PER_SHARD, TRAIN, Record, write_table

_WRITERS = 4
_WHERE = "where"
STORED = RECORD.append(pa.field(_WHERE, pa.string(), nullable=False))
"""Rows between sorting and writing: the record, and where it was found."""
Flags = NDArray[np.bool_]


def to_stream(rows: Sequence[tuple[Record, str]]) -> bytes:
    """Rows, each with the place where it was found, as an Arrow stream of schema `STORED`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, STORED) as writer:
        writer.write_table(pa.Table.from_pylist([{**record, _WHERE: where} for record, where in rows], schema=STORED))
    return sink.getvalue().to_pybytes()


def read_stream(stream: bytes) -> Iterator[tuple[Record, str]]:
    """The rows of such a stream."""
    return _rows_of(pa.ipc.open_stream(stream).read_all())


def _rows_of(table: pa.Table) -> Iterator[tuple[Record, str]]:
    for row in table.to_pylist():
        where = row.pop(_WHERE)
        row["metadata"] = dict(row["metadata"])
        yield row, where


class Store:
    """Arrow streams in a folder, one after the other the rows by id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = [0]

    def append(self, rows: bytes, count: int) -> None:
        """Take the next rows in: an Arrow stream."""
        self._path(len(self._starts) - 1).write_bytes(rows)
        self._starts.append(self._starts[-1] + count)

    def __len__(self) -> int:
        return self._starts[-1]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.arrow"

    def _table(self, number: int) -> pa.Table:
        with pa.memory_map(str(self._path(number))) as file:
            return pa.ipc.open_stream(file).read_all()

    def streams(self) -> Iterator[bytes]:
        """All rows, stream after stream."""
        return (self._path(number).read_bytes() for number in range(len(self._starts) - 1))

    def rows(self, numbers: Places) -> Iterator[tuple[Record, str]]:
        """The rows with these numbers, which ascend, each with the place where it was found."""
        cuts = np.searchsorted(numbers, self._starts)
        for file, (first, last) in enumerate(pairwise(cuts)):
            if first < last:
                yield from _rows_of(self._table(file).take(pa.array(numbers[first:last] - self._starts[file], pa.int64())))

    def write(self, folder: Path, kept: Flags, heldout: Flags) -> None:
        """Write the rows that are kept as shards, with their split."""
        progress = Progress("writing", int(kept.sum()))
        with ThreadPoolExecutor(_WRITERS) as pool:
            waiting: deque[tuple[Future[None], int]] = deque()
            for number, shard in enumerate(self._shards(kept, heldout)):
                waiting.append((pool.submit(write_table, folder / f"part-{number:05d}.parquet", shard), shard.num_rows))
                if len(waiting) > _WRITERS:
                    _finish(waiting, progress)
            while waiting:
                _finish(waiting, progress)
        progress.close()

    def _shards(self, kept: Flags, heldout: Flags) -> Iterator[pa.Table]:
        waiting = RECORD.empty_table()
        for number, (start, end) in enumerate(pairwise(self._starts)):
            if kept[start:end].any():
                rows = _with_split(self._table(number), heldout[start:end]).filter(pa.array(kept[start:end]))
                waiting = pa.concat_tables([waiting, rows])
            while waiting.num_rows >= ROWS_PER_SHARD:
                # Only tables without gaps or parts give the same Parquet bytes for the same rows.
                yield waiting.slice(0, ROWS_PER_SHARD).combine_chunks()
                waiting = waiting.slice(ROWS_PER_SHARD)
        if waiting.num_rows:
            yield waiting.combine_chunks()


def _with_split(table: pa.Table, heldout: Flags) -> pa.Table:
    names = pa.array([TRAIN, HELDOUT]).take(pa.array(heldout.astype(np.int8), pa.int8()))
    place = RECORD.get_field_index("split")
    return table.set_column(place, RECORD.field(place), names).select(RECORD.names)


def _finish(waiting: deque[tuple[Future[None], int]], progress: Progress) -> None:
    done, rows = waiting.popleft()
    done.result()
    progress.advance(rows)
