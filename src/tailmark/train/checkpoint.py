"""Checkpoints that are complete or not there: temporary folder, fsync, manifest last, rename.

DeepSpeed writes each rank's part. Its own `latest` file is neither written nor read: it appears before the other ranks' parts do, and
where it is missing DeepSpeed silently starts anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailmark.errors import CheckpointError
from tailmark.files import fsync_path, read_json, sha256_file, write_json
from tailmark.train.job import Job

MANIFEST = "manifest.json"
PROGRESS = "progress.json"


def step_name(step: int) -> str:
    """The folder's name; names sort as steps do."""
    return f"step-{step:06d}"


def seal(temporary: Path, job: Job, step: int, progress: Mapping[str, Any]) -> None:
    """Make a folder that all ranks have written a checkpoint: hash, flush, manifest, rename; then drop the oldest ones."""
    write_json(temporary / PROGRESS, progress)
    paths = sorted(path for path in temporary.rglob("*") if path.is_file())
    for path in paths:
        fsync_path(path)
    files = {path.relative_to(temporary).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in paths}
    write_json(temporary / MANIFEST, {"step": step, "files": files, "run": run_facts(job), "identity": job.identity})
    fsync_path(temporary)
    final = job.checkpoints / step_name(step)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    fsync_path(job.checkpoints)
    for old in found(job)[job.config.train.keep_checkpoints :]:
        shutil.rmtree(old, ignore_errors=True)


def run_facts(job: Job) -> dict[str, Any]:
    """What must be equal for DeepSpeed's parts to fit: number of ranks, ZeRO stage, offload."""
    options = job.config.train
    return {"train.ranks": options.ranks, "train.zero_stage": options.zero_stage, "train.offload_optimizer": options.offload_optimizer}


def found(job: Job) -> list[Path]:
    """The folders that were sealed, newest first; they may have been damaged since."""
    return sorted(job.checkpoints.glob("step-*"), reverse=True) if job.checkpoints.is_dir() else []


def newest_usable(job: Job) -> Path | None:
    """The newest complete and verified checkpoint, or None where there is none at all. Half-written folders are removed.

    Raises:
        CheckpointError: there are checkpoints and none can be used, or the newest one belongs to other inputs or another number of ranks.
    """
    for leftover in job.checkpoints.glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    problems = {}
    for folder in found(job):
        problem = damage(folder)
        if problem is None:
            _require_fit(folder, job)
            return folder
        problems[folder.name] = problem
    if problems:
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise CheckpointError(f"No checkpoint can be used ({listed}).", where=str(job.checkpoints), fix=_start_anew(job))
    return None


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None: every file of the manifest there, with its size and its hash."""
    try:
        files = read_json(folder / MANIFEST)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "it has no readable manifest"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"'{name}' is missing"
        if path.stat().st_size != expected["bytes"] or sha256_file(path) != expected["sha256"]:
            return f"'{name}' is damaged"
    return None


def _require_fit(folder: Path, job: Job) -> None:
    manifest = read_json(folder / MANIFEST)
    if manifest["identity"] != job.identity:
        changed = ", ".join(name for name, value in job.identity.items() if manifest["identity"].get(name) != value)
        raise CheckpointError(f"The checkpoint belongs to other inputs: {changed} changed.", where=str(folder), fix=_start_anew(job))
    for name, value in run_facts(job).items():
        before = manifest["run"].get(name)
        if before != value:
            raise CheckpointError(
                f"The unfinished training was run with {name} = {before}, now it is {value}; its checkpoint cannot be split anew.",
                where=str(folder),
                fix=f"set {name} back to {before} in params.yaml to go on, or {_start_anew(job)}",
            )


def _start_anew(job: Job) -> str:
    return f"`rm -r {job.scratch}` to start this training anew"
