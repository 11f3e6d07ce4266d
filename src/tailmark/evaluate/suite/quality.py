"""Is quality a lever? Every prompt is asked for every `quality_bucket`, and judges grade what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import page_trend_test, rankdata
from sklearn.isotonic import IsotonicRegression

from tailmark.config import QualityLever
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.judges import Candidate, Judge, open_judges
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Measure, Score, ScoredMode
from tailmark.evaluate.suite.base import Item, Probe, sample
from tailmark.evaluate.suite.data import Files
from tailmark.evaluate.suite.prompts import file_items, heldout_items
from tailmark.evaluate.suite.runner import row_of
from tailmark.generate.request import Answer, Request
from tailmark.layout import Layout
from tailmark.quality import BUCKET, LANG, SCORE, percentiles_of, with_quality
from tailmark.statistics import paired_interval
from tailmark.taxonomy import MarkerList

NAME = "quality_lever"
WORST_FIRST = ("4", "3", "2", "1")
DIGITS = 6
Grades = NDArray[np.float64]


class QualityLeverProbe(Probe):
    """Asks by `quality_bucket`, and where the model knows it by the `quality` that stands for the bucket (paper: its 95th percentile).

    Scores: `<judge>_<bucket>`, the grade of the answer to that bucket, and of the baseline's. `found` says whether grades rise.
    """

    name = NAME

    def __init__(self, options: QualityLever, bench: Bench, layout: Layout) -> None:
        self._options, self._bench = options, bench
        self._prompts = Files(layout.root, options.path) if options.path else None
        self.files = self._prompts.digests if self._prompts else {}
        self.found: dict[str, Any] = {}
        self.not_run: dict[str, str] = {}
        markers = bench.marked.info.markers
        self._percentiles = percentiles_of(bench.marked.folder) if SCORE in markers else {}
        if BUCKET not in markers:
            self.not_run["all of it"] = f"the model was not trained with {BUCKET}"
        elif lacking := [name for name in WORST_FIRST if not bench.marked.taxonomy.allows(BUCKET, name)]:
            self.not_run["all of it"] = f"the taxonomy has no {BUCKET} {', '.join(lacking)}"
        judges = [] if self.not_run else open_judges(bench.config.evaluate.judges, layout)
        self._judges = [judge for judge in judges if self._prompts is None or not judge.needs_reference]
        if not self.not_run and not self._judges:
            self.not_run["all of it"] = "these prompts have no reference answers; name a reward or llm judge"
        self.measures = [
            Measure(NAME, f"{judge.name}_{bucket}", f"Quality bucket {bucket} asked for ({judge.title})", judge.unit, higher_is_better=True)
            for judge in self._judges
            for bucket in WORST_FIRST
        ]

    def scores(self, bench: Bench) -> list[Score]:
        """Ask for every bucket, and the baseline; grade."""
        if not self._judges:
            return []
        items = self._items()
        rows = [row_of(NAME, Item(item.id, item.messages, item.reference, {}, item.labels, item.group), bench) for item in items]
        given = {name: [self._given(item, name) for item in items] for name in WORST_FIRST}
        answers = {"baseline": self._ask("baseline", items, None)} | {name: self._ask("fixed", items, given[name]) for name in WORST_FIRST}
        made: list[Score] = []
        for judge in self._judges:
            grades = {name: _grades(judge, items, texts) for name, texts in answers.items()}
            made += _scores(judge, rows, given, answers, grades)
            self.found[judge.name] = self._lever(rows, grades)
            self.found.setdefault("judges", {})[judge.name] = judge.report()
        return made

    def _items(self) -> Sequence[Item]:
        if self._prompts is None:
            return heldout_items(self._bench, self._options.limit, NAME)
        return sample(file_items(self._prompts), self._options.limit, self._bench.config.seed)

    def _given(self, item: Item, bucket: str) -> MarkerList:
        known = {LANG: item.labels[LANG]} if LANG in item.labels else {}
        return MarkerList(with_quality({BUCKET: bucket, **known}, self._percentiles)).only({BUCKET, SCORE})

    def _ask(self, mode: ScoredMode, items: Sequence[Item], given: Sequence[MarkerList] | None) -> list[Answer]:
        requests = [Request(item.messages, given[place] if given else None) for place, item in enumerate(items)]
        return self._bench.answer(mode, requests, NAME, self._options.max_new_tokens)

    def _lever(self, rows: Sequence[Row], grades: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
        complete = [place for place in range(len(rows)) if all(grades[name][place] is not None for name in WORST_FIRST)]
        if len(complete) < 2:
            return {"n": len(complete)}
        table = np.array([[grades[name][place] for name in WORST_FIRST] for place in complete], dtype=np.float64)
        options = self._bench.config.evaluate
        return lever(
            table,
            [rows[place].group for place in complete],
            resamples=options.resamples,
            confidence=options.confidence,
            seed=self._bench.config.seed,
        )


def _grades(judge: Judge, items: Sequence[Item], answers: Sequence[Answer]) -> list[float | None]:
    return judge.grade([Candidate(item.messages, answer.text, item.reference) for item, answer in zip(items, answers, strict=True)])


def _scores(
    judge: Judge,
    rows: Sequence[Row],
    given: Mapping[str, Sequence[MarkerList]],
    answers: Mapping[str, Sequence[Answer]],
    grades: Mapping[str, Sequence[float | None]],
) -> list[Score]:
    """Of every bucket, with the baseline's beside each."""
    made = []
    for bucket in WORST_FIRST:
        cases: tuple[tuple[ScoredMode, str], ...] = (("baseline", "baseline"), ("fixed", bucket))
        for mode, name in cases:
            for place, (row, answer, grade) in enumerate(zip(rows, answers[name], grades[name], strict=True)):
                if grade is not None:
                    markers = given[bucket][place] if mode == "fixed" else {}
                    made.append(Score(row, NAME, mode, f"{judge.name}_{bucket}", grade, row.question, answer.text, markers, answer.markers))
    return made


