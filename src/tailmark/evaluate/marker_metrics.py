"""How well the marked model names an answer's markers before it writes it, and whether it knows how well."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tailmark.config import Config
from tailmark.evaluate.scores import Score
from tailmark.evaluate.store import DIGITS
from tailmark.statistics import cluster_places, paired_interval, share_interval

NOT_WRITTEN = "(none)"
_BIN_ROWS, _MOST_BINS = 10, 10
"""Examples that a bin of the reliability diagram should have at least, and most bins."""


def inference_metrics(scores: Sequence[Score], config: Config) -> dict[str, dict[str, float]]:
    """Per marker: accuracy with its interval, the most frequent label's share and calibration; or the median relative error of a number.

    Calibration is of the value that was written, where one was: `confidence` is the mean probability the model gave to it, `ece` the
    expected calibration error (bins of equal numbers of examples), `brier` the mean squared error of the probability, and
    `overconfidence` confidence less accuracy with its interval.
    """
    sure = {(item.score, item.row.id): item for item in scores if item.benchmark == "confidence"}
    entries = {}
    for name, found in sorted(_by_marker(scores).items()):
        entry = _category(name, found, config) if isinstance(found[0].given[name], str) else _number(found, config)
        known = [(sure[name, item.row.id], item.value) for item in found if (name, item.row.id) in sure]
        entry |= _calibration(known, config) if known else {}
        counts = {"written": sum(name in item.written for item in found), "n": len(found)}
        entries[name] = {**{key: round(value, DIGITS) for key, value in entry.items()}, **counts}
    return entries


def _by_marker(scores: Sequence[Score], benchmark: str = "inference") -> dict[str, list[Score]]:
    by_marker: dict[str, list[Score]] = defaultdict(list)
    for item in scores:
        if item.benchmark == benchmark:
            by_marker[item.score].append(item)
    return by_marker


def _category(name: str, found: Sequence[Score], config: Config) -> dict[str, float]:
    right = [item.value == 1 for item in found]
    interval = share_interval(right, confidence=config.evaluate.confidence, clusters=_clusters(found))
    most = Counter(item.given[name] for item in found).most_common(1)[0][1]
    return {"accuracy": interval.mean, "low": interval.low, "high": interval.high, "majority": most / len(found)}


def _number(found: Sequence[Score], config: Config) -> dict[str, float]:
    values, clusters = [item.value for item in found], _clusters(found)
    median, low, high = _median(values, clusters, config)
    within = share_interval([value <= 0.5 for value in values], confidence=config.evaluate.confidence, clusters=clusters)
    numbers = {"relative_error": median, "low": low, "high": high, "within_half": within.mean}
    return numbers | {"within_half_low": within.low, "within_half_high": within.high}


def _clusters(found: Sequence[Score]) -> list[str]:
    return [item.row.group for item in found]


def _median(values: Sequence[float], clusters: Sequence[str], config: Config) -> tuple[float, float, float]:
    """The median with its percentile bootstrap interval, for which whole clusters are drawn."""
    array, places = np.asarray(values), cluster_places(clusters)
    members = [array[places == number] for number in range(places.max() + 1)]
    drawn = np.random.default_rng(config.seed).integers(0, len(members), (config.evaluate.resamples, len(members)))
    medians = [np.median(np.concatenate([members[number] for number in numbers])) for numbers in drawn]
    shares = [(1 - config.evaluate.confidence) / 2, (1 + config.evaluate.confidence) / 2]
    low, high = np.quantile(medians, shares)
    return float(np.median(array)), float(low), float(high)


def _calibration(known: Sequence[tuple[Score, float]], config: Config) -> dict[str, float]:
    sure, right = np.array([item.value for item, _ in known]), np.array([value for _, value in known])
    options = config.evaluate
    over = paired_interval(
        sure - right,
        resamples=options.resamples,
        confidence=options.confidence,
        seed=config.seed,
        clusters=[item.row.group for item, _ in known],
    )
    gaps = [len(part) * abs(float(sure[part].mean() - right[part].mean())) for part in _bins(sure)]
    return {
        "confidence": float(sure.mean()),
        "ece": sum(gaps) / len(known),
        "brier": float(((sure - right) ** 2).mean()),
        "overconfidence": over.mean,
        "overconfidence_low": over.low,
        "overconfidence_high": over.high,
    }


def _bins(sure: Any) -> list[Any]:
    """The places of examples by bin, from the least to the most sure, as equal in number as can be."""
    count = min(_MOST_BINS, max(1, len(sure) // _BIN_ROWS))
    return [part for part in np.array_split(np.argsort(sure, kind="stable"), count) if len(part)]


def reliability_rows(scores: Sequence[Score], config: Config) -> list[dict[str, Any]]:
    """The reliability diagram: per marker and bin the mean probability of the values written, and the share of them that is right."""
    right = {(item.score, item.row.id): item.value for item in scores if item.benchmark == "inference"}
    rows = []
    for name, found in sorted(_by_marker(scores, "confidence").items()):
        sure = np.array([item.value for item in found])
        for number, part in enumerate(_bins(sure), 1):
            members = [found[place] for place in part]
            hits = [right[name, item.row.id] == 1 for item in members]
            interval = share_interval(hits, confidence=config.evaluate.confidence, clusters=_clusters(members))
            numbers = {"confidence": float(sure[part].mean()), "accuracy": interval.mean, "low": interval.low, "high": interval.high}
            rows.append({"marker": name, "bin": number, **{key: round(value, DIGITS) for key, value in numbers.items()}, "n": len(part)})
    return rows


def confusion_rows(scores: Sequence[Score], benchmark: str = "inference") -> list[dict[str, Any]]:
    """One row per example and categorical marker: its label and the value named instead, `(none)` where none was."""
    found = [item for item in scores if item.benchmark == benchmark and item.mode != "baseline"]
    return [
        {
            "marker": item.score,
            "actual": item.given[item.score],
            "predicted": str(item.written.get(item.score, NOT_WRITTEN)),
            "row": item.row.id,
        }
        for item in sorted(found, key=lambda item: (item.score, item.row.id))
        if isinstance(item.given[item.score], str)
    ]


def value_rows(scores: Sequence[Score], trained: Mapping[str, Mapping[str, int]], config: Config) -> list[dict[str, Any]]:
    """Per marker and value: how many of its rows were named right (recall), and how many of those named so are it (precision)."""
    rows = []
    for name, found in sorted(_by_marker(scores).items()):
        if not isinstance(found[0].given[name], str):
            continue
        named = Counter(str(item.written.get(name, NOT_WRITTEN)) for item in found)
        for value in sorted({str(item.given[name]) for item in found}):
            members = [item for item in found if item.given[name] == value]
            hits = [item.value == 1 for item in members]
            interval = share_interval(hits, confidence=config.evaluate.confidence, clusters=_clusters(members))
            numbers = {"recall": interval.mean, "low": interval.low, "high": interval.high}
            if named[value]:
                numbers["precision"] = sum(hits) / named[value]
            shown = {key: round(number, DIGITS) for key, number in numbers.items()}
            counts = {"n": len(members), "written": named[value], "training_rows": trained.get(name, {}).get(value, 0)}
            rows.append({"marker": name, "value": value, "recall": None, "low": None, "high": None, "precision": None, **shown, **counts})
    return rows
