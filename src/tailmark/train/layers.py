"""Where a model has its decoder layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from tailmark.errors import ModelError

_FINAL_NORMS = ("norm", "final_layer_norm", "final_layernorm")


def has_layers(model: Any) -> bool:
    """Whether the model keeps its decoder layers as `layers`, like Llama, Qwen, Mistral, Gemma and most others; GPT-2 does not."""
    return hasattr(model.base_model, "layers")


def decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder layers, the lowest first.

    Raises:
        ModelError: the model has no such list.
    """
    if not has_layers(model):
        raise ModelError(
            "The base model's decoder layers are not where this looks for them (`layers`), so they cannot be told apart.",
            where=f"base model, {type(model).__name__}",
            fix="set `train.trainable_layers: null` and `train.compile: false`; `--plan` cannot be told for such a model",
        )
    layers: nn.ModuleList = model.base_model.layers
    return layers


def final_norm(model: Any) -> nn.Module | None:
    """The norm between the last layer and the vocabulary head, where the model has one under a known name."""
    return next((getattr(model.base_model, name) for name in _FINAL_NORMS if hasattr(model.base_model, name)), None)
