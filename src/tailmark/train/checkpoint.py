"""Checkpoints that are complete or not there: temporary folder, fsync, manifest last, rename.

DeepSpeed writes each rank's part. Its own `latest` file is neither written nor read: it appears before the other ranks' parts do, and
where it is missing DeepSpeed silently starts anew.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tailmark.console import say
from tailmark.errors import CheckpointError
from tailmark.files import fsync_path, read_json, sha256_file, write_json
from tailmark.train.job import Job

MANIFEST = "manifest.json"
PROGRESS = "progress.json"
CONVERTED = "universal"
"""Folder of a conversion to another number of ranks; of no use once there is a checkpoint of these ranks."""

_RANK_PARTS = "*_optim_states.pt"
_HASHERS = 8


def step_name(step: int) -> str:
    """The folder's name; names sort as steps do."""
    return f"step-{step:06d}"


def seal(temporary: Path, job: Job, step: int, progress: Mapping[str, Any]) -> None:
    """Make a folder that all ranks have written a checkpoint: hash, flush, manifest, rename; then drop the oldest ones.

    Raises:
        CheckpointError: a rank's part is not there: its machine does not share this one's files.
    """
    _require_all_parts(temporary, job.world_size)
    write_json(temporary / PROGRESS, progress)
    paths = sorted(path for path in temporary.rglob("*") if path.is_file())
    for path in paths:
        fsync_path(path)
    files = {
        path.relative_to(temporary).as_posix(): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, digests(paths), strict=True)
    }
    write_json(temporary / MANIFEST, {"step": step, "files": files, "run": run_facts(job), "identity": job.identity})
    fsync_path(temporary)
    final = job.checkpoints / step_name(step)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    fsync_path(job.checkpoints)
    for old in [*found(job)[job.config.train.keep_checkpoints :], job.scratch / CONVERTED]:
        shutil.rmtree(old, ignore_errors=True)


def _require_all_parts(folder: Path, ranks: int) -> None:
    parts = len(list(folder.glob(_RANK_PARTS)))
    if parts != ranks:
        raise CheckpointError(
            f"The parts of {parts} of {ranks} ranks reached the checkpoint.",
            where=str(folder),
            fix="put the checkout, or its .tailmark folder, on a file system that all machines share",
        )


def digests(paths: Sequence[Path]) -> list[str]:
    """sha256 of each file; several are read at a time, because hashing one is slower than most disks."""
    with ThreadPoolExecutor(min(_HASHERS, os.cpu_count() or 1)) as pool:
        return list(pool.map(sha256_file, paths))


def run_facts(job: Job) -> dict[str, Any]:
    """What must be equal for DeepSpeed's parts to fit as they are: number of ranks, ZeRO stage, offload."""
    options = job.config.train
    return {"world_size": job.world_size, "zero_stage": options.zero_stage, "offload_optimizer": options.offload_optimizer}


def found(job: Job) -> list[Path]:
    """The folders that were sealed, newest first; they may have been damaged since."""
    return sorted(job.checkpoints.glob("step-*"), reverse=True) if job.checkpoints.is_dir() else []


def newest_usable(job: Job) -> Path | None:
    """The newest complete and verified checkpoint, or None where there is none at all.

    Half-written folders are removed. Damaged ones that are passed over are moved aside: a newer name would keep new checkpoints from being
    uploaded, and count among those that stay.

    Raises:
        CheckpointError: there are checkpoints and none can be used, or the newest one belongs to other inputs.
    """
    for leftover in job.checkpoints.glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    problems: dict[str, str] = {}
    for folder in found(job):
        problem = damage(folder)
        if problem is None:
            _require_identity(folder, job)
            for name, harm in problems.items():
                say(f"  checkpoint {name} cannot be used: {harm}; it is moved aside to {_move_aside(job.checkpoints / name).name}")
            return folder
        problems[folder.name] = problem
    if problems:
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise CheckpointError(f"No checkpoint can be used ({listed}).", where=str(job.checkpoints), fix=start_anew(job))
    return None


def _move_aside(folder: Path) -> Path:
    numbered = (folder.with_name(f"damaged-{folder.name}" + (f"-{number}" if number > 1 else "")) for number in itertools.count(1))
    return folder.rename(next(path for path in numbered if not path.exists()))


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
        if path.stat().st_size != expected["bytes"]:
            return f"'{name}' is damaged"
    found_digests = digests([folder / name for name in files])
    wrong = [name for name, digest in zip(files, found_digests, strict=True) if digest != files[name]["sha256"]]
    return f"'{wrong[0]}' is damaged" if wrong else None


def _require_identity(folder: Path, job: Job) -> None:
    manifest = read_json(folder / MANIFEST)
    if manifest["identity"] != job.identity:
        changed = ", ".join(name for name, value in job.identity.items() if manifest["identity"].get(name) != value)
        raise CheckpointError(f"The checkpoint belongs to other inputs: {changed} changed.", where=str(folder), fix=start_anew(job))


def start_anew(job: Job) -> str:
    """The command that gives an unfinished training up."""
    return f"`rm -r {job.scratch}` to start this training anew"
