"""Options of `tailmark serve`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from tailmark.config.section import Positive, Section

ServeMode = Literal["absent", "inferred", "fixed", "forced", "on-the-fly"]

_URL = re.compile(r"https?://[^\s@?#]+")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_Seconds = Annotated[float, Field(gt=0)]


class Serve(Section):
    """What is served, to whom, and how much of it at a time.

    Attributes:
        model: a model folder, or a registered version (`models:/tailmark@champion`); an alias is followed when it moves.
        baseline: a folder of the arm without markers, served beside it as `baseline` for comparison.
        name: what requests call the model.
        engine: the address of a vLLM or SGLang server of the same model folder, which then decodes (None: this machine).
        mode: how requests without a mode are asked (None: `fixed` where there are markers, else `inferred`).
        modes: which modes requests may ask for.
        host: the address to listen at (0.0.0.0: all of this machine's).
        port: the port to listen at (0: a free one).
        markers: those of every request that does not say otherwise.
        override: the markers that requests may set (None: all that the model was trained with).
        constrained: hold lists to the taxonomy (None: where the engine can).
        temperature: of requests that give none (0: the most likely token each time).
        default_new_tokens: most tokens of an answer where the request does not say; a list has 256 beside them.
        max_new_tokens: most tokens of an answer that a request may ask for.
        max_prompt_tokens: a longer prompt is refused (None: what the model's context holds).
        max_body_kib: a larger request is refused.
        batch_size: requests that are decoded together.
        queue: how many more may wait; further ones are refused.
        request_s: a request that takes longer, waiting included, is given up.
        drain_s: how long requests may go on after SIGTERM.
        poll_s: how often the alias is looked up.
        keys_variable: the environment variable with the sha256 of each API key (unset: no key is asked for).
    """

    model: Annotated[str, Field(min_length=1)] = "models/marked"
    baseline: str | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "tailmark"
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    engine: str | None = None
    mode: ServeMode | None = None
    modes: Annotated[tuple[ServeMode, ...], Field(min_length=1)] = ("absent", "inferred", "fixed", "forced", "on-the-fly")
    markers: dict[str, str | int | float] = Field(default_factory=dict)
    override: tuple[str, ...] | None = None
    constrained: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    default_new_tokens: Positive = 256
    max_new_tokens: Positive = 1024
    max_prompt_tokens: Positive | None = None
    max_body_kib: Positive = 1024
    batch_size: Positive = 16
    queue: Positive = 64
    request_s: _Seconds = 120.0
    drain_s: _Seconds = 30.0
    poll_s: _Seconds = 30.0
    keys_variable: str = "TAILMARK_API_KEYS"

    @field_validator("name")
    @classmethod
    def _apart(cls, name: str) -> str:
        if name == "baseline":
            raise ValueError("that is what the model without markers is called")
        return name

    @field_validator("engine")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and not _URL.fullmatch(url):  # what is wrong with it may be a password, so it is not repeated
            raise PydanticCustomError("secret", "write http://HOST/... or https://HOST/..., without user name, key or query")
        return url

    @field_validator("keys_variable")
    @classmethod
    def _variable(cls, name: str) -> str:
        if not _VARIABLE.fullmatch(name):
            raise PydanticCustomError("secret", "write the name of an environment variable, not a key")
        return name
