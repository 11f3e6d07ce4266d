"""The annotated rows, column by column: no text stays in memory but that of a sample and of a few examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tailmark.console import Progress
from tailmark.records import Record, annotated_schema, read_table, row_count, shards
from tailmark.taxonomy import Taxonomy

PLAIN = ("id", "source_name", "license", "split")
PARTS = ("markers", "origin", "confidence")
_EXAMPLES = 2
MANY = 200_000
"""Rows from which on reading and checking show how far they are."""


def column(part: str, name: str) -> str:
    """The frame's column of a marker: `markers.lang`, `origin.lang`, `confidence.lang`, `measured.length_tokens`, ..."""
    return f"{part}.{name}"


def columns(taxonomy: Taxonomy) -> list[str]:
    """The columns of `Annotated.frame`, before any is derived."""
    return [*PLAIN, "last_role", "completion_chars", *(column(part, name) for part in PARTS for name in sorted(taxonomy.markers))]


@dataclass
class Annotated:
    """All annotated rows.

    Attributes:
        frame: one row each, in the order of the shards, without texts; what has few distinct values is categorical. `last_role`: of the
            prompt's last message (none: an empty prompt). `completion_chars`: without blanks at its ends.
        shards: name and number of rows of each shard.
        sample: position in the frame to the whole row, evenly spread over the positions (ids are hashes, so that is a random sample).
        examples: (marker, value) to the first whole rows that have it.
    """

    frame: pd.DataFrame
    shards: list[tuple[str, int]]
    sample: dict[int, Record] = field(default_factory=dict)
    examples: dict[tuple[str, str], list[Record]] = field(default_factory=dict)

    def places(self, positions: Sequence[int] | npt.NDArray[np.int64]) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The shard and the row number in it (from 0) of each position."""
        starts = np.cumsum([0, *(rows for _, rows in self.shards)])
        numbers = np.searchsorted(starts, positions, side="right") - 1
        return [self.shards[number][0] for number in numbers], np.asarray(positions, dtype=np.int64) - starts[numbers]


def load(folder: Path, taxonomy: Taxonomy, sample_rows: int = 0) -> Annotated:
    """Read the shards once, one after the other.

    Raises:
        DataError: a shard is missing, corrupt, or written with another taxonomy.
    """
    paths = shards(folder)
    sizes = [row_count(path) for path in paths]
    total = sum(sizes)
    progress = Progress("reading", total) if total > MANY else None
    wanted = np.unique(np.linspace(0, max(total - 1, 0), num=min(sample_rows, total), dtype=np.int64))
    picker = _Examples([name for name, spec in sorted(taxonomy.markers.items()) if spec.kind == "categorical"])
    found: list[pa.Table] = []
    sample: dict[int, Record] = {}
    start = 0
    for path, rows in zip(paths, sizes, strict=True):
        table = read_table(path, annotated_schema(taxonomy))
        flat = _flat(table, taxonomy)
        here = wanted[(wanted >= start) & (wanted < start + rows)]
        sample.update(zip(here.tolist(), _rows(table, here - start), strict=True))
        picker.look(table, flat)
        found.append(flat)
        start += rows
        if progress:
            progress.advance(rows)
    if progress:
        progress.close()
    return Annotated(_frame(found), [(path.name, rows) for path, rows in zip(paths, sizes, strict=True)], sample, picker.found)


def _frame(tables: list[pa.Table]) -> pd.DataFrame:
    """One frame of all shards' columns; takes the tables out of the list, so that memory is not held twice."""
    whole: Any = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    tables.clear()
    frame: pd.DataFrame = whole.to_pandas(split_blocks=True, self_destruct=True, types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


def _flat(table: pa.Table, taxonomy: Taxonomy) -> pa.Table:
    found: dict[str, Any] = {name: table[name] if name == "id" else _encoded(table[name]) for name in PLAIN}
    found["last_role"] = _encoded(_last_roles(table["prompt"]))
    found["completion_chars"] = pc.utf8_length(pc.utf8_trim_whitespace(table["completion"])).cast(pa.int32())
    for part in PARTS:
        for name in sorted(taxonomy.markers):
            values = pc.struct_field(table[part], name)
            found[column(part, name)] = _encoded(values) if pa.types.is_string(values.type) else values
    return pa.table(found)


def _encoded(values: Any) -> Any:
    return pc.dictionary_encode(values)


def _last_roles(prompts: Any) -> Any:
    """The role of the last message of each prompt; none for a prompt without messages."""
    lists = prompts.combine_chunks()
    ends = np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))
    last = pa.array(ends - 1, mask=lists.value_lengths().to_numpy(zero_copy_only=False) == 0)
    return lists.flatten().field("role").take(last)


def _rows(table: pa.Table, numbers: npt.NDArray[np.int64]) -> Iterator[Record]:
    found: list[Record] = table.take(numbers).to_pylist()
    for row in found:
        row["metadata"] = dict(row["metadata"])
        yield row


class _Examples:
    """Keeps the first rows of every value."""

    def __init__(self, markers: Sequence[str]) -> None:
        self._markers = markers
        self._kept: Counter[tuple[str, str]] = Counter()
        self.found: dict[tuple[str, str], list[Record]] = {}

    def look(self, table: pa.Table, flat: pa.Table) -> None:
        """Take what is still wanted from one shard."""
        keys: list[tuple[str, str]] = []
        numbers: list[int] = []
        for marker in self._markers:
            for value, places in self._first(flat[column("markers", marker)].combine_chunks()):
                room = places[: _EXAMPLES - self._kept[marker, value]]
                self._kept[marker, value] += len(room)
                keys += [(marker, value)] * len(room)
                numbers += room
        for key, row in zip(keys, _rows(table, np.array(numbers, dtype=np.int64)), strict=True):
            self.found.setdefault(key, []).append(row)

    @staticmethod
    def _first(values: Any) -> Iterator[tuple[str, list[int]]]:
        """Each value with the places of its first rows."""
        codes = values.indices.fill_null(-1).to_numpy()
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(values.dictionary) + 1)).tolist()
        for value, start, end in zip(values.dictionary.to_pylist(), starts, starts[1:], strict=False):
            yield value, order[start : min(start + _EXAMPLES, end)].tolist()
