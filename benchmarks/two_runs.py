"""Two evaluations of marked models over one baseline, measure by measure: both lifts, and the second less the first, row by row.

    python -m benchmarks.two_runs text/reports/evaluate compact/reports/evaluate --names text compact

For what a single evaluation cannot say, such as whether compact lists lift as much as text. Rows that only one of them scored are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tailmark.evaluate.scores import Measure, Pair, Score, measures_of, modes_of, pairs
from tailmark.evaluate.store import read_scores
from tailmark.statistics import Interval, paired_interval

RESAMPLES, SEED = 2_000, 17


def compared(first: Sequence[Score], second: Sequence[Score], measures: Sequence[Measure]) -> Iterator[tuple[str, ...]]:
    """Measure, mode, slice, rows, the two lifts and their difference, each with its 95 % interval."""
    for measure in measures:
        for mode in modes_of(first, measure):
            one, other = ({pair.row.id: pair for pair in pairs(scores, measure, mode)} for scores in (first, second))
            shared = sorted(one.keys() & other.keys())
            for part in ("all", "tail"):
                rows = [row for row in shared if part == "all" or one[row].row.tail]
                if len({one[row].row.group for row in rows}) < 2:
                    continue
                lifts = [[_lift(measure, side[row]) for row in rows] for side in (one, other)]
                further = [theirs - ours for ours, theirs in zip(*lifts, strict=True)]
                groups = [one[row].row.group for row in rows]
                yield measure.title, mode, part, str(len(rows)), *(_shown(values, groups, measure) for values in (*lifts, further))


def _lift(measure: Measure, pair: Pair) -> float:
    return measure.lift(pair.baseline, pair.marked)


def _shown(values: Sequence[float], groups: Sequence[str], measure: Measure) -> str:
    yes_no = measure.unit == "share"
    found: Interval = paired_interval(values, resamples=RESAMPLES, confidence=0.95, seed=SEED, clusters=groups, yes_no=yes_no)
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--names", nargs=2, default=["first", "second"])
    given = parser.parse_args()
    (first, facts), (second, _) = (read_scores(folder / "examples.parquet") for folder in given.folders)
    table = Table("measure", "mode", "rows of", "n", *given.names, f"{given.names[1]} less {given.names[0]}", box=None)
    for line in compared(first, second, measures_of(first, facts.measures)):
        table.add_row(*line)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
