"""AlpacaEval-LI: a limit told in words or by the marker. Is it kept, how far off is the answer, and which answer is the better one?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tailmark.config import LengthInstructed
from tailmark.errors import DataError
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.control import LENGTH, length_values
from tailmark.evaluate.judges import Contest, Judge, Verdict, open_judges
from tailmark.evaluate.scores import Measure, ScoredMode
from tailmark.evaluate.suite.base import Item, Judged, Messages, sample
from tailmark.evaluate.suite.data import Files
from tailmark.evaluate.suite.prompts import CONTROL_MODES
from tailmark.evaluate.suite.runner import GIVEN
from tailmark.files import sha256_json
from tailmark.generate.request import Answer
from tailmark.layout import Layout
from tailmark.measure.lengths import with_bucket
from tailmark.taxonomy import Taxonomy

NAME = "length_instructed"


class LengthInstructedBenchmark(Judged):
    """Baseline and `inferred` are told the limit in words; where markers are given, the words are gone and `length_tokens` holds it.

    As in AlpacaEval-LI an answer over its limit loses against one within it (`win_<judge>`); `both_<judge>` has only the pairs in
    which both comply: the quality of those.
    """

    name = NAME
    modes = CONTROL_MODES

    def __init__(self, options: LengthInstructed, bench: Bench, layout: Layout) -> None:
        self._options, self._bench = options, bench
        self._files = Files(layout.root, options.path)
        self.files = self._files.digests
        self.found: dict[str, Any] = {}
        self.not_run: dict[str, str] = {}
        self._judges = [judge for judge in open_judges(bench.config.evaluate.judges, layout) if not judge.needs_reference]
        if not self._judges:
            self.not_run["quality of answers that comply"] = "these prompts have no reference answers; name a reward or llm judge"
        if LENGTH not in bench.marked.info.markers:
            self.not_run["the marker"] = f"the model was not trained with {LENGTH}"
        self.measures = [
            Measure(NAME, "violation", "AlpacaEval-LI: over the word limit", "share"),
            Measure(NAME, "error", "AlpacaEval-LI: off the limit in tokens", "share of the limit"),
            *(measure for judge in self._judges for measure in _measures(judge)),
        ]

    def load(self) -> Sequence[Item]:
        """The prompts with their limits."""
        marked = self._bench.marked
        items = [_item(row, number, marked.taxonomy, marked.info.markers) for number, row in enumerate(self._files.jsonl(), 1)]
        most = self._options.max_limit
        within = [item for item in items if most is None or item.data["limit"] <= most]
        if len(within) < len(items):
            self.not_run["higher limits"] = f"{len(items) - len(within)} prompts with a limit above max_limit ({most} words)"
        return sample(within, self._options.limit, self._bench.config.seed)

    def prompt(self, item: Item, mode: ScoredMode) -> Messages:
        """With the limit in words, or without where the marker holds it."""
        return ({"role": "user", "content": item.data["plain"]},) if mode in GIVEN else item.messages

    def score(self, item: Item, answer: Answer) -> Mapping[str, float]:
        """Violation, error and length."""
        return length_values(answer.text, "English", float(item.data["limit"]))

    def judge(
        self, items: Sequence[Item], answers: Mapping[ScoredMode, Sequence[Answer]]
    ) -> Mapping[ScoredMode, Sequence[Mapping[str, float]]]:
        """Against the baseline: an answer over its limit loses, of two that comply a judge says which is better."""
        values: dict[ScoredMode, list[dict[str, float]]] = {mode: [{} for _ in items] for mode in answers}
        for judge in self._judges:
            for mode in answers:
                self._against_baseline(judge, items, answers["baseline"], answers[mode], values[mode])
        self.found = {"judges": {judge.name: judge.report() for judge in self._judges}}
        return values

    def _against_baseline(
        self, judge: Judge, items: Sequence[Item], baseline: Sequence[Answer], marked: Sequence[Answer], values: list[dict[str, float]]
    ) -> None:
        comply = [
            (self._complies(item, one), self._complies(item, other)) for item, one, other in zip(items, baseline, marked, strict=True)
        ]
        both = [place for place, pair in enumerate(comply) if all(pair)]
        contests = [Contest(items[place].messages, baseline[place].text, marked[place].text) for place in both]
        said = [Verdict(0.5)] * len(both) if marked is baseline else judge.compare(contests)
        verdicts = dict(zip(both, said, strict=True))
        for place, (first, second) in enumerate(comply):
            verdict = verdicts.get(place)
            if verdict is not None:
                values[place] |= {f"win_{judge.name}": verdict.value, f"both_{judge.name}": verdict.value}
            elif not (first and second):
                values[place][f"win_{judge.name}"] = 0.5 + (second - first) / 2

    def _complies(self, item: Item, answer: Answer) -> bool:
        return not self.score(item, answer)["violation"]


def _measures(judge: Judge) -> list[Measure]:
    return [
        Measure(
            NAME, f"win_{judge.name}", f"AlpacaEval-LI: win rate, over the limit loses ({judge.title})", "share", higher_is_better=True
        ),
        Measure(NAME, f"both_{judge.name}", f"AlpacaEval-LI: win rate where both comply ({judge.title})", "share", higher_is_better=True),
    ]


def _item(row: Mapping[str, Any], number: int, taxonomy: Taxonomy, known: Collection[str]) -> Item:
    try:
        told, plain, limit = str(row["instruction"]), str(row["original_instruction"]), int(row["max_len"])
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"Row {number} of AlpacaEval-LI has no instruction, original_instruction or max_len.",
            where=", ".join(sorted(row)),
            fix="name a file in the form of AlpacaEval-LI",
        ) from None
    asked = ({"role": "user", "content": told},)
    data = {"plain": plain, "limit": limit}
    # A few prompts come twice, with the same limit.
    name = sha256_json([plain, limit, number])[:16]
    markers = with_bucket({LENGTH: limit}, taxonomy, known)
    return Item(name, asked, markers=markers, labels={"lang": "English"}, group=plain, data=data)
