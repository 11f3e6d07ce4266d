"""Options of the stage `validate`."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from tailmark.config.section import Fraction, Positive, Section

ExpectationGroup = Literal[
    "schema",
    "ids",
    "rows",
    "split",
    "values",
    "ranges",
    "evidence",
    "completeness",
    "lengths",
    "measured",
    "buckets",
    "tail",
    "language",
    "quality",
    "origins",
    "drift",
]
_WARN = ("tail", "language", "quality", "origins", "drift")
Agreement = Literal["language", "prompt", "quality"]


def _agreement() -> dict[Agreement, float]:
    return {"language": 0.95, "prompt": 0.9, "quality": 0.95}


def _cross_lingual() -> dict[str, tuple[str, ...]]:
    return {"task": ("Translation",)}


class Validate(Section):
    """Thresholds of the expectations.

    Attributes:
        stop: the groups of expectations that stop the pipeline when they fail; the others warn.
        min_rows: fewest rows in all.
        min_completeness: share of the rows that have a value of the marker, where its `applies_to` holds.
        min_tail_train, min_tail_heldout: rows of each split that every tail value has, so that it can be learned and evaluated.
        remeasure_rows: rows that are measured again and compared: lengths, language, format, code.
        min_agreement: share of the rows looked at where two things agree: `language` the language stated and the completion's,
            `prompt` the language stated and the prompt's, `quality` the quality bucket and the quartile within the language.
        cross_lingual: marker to the values under which an answer may be in another language than its prompt.
        max_origin: kind of evidence to the largest share of a categorical marker's values that may rest on it.
        max_drift: largest Jensen-Shannon distance (0 to 1) of a marker's distribution from the last accepted one.
    """

    stop: tuple[ExpectationGroup, ...] = tuple(group for group in get_args(ExpectationGroup) if group not in _WARN)
    min_rows: Positive = 100
    min_completeness: dict[str, Fraction] = Field(default_factory=lambda: {"lang": 0.9, "length_tokens": 1.0, "length_bucket": 1.0})
    min_tail_train: Annotated[int, Field(ge=0)] = 4
    min_tail_heldout: Annotated[int, Field(ge=0)] = 1
    remeasure_rows: Annotated[int, Field(ge=0)] = 200
    min_agreement: dict[Agreement, Fraction] = Field(default_factory=_agreement)
    cross_lingual: dict[str, tuple[str, ...]] = Field(default_factory=_cross_lingual)
    max_origin: dict[str, Fraction] = Field(default_factory=lambda: {"classifier": 0.5})
    max_drift: Fraction = 0.15
