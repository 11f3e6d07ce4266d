"""Options of what comes after training: evaluate, register, tracking."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, model_validator

from tailmark.config.benchmarks import Benchmark
from tailmark.config.judges import Judge, ReferenceJudge
from tailmark.config.modes import Mode
from tailmark.config.section import Positive, Section

HELDOUT_NAMES = frozenset(
    {"attribution", "confidence", "inference", "language", "language_alone", "length", "length_alone", "likelihood", "own_markers", "rows"}
)
"""What the scores and metrics of held-out rows are called."""

_COUNTS = frozenset({"heldout", "heldout_tail", "train"})
"""Numbers of rows that the metrics hold beside those of each benchmark."""


class Evaluate(Section):
    """What is measured on held-out rows, and on how many of them.

    Attributes:
        modes: how the marked model is asked; `wrong` (shuffled values) is the control.
        likelihood_rows: rows whose reference answer is scored and whose markers are inferred.
        control_rows: rows answered under length control, and as many under language control.
        max_new_tokens: most tokens of an answer; a marker list has its own allowance beside them.
        batch_size: prompts that are answered at a time.
        resamples: bootstrap resamples.
        confidence: of the intervals.
        deciles: groups by how many training rows share a row's long-tail value, the first the rarest tenth (0: none).
        attribution_rows: rows for which every value of a marker is tried out as the cause of the answer, so many passes (0: none).
        attribution_markers: those markers (None: the long-tail marker).
        benchmarks: further ones, each with its own options (docs/benchmarks.md).
        judges: of the benchmarks with open-ended answers (docs/judges.md); where several run, their agreement is reported.
    """

    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("inferred", "fixed", "wrong")
    likelihood_rows: Positive = 100
    control_rows: Positive = 32
    batch_size: Positive = 16
    max_new_tokens: Positive = 96
    resamples: Positive = 2000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    deciles: Annotated[int, Field(ge=0, le=100)] = 10
    attribution_rows: Annotated[int, Field(ge=0)] = 0
    attribution_markers: tuple[str, ...] | None = None
    benchmarks: tuple[Benchmark, ...] = ()
    judges: tuple[Judge, ...] = (ReferenceJudge(kind="reference"),)

    @model_validator(mode="after")
    def _named_apart(self) -> Evaluate:
        names = [str(getattr(item, "name", item.kind)) for item in self.benchmarks]
        for name in names:
            if name in HELDOUT_NAMES | _COUNTS:
                raise ValueError(f"`benchmarks`: the figures of held-out rows stand under '{name}'; give the benchmark another name")
            if names.count(name) > 1:
                raise ValueError(f"`benchmarks`: two are called '{name}', and their figures would be mixed; leave one out or rename it")
        return self


class Register(Section):
    """The registry's entry.

    Attributes:
        model_name: the registered model's name.
        alias: the name under which the newest registered version can be loaded.
    """

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "tailmark"
    alias: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")] = "challenger"

    @model_validator(mode="after")
    def _free(self) -> Register:
        if self.alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", self.alias):
            raise ValueError(f"MLflow keeps the alias '{self.alias}' for itself")
        return self


class Tracking(Section):
    """Where runs are kept.

    Attributes:
        uri: of the MLflow store (None: `MLFLOW_TRACKING_URI`, else SQLite under `.tailmark/mlflow`).
        experiment: the MLflow experiment of the runs.
    """

    uri: str | None = None
    experiment: str = "tailmark"
