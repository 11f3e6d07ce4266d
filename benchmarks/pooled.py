"""Lifts that no single evaluation has: of members that differ in nothing but the seed, put together, and of prompts by what they show.

A seed is a training of its own, on other rows in another order, so what two seeds have in common is no accident of one training. The
interval of the pooled lift is over source texts, of which those that several seeds held out are drawn together; it is not over trainings,
for which two or three are too few.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from tailmark.evaluate.scores import MEASURES, Measure
from tailmark.evaluate.summary import MIN_SLICE
from tailmark.statistics import paired_interval

Key = tuple[str, str, str, str]
"""Benchmark, score, mode and slice (`all`, `head`, `tail`, or one of `ADDED`)."""

ADDED = frozenset({"open", "shown", "monolingual", "crosslingual"})
"""Slices that `tailmark evaluate` does not have: see `OPEN`; and language confusion's prompts in the answer's language, or in English."""

OPEN = frozenset({"CodeExplanation", "Explanation", "Translation"})
"""Tasks of the bench data whose prompts do not say in which language to answer: only a marker does. Slice `open`, all others `shown`."""

_MARKER = "domain"
"""The long-tail marker: a row without it is neither head nor tail."""

Rows = Mapping[tuple[str, str, str], Mapping[str, Mapping[str, Any]]]
"""Rows of examples.parquet by benchmark, score and mode, and then by id."""

_COLUMNS = ("benchmark", "mode", "score", "row_id", "group", "value", "tail", "slices")


def seeds_together(evaluations: Mapping[str, Mapping[str, Any]], keys: Iterable[Key]) -> dict[str, dict[str, Any]]:
    """Evaluations (`metrics` and `benchmarks` alone) of all seeds of a member that has several; names end in `,seed=N` but for the first.

    Args:
        evaluations: with `examples`, the bytes of examples.parquet.
    """
    families: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for name, item in evaluations.items():
        if item["examples"] is not None:
            families[name.partition(",seed=")[0]].append(item)
    wanted = list(keys)
    return {f"{name}, {len(items)} seeds": pooled(items, wanted) for name, items in families.items() if len(items) > 1}


def pooled(items: Sequence[Mapping[str, Any]], keys: Sequence[Key]) -> dict[str, Any]:
    """The evaluation (`metrics` and `benchmarks` alone) of the rows of all `items`, without what one lacks and slices of few texts."""
    listed = [measure for item in items for measure in item["benchmarks"]["measures"]]
    measures = {(item.benchmark, item.score): item for item in (*MEASURES, *(Measure(**entry) for entry in listed))}
    values = [_by_mode(item["examples"]) for item in items]
    metrics: dict[str, Any] = {}
    for benchmark, score, mode, part in keys:
        measure = measures.get((benchmark, score))
        taken = all((benchmark, score, mode) in seed for seed in values)
        found = [pair for seed in values for pair in _pairs(seed, benchmark, score, mode, part)]
        enough = part == "all" or len({group for *_, group in found}) >= MIN_SLICE
        if measure is not None and taken and found and enough:
            metrics.setdefault(benchmark, {}).setdefault(score, {}).setdefault(mode, {})[part] = lift_of(found, measure)
    return {"metrics": metrics, "benchmarks": {"measures": listed}}


def _by_mode(examples: bytes) -> Rows:
    found: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in pq.read_table(io.BytesIO(examples), columns=list(_COLUMNS)).to_pylist():
        found[row["benchmark"], row["score"], row["mode"]][row["row_id"]] = row
    return found


def _pairs(seed: Rows, benchmark: str, score: str, mode: str, part: str) -> list[tuple[float, float, str]]:
    """Baseline's and marked model's value and the source text, of the rows of a slice."""
    before, after = seed.get((benchmark, score, "baseline"), {}), seed.get((benchmark, score, mode), {})
    rows = [(before[name], row) for name, row in sorted(after.items()) if name in before and part in _parts(row)]
    return [(old["value"], new["value"], new["group"]) for old, new in rows]


def _parts(row: Mapping[str, Any]) -> tuple[str, ...]:
    labels = json.loads(row["slices"])
    rarity = ("tail" if row["tail"] else "head",) if _MARKER in labels else ()
    setting = row["row_id"].split("/")[1:2] if row["benchmark"] == "language_confusion" else ()
    return ("all", "open" if labels.get("task") in OPEN else "shown", *rarity, *setting)


def lift_of(found: Sequence[tuple[float, float, str]], measure: Measure) -> dict[str, float]:
    """The lift of pairs (baseline's value, marked model's, source text), with both means and the interval."""
    lifts = [measure.lift(before, after) for before, after, _ in found]
    clusters = [group for _, _, group in found]
    interval = paired_interval(lifts, resamples=5000, confidence=0.95, seed=0, clusters=clusters, yes_no=measure.unit == "share")
    means = {"baseline": sum(before for before, _, _ in found) / len(found), "marked": sum(after for _, after, _ in found) / len(found)}
    return {**means, "lift": interval.mean, "low": interval.low, "high": interval.high, "n": len(found)}
