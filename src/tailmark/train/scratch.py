"""What trainings that were never finished left: seen at the next start, removed when asked."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailmark.console import say
from tailmark.files import read_json
from tailmark.train.checkpoint import MANIFEST
from tailmark.train.job import Job
from tailmark.train.locks import is_held


@dataclass(frozen=True)
class Unfinished:
    """A training of the arm on other inputs.

    Attributes:
        folder: its scratch folder.
        checkpoint: name of its newest checkpoint, None where it has none.
        changed: which inputs are other ones than the job's: `config`, `data`, `base`, `taxonomy`.
        size: bytes on disk.
        running: whether some process trains there now.
    """

    folder: Path
    checkpoint: str | None
    changed: tuple[str, ...]
    size: int
    running: bool

    def describe(self) -> str:
        """One line for a person."""
        state = "running" if self.running else f"stopped at {self.checkpoint}" if self.checkpoint else "without a checkpoint"
        inputs = f"other {', '.join(self.changed)}" if self.changed else "other inputs"
        return f"{self.folder.name}: {state}, {inputs}, {self.size / 2**20:,.0f} MiB"


def unfinished(job: Job) -> list[Unfinished]:
    """The arm's trainings other than the job's own, by name."""
    folders = sorted(job.scratch.parent.glob(f"train-{job.arm}-*"))
    return [_look(folder, job) for folder in folders if folder != job.scratch and folder.is_dir()]


def _look(folder: Path, job: Job) -> Unfinished:
    identity = _identity(folder / "job-0.json")
    changed = tuple(name for name, value in job.identity.items() if identity and identity.get(name) != value)
    return Unfinished(folder, _newest(folder), changed, _size(folder), is_held(folder))


def _newest(folder: Path) -> str | None:
    """The name of the newest checkpoint. The training may run, and remove what is being looked at."""
    with suppress(FileNotFoundError):
        return max((path.parent.name for path in folder.glob(f"checkpoints/step-*/{MANIFEST}")), default=None)
    return None


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _identity(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path)["identity"])
    except (OSError, ValueError, KeyError):
        return {}


def mention(job: Job) -> None:
    """Say which unfinished trainings of the arm a start does not go on with, so that none starts anew unseen."""
    waiting = [item for item in unfinished(job) if item.checkpoint]
    for item in waiting:
        say(f"  not gone on with: {item.describe()}")
    if waiting:
        say(f"  `tailmark train --arm {job.arm} --clean` removes what is not running")


def clean(job: Job) -> None:
    """Remove the arm's unfinished trainings, but not the one that `tailmark train` would go on with, nor one that runs."""
    found = unfinished(job)
    for item in found:
        say(f"  {'kept' if item.running else 'removed'} {item.describe()}")
        if not item.running:
            shutil.rmtree(item.folder)
    if job.scratch.is_dir():
        say(f"  kept {job.scratch.name}: `tailmark train --arm {job.arm}` goes on with it")
    elif not found:
        say("  there is nothing to remove")
