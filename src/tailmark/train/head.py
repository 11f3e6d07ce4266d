"""The loss at the vocabulary head, some positions at a time, for CPUs.

All logits of a pack at once are the largest tensors of a training step: 2,000 supervised tokens times 49,152 words are 400 MB in fp32,
written and read several times. A slice of them is used up before the next one is made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SLICE = 1 << 23
"""Logits of one slice: 32 MB in fp32."""

_SCALED = ("logit_scale", "logits_scaling", "final_logit_softcapping")
"""Options of families (Cohere, Granite, Gemma 2) that change the logits after the head."""


def sliceable(model: Any, zero_stage: int) -> bool:
    """Whether the loss of this model can be taken in slices here.

    On GPUs it has not been measured. At ZeRO 3 the head's weight is there only while the head itself runs. And the head must be nothing
    but a matrix that its logits come out of: no bias, no adapter, no scale or bound behind it.
    """
    head, text = model.get_output_embeddings(), model.config.get_text_config()
    plain = type(head) is nn.Linear and getattr(head, "bias", None) is None and not any(getattr(text, name, None) for name in _SCALED)
    return plain and zero_stage < 3 and not torch.cuda.is_available()


def token_losses(states: Tensor, weight: Tensor, targets: Tensor, rows: int | None = None) -> Tensor:
    """Cross-entropy of each position, as of `F.linear(states, weight).float()`, in nats: fp32 [positions].

    Args:
        states: [positions, hidden], what the head is given.
        weight: [words, hidden], the head.
        targets: int64 [positions].
        rows: positions of a slice (None: as many as `SLICE` logits are).
    """
    losses: Tensor = _Sliced.apply(states, weight, targets, rows or max(SLICE // weight.shape[0], 1))
    return losses


class _Sliced(torch.autograd.Function):
    """Under a frozen head, each loss comes with its gradient by the state; for a trained one the backward pass makes the logits anew."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:
        losses = torch.empty(len(targets), dtype=torch.float32, device=states.device)
        ahead = ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]
        gradients = torch.empty_like(states) if ahead else None
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            log_probabilities = _log_probabilities(states[part], weight)
            losses[part] = -log_probabilities.gather(1, targets[part, None])[:, 0]
            if gradients is not None:
                gradients[part] = _by_logits(log_probabilities, targets[part], states.dtype) @ weight
        ctx.rows = rows
        ctx.save_for_backward(*((gradients,) if gradients is not None else (states, weight, targets)))
        return losses

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (by_losses,) = outer
        if len(ctx.saved_tensors) == 1:
            (gradients,) = ctx.saved_tensors
            return gradients * by_losses[:, None].to(gradients.dtype), None, None, None
        states, weight, targets = ctx.saved_tensors
        by_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, len(targets), ctx.rows):
            part = slice(start, start + ctx.rows)
            by_logits = _by_logits(_log_probabilities(states[part], weight), targets[part], torch.float32)
            by_logits = (by_logits * by_losses[part, None]).to(states.dtype)
            if by_states is not None:
                by_states[part] = by_logits @ weight
            by_weight += by_logits.T @ states[part]
        return by_states, by_weight.to(weight.dtype), None, None


def _log_probabilities(states: Tensor, weight: Tensor) -> Tensor:
    return torch.log_softmax(nn.functional.linear(states, weight), -1, dtype=torch.float32)


def _by_logits(log_probabilities: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient of each position's loss by its logits: its probabilities, less one at the target. Takes the place of its argument."""
    probabilities = log_probabilities.exp_()
    probabilities[torch.arange(len(targets)), targets] -= 1
    return probabilities.to(dtype)
