"""The model as training sees it: documents that do not see each other, logits only where they are supervised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from tailmark.chat.vocabulary import Sources, extend_vocabulary, train_rows
from tailmark.config import Train
from tailmark.errors import ConfigError, ModelError
from tailmark.train.attention import IMPLEMENTATIONS, boundaries, register, require_attention_only, require_no_sinks
from tailmark.train.data import Batch
from tailmark.train.head import token_losses
from tailmark.train.kernels import choose, compile_layers, use_liger
from tailmark.train.layers import decoder_layers, final_norm, has_layers
from tailmark.train.lora import add_adapters

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def load_model(folder: Path, options: Train, added: Sources | None = None) -> Any:
    """The base model in the compute type, on this machine's kernels, with what is not trained frozen.

    Args:
        added: tokens that a compact rendering adds (`marker_sources`); their rows are trained in any case.

    Raises:
        ModelError: the folder cannot be loaded, or documents of a pack would see each other in this model.
        ConfigError: an option asks for layers or kernels that are not there.
    """
    kernels = choose(options)
    model = _read(folder, _DTYPES[options.precision], IMPLEMENTATIONS[kernels.attention])
    extend_vocabulary(model, added or {})
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if kernels.liger:
        use_liger(model)
    restrict(model, options, added or {})
    if kernels.compile and (has_layers(model) or options.compile != "auto"):
        compile_layers(model)
    return model


def _read(folder: Path, dtype: torch.dtype, attention: str) -> Any:
    register()
    try:
        require_attention_only(AutoConfig.from_pretrained(folder), str(folder))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention)
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ModelError(f"The base model cannot be loaded: {reason}", where=str(folder), fix="run `dvc repro base`") from None
    if attention in (IMPLEMENTATIONS["sdpa"], IMPLEMENTATIONS["varlen"]):
        require_no_sinks(model, str(folder))
    if attention == IMPLEMENTATIONS["flex_attention"] and getattr(model.config, "sliding_window", None):
        raise ModelError(
            "The base model's attention has a window, which the mask of flex_attention does not reproduce.",
            where=str(folder),
            fix="set `train.attention: flash_attention_2`",
        )
    model.config.use_cache = False
    return model


def restrict(model: Any, options: Train, added: Sources) -> None:
    """Freeze what the options do not train: all but the upper layers, or all but adapters, or nothing; never the rows of `added` tokens."""
    if options.lora is not None:
        add_adapters(model, options.lora)
        train_rows(model, added, through_layers=True)
    elif options.trainable_layers is not None:
        freeze_lower(model, options.trainable_layers)
        train_rows(model, added, through_layers=False)


def freeze_lower(model: Any, trainable: int) -> None:
    """Freeze everything but the upper `trainable` decoder layers and the final norm.

    Autograd records nothing below the first trainable parameter, so the frozen layers cost a forward pass and no memory.

    Raises:
        ConfigError: the model has fewer layers.
        ModelError: its layers are not known.
    """
    layers = decoder_layers(model)
    if trainable > len(layers):
        raise ConfigError(
            f"Option 'train.trainable_layers' cannot be {trainable}: the base model has {len(layers)} layers.",
            where="params.yaml: train.trainable_layers",
            fix=f"use a number up to {len(layers)}, or null to train everything",
        )
    model.requires_grad_(False)
    layers[len(layers) - trainable :].requires_grad_(True)
    norm = final_norm(model)
    if norm is not None:
        norm.requires_grad_(True)


class SupervisedModel(nn.Module):
    """A causal language model that returns the negative log-likelihood of each supervised token and nothing else.

    The vocabulary head runs at the predicting positions only: it is a fifth of a small model's arithmetic.

    Args:
        sliced: take the loss some positions at a time (`head.sliceable` says whether a model can).
    """

    def __init__(self, model: Any, *, sliced: bool = False) -> None:
        super().__init__()
        self.model, self.sliced = model, sliced

    def forward(self, batch: Batch) -> Tensor:
        """The negative log-likelihood in nats, fp32 [supervised]."""
        told = boundaries(self.model.config._attn_implementation, batch.lengths, batch.input_ids.device)
        given = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, "use_cache": False, **told}
        if self.sliced:
            states = self.model.get_decoder()(**given).last_hidden_state[0, batch.predicting]
            return token_losses(states, self.model.get_output_embeddings().weight, batch.targets)
        output = self.model(**given, logits_to_keep=batch.predicting)
        return F.cross_entropy(output.logits[0].float(), batch.targets, reduction="none")


class GradientWatch:
    """Sees every gradient of one backward pass before it is reduced, so that a pack with a non-finite one can be named."""

    def __init__(self, model: nn.Module) -> None:
        self._sum: Tensor | None = None
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_hook(self._look)

    def _look(self, gradient: Tensor) -> None:
        # Finite only if every term is and the squares add up to something finite, as clipping needs it; no temporary of its size is made.
        part = torch.linalg.vector_norm(gradient.detach(), dtype=torch.float32)
        self._sum = part if self._sum is None else self._sum + part

    def finite(self) -> bool:
        """Whether all gradients since the last call were finite."""
        seen, self._sum = self._sum, None
        return seen is None or bool(torch.isfinite(seen))
