"""What a validation found, as the stage, the page and the error message share it."""

from __future__ import annotations

from dataclasses import dataclass

from tailmark.taxonomy import Taxonomy
from tailmark.validate.expectations import Outcome
from tailmark.validate.failing import named
from tailmark.validate.profile import Profile
from tailmark.validate.rows import Annotated

_NAMED = 3


@dataclass(frozen=True)
class Findings:
    """The rows and what was found of them.

    Attributes:
        accepted: the last accepted profile; None where there is none.
        drift: marker to its distance from the accepted profile.
    """

    rows: Annotated
    outcomes: list[Outcome]
    profile: Profile
    accepted: Profile | None
    drift: dict[str, float]
    taxonomy: Taxonomy

    @property
    def failed(self) -> list[Outcome]:
        """The expectations that do not hold."""
        return [outcome for outcome in self.outcomes if not outcome.success]

    def line(self, outcome: Outcome) -> str:
        """One that does not hold, in a line: what it asks for, on how many rows, and which they are."""
        return f"{outcome.expectation.name}: {outcome.expectation.says}; {self.extent(outcome)}"

    def extent(self, outcome: Outcome) -> str:
        """How far an expectation is from holding: what was found instead, or how many rows, and the first of them."""
        if outcome.checked is None:
            return f"found {outcome.observed}"
        first = ", ".join(named(outcome.failing, self.rows, _NAMED))
        more = ", ..." if len(outcome.failing) > _NAMED else ""
        return f"{outcome.unexpected:,} of {outcome.checked:,} rows do not: {first}{more}"
