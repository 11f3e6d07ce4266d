"""Which quality to ask for: the score that stands for a bucket (the paper's fixed mode: its 95th percentile, per language)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tailmark.files import read_json
from tailmark.layout import Layout
from tailmark.records import TRAIN, read_table, shards
from tailmark.taxonomy import MarkerValue

ANY_LANGUAGE = "*"
SCORE, BUCKET, LANG = "quality", "quality_bucket", "lang"
Percentiles = Mapping[str, Mapping[str, float]]
"""By language, and `*` for all of them together: bucket to score."""


def quality_percentiles(rows: Path, share: float = 0.95) -> dict[str, dict[str, float]]:
    """The observed score up to which `share` of a bucket's scores lie, by language and bucket; empty where no training row has one.

    Args:
        rows: the folder of the annotated rows. Those without a language count under `*` alone.

    Raises:
        DataError: a shard is missing or corrupt.
    """
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path in shards(rows):
        for row in read_table(path, columns=["split", "markers"]).to_pylist():
            score, bucket, lang = (row["markers"].get(name) for name in (SCORE, BUCKET, LANG))
            if row["split"] == TRAIN and score is not None and bucket is not None:
                for name in {ANY_LANGUAGE, lang or ANY_LANGUAGE}:
                    scores[name, bucket].append(score)
    result: dict[str, dict[str, float]] = {}
    for (name, bucket), values in sorted(scores.items()):
        result.setdefault(name, {})[bucket] = float(np.quantile(values, share, method="inverted_cdf"))
    return result


def percentiles_of(model: Path) -> Percentiles:
    """Those of a model folder: of its registered version, else of the data in its checkout; empty where there are none.

    Raises:
        DataError: a shard of the data is missing or corrupt.
    """
    manifest, rows = model.parent / "manifest.json", Layout(model.parent.parent).annotated / "rows"
    if manifest.exists():
        return dict(read_json(manifest).get("quality_percentiles", {}))
    return quality_percentiles(rows) if rows.is_dir() else {}


def with_quality(markers: Mapping[str, MarkerValue], percentiles: Percentiles) -> dict[str, MarkerValue]:
    """The markers and, where only their `quality_bucket` is given, the `quality` that stands for it in their language."""
    bucket = markers.get(BUCKET)
    if bucket is None or SCORE in markers:
        return dict(markers)
    for name in (str(markers.get(LANG, ANY_LANGUAGE)), ANY_LANGUAGE):
        if (score := percentiles.get(name, {}).get(str(bucket))) is not None:
            return {**markers, SCORE: score}
    return dict(markers)