def lever(grades: Grades, groups: Sequence[str], *, resamples: int, confidence: float, seed: int) -> dict[str, Any]:
    """Whether grades rise from the worst bucket to the best.

    Args:
        grades: of shape (prompts, buckets), the worst bucket first; at least two prompts.
        groups: per prompt, what it shares with others: drawn together.

    Returns:
        `means` by bucket; `spearman`: within a prompt, the mean over prompts, with its interval (a prompt with equal grades counts 0);
        `page_p`: one-sided p-value of Page's test for a trend (1963), prompts taken as independent; `isotonic`: the share of the means'
        variance that the best monotone fit explains, 1 where they are monotone; `verdict`: `rises`, `falls` or `unclear`, by the interval.
    """
    correlations = [_spearman(row) for row in grades]
    interval = paired_interval(correlations, resamples=resamples, confidence=confidence, seed=seed, clusters=groups)
    means = grades.mean(axis=0)
    numbers = {
        "spearman": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "page_p": float(page_trend_test(grades, ranked=False).pvalue),
        "isotonic": _isotonic(means),
    }
    verdict = "rises" if interval.low > 0 else "falls" if interval.high < 0 else "unclear"
    return {
        "means": {name: round(float(mean), DIGITS) for name, mean in zip(WORST_FIRST, means, strict=True)},
        **{name: round(value, DIGITS) for name, value in numbers.items()},
        "verdict": verdict,
        "n": len(grades),
    }


def _spearman(grades: Grades) -> float:
    """Of the grades with their order; 0 where they are all equal, which says of no trend."""
    ranks = rankdata(grades)
    return 0.0 if np.ptp(ranks) == 0 else float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])


def _isotonic(means: Grades) -> float:
    spread = float(((means - means.mean()) ** 2).sum())
    fitted = IsotonicRegression().fit_transform(np.arange(len(means)), means)
    return 1 - float(((means - fitted) ** 2).sum()) / spread if spread else 1.0
