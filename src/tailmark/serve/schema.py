"""Requests as OpenAI's API has them, with our fields.

Fields that cannot be honoured are refused and not ignored: an answer that silently is not what was asked for is worse than an error. Fields
of OpenAI's that change nothing at their neutral value may be sent with that value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tailmark.config.serving import ServeMode

Number = int | float
MarkerText = Annotated[str, Field(max_length=200)]
Markers = dict[Annotated[str, Field(max_length=100)], MarkerText | Number | None]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
Zero = Annotated[float, Field(ge=0, le=0)]
Nothing = Annotated[list[Any], Field(max_length=0)]
NewTokens = Annotated[int, Field(ge=1, le=2**31)]
_INT64 = 2**63


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Part(BaseModel):
    """A part of a message's content."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    text: str


class _Message(BaseModel):
    """A turn of the conversation. What an answer of ours holds beside its text may be sent back with it; it changes nothing."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]
    tool_calls: Nothing | None = None


class _StreamOptions(_Request):
    include_usage: bool | None = Field(None, description="end with a chunk that holds the usage")
    include_obfuscation: Literal[False] | None = None


class _TemplateArguments(_Request):
    markers: Markers | list[Annotated[list[str | Number], Field(min_length=2, max_length=2)]] | None = None


class _ResponseFormat(_Request):
    type: Literal["text"]


class Sampled(_Request):
    """What both kinds of completions have in common."""

    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="0: the most likely token each time")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = Field(
        None, description="equal requests with equal seeds have equal answers; without one each draw is new"
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    max_tokens: NewTokens | None = Field(None, description="most tokens of the answer; a marker list has its own allowance beside them")
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Literal[1] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    user: str | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def most(self) -> int | None:
        """Most tokens of the answer, where the request says."""
        return self.max_tokens


class ChatRequest(Sampled):
    """A conversation to be answered, the last message the user's."""

    messages: Annotated[list[_Message], Field(min_length=1)]
    max_completion_tokens: NewTokens | None = Field(None, description="OpenAI's newer name of `max_tokens`")
    markers: Markers | None = Field(None, description="markers that the answer should have; null takes out one of the deployment's")
    mode: ServeMode | None = Field(None, description="how markers come in (default: `fixed` where there are any, else `inferred`)")
    constrained: bool | None = Field(None, description="hold the marker list to the taxonomy: always valid, and faster")
    chat_template_kwargs: _TemplateArguments | None = Field(None, description="`markers` as vLLM and SGLang take them")
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    response_format: _ResponseFormat | None = None
    tools: Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    store: Literal[False] | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def most(self) -> int | None:
        """Most tokens of the answer, where the request says."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class TextRequest(Sampled):
    """A text to be continued as it stands, without the chat template and without markers."""

    prompt: Annotated[str, Field(min_length=1)]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None
    logprobs: None = None
