"""The page's figures, each a pure function from what validation found to plain values that the template draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tailmark.longtail import tail_of
from tailmark.records import HELDOUT, TRAIN
from tailmark.taxonomy import Taxonomy
from tailmark.validate.profile import Profile, shares
from tailmark.validate.rows import column
from tailmark.validate.suite import ORIGINS

_MOST_BARS = 40
_MOST_CELLS = 26
_COLUMNS = 24
_FLOOR = 0.5
"""Bars of the logarithmic scale begin at half a row, so that one row can be seen."""


def tails(profile: Profile, taxonomy: Taxonomy, threshold: float, first: str) -> list[dict[str, Any]]:
    """The values of each categorical marker that any row has, the most frequent first, with the head/tail cut; marker `first` leads."""
    order = sorted(name for name, entry in profile["markers"].items() if entry.get("values"))
    order.sort(key=lambda name: name != first)
    return [_tail(name, profile, taxonomy, threshold) for name in order]


def _tail(name: str, profile: Profile, taxonomy: Taxonomy, threshold: float) -> dict[str, Any]:
    values, rows = profile["markers"][name]["values"], profile["rows"]
    tail = tail_of({value: count[TRAIN] for value, count in values.items()}, rows[TRAIN], threshold)
    ordered = sorted(values, key=lambda value: (-values[value][TRAIN], -values[value][HELDOUT], value))
    most = max(10.0, *(count[TRAIN] for count in values.values()))
    cut = threshold * rows[TRAIN]
    shown = ordered[:_MOST_BARS]
    bars = [{"value": value, **values[value], "tail": value in tail, "width": _place(values[value][TRAIN], most)} for value in shown]
    return {
        "marker": name,
        "bars": bars,
        "more": len(ordered) - len(bars),
        "ticks": [{"at": _place(tick, most), "label": _short(tick)} for tick in _powers(most)],
        "cut": {"at": _place(cut, most), "rows": cut} if _FLOOR < cut < most else None,
        "values": len(values),
        "tail": len(tail),
        "tail_rows": sum(values[value][TRAIN] for value in tail) / max(rows[TRAIN], 1),
        "missing": sum(profile["markers"][name]["missing"].values()) / max(sum(rows.values()), 1),
        "unused": [value for value in taxonomy.markers[name].values if value not in values],
    }


def _place(count: float, most: float) -> float:
    """Where a count stands on the logarithmic scale, in percent of its width."""
    return round(100 * math.log(max(count, _FLOOR) / _FLOOR) / math.log(most / _FLOOR), 2)


def _powers(most: float) -> list[int]:
    return [10**power for power in range(math.floor(math.log10(most)) + 1)]


def _short(count: float) -> str:
    """1,000 as 1k, 1,000,000 as 1M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


