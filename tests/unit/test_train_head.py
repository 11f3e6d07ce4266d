"""The loss in slices: the same losses and gradients as all logits at once, and only where the head is nothing but a matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM

from tailmark.config import Train
from tailmark.train.attention import IMPLEMENTATIONS, register
from tailmark.train.data import Batch
from tailmark.train.head import sliceable, token_losses
from tailmark.train.model import SupervisedModel, restrict

WORDS = 40
TINY = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PLAIN = ("Llama", "Qwen2", "Qwen3", "Gemma", "Mistral", "Phi3", "SmolLM3", "Olmoe")
SCALED = {"Gemma2": {}, "Cohere": {}, "Granite": {"logits_scaling": 8.0}}


def _model(family: str, attention: str = IMPLEMENTATIONS["sdpa"], **options: Any) -> Any:
    torch.manual_seed(0)
    register()
    config = getattr(transformers, f"{family}Config")(**TINY, **options)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def _batch() -> Batch:
    tokens = torch.randint(3, WORDS, (1, 12))
    predicting = torch.tensor([2, 3, 4, 8, 9, 10])
    positions = torch.tensor([[*range(7), *range(5)]])
    none = torch.zeros(6)
    return Batch(tokens, positions, (7, 5), predicting, tokens[0, predicting + 1], none.to(torch.int8), none.bool())


@settings(deadline=None, max_examples=30)
@given(positions=st.integers(0, 9), rows=st.integers(1, 10), frozen=st.booleans(), seed=st.integers(0, 99))
def test_losses_and_gradients_are_those_of_all_logits_at_once(positions: int, rows: int, frozen: bool, seed: int) -> None:
    torch.manual_seed(seed)
    states, weight = torch.randn(positions, 6, dtype=torch.float64), torch.randn(11, 6, dtype=torch.float64)
    targets, outer = torch.randint(0, 11, (positions,)), torch.rand(positions)
    found = []
    for sliced in (False, True):
        given_states, head = states.clone().requires_grad_(), weight.clone().requires_grad_(not frozen)
        whole = F.cross_entropy(F.linear(given_states, head).float(), targets, reduction="none")
        losses = token_losses(given_states, head, targets, rows) if sliced else whole
        (losses * outer).sum().backward()
        found.append((losses.detach(), given_states.grad, head.grad))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trained", [None, 1])
@pytest.mark.parametrize("family", PLAIN)
def test_whole_models_learn_the_same(family: str, trained: int | None) -> None:
    model = _model(family)
    assert sliceable(model, zero_stage=1)
    restrict(model, Train(trainable_layers=trained), {})
    batch, found = _batch(), []
    for sliced in (False, True):
        model.zero_grad()
        losses = SupervisedModel(model, sliced=sliced)(batch)
        losses.sum().backward()
        gradients = {name: item.grad.clone() for name, item in model.named_parameters() if item.grad is not None}
        found.append((losses.detach(), gradients))
    (whole, expected), (losses, gradients) = found
    torch.testing.assert_close(losses, whole, atol=1e-5, rtol=1e-5)
    assert expected
    assert expected.keys() == gradients.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("family", SCALED)
def test_heads_with_something_behind_them_are_left_alone(family: str) -> None:
    assert not sliceable(_model(family, "eager", **SCALED[family]), zero_stage=1)


def test_heads_that_are_more_than_a_matrix_are_left_alone() -> None:
    model = _model("Llama")
    assert not sliceable(model, zero_stage=3)
    model.lm_head = nn.Linear(16, WORDS, bias=True)
    assert not sliceable(model, zero_stage=1)


def test_no_gradient_no_work_for_one() -> None:
    states, weight = torch.randn(4, 6), torch.randn(11, 6)
    losses = token_losses(states, weight, torch.tensor([1, 2, 3, 4]))
    assert not losses.requires_grad
