"""The LLM annotator: many rows at once, each answer paid for once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tailmark.annotate.annotators import Finding, applies
from tailmark.annotate.llm.answers import Answer, Answered, InvalidAnswer, read_label, read_object
from tailmark.annotate.llm.examples import Examples
from tailmark.annotate.llm.questions import Question, Questioner
from tailmark.config import LLM
from tailmark.llm import AnswerCache, Client, Reply, Unanswered, Usage
from tailmark.llm.client import Read
from tailmark.records import Record
from tailmark.taxonomy import MarkerValue, Taxonomy

ASKED, VALUE, UNSPECIFIED, INVALID, UNANSWERED = "asked", "value", "unspecified", "invalid", "unanswered"


class _Outcome(NamedTuple):
    """A question's valid answers, and per marker without one what the model said."""

    answer: Answer
    invalid: dict[str, str]


def _restored(stored: Mapping[str, tuple[MarkerValue | None, float | None]]) -> _Outcome:
    return _Outcome({name: Answered(*item) for name, item in stored.items()}, {})


@dataclass
class LLMAnnotator:
    """Asks a model for the markers that stronger evidence leaves open.

    Attributes:
        options: the section `annotate.llm`.
        cache: of the answers that were paid for.
        counts: per marker, how many questions were asked and what came of them.
        invalid: (marker, what the model said) to number of rows: values outside the taxonomy, never accepted.
        bare: the rows are prompts without a completion, and the markers those that the answer should have.
    """

    options: LLM
    taxonomy: Taxonomy
    cache: AnswerCache
    bare: bool = False
    origin: str = field(default="llm", init=False)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter), init=False)
    invalid: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        for name in self.options.markers or ():
            self.taxonomy.spec(name)
        self._questioner = Questioner(self.options, self.taxonomy, Examples(self.taxonomy, self.options.examples), bare=self.bare)
        self._askable = frozenset(self._questioner.askable())
        self._client = Client(self.options, "annotate.llm", self.cache, _restored)

    @classmethod
    def open(cls, options: LLM, taxonomy: Taxonomy, state: Path, *, bare: bool = False) -> LLMAnnotator:
        """An annotator whose answers are kept under `state / "llm-cache"`, outside the outputs that DVC removes.

        Raises:
            TaxonomyError: `annotate.llm.markers` or the file of examples names what the taxonomy does not have.
            DataError: the cache is corrupt.
        """
        return cls(options, taxonomy, AnswerCache(state / "llm-cache" / "answers.sqlite"), bare)

    @property
    def spent(self) -> Usage:
        """What requests to this endpoint and model took so far, over all runs."""
        return self._client.spent

    def annotate(self, rows: list[Record], known: list[dict[str, Finding]]) -> list[dict[str, Finding]]:
        """Findings for the markers that are askable, not known, and apply; none where the model was not certain or said what is invalid.

        Raises:
            BudgetExceeded: the budget is used up.
            EndpointError: the endpoint does not answer or refuses the key, or the variable with the key is not set.
        """
        found: list[dict[str, Finding]] = [{} for _ in rows]

        async def work(number: int) -> None:
            found[number] = await self._row(rows[number], known[number])

        self._client.run([number for number, findings in enumerate(known) if self.missing(findings)], work)
        return found

    def missing(self, known: Mapping[str, Finding]) -> frozenset[str]:
        """The markers that would be asked for a row."""
        return frozenset(name for name in self._askable - known.keys() if applies(self.taxonomy, name, known))

    def questions(self, row: Record, known: Mapping[str, Finding]) -> list[Question]:
        """All questions that a row may need."""
        return self._questioner.questions(row["prompt"], self._completion(row), self.missing(known))

    def report(self) -> dict[str, Any]:
        """For `report.json`: the model, and per marker what came of the questions."""
        markers = {
            name: {what: counts[what] for what in (ASKED, VALUE, UNSPECIFIED, INVALID, UNANSWERED)} for name, counts in self.counts.items()
        }
        said = sorted(self.invalid.items(), key=lambda item: (-item[1], item[0]))
        return {
            "model": self.options.model,
            "protocol": self.options.protocol,
            "markers": dict(sorted(markers.items())),
            "invalid": [{"marker": marker, "said": text, "rows": rows} for (marker, text), rows in said[:50]],
        }

    def table(self) -> list[str]:
        """Lines for the console: what came of the questions, and what they took in this run and so far."""
        lines = [
            f"  {name:<18} {counts[ASKED]:,} asked: {counts[VALUE]:,} values, {counts[UNSPECIFIED]:,} unspecified, "
            f"{counts[INVALID]:,} invalid, {counts[UNANSWERED]:,} unanswered"
            for name, counts in sorted(self.counts.items())
        ]
        return [*lines, f"  paid in this run: {self._client.paid.told(self.options)}; so far: {self.spent.told(self.options)}"]

    def _completion(self, row: Record) -> str | None:
        return None if self.bare else str(row["completion"])

    async def _row(self, row: Record, known: Mapping[str, Finding]) -> dict[str, Finding]:
        """One row's findings; a marker that applies only under another's value is asked after that one."""
        found: dict[str, Finding] = {}
        left = set(self.missing(known))
        while left:
            specs = self.taxonomy.markers
            ready = left if self.options.protocol == "all" else {name for name in left if not left & specs[name].applies_to.keys()} or left
            applying = {name for name in ready if applies(self.taxonomy, name, {**known, **found})}
            for question in self._questioner.questions(row["prompt"], self._completion(row), applying):
                found |= await self._findings(question)
            left = left - ready
        return {name: finding for name, finding in found.items() if applies(self.taxonomy, name, {**known, **found})}

    async def _findings(self, question: Question) -> dict[str, Finding]:
        for name in question.markers:
            self.counts[name][ASKED] += 1
        try:
            answer, invalid = await self._client.ask(question, lambda reply: self._read(reply, question))
        except Unanswered:
            for name in question.markers:
                self.counts[name][UNANSWERED] += 1
            return {}
        for name, item in answer.items():
            self.counts[name][VALUE if item.value is not None else UNSPECIFIED] += 1
        for name, said in invalid.items():
            self.counts[name][INVALID] += 1
            self.invalid[name, said] += 1
        return {name: Finding(item.value, item.confidence) for name, item in answer.items() if item.value is not None}

    def _read(self, reply: Reply, question: Question) -> Read:
        """What a reply says; kept is only what is valid throughout, the others are asked again."""
        outcome = self._outcome(reply, question)
        return Read(outcome, None if outcome.invalid else outcome.answer)

    def _outcome(self, reply: Reply, question: Question) -> _Outcome:
        if question.schema is not None:
            return _Outcome(*read_object(reply.content, question.markers, self.taxonomy, reply.tokens))
        name = question.markers[0]
        try:
            return _Outcome(read_label(reply.content, name, self.taxonomy, reply.tokens), {})
        except InvalidAnswer as said:
            return _Outcome({}, {name: str(said)})
