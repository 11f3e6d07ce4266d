"""Options of the judges that compare open-ended answers (docs/judges.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tailmark.config.llm import Endpoint
from tailmark.config.section import Fraction, Positive, Section


class ReferenceJudge(Section):
    """An answer is the better, the more it is like the reference answer (chrF++). Offline; only where there are references.

    Attributes:
        tie: two answers are equal where their likeness, from 0 to 1, differs by no more.
    """

    kind: Literal["reference"]
    tie: Fraction = 0.01


class RewardJudge(Section):
    """A reward model: any Hugging Face sequence classification with one output.

    Attributes:
        model: a folder, relative to the checkout, or an id on the hub.
        tie: two answers are equal where their rewards differ by no more.
        max_tokens: longer conversations lose their beginning.
        batch_tokens: tokens of one forward pass, padding included.
    """

    kind: Literal["reward"]
    model: Annotated[str, Field(min_length=1)]
    tie: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Positive = 2_048
    batch_tokens: Positive = 4_096


class LLMJudge(Endpoint):
    """A model behind an OpenAI-compatible endpoint, asked about every pair in both orders."""

    kind: Literal["llm"]


Judge = Annotated[ReferenceJudge | RewardJudge | LLMJudge, Field(discriminator="kind")]
