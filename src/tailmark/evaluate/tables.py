"""Scores and metrics as rows of flat tables: for the CSV plots, MLflow's tables and the report's charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tailmark.config import Config
from tailmark.evaluate.sample import HeldOut
from tailmark.evaluate.scores import MEASURES, Score, pairs
from tailmark.evaluate.summary import DIGITS, Metrics

TableRow = dict[str, Any]
LIKELIHOOD = MEASURES[0]


def slice_rows(metrics: Metrics) -> list[TableRow]:
    """One row per measure, mode and slice: lift, interval, p-values, means and rows."""
    rows = []
    for measure in MEASURES:
        for mode, slices in metrics.get(measure.benchmark, {}).get(measure.score, {}).items():
            for name, entry in _entries(slices):
                head = {"benchmark": measure.benchmark, "score": measure.score, "mode": mode, "slice": name}
                numbers = {key: entry.get(key) for key in ("lift", "low", "high", "baseline", "marked", "p", "p_holm", "n")}
                rows.append(head | numbers)
    return rows


def _entries(slices: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, entry in slices.items():
        if "lift" in entry:
            yield name, entry
        else:
            yield from ((f"{name}={value}", inner) for value, inner in entry.items())


def marker_rows(metrics: Metrics) -> list[TableRow]:
    """One row per inferred marker; accuracy columns are empty for numbers and error columns for categories."""
    columns = ("accuracy", "majority", "relative_error", "low", "high", "within_half", "written", "n")
    return [{"marker": name, **{key: entry.get(key) for key in columns}} for name, entry in metrics["inference"].items()]


def rarity_points(scores: Sequence[Score], heldout: HeldOut, config: Config) -> list[TableRow]:
    """Lift of the answer's likelihood by how many training rows share the row's value of the long-tail marker."""
    marker = config.longtail.marker
    counts = heldout.trained.get(marker, {})
    points = []
    for mode in config.evaluate.modes:
        groups: dict[str, list[float]] = defaultdict(list)
        for pair in pairs(scores, LIKELIHOOD, mode):
            if marker in pair.row.labels:
                groups[pair.row.labels[marker]].append(LIKELIHOOD.lift(pair.baseline, pair.marked))
        for value, lifts in sorted(groups.items(), key=lambda item: (counts.get(item[0], 0), item[0])):
            points.append(
                {
                    "mode": mode,
                    marker: value,
                    "training_rows": counts.get(value, 0),
                    "lift": round(float(np.mean(lifts)), DIGITS),
                    "n": len(lifts),
                }
            )
    return points


def length_points(scores: Sequence[Score]) -> list[TableRow]:
    """Target and generated length, in the marker's unit, of every length-controlled answer."""
    return [
        {"mode": item.mode, "target": item.row.markers["length_tokens"], "generated": int(item.value), "row": item.row.id}
        for item in sorted(scores, key=lambda item: (item.mode, item.row.id))
        if (item.benchmark, item.score) == ("length", "tokens")
    ]
