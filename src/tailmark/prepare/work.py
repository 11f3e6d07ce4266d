"""What the workers of the engine do: rows to token ids, and the prompts of an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tailmark.chat import Messages, render_prompt, token_ids
from tailmark.prepare.examples import Encoder, Example, Ids, Rejected
from tailmark.records import Record
from tailmark.taxonomy import MarkerList

_encoders: list[Encoder] = []


def start(encoder: Encoder) -> None:
    """Keep the encoder of this worker."""
    _encoders[:] = [encoder]


def encode(rows: Sequence[Record]) -> list[Example | Rejected]:
    """One result per row, in order."""
    return _encoders[0](rows)


def prompt_ids(prompts: Sequence[tuple[Messages, MarkerList]]) -> list[Ids]:
    """The tokens of prompts with their lists, rendered by the template that inference uses."""
    tokenizer = _encoders[0].tokenizer
    texts = [render_prompt(tokenizer, messages, markers) for messages, markers in prompts]
    return [np.array(ids, np.int32) for ids in token_ids(tokenizer, texts)]
