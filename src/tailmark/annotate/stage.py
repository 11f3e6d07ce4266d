"""Stage `annotate`: reads `layout.ingested`, writes `layout.annotated`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tailmark.annotate.passes import annotate_further, first_pass, rewrite, slices, start_further, start_rows
from tailmark.annotate.report import Dropped, MarkerCounts, most_dropped, told
from tailmark.config import Classifier, Config
from tailmark.console import Progress, say
from tailmark.engine import mapper, workers_of
from tailmark.files import staged_folder, write_json
from tailmark.layout import Layout
from tailmark.provenance import record_start
from tailmark.records import Quarantine, RowIdentity, row_count, shards
from tailmark.taxonomy import Taxonomy, load_taxonomy

_FEW = 1_000
"""Below this many rows one process is faster: starting another and loading its tokenizers takes seconds."""


def run(config: Config, layout: Layout) -> None:
    """Annotate every ingested row, shard by shard, with the same result for any number of workers and every engine.

    Raises:
        TaxonomyError: the taxonomy file is missing or malformed.
        DataError: an ingested shard is missing or corrupt, or there are too few labelled rows for what is asked.
        ModelError: the model that `annotate.quality` names cannot be loaded.
    """
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    record_start("annotate", config, layout)
    if config.annotate.llm is not None:
        from tailmark.annotate.llm import run as llm

        llm.check(config.annotate.llm, taxonomy, layout)
    if config.annotate.quality is not None:
        from tailmark.annotate.quality import check

        check(config.annotate.quality, taxonomy, layout.root)
    paths = shards(layout.ingested / "rows")
    total = sum(row_count(path) for path in paths)
    workers = 1 if total < _FEW else workers_of(config.engine, config.annotate.workers)
    say(f"annotate: {total:,} rows with the {len(taxonomy.markers)} markers of taxonomy '{taxonomy.name}', {workers} processes")
    with staged_folder(layout.annotated) as folder:
        quarantine, dropped = _first(config, taxonomy, paths, folder / "rows", total, workers)
        details = _further(config, layout, taxonomy, folder / "rows", workers)
        counts = MarkerCounts(taxonomy)
        for path in shards(folder / "rows"):
            counts.add(path)
        identity = RowIdentity(total, kept=counts.rows, quarantined=len(quarantine))
        identity.check("annotate")
        quarantine.write(folder / "quarantine.parquet")
        write_json(folder / "report.json", counts.report(identity, quarantine.counts(), dropped) | details)
    _tell(identity, counts, dropped)


def _first(config: Config, taxonomy: Taxonomy, paths: list[Path], rows: Path, total: int, workers: int) -> tuple[Quarantine, Dropped]:
    """What each row says on its own: dataset and measured."""
    quarantine = Quarantine("annotate")
    progress = Progress("annotating", total)
    with mapper(config.engine, workers, start_rows, (taxonomy,)) as run:
        dropped = first_pass(paths, rows, taxonomy, run, progress, quarantine)
    progress.close()
    return quarantine, dropped


def _further(config: Config, layout: Layout, taxonomy: Taxonomy, rows: Path, workers: int) -> dict[str, Any]:
    """What the annotators find that must be asked for, in order of precedence; returns what they add to the report."""
    details: dict[str, Any] = {}
    if options := config.annotate.classifier:
        details["classifier"] = _classify(config, options, taxonomy, shards(rows), workers)
    if config.annotate.llm is not None:
        from tailmark.annotate.llm import run as llm

        details["llm"] = llm.ask(config.annotate.llm, taxonomy, shards(rows), layout)
    if config.annotate.quality is not None:
        from tailmark.annotate.quality import add_quality

        details["quality"] = add_quality(config.annotate.quality, taxonomy, shards(rows), layout.root)
    return details


def _classify(config: Config, options: Classifier, taxonomy: Taxonomy, paths: list[Path], workers: int) -> dict[str, Any]:
    from tailmark.annotate.classifier.annotator import ClassifierAnnotator
    from tailmark.annotate.classifier.training import train

    say(f"annotate: training a classifier of {', '.join(sorted(set(options.markers)))} on the rows whose source states it")
    trained = train(paths, taxonomy, options)
    for name, item in trained.items():
        say(f"  {name}: {told(item.report)}")
    annotator = ClassifierAnnotator({name: item.model for name, item in trained.items()}, taxonomy, options.threshold)
    progress = Progress("classifying", sum(row_count(path) for path in paths))
    with mapper(config.engine, workers, start_further, ((annotator,), taxonomy)) as run:
        rewrite(paths, taxonomy, lambda table: run(annotate_further, slices(table)), progress)
    return {name: item.report for name, item in trained.items()}


def _tell(identity: RowIdentity, counts: MarkerCounts, dropped: Dropped) -> None:
    say(f"annotate: {identity}")
    for line in counts.table():
        say(line)
    for (marker, value, reason), number in most_dropped(dropped, most=10):
        say(f"  dropped: {marker}={value or '...'} on {number:,} rows: {reason}")
