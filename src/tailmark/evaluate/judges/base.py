"""What a judge is: it grades single answers and compares two answers to one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Candidate:
    """An answer to judge, with its prompt and the reference answer (empty: there is none)."""

    messages: Messages
    answer: str
    reference: str = ""


@dataclass(frozen=True)
class Contest:
    """Two answers to one prompt, with the reference answer (empty: there is none)."""

    messages: Messages
    first: str
    second: str
    reference: str = ""

    @property
    def swapped(self) -> Contest:
        """The same two in the other order."""
        return Contest(self.messages, self.second, self.first, self.reference)


class Verdict(NamedTuple):
    """What a judge says of a contest, seen in both orders.

    Attributes:
        value: 1 the second answer wins, 0 the first one does, 0.5 they are equal; the mean of both orders.
        steady: whether both orders say the same.
    """

    value: float
    steady: bool = True


class Judge(Protocol):
    """Grades and compares answers.

    Attributes:
        name: in the names of scores, e.g. `reference`.
        title: what a reader of a figure sees.
        needs_reference: whether it can say nothing without a reference answer.
        unit: of its grades, the higher the better.
    """

    name: str
    title: str
    needs_reference: bool
    unit: str

    def grade(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """A grade of each answer; None: there is none.

        Raises:
            EndpointError, BudgetExceeded: of a judge behind an endpoint.
        """
        ...

    def compare(self, contests: Sequence[Contest]) -> list[Verdict | None]:
        """A verdict on each contest, every pair seen in both orders; None: there is none.

        Raises:
            EndpointError, BudgetExceeded: of a judge behind an endpoint.
        """
        ...

    def report(self) -> dict[str, Any]:
        """What stands beside its figures: what it is, its version, what it could not judge."""
        ...


def by_grades(judge: Judge, contests: Sequence[Contest], tie: float) -> list[Verdict | None]:
    """Verdicts from the grades of the single answers: the higher one wins, unless they differ by no more than `tie`.

    The order of two answers plays no part, so every verdict is steady.
    """
    answers = [Candidate(item.messages, text, item.reference) for item in contests for text in (item.first, item.second)]
    grades = judge.grade(answers)
    return [_of_grades(first, second, tie) for first, second in zip(grades[::2], grades[1::2], strict=True)]


def _of_grades(first: float | None, second: float | None, tie: float) -> Verdict | None:
    if first is None or second is None:
        return None
    if abs(second - first) <= tie:
        return Verdict(0.5)
    return Verdict(float(second > first))
