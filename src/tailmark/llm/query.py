"""One request to a chat model, and the key its answer is kept under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tailmark.config import Endpoint
from tailmark.files import sha256_json
from tailmark.llm.usage import Usage, estimated_tokens

_CUT = "\n[...]\n"


@dataclass(frozen=True)
class Query:
    """One request.

    Attributes:
        messages: the chat to send.
        max_tokens: most tokens of the answer.
        key: what the answer depends on, as a hash; equal keys are asked once.
        schema: what the answer must look like (None: free text).
        more: further parts of the request, in place of what the options say of them.
    """

    messages: tuple[dict[str, str], ...]
    max_tokens: int
    key: str
    schema: dict[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def input_tokens(self) -> int:
        """About how many tokens its messages have."""
        return estimated_tokens([message["content"] for message in self.messages])

    @property
    def most(self) -> Usage:
        """What it takes at most, as far as can be told before."""
        return Usage(1, self.input_tokens, self.max_tokens)


def query_key(options: Endpoint, messages: Sequence[Mapping[str, str]], max_tokens: int, schema: object = None, **more: object) -> str:
    """Hash of model, sampling, messages and `more`: what an answer depends on. Not the address, since a server moves."""
    sampling = {"temperature": options.temperature, "max_tokens": max_tokens, "schema": schema, "logprobs": options.logprobs}
    return sha256_json({"model": options.model, "sampling": sampling, "messages": list(messages), **more})


def cut(text: str, most: int) -> str:
    """A text of at most `most` characters; of a longer one the middle is left out."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    return text[:head] + _CUT + text[len(text) - (most - head) :]
