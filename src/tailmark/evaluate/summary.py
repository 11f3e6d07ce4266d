"""Scores to `metrics.json`: lifts with intervals by benchmark, mode and slice, and how well markers were inferred."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tailmark.config import Config
from tailmark.evaluate.marker_metrics import inference_metrics
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import MEASURES, Measure, Pair, Score, modes_of, pairs
from tailmark.evaluate.store import DIGITS, Facts
from tailmark.longtail import frequency_bins
from tailmark.statistics import contrast_interval, detectable_effect, holm, paired_interval, sign_flip_test, slope_interval

MIN_SLICE = 8
"""Fewest source texts of the rows of a slice that is reported: below, an interval says nothing."""

TAIL_MINUS_HEAD, RARITY, DECILE = "tail_minus_head", "rarity", "decile"
Metrics = dict[str, Any]


def summarize(scores: Sequence[Score], facts: Facts, config: Config, measures: Sequence[Measure] = MEASURES) -> Metrics:
    """All metrics as one nested mapping of numbers; `measures`: what is compared.

    Keys: `rows`; `inference/<marker>`; `<benchmark>/<score>/<mode>/<slice>`, where a slice is `all`, `head`, `tail`, `decile/<number>` or
    `<marker>/<value>` and holds `lift` with `low` and `high`, both arms' means, `p`, `p_holm`, `mde` and `n`. Beside the slices
    `tail_minus_head` holds the difference of the two lifts, and `rarity/<marker>` how much the lift grows for every tenfold fewer
    training rows, each with its interval.
    """
    metrics: Metrics = {"rows": _row_counts(scores, facts), "inference": inference_metrics(scores, config)}
    by_measure: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for item in scores:
        by_measure[item.benchmark, item.score].append(item)
    for measure in measures:
        own = by_measure[measure.benchmark, measure.score]
        for mode in modes_of(own, measure):
            found = pairs(own, measure, mode)
            if _texts(found) >= 2:
                entries = _slices(found, measure, facts, config) | _tendencies(found, measure, facts, config)
                metrics.setdefault(measure.benchmark, {}).setdefault(measure.score, {})[mode] = entries
    return metrics


def _row_counts(scores: Sequence[Score], facts: Facts) -> dict[str, int]:
    rows: dict[str, set[str]] = defaultdict(set)
    for item in scores:
        rows[item.benchmark].add(item.row.id)
    counts = {name: len(ids) for name, ids in sorted(rows.items())}
    return {**counts, "heldout": facts.heldout, "heldout_tail": facts.heldout_tail, "train": facts.train_rows}


def slices_of(row: Row, deciles: Mapping[str, int], marker: str) -> Iterator[tuple[str, str]]:
    """The slices a row is in, as (group, value); `deciles`: of the values of the long-tail `marker`.

    A row without that marker is neither head nor tail.
    """
    yield "all", "all"
    if marker in row.labels:
        yield "frequency", "tail" if row.tail else "head"
    if (number := deciles.get(row.labels.get(marker, ""))) is not None:
        yield DECILE, f"{number:02d}"
    yield from sorted(row.labels.items())


def _texts(group: Sequence[Pair]) -> int:
    return len({pair.row.group for pair in group})


def _slices(found: Sequence[Pair], measure: Measure, facts: Facts, config: Config) -> Metrics:
    """Lift, interval and means of every slice of enough texts, but not all; p-values are corrected over the slices of the mode.

    Deciles are no slices of their own: they put values of the long-tail marker together, to be read in their order.
    """
    marker = config.longtail.marker
    deciles = frequency_bins(facts.trained.get(marker, {}), config.evaluate.deciles) if config.evaluate.deciles else {}
    groups: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in found:
        for key in slices_of(pair.row, deciles, marker):
            groups[key].append(pair)
    entries = {key: _lift(group, measure, config) for key, group in sorted(groups.items()) if _is_slice(key[0], group, found)}
    sliced = [key for key in entries if key[0] not in ("all", DECILE)]
    for key, corrected in zip(sliced, holm([entries[key]["p"] for key in sliced]), strict=True):
        entries[key]["p_holm"] = round(corrected, DIGITS)
    return _nested(entries)


def _is_slice(name: str, group: Sequence[Pair], found: Sequence[Pair]) -> bool:
    """Whether a slice has enough texts to be reported; a marker's value that all rows have is none."""
    return name == "all" or (_texts(group) >= MIN_SLICE and (name == "frequency" or len(group) < len(found)))


