"""Stage `annotate`: reads `layout.ingested`, writes `layout.annotated`."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import pyarrow as pa

from tailmark.annotate.annotators import Annotator, NotMeasurable, annotate_row, annotators
from tailmark.annotate.report import Dropped, MarkerCounts, most_dropped
from tailmark.config import Config
from tailmark.console import Progress, say
from tailmark.errors import DataError
from tailmark.files import staged_folder, write_json
from tailmark.layout import Layout
from tailmark.provenance import record_start
from tailmark.records import (
    MARKER_METADATA,
    RECORD,
    Quarantine,
    Record,
    RowIdentity,
    annotated_schema,
    read_table,
    row_count,
    shards,
    write_table,
)
from tailmark.taxonomy import Taxonomy, load_taxonomy

_CHUNK = 250
_FEW = 1_000
"""Below this many rows one process is faster: starting another and loading its tokenizers takes seconds."""


class Annotated(NamedTuple):
    """Annotated rows in the order they came, None for those that cannot be annotated, with the reasons and what was dropped."""

    rows: list[Record | None]
    problems: dict[int, str]
    dropped: Dropped


def annotate_rows(rows: list[Record], by_precedence: tuple[Annotator, ...], taxonomy: Taxonomy) -> Annotated:
    """Annotate rows; each row's result depends on that row alone."""
    result = Annotated([], {}, Dropped())
    for number, row in enumerate(rows):
        try:
            result.rows.append(annotate_row(row, by_precedence, taxonomy))
        except NotMeasurable as error:
            result.rows.append(None)
            result.problems[number] = str(error)
    for annotator in by_precedence:
        result.dropped.update(annotator.dropped)
        annotator.dropped.clear()
    return result


class _Map(Protocol):
    """Annotates chunks of rows, in order."""

    def __call__(self, chunks: list[list[Record]]) -> Iterator[Annotated]: ...


_worker: tuple[tuple[Annotator, ...], Taxonomy] | None = None


def _start_worker(taxonomy: Taxonomy) -> None:
    global _worker
    # Ctrl-C reaches every process of the terminal; the parent alone says so and ends the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = (annotators(taxonomy), taxonomy)


def _annotate_chunk(rows: list[Record]) -> Annotated:
    assert _worker is not None, "the pool was made without its initializer"
    return annotate_rows(rows, *_worker)


@contextmanager
def _mapper(taxonomy: Taxonomy, workers: int) -> Iterator[_Map]:
    """A map over chunks on `workers` processes, or in this one."""
    if workers == 1:
        by_precedence = annotators(taxonomy)
        yield lambda chunks: (annotate_rows(chunk, by_precedence, taxonomy) for chunk in chunks)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tailmark.annotate.annotators"])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(taxonomy,))
    try:
        yield lambda chunks: pool.map(_annotate_chunk, chunks)
    except BrokenProcessPool:
        fix = "set `annotate.workers` to fewer processes in params.yaml, then run the command again"
        raise DataError("A process of `annotate` was killed, most likely for lack of memory.", fix=fix) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _workers(asked: int, rows: int) -> int:
    if rows < _FEW:
        return 1
    return asked or len(os.sched_getaffinity(0))


def run(config: Config, layout: Layout) -> None:
    """Annotate every ingested row, shard by shard, with the same result for any number of workers.

    Raises:
        TaxonomyError: the taxonomy file is missing or malformed.
        DataError: an ingested shard is missing or corrupt.
    """
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    record_start("annotate", config, layout)
    paths = shards(layout.ingested / "rows")
    total = sum(row_count(path) for path in paths)
    workers = _workers(config.annotate.workers, total)
    say(f"annotate: {total:,} rows with the {len(taxonomy.markers)} markers of taxonomy '{taxonomy.name}', {workers} processes")
    counts, quarantine, dropped = MarkerCounts(taxonomy), Quarantine("annotate"), Dropped()
    progress = Progress("annotating", total)
    with staged_folder(layout.annotated) as folder, _mapper(taxonomy, workers) as annotate:
        for path in paths:
            kept = _annotate_table(read_table(path, RECORD), path.name, annotate, quarantine, dropped, progress)
            for row in kept:
                counts.add(row)
            write_table(folder / "rows" / path.name, pa.Table.from_pylist(kept, schema=annotated_schema(taxonomy)))
        progress.close()
        identity = RowIdentity(total, kept=total - len(quarantine.rows), quarantined=len(quarantine.rows))
        quarantine.write(folder / "quarantine.parquet")
        write_json(folder / "report.json", counts.report(identity, quarantine.counts(), dropped))
    _tell(identity, counts, dropped)


def _annotate_table(
    table: pa.Table, shard: str, annotate: _Map, quarantine: Quarantine, dropped: Dropped, progress: Progress
) -> list[Record]:
    """The shard's annotated rows in their order; rows that cannot be annotated go to quarantine."""
    rows: list[Record] = table.to_pylist()
    for row in rows:
        row["metadata"] = dict(row["metadata"])
    # Rows of one language stay together, so that each process loads few tokenizers (a French one takes seconds).
    order = sorted(range(len(rows)), key=lambda number: rows[number]["metadata"].get(f"{MARKER_METADATA}lang", ""))
    chunks = [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]
    done: dict[int, Record] = {}
    for numbers, result in zip(chunks, annotate([[rows[number] for number in chunk] for chunk in chunks]), strict=True):
        dropped.update(result.dropped)
        for place, number in enumerate(numbers):
            if (annotated := result.rows[place]) is not None:
                done[number] = annotated
            else:
                _set_aside(rows[number], f"{shard} row {number}", result.problems[place], quarantine)
        progress.advance(len(numbers))
    return [done[number] for number in sorted(done)]


def _set_aside(row: Record, where: str, problem: str, quarantine: Quarantine) -> None:
    text = json.dumps(row, ensure_ascii=False, sort_keys=True)
    quarantine.add(id=row["id"], source_name=row["source_name"], where=where, reason="not_measurable", detail=problem, row=text)


def _tell(identity: RowIdentity, counts: MarkerCounts, dropped: Dropped) -> None:
    identity.check("annotate")
    say(f"annotate: {identity}")
    for line in counts.table():
        say(line)
    for (marker, value, reason), number in most_dropped(dropped, most=10):
        say(f"  dropped: {marker}={value or '...'} on {number:,} rows: {reason}")
