"""The prompts of the benchmark `heldout_prompts`, asked of both arms in other ways than the benchmark does, before the offline judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tailmark.config import OpenEnded
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.evaluate.suite.base import Judged
from tailmark.evaluate.suite.registry import build
from tailmark.evaluate.suite.runner import row_of
from tailmark.evaluate.summary import slices_of
from tailmark.generate.request import Request
from tailmark.layout import Layout
from tailmark.statistics import paired_interval

Pair = tuple[Sequence[Request], Sequence[Request]]
"""What baseline and marked model are asked, a request a row."""

Ways = Callable[[Bench, Sequence[Row]], Mapping[str, Pair]]
"""The ways to ask, by name. The rows are as the benchmark has them: without what only the reference answer can tell."""

_NAME, _SCORE = "heldout_prompts", "win_reference"


def contests(bench: Bench, count: int, ways: Ways) -> Iterator[dict[str, object]]:
    """For every way and part (all, head, tail) the wins over the baseline less 50, in points, and the number of wins, ties and losses."""
    options = OpenEnded(kind="open_ended", name=_NAME, limit=count)
    made = build(options, bench, Layout(Path.cwd()))
    assert isinstance(made, Judged)
    items = made.load()
    rows = [row_of(made.name, item, bench) for item in items]
    for name, (ours, theirs) in ways(bench, rows).items():
        answers = {"baseline": bench.answer("baseline", ours, name), "inferred": bench.answer("inferred", theirs, name)}
        values = [scores[_SCORE] for scores in made.judge(items, answers)["inferred"]]  # type: ignore[arg-type]
        for part in ("all", "head", "tail"):
            of = [(value, row.group) for value, row in zip(values, rows, strict=True) if part in _parts(row, bench)]
            yield {"asked": name, "part": part, **_wins([value for value, _ in of], [group for _, group in of])}


def _parts(row: Row, bench: Bench) -> frozenset[str]:
    return frozenset(value for kind, value in slices_of(row, {}, bench.config.longtail.marker) if kind in {"all", "frequency"})


def _wins(values: Sequence[float], groups: Sequence[str]) -> dict[str, object]:
    """Wins less 50 in points, with the interval over source texts, and the number of each outcome."""
    rate = paired_interval([value - 0.5 for value in values], resamples=5000, confidence=0.95, seed=0, clusters=groups)
    lift, low, high = (round(100 * number, 1) for number in (rate.mean, rate.low, rate.high))
    counts = {what: list(values).count(value) for what, value in (("wins", 1.0), ("ties", 0.5), ("losses", 0.0))}
    return {"lift": lift, "low": low, "high": high, **counts}