def _nested(entries: Mapping[tuple[str, str], Mapping[str, float]]) -> Metrics:
    nested: Metrics = {}
    for (group, value), entry in entries.items():
        if group in ("all", "frequency"):
            nested[value] = entry
        else:
            nested.setdefault(group, {})[value] = entry
    return nested


def _lift(group: Sequence[Pair], measure: Measure, config: Config) -> dict[str, float]:
    options = config.evaluate
    lifts = [measure.lift(pair.baseline, pair.marked) for pair in group]
    clusters = [pair.row.group for pair in group]
    yes_no = measure.unit == "share"
    drawing: Any = {"resamples": options.resamples, "seed": config.seed, "clusters": clusters}
    interval = paired_interval(lifts, confidence=options.confidence, yes_no=yes_no, **drawing)
    # The baseline's own win rate is 0.5 by definition, so the lift lies within half a share.
    most = 0.5 if yes_no and all(pair.baseline == 0.5 for pair in group) else math.inf
    entry = {
        "lift": interval.mean,
        "low": max(interval.low, -most),
        "high": min(interval.high, most),
        "baseline": float(np.mean([pair.baseline for pair in group])),
        "marked": float(np.mean([pair.marked for pair in group])),
        "p": sign_flip_test(lifts, **drawing),
    }
    if (effect := detectable_effect(lifts, confidence=options.confidence, clusters=clusters)) is not None:
        entry["mde"] = effect
    return {**{name: round(value, DIGITS) for name, value in entry.items()}, "n": len(group)}


def _tendencies(found: Sequence[Pair], measure: Measure, facts: Facts, config: Config) -> Metrics:
    """Whether the lift is larger where training rows are few."""
    lifts = [measure.lift(pair.baseline, pair.marked) for pair in found]
    options = config.evaluate
    drawing: Any = {"resamples": options.resamples, "seed": config.seed, "confidence": options.confidence}
    metrics = _tail_minus_head(found, lifts, config.longtail.marker, drawing)
    for marker, counts in sorted(facts.trained.items()):
        known = [(pair.row, lift) for pair, lift in zip(found, lifts, strict=True) if pair.row.labels.get(marker) in counts]
        clusters = [row.group for row, _ in known]
        if len(set(clusters)) < MIN_SLICE:
            continue
        rarity = [-float(np.log10(counts[row.labels[marker]])) for row, _ in known]
        slope = slope_interval(rarity, [lift for _, lift in known], clusters=clusters, **drawing)
        if slope is not None:
            metrics.setdefault(RARITY, {})[marker] = _entry(slope)
    return metrics


def _tail_minus_head(found: Sequence[Pair], lifts: Sequence[float], marker: str, drawing: Any) -> Metrics:
    """Of the rows with a value of the long-tail marker: the others are neither."""
    known = [(pair.row, lift) for pair, lift in zip(found, lifts, strict=True) if marker in pair.row.labels]
    if not known:
        return {}
    tail, clusters = [row.tail for row, _ in known], [row.group for row, _ in known]
    contrast = contrast_interval([lift for _, lift in known], tail, clusters=clusters, **drawing)
    return {TAIL_MINUS_HEAD: _entry(contrast)} if contrast is not None else {}


def _entry(interval: Any) -> dict[str, float]:
    numbers = {"difference": interval.mean, "low": interval.low, "high": interval.high}
    return {**{name: round(value, DIGITS) for name, value in numbers.items()}, "n": interval.n}
