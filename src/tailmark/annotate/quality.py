"""Quality in two passes: a score of every completion, then its quartile among the scores of its language (paper: quality_bucket)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailmark.annotate.annotators import Finding
from tailmark.annotate.passes import rewrite, slices, with_findings
from tailmark.config import Quality
from tailmark.console import Progress
from tailmark.errors import DataError
from tailmark.records import TRAIN, Record, read_table, row_count
from tailmark.taxonomy import Taxonomy

SCORE, BUCKET = "quality", "quality_bucket"
_FEWEST = 4
"""Fewer scores have no quartiles."""

_BEST_FIRST = (0.75, 0.5, 0.25)
_COLUMNS = ("split", "markers", "origin")

Group = tuple[str, str]
"""Language (empty: none is known) and origin of the score: scores on two scales are never compared."""
Cuts = dict[Group, tuple[float, ...]]


def check(options: Quality, taxonomy: Taxonomy, root: Path) -> None:
    """Find before anything runs what would stop the passes.

    Raises:
        TaxonomyError: the taxonomy has no such markers.
        ModelError: the model cannot be loaded.
    """
    taxonomy.spec(SCORE)
    taxonomy.spec(BUCKET)
    if options.score != "metadata":
        from tailmark.annotate.scorers import source_of

        source_of(options, root)


def add_quality(options: Quality, taxonomy: Taxonomy, paths: Sequence[Path], root: Path) -> dict[str, Any]:
    """Score the rows of annotated shards that have no score, and give each row its bucket; returns its part of `report.json`.

    Scores are computed in this process. Between the passes memory holds eight bytes a row.

    Raises:
        DataError: no row has a score.
        ModelError: the model cannot be loaded, or is no reward model.
    """
    total = sum(row_count(path) for path in paths)
    if options.score != "metadata":
        annotator = _ScoreAnnotator(options, root)
        rewrite(
            paths,
            taxonomy,
            lambda table: (with_findings(part, (annotator,), taxonomy) for part in slices(table)),
            Progress("scoring", total),
        )
    scores = _scores(paths)
    if not scores:
        raise DataError(
            f"No row has a '{SCORE}' to make buckets of.",
            where="params.yaml: annotate.quality.score",
            fix=f"map a source's field to marker '{SCORE}' (`markers: {{{SCORE}: FIELD}}`), or let a model score: reward, likelihood, ifd",
        )
    cuts = {group: quartiles(values) for group, values in scores.items() if len(values) >= _FEWEST}
    rewrite(paths, taxonomy, lambda table: (with_buckets(part, cuts) for part in slices(table)), Progress("sorting into quartiles", total))
    return {
        "score": options.score,
        "model": options.model,
        "groups": [
            {
                "lang": lang,
                "origin": origin,
                "training_rows": len(values),
                "quartiles": [round(cut, 6) for cut in cuts.get((lang, origin), ())],
            }
            for (lang, origin), values in sorted(scores.items())
        ],
    }


class _ScoreAnnotator:
    """A scorer as an annotator of the rows that have no score."""

    def __init__(self, options: Quality, root: Path) -> None:
        from tailmark.annotate.scorers import open_scorer

        self._scorer = open_scorer(options, root)
        self.origin = self._scorer.origin

    def annotate(self, rows: list[Record], known: list[dict[str, Finding]]) -> list[dict[str, Finding]]:
        found: list[dict[str, Finding]] = [{} for _ in rows]
        missing = [number for number, findings in enumerate(known) if SCORE not in findings]
        for number, score in zip(missing, self._scorer.score([rows[number] for number in missing]), strict=True):
            if score is not None:
                found[number][SCORE] = Finding(score, self._scorer.confidence)
        return found


def quartiles(scores: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """The scores above which the best quarter, half and three quarters begin."""
    return tuple(float(cut) for cut in np.quantile(scores, _BEST_FIRST))


def bucket(score: float, cuts: Sequence[float]) -> str:
    """1 (best) to 4: one more than the cuts that the score does not reach."""
    return str(1 + sum(score < cut for cut in cuts))


def _scores(paths: Sequence[Path]) -> dict[Group, npt.NDArray[np.float64]]:
    """All scores of the training rows by group; where a group has none, those of its held-out rows."""
    found: dict[tuple[Group, bool], list[npt.NDArray[np.float64]]] = defaultdict(list)
    for path in paths:
        parts: dict[tuple[Group, bool], list[float]] = defaultdict(list)
        for group, score, train in _scored(read_table(path, columns=_COLUMNS)):
            parts[group, train].append(score)
        for key, values in parts.items():
            found[key].append(np.array(values))
    groups = sorted({group for group, _ in found})
    return {group: np.concatenate(found.get((group, True)) or found[group, False]) for group in groups}


def _scored(table: pa.Table) -> Iterator[tuple[Group, float, bool]]:
    for split, markers, origin in zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True):
        if markers[SCORE] is not None:
            yield (markers.get("lang") or "", origin[SCORE]), markers[SCORE], split == TRAIN


def with_buckets(table: pa.Table, cuts: Cuts) -> pa.Table:
    """Rows with the bucket of their score; one that the source states stays. It has its score's origin and confidence."""
    columns = {name: table[name].to_pylist() for name in ("markers", "origin", "confidence")}
    for markers, origin, confidence in zip(*columns.values(), strict=True):
        group = (markers.get("lang") or "", origin[SCORE])
        if markers[BUCKET] is None and markers[SCORE] is not None and group in cuts:
            markers[BUCKET] = bucket(markers[SCORE], cuts[group])
            origin[BUCKET], confidence[BUCKET] = origin[SCORE], confidence[SCORE]
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table
