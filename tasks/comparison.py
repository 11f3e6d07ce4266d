"""What the members of a sweep came to, side by side, read from what their branches hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailmark.evaluate.scores import MEASURES, Measure
from tailmark.evaluate.table import lift_table
from tasks.stored import read_output
from tasks.workspace import branch_of


@dataclass(frozen=True)
class Estimate:
    """One number of one member with its interval, on the scale people read (shares as per cent)."""

    member: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Panel:
    """One measure over the members.

    Attributes:
        title, unit: what is shown.
        lift: the numbers are lifts over the baseline, so zero means no difference.
        rows: one a member, in the sweep's order.
    """

    title: str
    unit: str
    mode: str
    lift: bool
    rows: tuple[Estimate, ...]


def outcome(home: Path, run: str) -> dict[str, Any] | None:
    """The evaluation that a run's branch holds: `metrics` and `benchmarks`. None where it is not done or its data are gone."""
    files = {name: read_output(home, branch_of(run), f"reports/evaluate/{name}.json") for name in ("metrics", "benchmarks")}
    return {name: json.loads(text) for name, text in files.items() if text is not None} if all(files.values()) else None


def panels(found: dict[str, dict[str, Any]]) -> list[Panel]:
    """Every measure that a member has: first how often markers are written right, then the lifts over the baseline."""
    grouped: dict[tuple[str, str, str, bool], list[Estimate]] = {}
    for member, evaluation in found.items():
        for key, estimate in [*_written(member, evaluation["metrics"]), *_lifts(member, evaluation)]:
            grouped.setdefault(key, []).append(estimate)
    return [Panel(*key, tuple(rows)) for key, rows in grouped.items()]


def _written(member: str, metrics: dict[str, Any]) -> Iterator[tuple[tuple[str, str, str, bool], Estimate]]:
    for marker, entry in metrics.get("inference", {}).items():
        if "accuracy" in entry:
            value, low, high = (100 * entry[name] for name in ("accuracy", "low", "high"))
            yield (f"{marker}: right value written", "% of prompts", "inferred", False), Estimate(member, value, low, high, int(entry["n"]))


def _lifts(member: str, evaluation: dict[str, Any]) -> Iterator[tuple[tuple[str, str, str, bool], Estimate]]:
    measures: Sequence[Measure] = (*MEASURES, *(Measure(**item) for item in evaluation["benchmarks"]["measures"]))
    for row in lift_table(evaluation["metrics"], measures):
        if row.benchmark != "own_markers" and all(math.isfinite(value) for value in (row.lift, row.low, row.high)):
            where = "" if row.slice == "all" else f", {row.slice}"
            yield (f"{row.title}{where}", row.unit, row.mode, True), Estimate(member, row.lift, row.low, row.high, row.n)