def spreads(frame: pd.DataFrame, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """A histogram of each number that any row has, in equal steps, or in equal steps of the logarithm where the range is wide."""
    found = []
    for name, spec in sorted(taxonomy.markers.items()):
        if spec.kind != "categorical":
            values = frame[column("markers", name)].to_numpy(dtype=np.float64, na_value=np.nan)
            present = values[~np.isnan(values)]
            if len(present):
                found.append({"marker": name, "missing": 1 - len(present) / len(values), **_histogram(present, spec.kind == "integer")})
    return found


def _histogram(values: np.ndarray[Any, np.dtype[np.float64]], whole: bool) -> dict[str, Any]:
    low, high = float(values.min()), float(values.max()) + whole
    logarithmic = low > 0 and high / low > 20
    edges = np.geomspace(low, high, _COLUMNS + 1) if logarithmic else np.linspace(low, max(high, low + 1), _COLUMNS + 1)
    counts, edges = np.histogram(values, np.unique(np.round(edges)) if whole else edges)
    at = {"lowest": 0.0, "tenth": 0.1, "median": 0.5, "nine tenths": 0.9, "highest": 1.0}
    return {
        "logarithmic": logarithmic,
        "columns": [
            {"height": round(100 * count / max(counts.max(), 1), 1), "from": f"{start:.4g}", "to": f"{end:.4g}", "rows": int(count)}
            for count, start, end in zip(counts, edges, edges[1:], strict=False)
        ],
        "quantiles": {label: f"{np.quantile(values, share, method='nearest'):,.5g}" for label, share in at.items()},
    }


def pairs(profile: Profile, marker: str) -> list[tuple[str, str]]:
    """What to show together: the long-tail marker with the two markers that have most values and stand on at least half of the rows."""
    rows = sum(profile["rows"].values())
    found = [
        (len(entry["values"]), name)
        for name, entry in profile["markers"].items()
        if name != marker and len(entry.get("values", ())) > 1 and 2 * sum(entry["missing"].values()) <= rows
    ]
    return [(name, marker) for _, name in sorted(found, key=lambda item: (-item[0], item[1]))[:2]]


def together(frame: pd.DataFrame, down: str, across: str) -> dict[str, Any]:
    """How many rows have both of two values; the shade is the count's logarithm."""
    first, second = (frame[column("markers", name)].cat for name in (down, across))
    both = (first.codes >= 0) & (second.codes >= 0)
    wide = len(second.categories)
    cells = np.bincount(first.codes[both].astype(np.int64) * wide + second.codes[both], minlength=len(first.categories) * wide)
    table = pd.DataFrame(cells.reshape(-1, wide), index=list(first.categories), columns=list(second.categories))
    table = table.loc[_frequent(table.sum(axis=1)), _frequent(table.sum(axis=0))]
    most = max(int(table.to_numpy().max(initial=1)), 2)
    lines = [
        {"value": str(name), "cells": [{"rows": int(count), "shade": _shade(int(count), most)} for count in line]}
        for name, line in zip(table.index, table.to_numpy(), strict=True)
    ]
    return {"down": down, "across": across, "columns": [str(name) for name in table.columns], "lines": lines}


def _frequent(totals: pd.Series[Any]) -> list[Any]:
    ordered = sorted(((-int(count), str(name), name) for name, count in totals.items() if count), key=lambda item: item[:2])
    return [name for _, _, name in ordered[:_MOST_CELLS]]


def _shade(count: int, most: int) -> int:
    return round(8 + 82 * math.log(count) / math.log(most)) if count else 0


def evidence(frame: pd.DataFrame, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Per marker how many rows have it, the shares of its kinds of evidence, and how sure they are."""
    return [_evidence(frame, name) for name in sorted(taxonomy.markers)]


def _evidence(frame: pd.DataFrame, name: str) -> dict[str, Any]:
    origins, confidence = frame[column("origin", name)], frame[column("confidence", name)]
    counts = origins.value_counts()
    filled = int(counts.sum())
    known = [*ORIGINS, *sorted(str(kind) for kind in counts.index if kind not in ORIGINS)]
    parts = [
        {
            "kind": kind,
            "rows": int(counts[kind]),
            "share": round(100 * int(counts[kind]) / filled, 2),
            "mean": _known(confidence[(origins == kind).to_numpy()].mean()),
        }
        for kind in known
        if counts.get(kind, 0)
    ]
    return {
        "marker": name,
        "rows": filled,
        "filled": filled / max(len(frame), 1),
        "parts": parts,
        "low": _known(float(confidence.quantile(0.1))),
    }


def _known(value: float) -> float | None:
    """None where no row has a confidence, as where a language model gave no probabilities."""
    return None if math.isnan(value) else float(value)


def sources(report: Mapping[str, Any]) -> dict[str, Any]:
    """The row identity of each source and in all; only the fates that some row had."""
    lines = {**report["sources"], **({"all": report["identity"]} if len(report["sources"]) > 1 else {})}
    fates = [name for name in report["identity"] if name != "rows_in" and any(line.get(name) for line in lines.values())]
    fates.sort(key=lambda name: name != "kept")
    return {
        "fates": fates,
        "lines": [
            {
                "source": name,
                "rows_in": line["rows_in"],
                "parts": [
                    {"fate": fate, "rows": line.get(fate, 0), "share": round(100 * line.get(fate, 0) / max(line["rows_in"], 1), 3)}
                    for fate in fates
                ],
            }
            for name, line in lines.items()
        ],
    }


def classifiers(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `annotate` measured of its classifier, per marker, on rows whose source states the value."""
    words = {"heldout": "held-out rows", "new_prompts": "rows with prompts unlike those it learned from"}
    found = []
    for name, entry in sorted(report.items()):
        measured = {part: entry[part] for part in words if entry[part]["rows"]}
        found.append(
            {
                "marker": name,
                "threshold": entry["threshold"],
                "few": [f"{value} ({rows})" for value, rows in entry["too_few_rows"].items()],
                "parts": [
                    {"what": words[part], "rows": one["rows"], "coverage": one["coverage"], "right": one["accuracy_answered"]}
                    for part, one in measured.items()
                ],
                "values": [_recall(value, counts) for value, counts in measured.get("heldout", {}).get("values", {}).items()],
            }
        )
    return found


def _recall(value: str, counts: Mapping[str, int]) -> dict[str, Any]:
    rows = max(counts["rows"], 1)
    wrong = counts["answered"] - counts["right"]
    return {"value": value, **counts, "right_share": round(100 * counts["right"] / rows, 2), "wrong_share": round(100 * wrong / rows, 2)}


def moves(profile: Profile, accepted: Profile, drift: Mapping[str, float], most: float) -> list[dict[str, Any]]:
    """Per marker the distance from the accepted profile, the farthest first, and the values whose share changed most."""
    return [
        {
            "marker": name,
            "distance": drift[name],
            "width": round(100 * min(1.0, drift[name] / max(2 * most, 1e-9)), 2),
            "failed": drift[name] > most,
            "moved": _moved(profile["markers"][name], accepted["markers"][name]),
        }
        for name in sorted(drift, key=lambda name: (-drift[name], name))
    ]


def _moved(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "values" not in now or "values" not in before:
        return []
    first, second = shares(before), shares(now)
    change = {name: second.get(name, 0.0) - first.get(name, 0.0) for name in {*first, *second}}
    ordered = sorted((name for name in change if abs(change[name]) >= 0.0005), key=lambda name: (-abs(change[name]), name))
    return [{"value": name.removeprefix("="), "before": first.get(name, 0.0), "now": second.get(name, 0.0)} for name in ordered[:3]]
