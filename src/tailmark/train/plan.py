"""`tailmark train --plan`: what a training would take, said before anything runs."""

from __future__ import annotations

from pathlib import Path

from tailmark.config import Config, Train
from tailmark.console import duration, say
from tailmark.errors import ModelError
from tailmark.hardware import peak_flops
from tailmark.layout import Arm, Layout
from tailmark.train.memory import Size, activations, count_parameters, empty_model, gradient_buffers, model_states
from tailmark.train.meter import arithmetic
from tailmark.train.stage import check_inputs
from tailmark.train.workload import Workload, workload

GPUS = (1, 2, 4, 8, 16, 32, 64, 128)
ASSUMED_GPU, ASSUMED_MFU = "H100", 0.4
"""What time is stated for where no throughput is given; 40 % is what well-tuned training of some billion parameters reaches."""


def run(config: Config, layout: Layout, arm: Arm, tokens_per_s: float | None = None, price: float | None = None) -> None:
    """Print steps, tokens, and by number of GPUs the memory of each at every ZeRO stage, time and cost. Nothing is trained.

    Args:
        tokens_per_s: throughput of one GPU (None: that of an H100 at 40 % of its peak).
        price: of one GPU for one hour.

    Raises:
        DataError, ModelError: the packs were prepared otherwise, or there is no base model to measure, or none that can be trained.
    """
    options = _for_gpus(config.train)
    work = workload(config, layout, arm)
    if work.exact:
        check_inputs(config, layout, arm)
    folder = _model_folder(config, layout)
    model = empty_model(folder, options)
    size = count_parameters(model)
    needed = work.rows * arithmetic(model).of([work.tokens // work.rows], work.supervised // work.rows)
    rate = tokens_per_s or ASSUMED_MFU * (peak_flops(ASSUMED_GPU) or 0.0) * work.tokens / needed
    kept = activations(folder, options, config.prepare.pack_length, round(config.prepare.pack_length * work.supervised / work.tokens))
    _say_work(config, arm, work, size, needed)
    stated = "stated" if tokens_per_s else f"{ASSUMED_MFU:.0%} of what an {ASSUMED_GPU} can do"
    say(f"  throughput: {rate:,.0f} tokens/s on each GPU ({stated}), lost to nothing but turns that are not full")
    say(f"  activations of one pack of {config.prepare.pack_length:,} tokens: {_gib(kept)} GiB, in every figure below")
    say(f"\n{'':>6}  {'GiB of each GPU, by ZeRO stage':<30}")
    say(f"{'GPUs':>6}  {'1':>8} {'2':>8} {'3':>8}  {'time':>14} {'GPU hours':>12}" + (f" {'cost':>12}" if price else ""))
    for gpus in GPUS:
        turns = -(-work.packs // gpus)
        say(_line(options, gpus, size, kept, work.tokens / rate * turns / work.packs, price))
    say(f"\n  train.zero_stage is {options.zero_stage}, train.ranks {options.ranks} on {options.nodes} node(s)")


def _say_work(config: Config, arm: Arm, work: Workload, size: Size, needed: float) -> None:
    say(f"Plan for the {arm} arm: nothing is run.")
    say(f"  data:       {work.source}")
    say(f"  steps:      {work.steps:,} in {config.prepare.epochs} epoch(s), {work.tokens / max(work.steps, 1):,.0f} tokens each")
    say(f"  packs:      {work.packs:,} a step: more GPUs than that have nothing to do")
    say(f"  tokens:     {work.tokens:,}, of which {work.supervised:,} supervised")
    say(f"  parameters: {size.total:,}, of which {size.trained:,} trained; {needed / max(work.tokens, 1) / 1e9:.2f} GFLOP a token")


def _line(options: Train, gpus: int, size: Size, kept: int, seconds: float, price: float | None) -> str:
    memory = [_gib(model_states(options, stage, gpus, size) + gradient_buffers(options, stage, size) + kept) for stage in (1, 2, 3)]
    hours = seconds * gpus / 3600
    cost = f" {hours * price:>12,.2f}" if price else ""
    chosen = "  <- this configuration" if gpus == options.ranks * options.nodes else ""
    return f"{gpus:>6}  {memory[0]:>8} {memory[1]:>8} {memory[2]:>8}  {duration(seconds):>14} {hours:>12,.2f}{cost}{chosen}"


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f}"


def _for_gpus(options: Train) -> Train:
    """The table is about GPUs, so `auto` is bf16 whatever this machine computes in."""
    return options.model_copy(update={"precision": "bf16"}) if options.precision == "auto" else options


def _model_folder(config: Config, layout: Layout) -> Path:
    """Where the base model's `config.json` is: weights are not needed."""
    for folder in (layout.base, layout.root / config.base.source):
        if (folder / "config.json").is_file():
            return folder
    raise ModelError(
        "There is no base model to measure.", where=str(layout.base), fix="run `dvc repro base`, or name a local folder in base.source"
    )
