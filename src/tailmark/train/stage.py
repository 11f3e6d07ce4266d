"""Stage `train`: fine-tune one arm, from the beginning or from where it was interrupted."""

from __future__ import annotations

import shutil
from pathlib import Path

from tailmark.config import Config
from tailmark.console import Progress, say
from tailmark.errors import DataError, ModelError
from tailmark.files import read_json
from tailmark.hardware import native_bf16
from tailmark.layout import Arm, Layout
from tailmark.packs import PackReader
from tailmark.taxonomy import load_taxonomy
from tailmark.tracking import Run, start_run
from tailmark.train import checkpoint
from tailmark.train.job import Job, identify
from tailmark.train.launch import Event, run_ranks, threads_per_rank
from tailmark.train.report import write_report

_LOGGED = ("loss", "learning_rate", "gradient_norm", "tokens_per_s", "supervised_tokens_per_s")


def run(config: Config, layout: Layout, arm: Arm) -> None:
    """Write `layout.trained(arm)` and `layout.training_report(arm)`.

    Raises:
        DataError, ModelError: what training reads is missing, corrupt, or was prepared otherwise.
        CheckpointError: an unfinished training is there and cannot be gone on with.
        TrainingError: a loss or gradient is not finite, or a process died.
        Stopped: SIGTERM; the state is saved.
    """
    check_inputs(config, layout, arm)
    config = with_precision(config)
    job = prepare_job(config, layout, arm)
    ranks = config.train.ranks
    say(f"Training the {arm} arm: {ranks} rank{'s' * (ranks > 1)} of {threads_per_rank(config.train)} threads, {config.train.precision}")
    if job.resume:
        say(f"  going on from checkpoint {job.resume}")
    with start_run(f"train-{arm}", config=config, layout=layout, stage="train", arm=arm) as tracked:
        display = _Display(arm, tracked)
        run_ranks(job, display.show)
        metrics = write_report(layout.training_report(arm), read_json(job.result))
        tracked.log_metrics({f"final.{name}": value for name, value in metrics.items() if isinstance(value, int | float)})
        tracked.log_artifact(layout.training_report(arm), "report")
    shutil.rmtree(job.scratch)
    before, after = metrics["heldout_first"].get("answer"), metrics["heldout_last"].get("answer")
    if before is not None:
        say(f"  held-out loss of the answers: {before:.3f} before, {after:.3f} after, nats per token")


def with_precision(config: Config) -> Config:
    """The config with `train.precision: auto` resolved for this machine, so that every record of the run says what it computed in."""
    native = native_bf16()
    if config.train.precision == "bf16" and not native:
        say("  this machine has no bf16 instructions: `train.precision: auto` would be several times faster")
    if config.train.precision != "auto":
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": "bf16" if native else "fp32"})})


def prepare_job(config: Config, layout: Layout, arm: Arm) -> Job:
    """The job, going on from the newest usable checkpoint if there is one."""
    job = Job(config, layout, arm, identify(config, layout, arm))
    found = checkpoint.newest_usable(job)
    return Job(config, layout, arm, job.identity, found.name if found else None)


def check_inputs(config: Config, layout: Layout, arm: Arm) -> None:
    """Fail before any process is started.

    Raises:
        DataError: packs are missing, corrupt, or made for another arm or taxonomy.
        ModelError: there is no base model, or no tokenizer beside the packs.
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
            self._tracked.log_metrics({name: event[name] for name in _LOGGED}, step=step)
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
