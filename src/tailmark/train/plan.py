"""`tailmark train --plan`: what a training would take, said before anything runs."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tailmark.config import Config, Train
from tailmark.console import duration, say
from tailmark.layout import Arm, Layout
from tailmark.packs import PackReader
from tailmark.train import engine  # sets DeepSpeed's environment before it is imported below  # noqa: F401
from tailmark.train.model import freeze_lower
from tailmark.train.stage import check_inputs

THROUGHPUTS = (250.0, 500.0, 20_000.0)
"""Tokens per second the time is stated at: 2 cores with AVX2 and with AVX-512 bf16 (upper 10 layers of a 135M model); one large GPU."""


def run(config: Config, layout: Layout, arm: Arm) -> None:
    """Print steps, tokens, memory per rank at each ZeRO stage, and time at several throughputs. Nothing is trained.

    Raises:
        DataError, ModelError: what training reads is missing or was prepared otherwise.
    """
    check_inputs(config, layout, arm)
    readers = [PackReader(layout.prepared(arm) / "train" / f"epoch-{epoch:03d}.arrow") for epoch in range(config.prepare.epochs)]
    tokens = sum(len(reader[index].input_ids) for reader in readers for index in range(len(reader)))
    supervised = sum(reader[index].supervised for reader in readers for index in range(len(reader)))
    steps = sum(reader.steps for reader in readers)
    model = _empty_model(config, layout)
    total, trained, largest = count_parameters(model)
    say(f"Plan for the {arm} arm: nothing is run.")
    say(f"  steps:      {steps:,} in {config.prepare.epochs} epoch(s), {tokens / max(steps, 1):,.0f} tokens each")
    say(f"  tokens:     {tokens:,}, of which {supervised:,} supervised")
    say(f"  parameters: {total:,}, of which {trained:,} trained")
    say(f"  memory per rank for weights, gradients and optimizer (DeepSpeed's estimate), {config.train.ranks} rank(s):")
    for stage in (1, 2, 3):
        chosen = "  <- train.zero_stage" if stage == config.train.zero_stage else ""
        say(f"    ZeRO {stage}:   {memory_per_rank(config.train, stage, total, trained, largest) / 2**30:6.2f} GiB{chosen}")
    say("  activations come on top: they grow with prepare.pack_length; train.gradient_checkpointing keeps them small")
    for rate in THROUGHPUTS:
        say(f"  time:       {duration(tokens / rate)} at {rate:,.0f} tokens/s over all ranks")


def _empty_model(config: Config, layout: Layout) -> Any:
    """The base model without its weights, with the frozen part frozen."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(layout.base), dtype=torch.bfloat16)
    model.tie_weights()
    if config.train.trainable_layers is not None:
        freeze_lower(model, config.train.trainable_layers)
    return model


def count_parameters(model: Any) -> tuple[int, int, int]:
    """Parameters in all, trained ones, and those of the largest single module. Tied ones count once."""
    parameters = list(model.parameters())
    largest = max(sum(item.numel() for item in module.parameters(recurse=False)) for module in model.modules())
    return sum(item.numel() for item in parameters), sum(item.numel() for item in parameters if item.requires_grad), largest


def memory_per_rank(options: Train, stage: int, total: int, trained: int, largest: int) -> int:
    """Bytes of one rank for weights, gradients and optimizer states, by DeepSpeed's estimators; on one machine.

    The estimators know neither ZeRO 1 (gradients are not shared out: 4 bytes a trained parameter more) nor frozen parameters (their weights
    alone), so these are added. fp32 weights take 2 bytes a parameter more than the bf16 weights the estimators count.
    """
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    ranks, offload = options.ranks, options.offload_optimizer
    wide = 2 if options.precision == "fp32" else 0
    if stage == 3:
        _, needed, _ = estimate_zero3_model_states_mem_needs(trained, largest, ranks, 1, cpu_offload=offload, cpu_offload_params=False)
        return int(needed + (2 * (total - trained) + wide * total) / ranks)
    _, needed = estimate_zero2_model_states_mem_needs(trained, ranks, 1, cpu_offload=offload)
    unshared = (4 - 4 / ranks) * trained if stage == 1 else 0
    return int(needed + 2 * (total - trained) + wide * total + unshared)
