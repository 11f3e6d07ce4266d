"""Low-rank adapters: put into a model, and merged into its weights at the end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tailmark.config import Lora
from tailmark.errors import ConfigError

_ADAPTER = re.compile(r"\.lora_[AB]\.default\.weight$")
_BASE = ".base_layer."


def add_adapters(model: Any, options: Lora) -> None:
    """Freeze the model and put adapters into its linear layers, in place; B starts at zero, so nothing changes yet.

    Raises:
        ConfigError: the model has none of the named layers.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = options.targets if isinstance(options.targets, str) else list(options.targets)
    chosen = LoraConfig(r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=targets)
    try:
        inject_adapter_in_model(chosen, model)
    except ValueError as error:
        raise ConfigError(
            f"No adapters can be put into the base model: {str(error).splitlines()[0]}",
            where="params.yaml: train.lora.targets",
            fix="name linear layers of the model, e.g. [q_proj, v_proj], or `all-linear`",
        ) from None


def merge(state: Mapping[str, Tensor], options: Lora) -> dict[str, Tensor]:
    """The weights with the adapters added, W + alpha / rank * B A (computed in fp32), under the names of the model without adapters.

    Args:
        state: every parameter of a model with adapters, by its name; each keeps its type.
    """
    merged = {}
    for name, weight in state.items():
        if _ADAPTER.search(name):
            continue
        layer = name.removesuffix(".base_layer.weight")
        if layer != name and f"{layer}.lora_B.default.weight" in state:
            b, a = (state[f"{layer}.lora_{part}.default.weight"].float() for part in "BA")
            weight = torch.addmm(weight.float(), b, a, alpha=options.alpha / options.rank).to(weight.dtype)
        merged[name.replace(_BASE, ".")] = weight
    return merged
