"""What asking would take, before anything is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tailmark.annotate.annotators import Finding
from tailmark.annotate.llm.annotator import LLMAnnotator
from tailmark.llm import Usage
from tailmark.records import Record


@dataclass
class Estimate:
    """Counts the questions of rows without asking them.

    Attributes:
        rows: rows looked at; `asking`: those with a question that is not answered yet.
        markers: per marker, rows that lack it.
        cached: questions that were paid for already, in an earlier run.
        new: what the others take, each different question once; answers are taken to be as long as a label is.
    """

    annotator: LLMAnnotator
    rows: int = 0
    asking: int = 0
    cached: int = 0
    markers: Counter[str] = field(default_factory=Counter)
    new: Usage = field(default_factory=Usage)
    _seen: set[str] = field(default_factory=set)

    def add(self, rows: Iterable[Record], known: Iterable[Mapping[str, Finding]]) -> None:
        """Count rows, with what stronger evidence says of each."""
        for row, findings in zip(rows, known, strict=True):
            self.rows += 1
            self.markers.update(self.annotator.missing(findings))
            before = self.new
            for question in self.annotator.questions(row, findings):
                if question.key in self._seen:
                    continue
                self._seen.add(question.key)
                if self.annotator.cache.get(question.key) is not None:
                    self.cached += 1
                else:
                    self.new += question.typical
            self.asking += self.new != before

    def lines(self, total: int) -> list[str]:
        """What to tell a person, for a data set of `total` rows of which the rows counted are an even sample."""
        scale = total / max(self.rows, 1)
        options, spent = self.annotator.options, self.annotator.spent
        lacking = ", ".join(f"{name} {round(count * scale):,}" for name, count in sorted(self.markers.items())) or "none"
        new = self.new.times(scale)
        basis = "" if self.rows == total else f", from a sample of {self.rows:,}"
        lines = [
            f"llm: {options.model} would be asked about {round(self.asking * scale):,} of {total:,} rows{basis}",
            f"  markers that rows lack: {lacking}",
            f"  to pay for: about {new.told(options)}",
            f"  answered before: {round(self.cached * scale):,} requests; so far it took {spent.told(options)}",
        ]
        return lines + self._limits(spent + new)

    def _limits(self, whole: Usage) -> list[str]:
        options = self.annotator.options
        limits = {"max_requests": whole.requests, "max_tokens": whole.tokens, "max_cost": whole.cost(options)}
        lines = []
        for name, value in limits.items():
            limit = getattr(options, name)
            if limit is not None:
                word = "not enough" if value > limit else "enough"
                lines.append(f"  budget: annotate.llm.{name} is {limit:,}, about {value:,.10g} would be used in all: {word}")
        return lines or ["  budget: none (annotate.llm.max_requests, max_tokens or max_cost set one)"]
