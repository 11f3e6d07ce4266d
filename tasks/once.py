"""One stage on the same inputs runs once at a time on this machine: whoever asks meanwhile waits, and takes it from DVC's run cache."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.cache import _can_hash, _get_stage_hash
from dvc.stage.exceptions import StageFileDoesNotExistError

from tailmark.errors import Stopped
from tasks import process
from tasks.graph import address

_POLL_S = 0.5
_dvc = threading.Lock()


@contextmanager
def once(stage: str, root: Path, state: Path, line: Callable[[str], None]) -> Iterator[None]:
    """Hold the stage with its inputs while the block runs; the kernel lets go when this process ends, however it ends.

    The name of the lock is the hash that DVC's run cache has for the stage's command, parameters and the content of what it reads.

    Raises:
        Stopped: the run was stopped while it waited.
    """
    key = inputs_hash(stage, root)
    if key is None:
        yield
        return
    folder = state / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{key}.lock").open("a", encoding="utf-8") as file:
        if not _taken(file):
            line("  another run makes the same from the same inputs; this one waits for it and takes the result from the cache")
            while not _taken(file):
                if process.ending():
                    raise Stopped("The run was stopped.")
                time.sleep(_POLL_S)
        yield


def inputs_hash(stage: str, root: Path) -> str | None:
    """The run cache's key of a stage; None where DVC keeps no run of it (an input is missing, or the stage has no outputs)."""
    with _dvc, Repo(str(root)) as repo:
        try:
            (found,) = repo.stage.collect(address(root, stage))
            with repo.lock:
                found.save_deps(allow_missing=True)
        except (DvcException, StageFileDoesNotExistError, ValueError):
            return None
        return str(_get_stage_hash(found)) if _can_hash(found) else None


def _taken(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
