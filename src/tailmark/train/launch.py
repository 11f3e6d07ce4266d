"""Starts the ranks with torchrun, follows what rank 0 tells, passes signals on, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailmark import errors
from tailmark.config import Train
from tailmark.errors import Stopped, TailmarkError, TrainingError
from tailmark.files import read_json
from tailmark.train.job import Job
from tailmark.train.worker import die_with_parent

Event = dict[str, Any]

_POLL_S = 0.2
_INTERRUPT_S = 5.0
_LOG_LINES = 15


def run_ranks(job: Job, on_event: Callable[[Event], None]) -> None:
    """Run the job's workers to their end.

    Ctrl-C ends them at once; SIGTERM asks them to finish the step, save and leave.

    Raises:
        Stopped: they stopped on request, after saving.
        TailmarkError: the error that a worker met, as it met it.
        TrainingError: a worker died.
    """
    command = _command(job)
    for leftover in (job.events, job.stop_request, job.result, *job.scratch.glob("problem-*.json")):
        leftover.unlink(missing_ok=True)
    with job.log.open("wb") as log, _stop_on_sigterm(job):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(job.config.train),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            _follow(process, job.events, on_event)
        finally:
            _end(process)
    if process.returncode != 0:
        raise _failure(job, process.returncode)


def _command(job: Job) -> list[str]:
    ranks = str(job.config.train.ranks)
    # Without a folder named, torchrun leaves one in the system's temporary folder at each start.
    options = ["--standalone", "--nproc-per-node", ranks, "--log-dir", str(job.scratch / "torchrun")]
    return [sys.executable, "-m", "torch.distributed.run", *options, "-m", "tailmark.train.worker", str(job.write())]


def threads_per_rank(options: Train) -> int:
    """`train.threads`, else `OMP_NUM_THREADS`, else the cores shared by the ranks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    return options.threads or (int(given) if given.isdigit() else 0) or max(cores // options.ranks, 1)


def _environment(options: Train) -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    quiet = {
        "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", "")]),  # DeepSpeed looks for ninja there
        "OMP_NUM_THREADS": str(threads_per_rank(options)),
        "DS_LOG_LEVEL": "warning",
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**os.environ, **quiet}


@contextmanager
def _stop_on_sigterm(job: Job) -> Iterator[None]:
    """While the block runs, SIGTERM leaves a request that the workers read after each step.

    A signal through torchrun would not do: it kills the workers 30 s later, which a long step on a CPU does not keep.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: job.stop_request.touch())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _follow(process: subprocess.Popen[bytes], events: Path, on_event: Callable[[Event], None]) -> None:
    position = 0
    while True:
        ended = process.poll() is not None
        position = _read_events(events, position, on_event)
        if ended:
            return
        time.sleep(_POLL_S)


def _read_events(path: Path, position: int, on_event: Callable[[Event], None]) -> int:
    """Hand over the complete lines after `position`; returns where they end."""
    if not path.exists():
        return position
    with path.open("rb") as file:
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                break
            position += len(line)
            on_event(json.loads(line))
    return position


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever still runs: the interrupt first, then, after a moment or on a second Ctrl-C, the kill."""
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(_INTERRUPT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            # The workers are in sessions of their own; the kernel kills them when torchrun ends (`die_with_parent`).
            process.kill()
            process.wait()


def _failure(job: Job, code: int) -> Exception:
    """The first error of a worker, as the user should see it: one that can be mended before a crash that followed from it."""
    notes = [read_json(path) for path in sorted(job.scratch.glob("problem-*.json"))]
    notes.sort(key=lambda note: note["kind"] == "crash")
    if not notes:
        return _died(job, f"A training process was killed (torchrun ended with {code}); where it got no signal from you, memory ran out.")
    return _as_error(notes[0], job)


def _as_error(note: Mapping[str, str], job: Job) -> Exception:
    if note["kind"] == "Stopped":
        return Stopped(note["what"])
    kind = getattr(errors, note["kind"], None)
    if isinstance(kind, type) and issubclass(kind, TailmarkError):
        return kind(note["what"], where=note.get("where"), fix=note.get("fix"))
    return _died(job, f"A training process failed: {note['what']}")


def _died(job: Job, what: str) -> TrainingError:
    return TrainingError(
        what,
        where=f"{job.log} ends with\n" + "\n".join(f"    {line}" for line in last_lines(job.log)),
        fix="mend the cause and run the same command again: training goes on from the last checkpoint",
    )


def last_lines(log: Path, count: int = _LOG_LINES) -> list[str]:
    """The end of a log file."""
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:] if log.exists() else []
