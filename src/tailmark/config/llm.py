"""Options of a language model behind an endpoint, and of the LLM annotator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from tailmark.config.section import Positive, Section

_URL = re.compile(r"https?://[^\s@?#]+")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


class Endpoint(Section):
    """An OpenAI-compatible endpoint: whom to ask, how, and what it may take.

    Attributes:
        base_url: of the API, e.g. `http://localhost:8000/v1`.
        model: the model's name there.
        key_variable: the name of the environment variable that holds the key, which itself is no option (None: none is needed).
        concurrency: requests under way at a time.
        timeout_s: seconds until a request counts as unanswered.
        retries: further tries of a request that failed.
        temperature: 0 takes the likeliest answer each time.
        logprobs: ask for token probabilities, the source of confidences; without them a value has none.
        max_chars: most characters of a text that are sent; the middle of a longer one is left out.
        input_price, output_price: money for a million tokens.
        max_requests, max_tokens, max_cost: the budget, over all runs with this endpoint and model (None: no limit).
    """

    base_url: str
    model: Annotated[str, Field(min_length=1)]
    key_variable: str | None = None
    concurrency: Positive = 8
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0)] = 5
    temperature: Annotated[float, Field(ge=0)] = 0.0
    logprobs: bool = False
    max_chars: Positive = 6_000
    input_price: Annotated[float, Field(ge=0)] = 0.0
    output_price: Annotated[float, Field(ge=0)] = 0.0
    max_requests: Positive | None = None
    max_tokens: Positive | None = None
    max_cost: Annotated[float, Field(gt=0)] | None = None

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str) -> str:
        if not _URL.fullmatch(url):  # what is wrong with it may be a key, so it is not repeated
            raise PydanticCustomError("secret", "write http://HOST/... or https://HOST/..., without user name, key or query")
        return url

    @field_validator("key_variable")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        if name is not None and not _VARIABLE.fullmatch(name):
            raise PydanticCustomError("secret", "write the name of an environment variable, not the key")
        return name

    @field_validator("max_cost")
    @classmethod
    def _priced(cls, limit: float | None, info: ValidationInfo) -> float | None:
        if limit is not None and not (info.data.get("input_price") or info.data.get("output_price")):
            raise ValueError("a limit in money needs `input_price` or `output_price`")
        return limit


class LLM(Endpoint):
    """An endpoint that is asked for the markers no other evidence gives (docs/annotation.md).

    Attributes:
        protocol: `marker` asks one question a marker, with definitions and examples in the prompt's language (paper); `all` asks once
            for all markers, with definitions and a JSON schema, without examples: cheaper.
        markers: which markers it may give (None: all that are read from the prompt or the completion).
        examples: a file with examples by language (None: our own, for the markers of the paper's taxonomy).
    """

    protocol: Literal["marker", "all"] = "marker"
    markers: tuple[str, ...] | None = None
    examples: Path | None = None
