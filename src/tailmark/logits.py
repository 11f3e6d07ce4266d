"""What a model's vocabulary head says of chosen positions, without the logits of all the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def head_logits(model: Any, states: Tensor) -> Tensor:
    """What the model's vocabulary head says of decoder states of shape (..., hidden), as its own forward pass would, in fp32.

    Some families scale or bound their logits after the head: Cohere multiplies, Granite divides, Gemma 2 bounds.
    """
    text = model.config.get_text_config()
    logits: Tensor = model.get_output_embeddings()(states).float()
    logits = logits * (getattr(text, "logit_scale", None) or 1.0) / (getattr(text, "logits_scaling", None) or 1.0)
    bound = getattr(text, "final_logit_softcapping", None)
    return logits if bound is None else bound * torch.tanh(logits / bound)
