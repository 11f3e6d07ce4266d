"""What a benchmark is: where its items come from, what is asked in each mode, how one answer is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.scores import Measure, Score, ScoredMode
from tailmark.files import sha256_json
from tailmark.generate.decode import Answer
from tailmark.taxonomy import MarkerValue

Messages = tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Item:
    """One thing that is asked.

    Attributes:
        id: unique in its benchmark and the same in every run.
        messages: what is asked where a mode does not ask otherwise.
        reference: an answer that is right, where there is one.
        markers: what modes that give markers say; those that the model was not trained with are left out.
        labels: its slices, marker to value, whether or not the model was trained with that marker.
        group: what items made from one text share; they are no independent examples.
        data: what else its benchmark needs to score an answer.
    """

    id: str
    messages: Messages
    reference: str = ""
    markers: Mapping[str, MarkerValue] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


class Benchmark(Protocol):
    """A set of items that baseline and marked model answer.

    Subclasses set the attributes and write `load` and `score`; the others have a default.

    Attributes:
        name: under which its scores stand.
        measures: the scores that are compared between the arms; the others are only kept.
        modes: the modes that have a meaning for it, `baseline` apart (None: all that are configured).
        parallel: answers that are scored at a time, in threads.
        not_run: what of it cannot run here, with the reason; filled by `load`.
        files: what was read, name to digest; filled by `load`.
        found: what it found that is no score of one answer, e.g. how far judges agree; complete once all answers are scored.
    """

    name: str
    measures: Sequence[Measure]
    found: Mapping[str, Any] = MappingProxyType({})
    modes: Sequence[ScoredMode] | None = None
    parallel: int = 1
    not_run: Mapping[str, str]
    files: Mapping[str, Mapping[str, str | int]]

    def load(self) -> Sequence[Item]:
        """The items, as many as are to be answered.

        Raises:
            DataError: the data are missing or not as they should be.
        """
        ...

    def prompt(self, item: Item, mode: ScoredMode) -> Messages:
        """What is asked in a mode, without markers: those of the item are added where the mode gives them."""
        del mode
        return item.messages

    def score(self, item: Item, answer: Answer) -> Mapping[str, float]:
        """The scores of one answer, by name."""
        ...


@runtime_checkable
class Pairwise(Benchmark, Protocol):
    """A benchmark that also sets the marked model's answer against the baseline's."""

    def compare(self, item: Item, baseline: Answer, marked: Answer) -> Mapping[str, float]:
        """How the marked model's answer does against the baseline's, by name: 1 it wins, 0 it loses, 0.5 they are equal.

        The baseline's own value is 0.5, so that a lift of +0.1 is a win rate of 60 %.
        """
        ...


@runtime_checkable
class Judged(Benchmark, Protocol):
    """A benchmark that also scores all answers together, because a judge takes many at a time or looks at several modes at once."""

    def judge(
        self, items: Sequence[Item], answers: Mapping[ScoredMode, Sequence[Answer]]
    ) -> Mapping[ScoredMode, Sequence[Mapping[str, float]]]:
        """Per mode and item further scores of its answer, by name."""
        ...


@runtime_checkable
class Probe(Protocol):
    """A benchmark that asks in its own way, e.g. through another harness; it makes its scores itself."""

    name: str
    measures: Sequence[Measure]
    found: Mapping[str, Any] = MappingProxyType({})
    not_run: Mapping[str, str]
    files: Mapping[str, Mapping[str, str | int]]

    def scores(self, bench: Bench) -> list[Score]:
        """Ask and score."""
        ...


def sample(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """`limit` items in their order; which ones depends on the seed and their ids only, so that another item does not change the rest."""
    if limit is None or limit >= len(items):
        return list(items)
    chosen = {item.id for item in sorted(items, key=lambda item: sha256_json([seed, item.id]))[:limit]}
    return [item for item in items if item.id in chosen]
