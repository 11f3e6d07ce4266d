"""Which marker helps, and which costs: the likelihood of held-out answers under right lists of no marker, of one, and of all.

    python -m benchmarks.given --rows 280    # in a checkout, or a member's worktree, with both trained arms

The list stands in the prompt. A model that was trained to write its own (placement `both`) is taken to have written all of the row's
markers, whatever the prompt says; one that never saw a list in a prompt (`completion`) is taken to have written what the others are given.
Prints lifts over the baseline in nats per token, for all rows, those whose prompts show their language and those whose prompts do not
(`benchmarks.pooled.OPEN`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

from benchmarks.pooled import OPEN
from benchmarks.probe import run
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.likelihood import Scored, answer_nll
from tailmark.evaluate.sample import Row
from tailmark.statistics import paired_interval


def lists(names: Sequence[str]) -> dict[str, frozenset[str]]:
    """The markers that each kind of list holds."""
    return {"none": frozenset(), **{f"{name} alone": frozenset({name}) for name in names}, "all": frozenset(names)}


def lifts(bench: Bench, count: int) -> Iterator[dict[str, object]]:
    """For every kind of list and part of so many held-out rows the lift over the baseline, with its interval."""
    rows = bench.draw(bench.heldout.rows, count, "likelihood")
    size, placement = bench.config.evaluate.batch_size, bench.marked.info.placement
    shown = [row.labels.get("task") not in OPEN for row in rows]
    parts = {"all": [True] * len(rows), "open": [not value for value in shown], "shown": shown}
    before = answer_nll(bench.baseline, [Scored(row.messages, row.completion) for row in rows], batch_size=size, what="baseline")
    for what, names in lists(bench.marked.info.markers).items():
        after = answer_nll(bench.marked, [_item(row, names, placement) for row in rows], batch_size=size, what=what)
        for part, chosen in parts.items():
            gains = [old - new for old, new in compress(zip(before, after, strict=True), chosen)]
            groups = [row.group for row in compress(rows, chosen)]
            lift = paired_interval(gains, resamples=5000, confidence=0.95, seed=0, clusters=groups)
            yield {"list": what, "rows": part, **{key: round(getattr(lift, key), 3) for key in ("mean", "low", "high")}, "n": lift.n}


def _item(row: Row, names: frozenset[str], placement: str) -> Scored:
    listed = row.markers.only(set(names)) or None
    if placement == "completion":
        return Scored(row.messages, row.completion, None, listed)
    return Scored(row.messages, row.completion, listed, row.markers if placement == "both" else None)


if __name__ == "__main__":
    run(lifts, __doc__, rows=280)
