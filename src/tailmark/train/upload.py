"""Copies checkpoints to `train.upload` while training goes on: no step waits for it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailmark.console import say
from tailmark.train import checkpoint
from tailmark.train.job import Job
from tailmark.train.remote import Remote

_LOOK_S = 1.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 2.0, 60.0
_LAST_TRIES = 5


@contextmanager
def uploading(job: Job) -> Iterator[None]:
    """While the block runs, copy each newest checkpoint; when it ends, whether well or not, await the last one.

    A copy that fails is warned of and tried again. Ctrl-C ends the waiting.
    """
    if job.config.train.upload is None:
        yield
        return
    uploader = Uploader(job, Remote(job, job.config.train.upload))
    uploader.start()
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        uploader.finish()
        raise
    uploader.finish()


class Uploader(threading.Thread):
    """A thread of the launching process, which has little else to do while the ranks train."""

    def __init__(self, job: Job, remote: Remote) -> None:
        super().__init__(name="upload", daemon=True)
        self._job, self._remote = job, remote
        self._closing = threading.Event()
        self._done: str | None = None

    def finish(self) -> None:
        """Await the newest checkpoint's copy, or the last of a few tries."""
        if self._newest() is not None:
            say(f"  waiting until the last checkpoint is at {self._remote.url}")
        self._closing.set()
        self.join()

    def run(self) -> None:
        """Copy what is new, again after a failure, until the training has ended and its last checkpoint is there."""
        failures, last_tries = 0, 0
        while True:
            closing = self._closing.is_set()
            newest = self._newest()
            if newest is not None and not self._copied(newest):
                failures += 1
                last_tries += closing
                if last_tries < _LAST_TRIES:
                    self._pause(failures, closing)
                    continue
                say(f"  warning: gave up after {last_tries} more tries: checkpoint {newest.name} is not at {self._remote.url}")
                return
            failures = 0
            if closing:
                return
            self._closing.wait(_LOOK_S)

    def _pause(self, failures: int, closing: bool) -> None:
        seconds = min(_FIRST_WAIT_S * 2 ** (failures - 1), _LONGEST_WAIT_S)
        if closing:
            threading.Event().wait(min(seconds, _FIRST_WAIT_S))
        else:
            self._closing.wait(seconds)

    def _newest(self) -> Path | None:
        newest = next(iter(checkpoint.found(self._job)), None)
        return newest if newest is not None and newest.name != self._done else None

    def _copied(self, folder: Path) -> bool:
        try:
            with _kept(folder, self._job.scratch / "upload") as snapshot:
                self._remote.send(snapshot, self._job.config.train.keep_checkpoints)
        except Exception as error:  # a copy must never end the training, and every storage has exceptions of its own
            say(f"  warning: checkpoint {folder.name} is not at {self._remote.url} yet: {type(error).__name__}: {error}")
            return False
        self._done = folder.name
        return True


@contextmanager
def _kept(folder: Path, beside: Path) -> Iterator[Path]:
    """The checkpoint's files under another name, so that they stay when newer checkpoints push it out. Links: no copy is made."""
    snapshot = beside / folder.name
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, snapshot, copy_function=os.link)
    try:
        yield snapshot
    finally:
        shutil.rmtree(beside, ignore_errors=True)
