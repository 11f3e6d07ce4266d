"""The memory of one GPU: weights, gradients and optimizer states by DeepSpeed's estimators, activations by a forward pass without data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM

from tailmark.config import Train
from tailmark.train import engine  # sets DeepSpeed's environment before it is imported below
from tailmark.train.attention import IMPLEMENTATIONS, register, require_attention_only, require_no_sinks
from tailmark.train.data import Batch
from tailmark.train.model import SupervisedModel, restrict

_WIDTH = {"bf16": 2, "fp32": 4}
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Size:
    """Parameters in all, trained ones, those of the largest single module and of the largest trained tensor. Tied ones count once."""

    total: int
    trained: int
    largest: int
    widest: int


def empty_model(folder: Path, options: Train) -> Any:
    """The base model without its weights, with what is not trained frozen.

    Raises:
        ModelError: documents of a pack would see each other in this model, or its attention has sinks.
    """
    config = AutoConfig.from_pretrained(folder)
    require_attention_only(config, str(folder))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=_DTYPES[options.precision])
        model.tie_weights()
        if options.attention in ("auto", "sdpa", "varlen"):
            require_no_sinks(model, str(folder))
        restrict(model, options, {})
    return model


def count_parameters(model: Any) -> Size:
    """The sizes of a model."""
    trained = [item.numel() for item in model.parameters() if item.requires_grad]
    largest = max(sum(item.numel() for item in module.parameters(recurse=False)) for module in model.modules())
    return Size(sum(item.numel() for item in model.parameters()), sum(trained), largest, max(trained))


def model_states(options: Train, stage: int, ranks: int, size: Size) -> int:
    """Bytes of one rank for weights, gradients and optimizer states, by DeepSpeed's estimators; `train.precision` must not be `auto`.

    The estimators know neither ZeRO 1 (there each rank keeps all gradients) nor frozen parameters (their weights alone), nor the weights
    that ZeRO 3 keeps gathered, so these are added. fp32 weights take 2 bytes a parameter more than the bf16 weights the estimators count.
    """
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    frozen, wide = size.total - size.trained, _WIDTH[options.precision] - 2
    if stage == 3:
        _, needed, _ = estimate_zero3_model_states_mem_needs(
            size.trained, size.largest, ranks, 1, cpu_offload=options.offload_optimizer, cpu_offload_params=False
        )
        gathered = _WIDTH[options.precision] * min(size.total, engine.LIVE) if ranks > 1 else 0
        return int(needed + (2 * frozen + wide * size.total) / ranks + gathered)
    _, needed = estimate_zero2_model_states_mem_needs(size.trained, ranks, 1, cpu_offload=options.offload_optimizer)
    unshared = _WIDTH[options.precision] * (1 - 1 / ranks) * size.trained if stage == 1 else 0
    return int(needed + 2 * frozen + wide * size.total + unshared)


def gradient_buffers(options: Train, stage: int, size: Size, *, overlapped: bool = True) -> int:
    """Bytes in which a rank collects gradients before they are reduced; the estimators leave them out.

    Args:
        overlapped: whether computing goes on meanwhile, as on GPUs: ZeRO 1 and 2 then have two of them.
    """
    return max(engine.BUCKET, size.widest) * _WIDTH[options.precision] * (2 if overlapped and stage < 3 else 1)


def activations(folder: Path, options: Train, tokens: int, supervised: int) -> int:
    """Bytes that autograd keeps for the backward pass of one pack, and the gradient of the logits.

    Counted, not estimated: a forward pass of the model with one and with two layers, on tensors that have shapes and no storage; the
    layers are alike. FlashAttention on a GPU keeps what the CPU's kernel does. Frozen lower layers keep nothing.

    Args:
        tokens: of the pack.
        supervised: positions where the vocabulary head runs.
    """
    config = AutoConfig.from_pretrained(folder)
    layers, width = int(config.num_hidden_layers), _WIDTH[options.precision]
    one, two = (_kept(config, options, count, tokens, supervised) for count in (1, 2))
    layer, rest = two - one, 2 * one - two
    logits = supervised * int(config.vocab_size) * (4 + width)
    if options.gradient_checkpointing:
        return rest + layers * tokens * int(config.hidden_size) * width + layer + logits
    return rest + (options.trainable_layers or layers) * layer + logits


def _kept(config: Any, options: Train, layers: int, tokens: int, supervised: int) -> int:
    register()
    small = type(config)(**{**config.to_dict(), "num_hidden_layers": layers, "layer_types": None})
    kept: dict[int, torch.UntypedStorage] = {}
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(small, dtype=_DTYPES[options.precision], attn_implementation=IMPLEMENTATIONS["sdpa"])
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            # The graph dies with the losses; the storages live on in `kept`, so that none takes another's place.
            _forward(SupervisedModel(model.train()), tokens, supervised)
    return sum(storage.nbytes() for storage in kept.values())


def _forward(model: nn.Module, tokens: int, supervised: int) -> None:
    model(
        Batch(
            input_ids=torch.zeros(1, tokens, dtype=torch.int64),
            position_ids=torch.arange(tokens)[None],
            lengths=(tokens,),
            predicting=torch.arange(supervised),
            targets=torch.zeros(supervised, dtype=torch.int64),
            kinds=torch.zeros(supervised, dtype=torch.int8),
            tail=torch.zeros(supervised, dtype=torch.bool),
        )
    )
