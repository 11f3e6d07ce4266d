"""Held-out repairs that have no tests, such as ConDefects' programs: how near an answer comes to the correction that a person made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from tailmark.config import Repair
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.scores import Measure
from tailmark.evaluate.suite.base import Benchmark, Item, sample
from tailmark.evaluate.suite.programs import code_in
from tailmark.evaluate.suite.prompts import heldout_item
from tailmark.generate.request import Answer
from tailmark.layout import Layout


class RepairBenchmark(Benchmark):
    """Rows whose task is CodeFix, asked as they stand. Blanks at the ends of lines and empty lines do not count.

    `exact` is 1 where the program is the correction itself; `similarity` is the share of lines that the two have in common, in order
    (Ratcliff and Obershelp, of lines).
    """

    name = "repair"
    measures = (
        Measure("repair", "exact", "Repair: the correction itself", "share", higher_is_better=True),
        Measure("repair", "similarity", "Repair: lines as in the correction", "share of lines", higher_is_better=True),
    )

    def __init__(self, options: Repair, bench: Bench, layout: Layout) -> None:
        del layout
        self._limit, self._bench = options.limit, bench
        self.files: dict[str, dict[str, str | int]] = {}
        self.not_run: dict[str, str] = {}

    def load(self) -> Sequence[Item]:
        """The held-out rows of that task."""
        rows = [row for row in self._bench.heldout.rows if row.labels.get("task") == "CodeFix"]
        if not rows:
            self.not_run["repair"] = "no held-out row has the task CodeFix"
        return sample([heldout_item(row) for row in rows], self._limit, self._bench.config.seed)

    def score(self, item: Item, answer: Answer) -> Mapping[str, float]:
        """Exact match and similarity of one answer."""
        written, right = _lines(code_in(answer.text)), _lines(code_in(item.reference))
        return {"exact": float(written == right), "similarity": SequenceMatcher(None, written, right, autojunk=False).ratio()}


def _lines(code: str) -> list[str]:
    return [line.rstrip() for line in code.splitlines() if line.strip()]
