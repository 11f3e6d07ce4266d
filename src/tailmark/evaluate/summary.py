"""Scores to `metrics.json`: lifts with intervals by benchmark, mode and slice, and how well markers were inferred."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tailmark.config import Config
from tailmark.evaluate.sample import SLICE_MARKERS, HeldOut, Row
from tailmark.evaluate.scores import MEASURES, Measure, Pair, Score, pairs
from tailmark.evaluate.statistics import cluster_places, holm, paired_interval, sign_flip_test, wilson

MIN_SLICE = 8
"""Fewest source texts of the rows of a slice that is reported: below, an interval says nothing."""

DIGITS = 6
Metrics = dict[str, Any]


def summarize(scores: Sequence[Score], heldout: HeldOut, config: Config) -> Metrics:
    """All metrics as one nested mapping of numbers.

    Keys: `rows`; `inference/<marker>`; `<benchmark>/<score>/<mode>/<slice>`, where a slice is `all`, `head`, `tail` or
    `<marker>/<value>` and holds `lift` with `low` and `high`, both arms' means, `p`, `p_holm` and `n`.
    """
    metrics: Metrics = {
        "rows": _row_counts(scores, heldout),
        "inference": _inference(scores, config),
    }
    for measure in MEASURES:
        for mode in config.evaluate.modes:
            found = pairs(scores, measure, mode)
            if _texts(found) >= 2:
                metrics.setdefault(measure.benchmark, {}).setdefault(measure.score, {})[mode] = _slices(found, measure, config)
    return metrics


def _row_counts(scores: Sequence[Score], heldout: HeldOut) -> dict[str, int]:
    rows: dict[str, set[str]] = defaultdict(set)
    for item in scores:
        rows[item.benchmark].add(item.row.id)
    counts = {name: len(ids) for name, ids in sorted(rows.items())}
    tail = sum(row.tail for row in heldout.rows)
    return {**counts, "heldout": len(heldout.rows), "heldout_tail": tail, "train": heldout.train_rows}


def slices_of(row: Row) -> Iterator[tuple[str, str]]:
    """The slices a row is in, as (group, value)."""
    yield "all", "all"
    yield "frequency", "tail" if row.tail else "head"
    for name in SLICE_MARKERS:
        if name in row.labels:
            yield name, row.labels[name]


def _texts(group: Sequence[Pair]) -> int:
    return len({pair.row.group for pair in group})


def _slices(found: Sequence[Pair], measure: Measure, config: Config) -> Metrics:
    """Lift, interval and means of every slice of enough texts; p-values are corrected over the slices of the mode."""
    groups: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in found:
        for key in slices_of(pair.row):
            groups[key].append(pair)
    kept = {key: group for key, group in sorted(groups.items()) if key[0] == "all" or _texts(group) >= MIN_SLICE}
    entries = {key: _lift(group, measure, config) for key, group in kept.items()}
    sliced = [key for key in entries if key[0] != "all"]
    for key, corrected in zip(sliced, holm([entries[key]["p"] for key in sliced]), strict=True):
        entries[key]["p_holm"] = round(corrected, DIGITS)
    nested: Metrics = {}
    for (group_name, value), entry in entries.items():
        if group_name in ("all", "frequency"):
            nested[value] = entry
        else:
            nested.setdefault(group_name, {})[value] = entry
    return nested


def _lift(group: Sequence[Pair], measure: Measure, config: Config) -> dict[str, float]:
    options = config.evaluate
    lifts = [measure.lift(pair.baseline, pair.marked) for pair in group]
    clusters = [pair.row.group for pair in group]
    interval = paired_interval(
        lifts,
        resamples=options.resamples,
        confidence=options.confidence,
        seed=config.seed,
        clusters=clusters,
        yes_no=measure.unit == "share",
    )
    entry = {
        "lift": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "baseline": float(np.mean([pair.baseline for pair in group])),
        "marked": float(np.mean([pair.marked for pair in group])),
        "p": sign_flip_test(lifts, resamples=options.resamples, seed=config.seed, clusters=clusters),
    }
    return {**{name: round(value, DIGITS) for name, value in entry.items()}, "n": len(group)}


def _inference(scores: Sequence[Score], config: Config) -> Metrics:
    """Per marker: accuracy with its Wilson interval and the most frequent label's share, or the median relative error of a number.

    Wilson's intervals count the rows of one text apart, so they are too narrow where several share one; the median's do not.
    """
    by_marker: dict[str, list[Score]] = defaultdict(list)
    for item in scores:
        if item.benchmark == "inference":
            by_marker[item.score].append(item)
    return {name: _marker_entry(name, found, config) for name, found in sorted(by_marker.items())}


def _marker_entry(name: str, found: Sequence[Score], config: Config) -> dict[str, float]:
    values = [item.value for item in found]
    written = sum(name in item.written for item in found)
    if isinstance(found[0].given[name], str):
        interval = wilson(round(sum(values)), len(values), config.evaluate.confidence)
        most = Counter(item.given[name] for item in found).most_common(1)[0][1]
        numbers = {"accuracy": interval.mean, "low": interval.low, "high": interval.high, "majority": most / len(found)}
    else:
        median, low, high = _median(values, [item.row.group for item in found], config)
        within = wilson(sum(value <= 0.5 for value in values), len(values), config.evaluate.confidence)
        numbers = {"relative_error": median, "low": low, "high": high, "within_half": within.mean}
        numbers |= {"within_half_low": within.low, "within_half_high": within.high}
    return {**{key: round(value, DIGITS) for key, value in numbers.items()}, "written": written, "n": len(values)}


def _median(values: Sequence[float], clusters: Sequence[str], config: Config) -> tuple[float, float, float]:
    """The median with its percentile bootstrap interval, for which whole clusters are drawn."""
    array, places = np.asarray(values), cluster_places(clusters)
    members = [array[places == number] for number in range(places.max() + 1)]
    drawn = np.random.default_rng(config.seed).integers(0, len(members), (config.evaluate.resamples, len(members)))
    medians = [np.median(np.concatenate([members[number] for number in numbers])) for numbers in drawn]
    shares = [(1 - config.evaluate.confidence) / 2, (1 + config.evaluate.confidence) / 2]
    low, high = np.quantile(medians, shares)
    return float(np.median(array)), float(low), float(high)
