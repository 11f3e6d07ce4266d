"""The tokens of compact lists: in the tokenizer, and as rows of a model's embeddings and vocabulary head.

A row starts as the mean of the rows of the tokens it stands for (Hewitt, 2021, Initializing New Word Embeddings): what the model knows of
the words is there from the first step, and no new logit is above all of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import AutoTokenizer

from tailmark.chat.rendering import token_ids
from tailmark.chat.template import compact_values
from tailmark.taxonomy import compact_tokens
from tailmark.taxonomy.markers import Values

Sources = Mapping[int, Sequence[int]]
"""Ids of added tokens, each with the ids of the tokens it stands for."""


def add_marker_tokens(tokenizer: Any, values: Values) -> None:
    """Add the tokens of compact lists of these markers (name to closed values) to a tokenizer, in place.

    They are not special: an engine that leaves special tokens out of its text must still show where a list ends.
    """
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in compact_tokens(values)])


def marker_sources(folder: Path) -> Sources:
    """The marker tokens of the tokenizer in a folder, with what they stand for; none where its template writes lists as plain text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    values = compact_values(tokenizer.chat_template)
    if values is None:
        return {}
    tokens = compact_tokens(values)
    stands_for = token_ids(tokenizer, list(tokens.values()))
    return dict(zip(tokenizer.convert_tokens_to_ids(list(tokens)), stands_for, strict=True))


@torch.no_grad()
def extend_vocabulary(model: Any, sources: Sources) -> None:
    """Give the model rows for the added tokens, in place; before DeepSpeed takes its parameters (ZeRO 3 shares them out)."""
    if not sources:
        return
    needed = max(sources) + 1
    if needed > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(needed, mean_resizing=False)
    for weight in _matrices(model):
        for row, parts in sources.items():
            weight[row] = weight[list(parts)].float().mean(0).to(weight.dtype)


def _matrices(model: Any) -> list[nn.Parameter]:
    """Embeddings and vocabulary head; one where they are tied."""
    first, last = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [first] if first is last else [first, last]


def train_rows(model: Any, sources: Sources, *, through_layers: bool) -> None:
    """Where the rest of the vocabulary is frozen: let the gradient reach the rows of the added tokens, and no other.

    Args:
        through_layers: also from the prompt, through all layers; without, only from the predictions, so that nothing has to be
            computed backwards below the trained layers. (Untied embeddings then keep the rows they started with.)
    """
    if not sources:
        return
    head = model.get_output_embeddings().weight
    tied = model.get_input_embeddings().weight is head
    for weight in _matrices(model) if through_layers else [head]:
        weight.requires_grad_(True)
        weight.register_hook(_only(list(sources)))
        weight.decays = False  # type: ignore[union-attr]  # AdamW would shrink the frozen rows too
    if tied and not through_layers:
        model.get_input_embeddings().register_forward_hook(lambda _module, _inputs, output: output.detach())


def _only(rows: Sequence[int]) -> Any:
    def keep(gradient: Tensor) -> Tensor:
        kept = torch.zeros_like(gradient)
        kept[rows] = gradient[rows]
        return kept

    return keep
