"""Per-example scores in long form: the one thing every figure, table and interval is made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from tailmark.evaluate.sample import SLICE_MARKERS, Row
from tailmark.layout import Arm

Benchmark = Literal["likelihood", "inference", "own_markers", "length", "length_alone", "language", "language_alone"]
ScoredMode = Literal["baseline", "inferred", "fixed", "wrong"]


@dataclass(frozen=True)
class Measure:
    """A score that is compared between the arms.

    Attributes:
        benchmark, score: its names.
        title: what a reader sees.
        unit: of the value and of the lift.
        higher_is_better: decides the sign of the lift, which is always positive where the marked model is better.
    """

    benchmark: Benchmark
    score: str
    title: str
    unit: str
    higher_is_better: bool = False

    def lift(self, baseline: float, marked: float) -> float:
        """How much better the marked model is."""
        return marked - baseline if self.higher_is_better else baseline - marked


MEASURES = (
    Measure("likelihood", "nll", "Answer likelihood", "nats per token"),
    Measure("own_markers", "domain", "Right domain written", "share", higher_is_better=True),
    Measure("own_markers", "task", "Right task written", "share", higher_is_better=True),
    Measure("own_markers", "lang", "Right language written", "share", higher_is_better=True),
    Measure("language_alone", "pass", "In the marker's language, no words", "share", higher_is_better=True),
    Measure("language", "pass", "In the language asked for in words", "share", higher_is_better=True),
    Measure("length_alone", "error", "Off the marker's length, no words", "share of the target"),
    Measure("length", "error", "Off the length, told in words", "share of the target"),
    Measure("length", "violation", "Over the word limit", "share"),
)
"""The baseline writes no markers: `own_markers` holds the marked model against always naming the value most frequent in training."""


@dataclass(frozen=True)
class Score:
    """One number of one row under one way of asking.

    Attributes:
        mode: in `own_markers`, `baseline` is always naming the most frequent value.
        score: its name, e.g. `nll`; for marker inference the marker.
        prompt: what was asked, without the markers; `given`: the markers in the prompt.
        answer: what was generated; None where nothing was.
        written: the markers the model wrote.
    """

    row: Row
    benchmark: Benchmark
    mode: ScoredMode
    score: str
    value: float
    prompt: str = ""
    answer: str | None = None
    given: Mapping[str, object] = field(default_factory=dict)
    written: Mapping[str, object] = field(default_factory=dict)

    @property
    def arm(self) -> Arm:
        """Which model."""
        return "baseline" if self.mode == "baseline" else "marked"


_REQUIRED = ("row_id", "benchmark", "arm", "mode", "score", "prompt", "reference", "given", "written")
_OPTIONAL = ("answer", *SLICE_MARKERS)

EXAMPLES = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in _REQUIRED]
    + [pa.field(name, pa.string()) for name in _OPTIONAL]
    + [pa.field("value", pa.float64(), nullable=False), pa.field("tail", pa.bool_(), nullable=False)]
)
"""`examples.parquet`: `given` (markers in the prompt) and `written` (by the model) are JSON objects."""


def example_table(scores: Sequence[Score]) -> pa.Table:
    """All scores as a table of schema `EXAMPLES`, in a fixed order."""
    ordered = sorted(scores, key=lambda item: (item.benchmark, item.score, item.row.id, item.mode))
    return pa.Table.from_pylist([_example(item) for item in ordered], schema=EXAMPLES)


def _example(score: Score) -> dict[str, object]:
    row = score.row
    return {
        "row_id": row.id,
        "benchmark": score.benchmark,
        "arm": score.arm,
        "mode": score.mode,
        "score": score.score,
        "value": round(score.value, 6),
        "tail": row.tail,
        **{name: row.labels.get(name) for name in SLICE_MARKERS},
        "prompt": score.prompt or row.question,
        "reference": row.completion,
        "answer": score.answer,
        "given": json.dumps(dict(score.given), ensure_ascii=False, sort_keys=True),
        "written": json.dumps(dict(score.written), ensure_ascii=False, sort_keys=True),
    }


@dataclass(frozen=True)
class Pair:
    """The same row's score by baseline and marked model."""

    row: Row
    baseline: float
    marked: float


def pairs(scores: Iterable[Score], measure: Measure, mode: ScoredMode) -> list[Pair]:
    """Baseline and marked value of every row that has both, by row id."""
    values: dict[str, dict[str, Score]] = {}
    for item in scores:
        if (item.benchmark, item.score) == (measure.benchmark, measure.score):
            values.setdefault(item.row.id, {})[item.mode] = item
    return [
        Pair(found[mode].row, found["baseline"].value, found[mode].value)
        for _, found in sorted(values.items())
        if mode in found and "baseline" in found
    ]
