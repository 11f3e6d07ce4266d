"""The model as training sees it: documents that do not see each other, logits only where they are supervised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModelForCausalLM

from tailmark.config import Train
from tailmark.errors import ConfigError, ModelError

_ATTENTION = "tailmark_documents"
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def attend_documents(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    document_lengths: tuple[int, ...],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each document to itself alone.

    A pack's documents are attended to one by one: no mask of tokens x tokens is built, and no pair of tokens of different documents is
    computed. On a CPU this was the fastest of the three ways tried (benchmarks/train_cpu.py).

    Args:
        query: [1, heads, tokens, head size]; `key` and `value` may have fewer heads (grouped queries).
        document_lengths: tokens of each document; their sum is the number of tokens.

    Returns:
        [1, tokens, heads, head size].
    """
    if softcap is not None or (sliding_window is not None and max(document_lengths) > sliding_window):
        raise ModelError(
            "The base model's attention has a window shorter than the documents, or caps its scores; training does not reproduce that.",
            where=f"base model, {type(module).__name__}",
            fix="use a base model with plain causal attention, or a `prepare.pack_length` within its window",
        )
    grouped = query.shape[1] != key.shape[1]
    queries, keys, values = (tensor.split(document_lengths, dim=2) for tensor in (query, key, value))
    parts = [
        F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def load_model(folder: Path, options: Train) -> Any:
    """The base model in the compute type, with the frozen part frozen.

    Raises:
        ModelError: the folder cannot be loaded.
        ConfigError: `trainable_layers` is more than the model has.
    """
    AttentionInterface.register(_ATTENTION, attend_documents)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=_DTYPES[options.precision], attn_implementation=_ATTENTION)
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ModelError(f"The base model cannot be loaded: {reason}", where=str(folder), fix="run `dvc repro base`") from None
    model.config.use_cache = False
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if options.trainable_layers is not None:
        freeze_lower(model, options.trainable_layers)
    return model


def freeze_lower(model: Any, trainable: int) -> None:
    """Freeze everything but the upper `trainable` decoder layers and the final norm.

    Autograd records nothing below the first trainable parameter, so the frozen layers cost a forward pass and no memory.

    Raises:
        ConfigError: the model has fewer layers.
    """
    layers = model.base_model.layers
    if trainable > len(layers):
        raise ConfigError(
            f"Option 'train.trainable_layers' cannot be {trainable}: the base model has {len(layers)} layers.",
            where="params.yaml: train.trainable_layers",
            fix=f"use a number up to {len(layers)}, or null to train everything",
        )
    model.requires_grad_(False)
    layers[len(layers) - trainable :].requires_grad_(True)
    model.base_model.norm.requires_grad_(True)


class SupervisedModel(nn.Module):
    """A causal language model that returns the negative log-likelihood of each supervised token and nothing else.

    The vocabulary head runs at the predicting positions only: it is a fifth of a small model's arithmetic.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, position_ids: Tensor, lengths: tuple[int, ...], predicting: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood in nats, fp32 [supervised]; see `Batch` for the arguments."""
        output = self.model(
            input_ids=input_ids,
            position_ids=position_ids,
            use_cache=False,
            logits_to_keep=predicting,
            document_lengths=lengths,
        )
        return F.cross_entropy(output.logits[0].float(), targets, reduction="none")


class GradientWatch:
    """Sees every gradient of one backward pass before it is reduced, so that a pack with a non-finite one can be named."""

    def __init__(self, model: nn.Module) -> None:
        self._sum: Tensor | None = None
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_hook(self._look)

    def _look(self, gradient: Tensor) -> None:
        # A sum is finite only if all its terms are; it costs one read of the gradient and no temporary of its size.
        part = gradient.detach().sum(dtype=torch.float32)
        self._sum = part if self._sum is None else self._sum + part

    def finite(self) -> bool:
        """Whether all gradients since the last call were finite."""
        seen, self._sum = self._sum, None
        return seen is None or bool(torch.isfinite(seen))
