"""Does asking for a better `quality_bucket` make answers that the scorer of the training rows takes for better?

    python -m benchmarks.quality --rows 120    # in a member's worktree whose rows have a `quality` by `annotate.quality`

The benchmark `quality_lever` asks every prompt for each bucket, from 4 (worst) to 1, and grades by judges. This probe grades the answers
that it kept by what the buckets were made of, so that it shows whether the lever moves at all. Prints the means, their rank correlation
with the order of the buckets within a prompt (`spearman`: 1 where scores rise with every bucket; 95 % interval over source texts), the
baseline's mean, and the reference answers'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq

from benchmarks.probe import run
from tailmark.annotate.scorers import open_scorer
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.evaluate.stage import SCORES
from tailmark.evaluate.suite.quality import NAME, WORST_FIRST, lever
from tailmark.layout import Layout

Scores = list[float | None]


def measured(bench: Bench, count: int) -> Iterator[dict[str, object]]:
    """One line: the scores by what was asked for, over so many prompts of the evaluation."""
    layout = Layout(Path.cwd())
    answers = kept(layout.evaluated / SCORES)
    asked = [row for row in bench.heldout.rows if row.id in answers["baseline"]][:count]
    scores = {name: _scores(bench, asked, [of[row.id] for row in asked]) for name, of in answers.items()}
    scores["reference"] = _scores(bench, asked, [row.completion for row in asked])
    yield summary(scores, [row.group for row in asked])


def kept(examples: Path) -> dict[str, dict[str, str]]:
    """The answers of the benchmark `quality_lever`, by bucket (and `baseline`) and row."""
    columns = ["mode", "score", "row_id", "answer"]
    found: dict[str, dict[str, str]] = {name: {} for name in ("baseline", *WORST_FIRST)}
    for row in pq.read_table(examples, columns=columns, filters=[("benchmark", "=", NAME)]).to_pylist():
        name = "baseline" if row["mode"] == "baseline" else row["score"].rpartition("_")[2]
        found[name][row["row_id"].removeprefix(f"{NAME}/")] = row["answer"]
    return found


def _scores(bench: Bench, rows: Sequence[Row], answers: Sequence[str]) -> Scores:
    options = bench.config.annotate.quality
    assert options is not None, "the member has no `annotate.quality`"
    records = [{"prompt": [dict(message) for message in row.messages], "completion": text} for row, text in zip(rows, answers, strict=True)]
    return open_scorer(options, Path.cwd()).score(records)  # type: ignore[arg-type]


def summary(scores: dict[str, Scores], groups: Sequence[str]) -> dict[str, object]:
    """Means over the prompts with a score in every way, and whether scores rise with the bucket; `groups`: the prompts' source texts."""
    complete = [place for place in range(len(groups)) if all(of[place] is not None for of in scores.values())]
    table = np.array([[scores[bucket][place] for bucket in WORST_FIRST] for place in complete], dtype=np.float64)
    found = lever(table, [groups[place] for place in complete], resamples=5000, confidence=0.95, seed=0)
    others = {name: round(fmean(float(scores[name][place] or 0) for place in complete), 4) for name in scores if name not in WORST_FIRST}
    return {**found, **others}


if __name__ == "__main__":
    run(measured, __doc__, rows=120)
