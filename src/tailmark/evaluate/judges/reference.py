"""The offline judge: how like the reference answer an answer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics.chrf import CHRF

from tailmark.config import ReferenceJudge
from tailmark.evaluate.judges.base import Candidate, Contest, Verdict, by_grades


class ReferenceAnswerJudge:
    """chrF++ (Popović 2017) to the reference answer, from 0 to 1: shared runs of up to 6 characters and 2 words, recall weighing double.

    It needs no model and no word segmenter, so it is the same in every language and on every machine. It sees wording only: a right
    answer in other words loses to a wrong one in the reference's, and neither style nor facts count for themselves.
    """

    name = "reference"
    title = "likeness to the reference answer, chrF++"
    needs_reference = True
    unit = "chrF++, 0 to 1"

    def __init__(self, options: ReferenceJudge) -> None:
        self._tie = options.tie
        self._metric = CHRF(word_order=2)
        self._metric.num_refs = 1  # else there is no signature before the first answer

    def grade(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """chrF++ of each answer; None without a reference."""
        return [self._likeness(item) if item.reference.strip() else None for item in candidates]

    def _likeness(self, candidate: Candidate) -> float:
        return round(float(self._metric.sentence_score(candidate.answer, [candidate.reference]).score) / 100, 6)

    def compare(self, contests: Sequence[Contest]) -> list[Verdict | None]:
        """The more alike one wins."""
        return by_grades(self, contests, self._tie)

    def report(self) -> dict[str, Any]:
        """The metric's signature, as sacrebleu gives it."""
        return {"title": self.title, "signature": str(self._metric.get_signature()), "tie": self._tie}
