"""Going on with another number of ranks: the newest checkpoint in the form that DeepSpeed loads at any world size."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tailmark.console import say
from tailmark.errors import CheckpointError
from tailmark.files import read_json, staged_folder
from tailmark.train.checkpoint import CONVERTED, MANIFEST, PROGRESS, run_facts, start_anew
from tailmark.train.job import Job
from tailmark.train.worker import die_with_parent

_CONVERTIBLE = (1, 2)
"""ZeRO stages whose checkpoints convert. Stage 3 saves the parameters' parts otherwise: going on from them failed where it was tried."""
_WORKERS = 4


def fitting(folder: Path, job: Job) -> Path:
    """A verified checkpoint as this job can load it: itself, or its conversion where ranks, stage or offload differ.

    Raises:
        CheckpointError: it cannot be converted; the message says with which options the training goes on.
    """
    before, now = read_json(folder / MANIFEST)["run"], run_facts(job)
    if before == now:
        return folder
    changes = ", ".join(f"{name} was {before.get(name)} and is {value}" for name, value in now.items() if before.get(name) != value)
    if before.get("zero_stage") not in _CONVERTIBLE or now["zero_stage"] not in _CONVERTIBLE:
        raise CheckpointError(
            f"The unfinished training ran otherwise ({changes}), and a checkpoint of ZeRO 3 cannot be split anew.",
            where=str(folder),
            fix=f"set {_options(before)} in params.yaml to go on, or {start_anew(job)}",
        )
    return _convert(folder, job, changes)


def _options(facts: dict[str, Any]) -> str:
    named = {"world_size": "train.nodes x train.ranks", "zero_stage": "train.zero_stage", "offload_optimizer": "train.offload_optimizer"}
    return ", ".join(f"{option} = {facts.get(name)}" for name, option in named.items())


def _convert(folder: Path, job: Job, changes: str) -> Path:
    converted = job.scratch / CONVERTED / folder.name
    if converted.is_dir():  # renamed into place when complete
        return converted
    say(f"  converting checkpoint {folder.name}: {changes}")
    with staged_folder(converted) as temporary:
        _run_converter(folder, temporary)
        shutil.copyfile(folder / PROGRESS, temporary / PROGRESS)
    return converted


def _run_converter(folder: Path, output: Path) -> None:
    options = ["--input_folder", str(folder), "--output_folder", str(output), "--inject_missing_state"]
    workers = str(min(_WORKERS, os.cpu_count() or 1))
    done = subprocess.run(
        [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", *options, "--num_extract_workers", workers],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=die_with_parent,
    )
    # It ends with 0 also where it found nothing to convert.
    if done.returncode != 0 or not any((output / "zero").glob("*/fp32.pt")):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CheckpointError(
            f"DeepSpeed could not convert the checkpoint: {last}",
            where=str(folder),
            fix="set the number of ranks and train.zero_stage back to what they were",
        )


def is_universal(folder: Path) -> bool:
    """Whether a folder is such a conversion."""
    return (folder / "zero").is_dir()
