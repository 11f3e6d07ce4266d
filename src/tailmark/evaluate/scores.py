"""Per-example scores in long form: the one thing every figure, table and interval is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from tailmark.config import Mode
from tailmark.evaluate.sample import Row
from tailmark.layout import Arm

ScoredMode = Literal["baseline"] | Mode


@dataclass(frozen=True)
class Measure:
    """A score that is compared between the arms.

    Attributes:
        benchmark, score: its names.
        title: what a reader sees.
        unit: of the value and of the lift.
        higher_is_better: decides the sign of the lift, which is always positive where the marked model is better.
    """

    benchmark: str
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

_OF_MARKERS = {"own_markers": "Right {} written", "attribution": "Right {} told from the answer"}
"""Benchmarks whose scores are named by markers, which a taxonomy chooses."""


def measures_of(scores: Iterable[Score], others: Sequence[Measure] = ()) -> tuple[Measure, ...]:
    """What these scores compare: `MEASURES`, those of further markers, and `others` (of the benchmarks that options name)."""
    named = sorted({(item.benchmark, item.score) for item in scores if item.benchmark in _OF_MARKERS})
    known = {(item.benchmark, item.score) for item in MEASURES}
    further = [
        Measure(benchmark, marker, _OF_MARKERS[benchmark].format(marker), "share", higher_is_better=True)
        for benchmark, marker in named
        if (benchmark, marker) not in known
    ]
    return (*MEASURES, *further, *others)


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
    benchmark: str
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


def modes_of(scores: Iterable[Score], measure: Measure) -> list[Mode]:
    """The modes in which a measure was taken, in their usual order."""
    found = {item.mode for item in scores if (item.benchmark, item.score) == (measure.benchmark, measure.score)}
    return [mode for mode in get_args(Mode) if mode in found]
