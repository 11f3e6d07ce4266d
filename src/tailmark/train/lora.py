"""Low-rank adapters: put into a model, and merged into its weights at the end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tailmark.config import Lora
from tailmark.errors import ConfigError

_ADAPTER = re.compile(r"\.lora_[AB]\.default\.weight$")
_BASE = ".base_layer."


def add_adapters(model: Any, options: Lora) -> None:
    """Freeze the model and put adapters into its linear layers, in place; B starts at zero, so nothing changes yet.

    Raises:
        ConfigError: the model has no layer of some name, or one that no adapter can be merged into.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = options.targets if isinstance(options.targets, str) else list(options.targets)
    chosen = LoraConfig(r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=targets)
    try:
        inject_adapter_in_model(chosen, model)
    except ValueError as error:
        raise _impossible(str(error).splitlines()[0]) from None
    _require_mergeable(model, targets)


def _require_mergeable(model: Any, targets: str | list[str]) -> None:
    """peft passes over a misspelt name beside right ones, and takes layers whose adapters would be lost on the way to a plain folder."""
    from peft.tuners.lora import LoraLayer

    adapted = {name: layer.base_layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    for target in targets if isinstance(targets, list) else ():
        if not any(f".{name}".endswith(f".{target}") for name in adapted):
            raise _impossible(f"it has no layer named '{target}'")
    for name, layer in adapted.items():
        if not isinstance(layer, nn.Linear):
            raise _impossible(f"'{name}' is not linear but {type(layer).__name__}")
        if layer.weight is model.get_input_embeddings().weight:
            raise _impossible(f"'{name}' shares its weights with the embeddings, which would change too")


def _impossible(reason: str) -> ConfigError:
    return ConfigError(
        f"No adapters can be put into the base model: {reason}",
        where="params.yaml: train.lora.targets",
        fix="name linear layers of the model, e.g. [q_proj, v_proj], or `all-linear`",
    )


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
