"""One trainer at a time on one scratch folder, and no new one while processes of an earlier start still write there."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from tailmark.errors import CheckpointError

_TRAINER = "trainer.lock"
_RANKS = "ranks.lock"
_WAIT_S = 60.0
_POLL_S = 0.2


@contextmanager
def only_trainer(scratch: Path) -> Iterator[None]:
    """Hold the scratch folder while the block runs; the kernel lets go of it when this process ends, however it ends.

    Raises:
        CheckpointError: another process holds it, or ranks that an earlier start left behind (on other machines) do not end.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with _opened(scratch / _TRAINER) as file:
        if not _taken(file):
            raise CheckpointError(
                f"Another process is training on the same inputs: {_holder(file)}.",
                where=str(scratch),
                fix="wait until it ends, or stop it (SIGTERM saves first) and run the same command again to go on",
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        _wait_for_ranks(scratch)
        yield


def _wait_for_ranks(scratch: Path) -> None:
    limit = time.monotonic() + _WAIT_S
    with _opened(scratch / _RANKS) as file:
        while not _taken(file):
            if time.monotonic() > limit:
                raise CheckpointError(
                    "Ranks of an earlier start are still running, perhaps on another machine.",
                    where=str(scratch / _RANKS),
                    fix="end their processes (`tailmark.train.worker`), then run the same command again",
                )
            time.sleep(_POLL_S)


def hold_as_rank(scratch: Path) -> TextIOWrapper:
    """Tell later trainers that this rank may write into the scratch folder, until the file is closed or the process ends."""
    file = _opened(scratch / _RANKS)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def is_held(scratch: Path) -> bool:
    """Whether some process trains in the scratch folder now."""
    for name in (_TRAINER, _RANKS):
        if (scratch / name).exists():
            with suppress(FileNotFoundError), _opened(scratch / name) as file:  # it may end, and remove its folder, right now
                if not _taken(file):
                    return True
    return False


def _opened(path: Path) -> TextIOWrapper:
    return path.open("a+", encoding="utf-8")


def _taken(file: TextIOWrapper) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: TextIOWrapper) -> str:
    file.seek(0)
    return file.read() or "it has just started"
