"""The training loop of one rank."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist

from tailmark.errors import Stopped, TrainingError
from tailmark.files import read_json
from tailmark.packs import Pack, PackReader
from tailmark.train import checkpoint
from tailmark.train.data import TrainingPacks, empty_pack, heldout_packs, to_batch
from tailmark.train.engine import backward, load_parts, save_parts, set_learning_rate, sum_over_ranks
from tailmark.train.heldout import heldout_losses
from tailmark.train.job import Job
from tailmark.train.meter import Meter
from tailmark.train.model import GradientWatch
from tailmark.train.schedule import learning_rate
from tailmark.train.weights import LossWeights

_MOST_NAMED_ROWS = 20

Row = dict[str, float]
"""One line of the curve: `step`, and what was measured after it."""


@dataclass
class Progress:
    """What a resumed training must know beside DeepSpeed's parts: steps done, tokens seen, the curve so far."""

    step: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    curve: list[Row] = field(default_factory=list)


@dataclass
class Loop:
    """One rank's training.

    Attributes:
        job: what to train.
        engine: a DeepSpeed engine around a `SupervisedModel`.
        watch: sees the gradients of the engine's model.
        device: where this rank computes.
        stop: set by a signal handler; the ranks agree on it after each step.
    """

    job: Job
    engine: Any
    watch: GradientWatch
    device: torch.device
    stop: threading.Event
    progress: Progress = field(default_factory=Progress)

    @cached_property
    def packs(self) -> TrainingPacks:
        """The training packs of all epochs."""
        return TrainingPacks(self.job.layout.prepared(self.job.arm) / "train", self.job.config.prepare.epochs)

    @cached_property
    def heldout(self) -> list[Pack]:
        """The held-out packs that are measured."""
        reader = PackReader(self.job.layout.prepared(self.job.arm) / "heldout.arrow")
        return heldout_packs(reader, self.job.config.train.heldout_rows)

    @cached_property
    def weights(self) -> LossWeights:
        """What each supervised token counts in the loss."""
        return LossWeights.of(self.job.config.train, self.job.layout.prepared(self.job.arm) / "tokenizer")

    @cached_property
    def meter(self) -> Meter:
        """Measures the steps' speed."""
        return Meter(self.engine.module.model, self.job.config, self.device)

    def run(self) -> Progress:
        """Train to the last step, from the beginning or from the job's checkpoint.

        Raises:
            TrainingError: a loss or gradient is not finite; the weights are still those of the step before.
            Stopped: on request, after saving.
        """
        options = self.job.config.train
        self._resume()
        if not self.progress.curve:
            self._measure({"step": 0})
        while self.progress.step < self.packs.steps:
            stop = self.step()
            step, last = self.progress.step, self.progress.step == self.packs.steps
            if last or step % options.heldout_every == 0:
                self._measure(self.progress.curve.pop())
            if last or stop or step % options.checkpoint_every == 0:
                self._save()
            if stop and not last:
                raise Stopped(f"training was saved after step {step} of {self.packs.steps}; the same command goes on from there")
        return self.progress

    def _resume(self) -> None:
        if self.job.resume:
            folder = self.job.scratch / self.job.resume
            load_parts(self.engine, folder)
            self.progress = Progress(**read_json(folder / checkpoint.PROGRESS))
        self._tell(event="start", step=self.progress.step, steps=self.packs.steps)

    def _save(self) -> None:
        temporary = self.job.checkpoints / f".{checkpoint.step_name(self.progress.step)}"
        save_parts(self.engine, temporary)
        if dist.get_rank() == 0:
            checkpoint.seal(temporary, self.job, self.progress.step, vars(self.progress))
        dist.barrier()

    def _measure(self, row: Row) -> None:
        """Put the held-out losses into a row of the curve."""
        losses = {f"heldout_{name}": round(value, 6) for name, value in heldout_losses(self.engine, self.heldout, self.device).items()}
        self.progress.curve.append(row | losses)
        self._tell(event="heldout", step=int(row["step"]), **losses)

    def step(self) -> bool:
        """One optimizer step; returns whether some rank was asked to stop."""
        self.meter.start()
        step, options = self.progress.step, self.job.config.train
        packs = self.packs.of_step(step)
        batches = [to_batch(pack) for pack in packs]
        supervised = sum(len(batch.kinds) for batch in batches)
        weight = sum(float(self.weights(batch).sum()) for batch in batches)
        # Whatever a model draws at random in training (attention dropout) depends on the step, so a resume draws the same.
        torch.manual_seed(self.job.config.seed * 1_000_003 + step * dist.get_world_size() + dist.get_rank())
        rate = learning_rate(options, step, self.packs.steps)
        set_learning_rate(self.engine, rate)
        loss, stop = self._accumulate(packs, weight or 1.0)
        self.engine.step()
        tokens = sum(len(pack.input_ids) for pack in packs)
        norm = float(self.engine.get_global_grad_norm())
        self._count(Row(step=step + 1, loss=loss, learning_rate=rate, gradient_norm=norm), tokens, supervised)
        self._tell(event="step", **self.progress.curve[-1], **self.meter.stop(packs, supervised))
        return stop

    def _count(self, row: Row, tokens: int, supervised: int) -> None:
        self.progress.step += 1
        self.progress.tokens += tokens
        self.progress.supervised_tokens += supervised
        self.progress.curve.append({name: float(f"{value:.6g}") if name != "step" else value for name, value in row.items()})

    def _accumulate(self, packs: Sequence[Pack], weight: float) -> tuple[float, bool]:
        """Forward and backward over the step's packs, shared by the ranks in turn.

        Returns:
            The step's loss in nats per supervised token (a weighted mean; `weight` is the sum of the weights), and whether some rank was
            asked to stop.

        Raises:
            TrainingError: on every rank alike, before any weight changes.
        """
        rank, ranks = dist.get_rank(), dist.get_world_size()
        rounds = -(-len(packs) // ranks)
        total, broken = 0.0, [0.0] * len(packs)
        for turn in range(rounds):
            index = turn * ranks + rank
            pack = packs[index] if index < len(packs) else empty_pack()
            loss = self._forward_backward(pack, weight, last=turn == rounds - 1)
            finite = self.watch.finite() and bool(torch.isfinite(loss))
            if index < len(packs):
                total += float(loss)
                broken[index] = float(not finite)
        asked = self.stop.is_set() or self.job.stop_request.exists()
        total, asked_sum, *broken = sum_over_ranks([total, float(asked), *broken], self.device)
        if any(broken):
            raise _not_finite(self.progress.step + 1, [pack for pack, bad in zip(packs, broken, strict=True) if bad])
        return total / weight, asked_sum > 0

    def _forward_backward(self, pack: Pack, weight: float, *, last: bool) -> torch.Tensor:
        batch = to_batch(pack).to(self.device)
        losses: torch.Tensor = self.engine(batch)
        losses = losses * self.weights(batch)
        backward(self.engine, losses, weight, last=last)
        return losses.detach().double().sum()

    def _tell(self, **event: Any) -> None:
        """Write an event for the launcher."""
        if dist.get_rank() == 0:
            with self.job.events.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")


def _not_finite(step: int, packs: Sequence[Pack]) -> TrainingError:
    rows = [row for pack in packs for row in pack.row_ids]
    named = ", ".join(rows[:_MOST_NAMED_ROWS]) + (f" and {len(rows) - _MOST_NAMED_ROWS} more" if len(rows) > _MOST_NAMED_ROWS else "")
    return TrainingError(
        f"The loss or a gradient is not finite at step {step}; the weights were not changed.",
        where=f"rows {named}",
        fix="lower train.learning_rate or train.gradient_clip, or look at these rows and at the base model's weights",
    )
