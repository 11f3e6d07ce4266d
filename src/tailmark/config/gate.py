"""Options of the gate between a challenger and the champion."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tailmark.config.modes import Mode
from tailmark.config.section import Positive, Section

Score = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")]
Margin = Annotated[float, Field(ge=0)]


class Gate(Section):
    """What a challenger must show to become the champion.

    Attributes:
        champion: the alias of the version in use.
        scores: what is judged, `benchmark/score` as in the evaluation's metrics.
        mode: how the marked model is asked where tail and head are judged.
        absent_mode: the same for a prompt without markers.
        head_margin: how far below zero the head's interval may reach, in the score's unit.
        absent_margin: the same without markers.
        over_champion: `better`: the tail lift over the champion is above zero with its interval; `not_worse`: within `head_margin`.
        min_texts: fewest source texts that both versions were scored on.
        decontaminated: evaluation sets (`ingest.decontaminate.sets`) that the training rows must have been checked against.
        approval: a person must agree before the alias moves.
        approval_hours: how long the flow waits for one.
    """

    champion: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")] = "champion"
    scores: Annotated[tuple[Score, ...], Field(min_length=1)] = ("likelihood/nll",)
    mode: Mode = "fixed"
    absent_mode: Mode = "inferred"
    head_margin: Margin = 0.05
    absent_margin: Margin = 0.05
    over_champion: Literal["better", "not_worse"] = "better"
    min_texts: Positive = 8
    decontaminated: tuple[str, ...] = ()
    approval: bool = False
    approval_hours: Annotated[float, Field(gt=0)] = 24.0

    @field_validator("champion")
    @classmethod
    def _free(cls, name: str) -> str:
        if name.lower() == "latest" or re.fullmatch(r"[vV]\d+", name):
            raise ValueError(f"MLflow keeps the alias '{name}' for itself")
        return name
