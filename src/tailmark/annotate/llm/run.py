"""The LLM pass over annotated shards, and its estimate without the pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tailmark.annotate.annotators import Finding, NotMeasurable, annotate_row, annotators
from tailmark.annotate.llm.annotator import LLMAnnotator
from tailmark.annotate.llm.estimate import Estimate
from tailmark.annotate.passes import records, with_findings
from tailmark.config import LLM, Config
from tailmark.console import say
from tailmark.errors import ConfigError
from tailmark.layout import Layout
from tailmark.llm import read_key
from tailmark.records import RECORD, Record, read_table, row_count, shards, write_table
from tailmark.taxonomy import Taxonomy, load_taxonomy

SAMPLE = 5_000
"""Rows an estimate looks at; they lie evenly over the shards."""


def open_annotator(options: LLM, taxonomy: Taxonomy, layout: Layout) -> LLMAnnotator:
    """The annotator of a checkout; see `LLMAnnotator.open` for what may be wrong with it."""
    examples = options.examples and layout.root / options.examples
    return LLMAnnotator.open(options.model_copy(update={"examples": examples}), taxonomy, layout.state)


def check(options: LLM, taxonomy: Taxonomy, layout: Layout) -> None:
    """Find out what is wrong with the options before the work of the other annotators is done; nothing is asked.

    Raises:
        EndpointError: the environment variable with the key is not set.
        TaxonomyError, DataError: see `LLMAnnotator.open`.
    """
    read_key(options, "annotate.llm")
    open_annotator(options, taxonomy, layout)


def ask(options: LLM, taxonomy: Taxonomy, paths: Sequence[Path], layout: Layout) -> dict[str, Any]:
    """Give the rows of annotated shards the markers they lack; says before what it will take, and returns its part of `report.json`.

    Raises:
        BudgetExceeded: the budget is used up; shards not reached are as they were, and no answer is lost.
        EndpointError: the endpoint does not answer or refuses the key.
    """
    annotator = open_annotator(options, taxonomy, layout)
    total, sample = sample_rows(paths, None)
    _tell(annotator, sample, [_known(row) for row in sample], total)
    for path in paths:
        write_table(path, with_findings(read_table(path), (annotator,), taxonomy))
    for line in annotator.table():
        say(line)
    return annotator.report()


def dry_run(config: Config, layout: Layout) -> None:
    """Say what `annotate.llm` would be asked and what that would take; nothing is asked or written.

    Raises:
        ConfigError: there is no `annotate.llm`.
        DataError: an ingested shard is missing or corrupt.
    """
    if config.annotate.llm is None:
        raise ConfigError(
            "No LLM is set up, so there is nothing to estimate.",
            where="params.yaml: annotate.llm",
            fix="give it base_url and model, e.g. `llm: {base_url: http://localhost:8000/v1, model: NAME}` (docs/annotation.md)",
        )
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    annotator = open_annotator(config.annotate.llm, taxonomy, layout)
    total, sample = sample_rows(shards(layout.ingested / "rows"), RECORD)
    say(f"annotate: measuring {len(sample):,} of {total:,} rows, to see what is left to ask")
    rows, known = [], []
    by_precedence = annotators(taxonomy)
    for row in sample:
        try:
            known.append(_known(annotate_row(row, by_precedence, taxonomy)))
            rows.append(row)
        except NotMeasurable:
            continue
    _tell(annotator, rows, known, round(total * len(rows) / max(len(sample), 1)))
    if config.annotate.classifier is not None:
        say("  the classifier is asked before: what it finds is not asked, so this is the most it can take")


def sample_rows(paths: Sequence[Path], schema: pa.Schema | None) -> tuple[int, list[Record]]:
    """How many rows shards hold, and at most `SAMPLE` of them, evenly spread."""
    counts = [row_count(path) for path in paths]
    total = sum(counts)
    chosen = np.unique(np.linspace(0, total - 1, num=min(SAMPLE, total), dtype=np.int64))
    return total, [row for part in _taken(paths, counts, chosen, schema) for row in records(part)]


def _taken(paths: Sequence[Path], counts: Sequence[int], chosen: Any, schema: pa.Schema | None) -> Iterator[pa.Table]:
    start = 0
    for path, count in zip(paths, counts, strict=True):
        inside = chosen[(chosen >= start) & (chosen < start + count)] - start
        if len(inside):
            yield read_table(path, schema).take(inside)
        start += count


def _known(row: Record) -> dict[str, Finding]:
    return {name: Finding(value) for name, value in row["markers"].items() if value is not None}


def _tell(annotator: LLMAnnotator, rows: list[Record], known: list[dict[str, Finding]], total: int) -> None:
    estimate = Estimate(annotator)
    estimate.add(rows, known)
    for line in estimate.lines(total):
        say(line)
