"""Sources in, canonical records out: `data/ingested`. Rows wait on disk; memory holds a few numbers of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailmark.config import Config
from tailmark.console import Progress
from tailmark.engine import Run, mapper
from tailmark.errors import DataError
from tailmark.files import scratch_folder, staged_folder, write_json
from tailmark.ingest.adapters import source_versions
from tailmark.ingest.contamination import Contamination
from tailmark.ingest.decontaminate import read_index
from tailmark.ingest.facts import SOURCE, Facts, joined, marker_names
from tailmark.ingest.minhash import common_runs, signature_bands
from tailmark.ingest.near import Compared, Signed, find_near
from tailmark.ingest.reading import Intake, source_name, take_in
from tailmark.ingest.report import Outcome, report, tell
from tailmark.ingest.settle import NEAR_DUPLICATE, Left, Work, leaving, prepare_worker, settle
from tailmark.ingest.split import families, split, subset
from tailmark.ingest.store import Store
from tailmark.layout import Layout
from tailmark.provenance import record_start
from tailmark.records import Quarantine

_FEW = 20_000
"""Below this many rows one process is faster: starting others takes seconds."""

Flags = NDArray[np.bool_]


def run(config: Config, layout: Layout) -> None:
    """Read every source of `config.ingest`, write `rows/`, `quarantine.parquet` and `report.json` under `layout.ingested`.

    Raises:
        DataError: a source, a file, a column or a package of the starter corpus is missing, or no row is left.
    """
    record_start("ingest", config, layout)
    with scratch_folder(layout.state / "ingest") as scratch:
        store = Store(_folder(scratch / "rows"))
        outcome = _sort_out(config, layout.root, _folder(scratch / "spill"), store)
        with staged_folder(layout.ingested) as folder:
            store.write(_folder(folder / "rows"), outcome.kept, outcome.heldout)
            outcome.quarantine.write(folder / "quarantine.parquet")
            write_json(folder / "report.json", report(config, outcome))
    tell(config, outcome)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _sort_out(config: Config, root: Path, spill: Path, store: Store) -> Outcome:
    """Read, sort, compare and split; the rows that stay are in `store`."""
    index = read_index(config.ingest.decontaminate, root)
    contamination = Contamination(index)
    intake = take_in(config, root, spill)
    work = Work(config.seed, marker_names(config), index)
    with mapper(config.engine, 1 if len(intake.spill) < _FEW else 0, prepare_worker, (work,)) as run:
        facts = sort_rows(intake, store, contamination, run)
        near = compare_rows(config, facts, store, run)
    alive = np.ones(len(facts), np.bool_)
    if config.ingest.near_duplicates.action == "remove":
        alive[[edge.row for edge in near.edges]] = False
        _remove(near, store, intake.quarantine)
    heldout = hold_out(config, facts, near, alive)
    return Outcome(
        rows_in=intake.rows_in,
        quarantine=intake.quarantine,
        facts=facts,
        alive=alive,
        kept=_chosen(config, facts, alive, heldout),
        heldout=heldout,
        near=near,
        contamination=contamination,
        files={source_name(source): source_versions(source, root) for source in config.ingest.sources},
    )


def sort_rows(intake: Intake, store: Store, contamination: Contamination, run: Run) -> Facts:
    """Sort the spilled rows, take out what leaves, and store the others; returns their facts."""
    progress = Progress("sorting", len(intake.spill))
    parts: list[Facts] = []
    for done in run(settle, intake.spill.jobs()):
        for row in done.left:
            _set_aside(intake.quarantine, row)
        for hit in done.hits:
            contamination.add(hit, done.left[hit.row].source_name, done.left[hit.row].where)
        store.append(done.rows, len(done.facts))
        parts.append(done.facts)
        progress.advance(len(done.facts) + len(done.left))
    progress.close()
    if not len(store):
        raise DataError(
            f"No row is left after ingestion; reasons: {intake.quarantine.counts() or 'the sources are empty'}.",
            where="ingest.sources",
            fix="correct the column names or the files of the sources in params.yaml",
        )
    return joined(parts)


def _set_aside(quarantine: Quarantine, row: Left) -> None:
    quarantine.add(id=row.id, source_name=row.source_name, where=row.where, reason=row.reason, detail=row.detail, row=row.row)


def compare_rows(config: Config, facts: Facts, store: Store, run: Run) -> Compared:
    """The near-duplicates; of two the one of the source named first stays."""
    if config.ingest.near_duplicates.action == "keep":
        return Compared(0, [], 0)
    options = config.ingest.near_duplicates
    common = common_runs(store.streams(), len(store), options, run)
    progress = Progress("signing", len(store))
    bands = []
    for part in signature_bands(store.streams(), options, common, run):
        bands.append(part)
        progress.advance(len(part))
    progress.close(f"{len(common):,} common runs of words")
    sources = [source_name(source) for source in config.ingest.sources]
    column = facts.columns[SOURCE]
    rank = np.array([sources.index(name) for name in column.values])[column.codes]
    signed = Signed(np.concatenate(bands), common)
    return find_near(signed, facts, rank, lambda rows: (record for record, _ in store.rows(rows)), options, run)


def _remove(near: Compared, store: Store, quarantine: Quarantine) -> None:
    """Take the near-duplicates out, each with the id of the row that it nearly repeats."""
    edges = sorted(near.edges)
    others = np.unique(np.array([edge.other for edge in edges], np.int64))
    ids = dict(zip(others.tolist(), (record["id"] for record, _ in store.rows(others)), strict=True))
    for edge, (record, where) in zip(edges, store.rows(np.array([edge.row for edge in edges], np.int64)), strict=True):
        detail = f"its runs of words are {edge.similarity:.0%} those of row {ids[edge.other]}"
        _set_aside(quarantine, leaving(record, where, NEAR_DUPLICATE, detail))


def hold_out(config: Config, facts: Facts, near: Compared, alive: Flags) -> Flags:
    """Which of the rows alive are held out."""
    family = families(facts, near.edges)[alive]
    heldout = np.zeros(len(facts), np.bool_)
    value = facts.marker(config.longtail.marker).codes[alive]
    heldout[alive] = split(family, value, facts.heldout[alive], config.ingest.heldout_fraction)
    return heldout


def _chosen(config: Config, facts: Facts, alive: Flags, heldout: Flags) -> Flags:
    chosen = subset(facts, alive, heldout, config)
    if not chosen.any():
        raise DataError(
            "No row has the markers that `ingest.only` asks for.", where="params.yaml: ingest.only", fix="widen it, or leave it empty"
        )
    return chosen
