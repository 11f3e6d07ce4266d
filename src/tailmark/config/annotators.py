"""Options of the annotators that must be asked for: classifier and quality."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from tailmark.config.section import Fraction, Positive, Section


class Classifier(Section):
    """A linear model, trained on the rows whose source states a marker, for the rows that have none.

    Attributes:
        markers: what it finds; categorical markers.
        threshold: it abstains where it is less sure than that (its confidence is calibrated on labelled rows it was not trained on).
        min_rows: labelled training rows that a value needs; a value with fewer is never given.
        max_rows: labelled training rows of one value that are used, so that memory and time stay bounded.
    """

    markers: tuple[str, ...] = ("domain", "task", "format", "style")
    threshold: Fraction = 0.7
    min_rows: Positive = 20
    max_rows: Positive = 4_000


class Quality(Section):
    """A score of every completion, the higher the better, and its quartile among the scores of the same language.

    Attributes:
        score: `metadata` is what the source states as marker `quality`; `reward` a reward model (sequence classification);
            `likelihood` the mean log-probability of the completion's tokens given the prompt; `ifd` the instruction-following difficulty
            (Li et al., 2024, arXiv 2308.12032), both from a language model.
        model: a Hugging Face folder, relative to the checkout, or an id on the hub; None: `models/base`, not for `reward`.
        max_tokens: longer texts are cut, the prompt from its beginning.
        batch_tokens: tokens of one forward pass, padding included; rows are put together by length.
    """

    score: Literal["metadata", "reward", "likelihood", "ifd"] = "metadata"
    model: str | None = None
    max_tokens: Positive = 1_024
    batch_tokens: Positive = 4_096

    @model_validator(mode="after")
    def _model_where_needed(self) -> Quality:
        if self.score == "reward" and self.model is None:
            raise ValueError("score `reward` needs `model`, a reward model's folder or its id on the hub")
        return self
