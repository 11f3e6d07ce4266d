"""Which kernels a training runs on: what `auto` means on this machine, and what an option cannot be here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from typing import Any

import torch

from tailmark.config import Train
from tailmark.errors import ConfigError
from tailmark.train.layers import decoder_layers


@dataclass(frozen=True)
class Kernels:
    """The choice: a kind of attention (a key of `attention.IMPLEMENTATIONS`), Liger's kernels or not, compiled layers or not."""

    attention: str
    liger: bool
    compile: bool


def choose(options: Train) -> Kernels:
    """Resolve `train.attention`, `train.liger` and `train.compile` for this machine.

    Raises:
        ConfigError: an option asks for what the machine has not.
    """
    gpu = torch.cuda.is_available()
    attention = _attention(options, gpu)
    if options.liger is True and not (gpu and _installed("liger_kernel")):
        raise _impossible("liger", "its kernels need a GPU and the package liger-kernel")
    liger = gpu and _installed("liger_kernel") if options.liger == "auto" else options.liger
    # Documents one by one make each pack another graph; at ZeRO 3 the hooks that gather a layer's weights cut it to pieces.
    compiled = gpu and attention != "sdpa" and options.zero_stage < 3 if options.compile == "auto" else options.compile
    return Kernels(attention, liger, compiled)


def _attention(options: Train, gpu: bool) -> str:
    if options.attention == "auto":
        return ("varlen" if options.precision == "bf16" and _torch_has_varlen() else "flex_attention") if gpu else "sdpa"
    if options.attention != "sdpa" and not gpu:
        raise _impossible("attention", "it needs a GPU")
    if options.attention in ("varlen", "flash_attention_2") and options.precision != "bf16":
        raise _impossible("attention", "FlashAttention computes in bf16 only", "set `train.precision: bf16`, or use flex_attention")
    if options.attention == "varlen" and not _torch_has_varlen():
        raise _impossible("attention", f"torch {torch.__version__} has no such kernel for grouped queries")
    if options.attention == "flash_attention_2" and not _installed("flash_attn"):
        raise _impossible("attention", "the package flash-attn is not installed", "use `varlen`: the same kernel, brought along by torch")
    return options.attention


def _torch_has_varlen() -> bool:
    """Whether torch brings along FlashAttention for packed documents, with grouped queries (2.13 does)."""
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return False
    return {"enable_gqa", "window_size"} <= set(signature(varlen.varlen_attn).parameters)


def _installed(package: str) -> bool:
    return find_spec(package) is not None


def _impossible(option: str, reason: str, fix: str = "use `auto`") -> ConfigError:
    return ConfigError(f"Option 'train.{option}' cannot be used here: {reason}.", where=f"params.yaml: train.{option}", fix=fix)


def use_liger(model: Any) -> None:
    """Replace norms, rotations and gated layers of the model by fused kernels; models that Liger does not know stay as they are.

    The loss stays ours: the vocabulary head runs at supervised positions only.
    """
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=False, cross_entropy=False)


def compile_layers(model: Any) -> None:
    """Compile each decoder layer; as they are alike one compilation serves all, and packs of any length.

    Raises:
        ModelError: the model's layers are not known.
    """
    for layer in decoder_layers(model):
        layer.compile(dynamic=True)
