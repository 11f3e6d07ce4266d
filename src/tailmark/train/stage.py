"""Stage `train`: fine-tune one arm, from the beginning or from where it was interrupted."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from tailmark.config import Config
from tailmark.console import Progress, say
from tailmark.errors import DataError, ModelError
from tailmark.files import read_json
from tailmark.hardware import native_bf16
from tailmark.layout import Arm, Layout
from tailmark.modelfolder import MARKER_USE
from tailmark.packs import PackReader
from tailmark.taxonomy import load_taxonomy
from tailmark.tracking import Run, start_run, system_metrics
from tailmark.train import checkpoint, scratch
from tailmark.train.job import Job, identify
from tailmark.train.launch import Event, run_ranks, threads_per_rank
from tailmark.train.launchers import node_number
from tailmark.train.locks import only_trainer
from tailmark.train.remote import Remote
from tailmark.train.report import write_report
from tailmark.train.universal import fitting
from tailmark.train.upload import uploading

_NOT_METRICS = ("event", "step")


def run(config: Config, layout: Layout, arm: Arm) -> None:
    """Write `layout.trained(arm)` and `layout.training_report(arm)`.

    Raises:
        DataError, ModelError: what training reads is missing, corrupt, or was prepared otherwise.
        CheckpointError: an unfinished training is there and cannot be gone on with, or another process trains on the same inputs.
        TrainingError: a loss or gradient is not finite, or a process died.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    job = describe_job(config, layout, arm)
    train, ranks = job.config.train, job.world_size
    say(f"Training the {arm} arm: {ranks} rank{'s' * (ranks > 1)} of {threads_per_rank(train)} threads, {train.precision}")
    if job.node > 0:
        say(f"  machine {job.node} of {train.nodes}; machine 0 shows how it goes and writes the results")
        job.scratch.mkdir(parents=True, exist_ok=True)
        run_ranks(job, lambda _: None)
        return
    scratch.mention(job)
    with only_trainer(job.scratch):
        metrics = _lead(with_resume(job))
        shutil.rmtree(job.scratch, ignore_errors=True)
    before, after = metrics["heldout_first"].get("answer"), metrics["heldout_last"].get("answer")
    if before is not None:
        say(f"  held-out loss of the answers: {before:.3f} before, {after:.3f} after, nats per token")


def _lead(job: Job) -> dict[str, Any]:
    """Train as the machine that writes the results; returns the metrics."""
    if job.resume:
        say(f"  going on from checkpoint {Path(job.resume).name}")
    report = job.layout.training_report(job.arm)
    with (
        start_run(f"train-{job.arm}", config=job.config, layout=job.layout, stage="train", arm=job.arm) as tracked,
        uploading(job),
        system_metrics(tracked),
    ):
        display = _Display(job.arm, tracked)
        run_ranks(job, display.show)
        metrics = write_report(report, read_json(job.result))
        tracked.log_metrics({f"final.{name}": value for name, value in metrics.items() if isinstance(value, int | float)})
        tracked.log_artifact(report, "report")
    return metrics


def clean(config: Config, layout: Layout, arm: Arm) -> None:
    """Remove what unfinished trainings of the arm on other inputs left.

    Raises:
        DataError, ModelError: what training reads is missing, so that nobody can tell which one would be gone on with.
    """
    scratch.clean(describe_job(config, layout, arm))


def describe_job(config: Config, layout: Layout, arm: Arm) -> Job:
    """The job of this machine, from the beginning.

    Raises:
        DataError, ModelError, ConfigError: what training reads is missing, or this machine's number is.
    """
    node = node_number(config.train)
    check_inputs(config, layout, arm)
    config = with_precision(config)
    return Job(config, layout, arm, identify(config, layout, arm), node=node)


def with_precision(config: Config) -> Config:
    """The config with `train.precision: auto` resolved for this machine, so that every record of the run says what it computed in."""
    native = native_bf16()
    if config.train.precision == "bf16" and not native:
        say("  this machine has no bf16 instructions: `train.precision: auto` would be several times faster")
    if config.train.precision != "auto":
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": "bf16" if native else "fp32"})})


def with_resume(job: Job) -> Job:
    """The job, going on from the newest usable checkpoint if there is one here, else from one at `train.upload`.

    Raises:
        CheckpointError: there are checkpoints and none can be used, or the newest one fits neither these inputs nor this number of ranks.
        ConfigError, StorageError: `train.upload` cannot be used or read.
    """
    found = checkpoint.newest_usable(job)
    if job.config.train.upload is not None:
        remote = Remote(job, job.config.train.upload)
        if found is None and remote.fetch(job.checkpoints):
            say(f"  took a checkpoint from {remote.url}")
            found = checkpoint.newest_usable(job)
    if found is None:
        return job
    return replace(job, resume=fitting(found, job).relative_to(job.scratch).as_posix())


def check_inputs(config: Config, layout: Layout, arm: Arm) -> None:
    """Fail before any process is started.

    Raises:
        DataError: packs are missing, corrupt, or made for another arm or taxonomy.
        ModelError: there is no base model, or something is missing beside the packs.
    """
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    prepared = layout.prepared(arm)
    readers = [PackReader(prepared / "train" / f"epoch-{epoch:03d}.arrow") for epoch in range(config.prepare.epochs)]
    for reader in [*readers, PackReader(prepared / "heldout.arrow")]:
        for name, expected in {"arm": arm, "taxonomy": taxonomy.digest}.items():
            if reader.metadata.get(name) != expected:
                fix = f"run `dvc repro prepare@{arm}`"
                raise DataError(f"The packs were prepared with another {name}.", where=str(reader.path), fix=fix)
    _require(layout.base / "config.json", "There is no base model.", "run `dvc repro base`")
    _require(prepared / "tokenizer" / "tokenizer_config.json", "There is no tokenizer beside the packs.", f"run `dvc repro prepare@{arm}`")
    _require(prepared / MARKER_USE, "Nothing beside the packs says which markers they show.", f"run `dvc repro prepare@{arm}`")


def _require(path: Path, what: str, fix: str) -> None:
    if not path.is_file():
        raise ModelError(what, where=str(path), fix=fix)


class _Display:
    """Turns the workers' events into progress on the screen and metrics in MLflow."""

    def __init__(self, arm: Arm, tracked: Run) -> None:
        self._arm = arm
        self._tracked = tracked
        self._progress: Progress | None = None
        self._last = 0
        self._note = ""

    def show(self, event: Event) -> None:
        """Handle one event."""
        kind, step = event["event"], int(event["step"])
        if kind == "start":
            self._last = int(event["steps"])
            say(f"  {self._last} steps; held-out loss first" if step == 0 else f"  {self._last} steps, {step} of them done")
            self._progress = Progress(f"train {self._arm}", self._last, "steps", done=step)
            return
        if kind == "step":
            self._tracked.log_metrics({name: value for name, value in event.items() if name not in _NOT_METRICS}, step=step)
            self._note = f"loss {event['loss']:.3f}, {event['tokens_per_s']:.0f} tokens/s"
            assert self._progress is not None
            self._progress.advance(1, self._note)
            if step == self._last:
                self._progress.close(self._note)
            return
        losses = {name.replace("heldout_", "heldout/", 1): value for name, value in event.items() if name.startswith("heldout_")}
        self._tracked.log_metrics(losses, step=step)
        if step == 0:  # the time it took is no part of a step's
            self._progress = Progress(f"train {self._arm}", self._last, "steps")
