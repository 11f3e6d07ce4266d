"""How fast a step was, how full its packs, how much memory it took, and which share of the hardware's arithmetic it used."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from tailmark.config import Config
from tailmark.hardware import peak_flops
from tailmark.packs import Pack
from tailmark.train.engine import largest_over_ranks
from tailmark.train.layers import decoder_layers, has_layers

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point operations that one pass forward and backward needs; what is computed twice to save memory counts once.

    Attributes:
        per_token: matrix products of the layers.
        per_supervised: the vocabulary head, which runs at supervised positions only.
        per_pair: attention, for each pair of a token and one that it sees.
    """

    per_token: float
    per_supervised: float
    per_pair: float

    def of(self, lengths: Iterable[int], supervised: int) -> float:
        """Operations for documents of these lengths with so many supervised tokens in all."""
        sizes = [int(length) for length in lengths]
        pairs = sum(size * (size + 1) // 2 for size in sizes)
        return self.per_token * sum(sizes) + self.per_supervised * supervised + self.per_pair * pairs


def arithmetic(model: Any) -> Arithmetic:
    """What a decoder-only model needs, with its frozen part frozen.

    A product costs two operations a weight in the forward pass, two more where a gradient passes on, and two more where the weight itself
    is trained (Kaplan et al., 2020, with 6 operations a weight where everything is).

    Raises:
        ModelError: the model's layers are not known.
    """
    layers = list(decoder_layers(model))
    first = next((index for index, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters())), len(layers))
    per_token = sum(_product(layer, passed=index >= first) for index, layer in enumerate(layers))
    config = model.config
    width = config.num_attention_heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    # Two products of the heads' width: queries by keys, weights by values; each has two products in the backward pass.
    per_pair = 4.0 * width * (len(layers) + 2 * (len(layers) - first))
    return Arithmetic(per_token, _product(model.get_output_embeddings(), passed=True), per_pair)


def _product(module: nn.Module, *, passed: bool) -> float:
    total = 0
    for linear in module.modules():
        if isinstance(linear, nn.Linear):
            weight = linear.weight
            total += 2 * getattr(weight, "ds_numel", weight.numel()) * (1 + passed + weight.requires_grad)
    return float(total)


class Meter:
    """Measures steps; one step at a time.

    Attributes:
        arithmetic: what the model needs, or None where its layers are not known.
        peak: operations that this rank's device can do in a second, or None where that is not known.
    """

    def __init__(self, model: Any, config: Config, device: torch.device) -> None:
        self._device = device
        self._pack_length = config.prepare.pack_length
        self.arithmetic = arithmetic(model) if has_layers(model) else None
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        self.peak = peak_flops(name) if config.train.precision == "bf16" else None
        self._started = 0.0

    def start(self) -> None:
        """A step begins."""
        self._started = time.monotonic()

    def stop(self, packs: Sequence[Pack], supervised: int) -> dict[str, float]:
        """What a step took that is over on all ranks.

        Args:
            packs: all packs of the step, over all ranks.
            supervised: their supervised tokens.

        Returns:
            `tokens_per_s` and `supervised_tokens_per_s` over all ranks; `padding_share`: the part of the packs that no token fills, were
            all of full length, and one there for every rank in every turn; `memory_gib`: the most a rank took so far; `mfu`:
            operations needed over operations possible, where the hardware's peak and the model's layers are known.
        """
        memory = largest_over_ranks(peak_memory(self._device), self._device)
        seconds = time.monotonic() - self._started
        ranks = dist.get_world_size()
        tokens = sum(len(pack.input_ids) for pack in packs)
        slots = -(-len(packs) // ranks) * ranks * self._pack_length
        measured = {
            "tokens_per_s": tokens / seconds,
            "supervised_tokens_per_s": supervised / seconds,
            "padding_share": 1 - tokens / slots,
            "memory_gib": memory / 2**30,
        }
        if self.peak and self.arithmetic:
            needed = self.arithmetic.of((length for pack in packs for length in pack.lengths), supervised)
            measured["mfu"] = needed / (seconds * ranks * self.peak)
        return measured


def peak_memory(device: torch.device) -> float:
    """The most bytes this process held so far: tensors on its GPU, or resident memory on the CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT)
