"""Scores and metrics as rows of flat tables: for the CSV plots, MLflow's tables and the report's charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tailmark.config import Config
from tailmark.evaluate.scores import MEASURES, Measure, Pair, Score, modes_of, pairs
from tailmark.evaluate.store import DIGITS, Facts
from tailmark.evaluate.summary import RARITY, TAIL_MINUS_HEAD, Metrics

TableRow = dict[str, Any]
LIKELIHOOD = MEASURES[0]


def slice_rows(metrics: Metrics, measures: Sequence[Measure] = MEASURES) -> list[TableRow]:
    """One row per measure, mode and slice: lift, interval, p-values, detectable effect, means and rows."""
    columns = ("lift", "low", "high", "baseline", "marked", "p", "p_holm", "mde", "n")
    return [
        {**head, "slice": name, **{key: entry.get(key) for key in columns}}
        for head, slices in _compared(metrics, measures)
        for name, entry in _entries(slices)
        if "lift" in entry
    ]


def tendency_rows(metrics: Metrics, measures: Sequence[Measure] = MEASURES) -> list[TableRow]:
    """One row per measure and mode, and per marker: tail less head, and the lift's growth for every tenfold fewer training rows."""
    rows = []
    for head, slices in _compared(metrics, measures):
        found = {TAIL_MINUS_HEAD: slices[TAIL_MINUS_HEAD]} if TAIL_MINUS_HEAD in slices else {}
        found |= {f"{RARITY}: {marker}": entry for marker, entry in slices.get(RARITY, {}).items()}
        rows += [{**head, "of": name, **{key: entry[key] for key in ("difference", "low", "high", "n")}} for name, entry in found.items()]
    return rows


def _compared(metrics: Metrics, measures: Sequence[Measure]) -> Iterator[tuple[TableRow, Metrics]]:
    for measure in measures:
        for mode, slices in metrics.get(measure.benchmark, {}).get(measure.score, {}).items():
            yield {"benchmark": measure.benchmark, "score": measure.score, "mode": mode}, slices


def _entries(slices: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, entry in slices.items():
        if "n" in entry:
            yield name, entry
        else:
            yield from ((f"{name}={value}", inner) for value, inner in entry.items())


def marker_rows(metrics: Metrics) -> list[TableRow]:
    """One row per inferred marker; accuracy columns are empty for numbers and error columns for categories."""
    columns = (
        *("accuracy", "majority", "relative_error", "low", "high", "within_half", "written", "n"),
        *("confidence", "overconfidence", "overconfidence_low", "overconfidence_high", "ece", "brier"),
    )
    return [{"marker": name, **{key: entry.get(key) for key in columns}} for name, entry in metrics["inference"].items()]


def rarity_points(scores: Sequence[Score], facts: Facts, config: Config) -> list[TableRow]:
    """Lift of the answer's likelihood by how many training rows share a row's value, for every marker; the long-tail marker first."""
    found = {mode: pairs(scores, LIKELIHOOD, mode) for mode in modes_of(scores, LIKELIHOOD)}
    names = sorted(facts.trained, key=lambda name: (name != config.longtail.marker, name))
    return [point for name in names for mode, group in found.items() for point in _points(group, mode, name, facts.trained[name])]


def _points(found: Sequence[Pair], mode: str, marker: str, counts: Mapping[str, int]) -> list[TableRow]:
    groups: dict[str, list[float]] = defaultdict(list)
    for pair in found:
        if marker in pair.row.labels:
            groups[pair.row.labels[marker]].append(LIKELIHOOD.lift(pair.baseline, pair.marked))
    return [
        {
            "marker": marker,
            "mode": mode,
            "value": value,
            "training_rows": counts.get(value, 0),
            "lift": round(float(np.mean(lifts)), DIGITS),
            "n": len(lifts),
        }
        for value, lifts in sorted(groups.items(), key=lambda item: (counts.get(item[0], 0), item[0]))
    ]


def length_points(scores: Sequence[Score]) -> list[TableRow]:
    """Target and generated length, in the marker's unit, of every length-controlled answer."""
    return [
        {"mode": item.mode, "target": item.row.markers["length_tokens"], "generated": int(item.value), "row": item.row.id}
        for item in sorted(scores, key=lambda item: (item.mode, item.row.id))
        if (item.benchmark, item.score) == ("length", "tokens")
    ]
