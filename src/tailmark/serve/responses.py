"""Responses as OpenAI's API has them, with our fields; FastAPI makes the OpenAPI document of these and of `schema`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from tailmark.config.serving import ServeMode
from tailmark.taxonomy import MarkerValue


class Details(BaseModel):
    """`reasoning_tokens` is OpenAI's name for tokens that the answer's text does not show; here they are the marker list's."""

    reasoning_tokens: int
    list_tokens: int


class Usage(BaseModel):
    """`completion_tokens` counts the marker list too."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: Details


class _Lists(BaseModel):
    markers: dict[str, MarkerValue] = Field(description="what the model wrote before its answer")
    markers_asked: dict[str, MarkerValue] | None = Field(description="what stood in the prompt; null: no list")
    reasoning_content: str | None = Field(description="the model's list as it wrote it, for clients that know this field")


class AnswerMessage(_Lists):
    """The answer and, apart from it, its markers."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """The one answer."""

    index: Literal[0]
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class TextChoice(BaseModel):
    """The one continuation."""

    index: Literal[0]
    text: str
    markers: dict[str, MarkerValue]
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class _Completion(BaseModel):
    id: str
    created: int
    model: str
    system_fingerprint: str = Field(description="version and digest of the model")
    usage: Usage


class ChatCompletion(_Completion):
    """The answer to a conversation."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(_Completion):
    """The continuation of a text."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    arm: Literal["marked", "baseline"]
    version: str | None = Field(description="in the registry; null: served from a folder")


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"]
    data: list[ModelCard]


class MarkerCard(BaseModel):
    """A marker of the served model."""

    name: str
    kind: Literal["categorical", "integer", "real"]
    definition: str
    values: dict[str, str] = Field(description="value to definition; empty for numbers")
    minimum: float | None
    maximum: float | None
    applies_to: dict[str, list[str]] = Field(description="the values of other markers beside which it makes sense")
    allowed: bool = Field(description="whether a request may set it")
    default: MarkerValue | None


class TaxonomyName(BaseModel):
    """Which taxonomy."""

    name: str
    version: int


class Constraint(BaseModel):
    """Whether lists can be held to the taxonomy, and whether they are where a request does not say."""

    available: bool
    default: bool


class NewTokenLimits(BaseModel):
    """Tokens of an answer."""

    default: int
    most: int


class TaxonomyCard(BaseModel):
    """What can be asked of this deployment."""

    model: str
    version: str | None
    baseline: str | None
    baseline_missing: str | None
    taxonomy: TaxonomyName
    markers: list[MarkerCard]
    modes: list[ServeMode]
    mode: ServeMode | None
    constrained: Constraint
    max_new_tokens: NewTokenLimits


class Health(BaseModel):
    """Whether requests are taken."""

    status: Literal["ready", "draining", "failed", "alive"]


class ErrorContent(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error in OpenAI's shape."""

    error: ErrorContent
