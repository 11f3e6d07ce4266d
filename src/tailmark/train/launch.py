"""Runs the ranks of this machine to their end: follows what rank 0 tells, passes stop requests on, and leaves no process behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from tailmark.config import Train
from tailmark.console import say
from tailmark.hardware import has_gpu
from tailmark.train.failure import failure
from tailmark.train.job import Job
from tailmark.train.launchers import launch_command
from tailmark.train.worker import die_with_parent

Event = dict[str, Any]

_WORKER = "tailmark.train.worker"
_POLL_S = 0.2
_INTERRUPT_S = 5.0
_TAKEN_ALONG = ("GLOO_", "NCCL_", "HF_")
_SECRET = re.compile("TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)
_KEEP_MEMORY = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.top_pad=268435456"
"""On a CPU, what glibc hands out is kept and used again. By default each large tensor goes back to the system and the next one comes as
fresh, zeroed pages, which takes a fifth of a step (docs/measurements.md)."""


def run_ranks(job: Job, on_event: Callable[[Event], None]) -> None:
    """Run the job's ranks of this machine to their end.

    SIGTERM and the first Ctrl-C ask all ranks to finish the step, save and leave; a second Ctrl-C, or one before there is anything to save,
    ends them at once.

    Args:
        on_event: gets what rank 0 tells; called on the leading machine only.

    Raises:
        Stopped: they stopped on request, after saving.
        TailmarkError: the error that a rank met, as it met it.
        TrainingError: a rank died, or did not answer.
    """
    command = launch_command(job, [_WORKER, str(job.write())])
    _clear(job)
    with job.log.open("wb") as log, _StopRequests(job) as requests:
        process = subprocess.Popen(
            command,
            cwd=job.layout.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(job),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            for event in _followed(process, job, requests):
                on_event(event)
        finally:
            _end(process)
    if process.returncode != 0:
        raise failure(job, process.returncode)


def _clear(job: Job) -> None:
    """Remove what an earlier start left; a machine that does not lead has only notes of its own ranks to clear."""
    mine = range(job.node * job.config.train.ranks, (job.node + 1) * job.config.train.ranks)
    leftovers = [job.problem(rank) for rank in mine]
    if job.node == 0:
        leftovers += [job.events, job.stop_request, job.result, *job.scratch.glob("problem-*.json"), *job.scratch.glob("shared-*")]
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)


def threads_per_rank(options: Train) -> int:
    """`train.threads`, else `OMP_NUM_THREADS`, else the cores shared by the ranks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    return options.threads or (int(given) if given.isdigit() else 0) or max(cores // options.ranks, 1)


def _environment(job: Job) -> dict[str, str]:
    """This process's environment and what the ranks need; the latter also as the file that DeepSpeed's launcher takes to other machines.

    No secret is written: ranks read local files only.
    """
    options, bin_folder = job.config.train, str(Path(sys.executable).parent)
    ours = {
        "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", "")]),  # DeepSpeed looks for ninja there
        "OMP_NUM_THREADS": str(threads_per_rank(options)),
        "DEEPSPEED_TIMEOUT": str(options.timeout_minutes),
        "DS_LOG_LEVEL": "warning",
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not has_gpu():
        ours["GLIBC_TUNABLES"] = os.environ.get("GLIBC_TUNABLES", _KEEP_MEMORY)
    given = {name: value for name, value in os.environ.items() if name.startswith(_TAKEN_ALONG) and not _SECRET.search(name)}
    file = job.scratch / "environment"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in (given | ours).items()), encoding="utf-8")
    return {**os.environ, **ours, "DS_ENV_FILE": str(file)}


class _StopRequests:
    """While the block runs, SIGTERM and the first Ctrl-C leave a request in the scratch folder that the ranks read after each step.

    A signal through the launchers would not do: they kill the ranks 30 s later, which a long step on a CPU does not keep.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._before: dict[signal.Signals, Any] = {}
        self.worth_saving = job.node > 0  # other machines do not see the leading one's events
        self._asked_by: str | None = None

    def __enter__(self) -> _StopRequests:
        if threading.current_thread() is threading.main_thread():
            for number, handler in ((signal.SIGTERM, self._terminate), (signal.SIGINT, self._interrupt)):
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._ask("SIGTERM")

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._job.stop_request.exists() or not self.worth_saving:
            raise KeyboardInterrupt
        self._ask("Ctrl-C")

    def _ask(self, by: str) -> None:
        self._job.stop_request.touch()
        self._asked_by = by

    def answer(self) -> None:
        """Say once that the request was heard; not in the handler, which may have interrupted a print."""
        if self._asked_by:
            more = "; Ctrl-C again ends it at once" if self._asked_by == "Ctrl-C" else ""
            say(f"  {self._asked_by}: training finishes the step and saves{more}")
            self._asked_by = None


def _followed(process: subprocess.Popen[bytes], job: Job, requests: _StopRequests) -> Iterator[Event]:
    """The events that rank 0 writes, until the ranks end."""
    position, ended = 0, False
    while not ended:
        requests.answer()
        ended = process.poll() is not None
        events, position = _read_events(job.events, position) if job.node == 0 else ([], 0)
        for event in events:
            requests.worth_saving |= event["event"] == "step"
            yield event
        if not ended:
            time.sleep(_POLL_S)


def _read_events(path: Path, position: int) -> tuple[list[Event], int]:
    """The complete lines after `position`, and where they end."""
    if not path.exists():
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        lines = file.read().splitlines(keepends=True)
    complete = [line for line in lines if line.endswith(b"\n")]
    return [json.loads(line) for line in complete], position + sum(len(line) for line in complete)


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
            # The ranks are in sessions of their own; the kernel kills them when their launcher ends (`die_with_parent`).
            process.kill()
            process.wait()
