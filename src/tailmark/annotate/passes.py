"""The passes over annotated shards. A pass works on slices of a shard, so that memory stays bounded and every core has work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tailmark.annotate.annotators import Annotator, NotMeasurable, ShardAnnotator, add_findings, annotate_row, annotators
from tailmark.annotate.report import Dropped
from tailmark.console import Progress
from tailmark.engine import Run
from tailmark.records import MARKER_METADATA, RECORD, Quarantine, Record, annotated_schema, read_table, write_table
from tailmark.taxonomy import Taxonomy

SLICE = 1_000


class Annotated(NamedTuple):
    """What became of a slice: annotated rows, their places in it, why others have none, and what was dropped."""

    table: pa.Table
    kept: list[int]
    problems: dict[int, str]
    dropped: Dropped


def records(table: pa.Table) -> list[Record]:
    """The table's rows, `metadata` as a dict."""
    rows: list[Record] = table.to_pylist()
    for row in rows:
        row["metadata"] = dict(row["metadata"])
    return rows


def annotate_rows(rows: list[Record], by_precedence: tuple[Annotator, ...], taxonomy: Taxonomy) -> Annotated:
    """Annotate rows; each row's result depends on that row alone."""
    done: list[Record] = []
    kept: list[int] = []
    problems: dict[int, str] = {}
    for number, row in enumerate(rows):
        try:
            done.append(annotate_row(row, by_precedence, taxonomy))
            kept.append(number)
        except NotMeasurable as error:
            problems[number] = str(error)
    dropped = Dropped()
    for annotator in by_precedence:
        dropped.update(annotator.dropped)
        annotator.dropped.clear()
    return Annotated(pa.Table.from_pylist(done, schema=annotated_schema(taxonomy)), kept, problems, dropped)


_rows: tuple[tuple[Annotator, ...], Taxonomy] | None = None
_further: tuple[tuple[ShardAnnotator, ...], Taxonomy] | None = None


def start_rows(taxonomy: Taxonomy) -> None:
    """Set a worker up for `annotate_slice`."""
    global _rows
    _rows = (annotators(taxonomy), taxonomy)


def annotate_slice(table: pa.Table) -> Annotated:
    """Annotate ingested rows with what single rows say."""
    assert _rows is not None, "the worker was started without its initializer"
    return annotate_rows(records(table), *_rows)


def start_further(by_precedence: tuple[ShardAnnotator, ...], taxonomy: Taxonomy) -> None:
    """Set a worker up for `annotate_further`."""
    global _further
    _further = (by_precedence, taxonomy)


def annotate_further(table: pa.Table) -> pa.Table:
    """Annotated rows with what further annotators find."""
    assert _further is not None, "the worker was started without its initializer"
    return with_findings(table, *_further)


def with_findings(table: pa.Table, by_precedence: tuple[ShardAnnotator, ...], taxonomy: Taxonomy) -> pa.Table:
    """Annotated rows with what further annotators find, by precedence."""
    schema = annotated_schema(taxonomy)
    found = add_findings(records(table), by_precedence, taxonomy)
    for name in ("markers", "origin", "confidence"):
        column = pa.array([row[name] for row in found], schema.field(name).type)
        table = table.set_column(schema.get_field_index(name), schema.field(name), column)
    return table


def first_pass(paths: list[Path], folder: Path, taxonomy: Taxonomy, run: Run, progress: Progress, quarantine: Quarantine) -> Dropped:
    """Annotate ingested shards into `folder`; what cannot be annotated goes to quarantine. Returns what was dropped."""
    dropped = Dropped()
    for path in paths:
        table = read_table(path, RECORD)
        order = _by_language(table)
        parts = [annotated_schema(taxonomy).empty_table()]
        kept: list[int] = []
        for start, result in zip(range(0, len(order), SLICE), run(annotate_slice, slices(table.take(order))), strict=True):
            dropped.update(result.dropped)
            parts.append(result.table)
            kept.extend(order[start + place] for place in result.kept)
            for place, problem in result.problems.items():
                _set_aside(table, order[start + place], path.name, problem, quarantine)
            progress.advance(len(result.kept) + len(result.problems))
        write_table(folder / path.name, pa.concat_tables(parts).take(np.argsort(np.array(kept, dtype=np.int64))))
    return dropped


def rewrite(paths: Sequence[Path], taxonomy: Taxonomy, change: Callable[[pa.Table], Iterator[pa.Table]], progress: Progress) -> None:
    """Write each annotated shard anew, as `change` gives it part by part."""
    for path in paths:
        # A schema that came back from another process is written in other bytes, so the parts follow one of our own making.
        parts = [annotated_schema(taxonomy).empty_table()]
        for part in change(read_table(path)):
            parts.append(part)
            progress.advance(part.num_rows)
        write_table(path, pa.concat_tables(parts))
    progress.close()


def slices(table: pa.Table) -> Iterator[pa.Table]:
    """The table in slices of `SLICE` rows."""
    return (table.slice(start, SLICE) for start in range(0, table.num_rows, SLICE))


def _by_language(table: pa.Table) -> list[int]:
    """The rows' numbers, one language after the other, so that each process loads few tokenizers (a French one takes seconds)."""
    stated = [dict(metadata or ()).get(f"{MARKER_METADATA}lang", "") for metadata in table["metadata"].to_pylist()]
    return sorted(range(len(stated)), key=stated.__getitem__)


def _set_aside(table: pa.Table, number: int, shard: str, problem: str, quarantine: Quarantine) -> None:
    (row,) = records(table.slice(number, 1))
    text = json.dumps(row, ensure_ascii=False, sort_keys=True)
    where = f"{shard} row {number}"
    quarantine.add(id=row["id"], source_name=row["source_name"], where=where, reason="not_measurable", detail=problem, row=text)
