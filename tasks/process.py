"""Child processes in groups of their own, so that ending one ends everything it started."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from prefect.exceptions import TerminationSignal

from tailmark.console import duration
from tailmark.errors import StageFailed, Stopped
from tasks import leash

_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()
_ending = threading.Event()


def stream(command: Sequence[str], *, cwd: Path, env: dict[str, str], line: Callable[[str], None], limit_s: float | None = None) -> int:
    """Run a command in its own process group, hand over each line it writes, and return its exit code.

    Whatever ends this early (Ctrl-C, a cancelled flow, the end of this process by SIGKILL) ends the whole group.

    Raises:
        Stopped: `end_all` ended it, or was called before it could start.
        StageFailed: it took longer than `limit_s`.
    """
    with _started(command, cwd, env) as process, _time_limit(process, limit_s) as late:
        assert process.stdout is not None
        for text in process.stdout:
            line(text.rstrip("\n"))
        code = process.wait()
    if _ending.is_set():
        raise Stopped("The run was stopped.")
    if late.is_set():
        assert limit_s is not None
        fix = "give it more (`hours_per_stage`), or find out why it hangs; a training goes on from its last checkpoint"
        raise StageFailed(f"It took longer than {duration(limit_s)} and was ended.", fix=fix)
    return code


@contextmanager
def _started(command: Sequence[str], cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with _lock:
        if _ending.is_set():
            raise Stopped("The run was stopped.")
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        _running.add(process)
    try:
        with leashed(process):
            yield process
            end_group(process)
    finally:
        end_group(process)
        with _lock:
            _running.discard(process)


@contextmanager
def leashed(process: subprocess.Popen[str]) -> Iterator[None]:
    """A second process that ends the group if this one is killed."""
    command = [sys.executable, "-I", "-S", leash.__file__, str(process.pid)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        end_group(process)
        with suppress(BrokenPipeError):
            holder.communicate(b".")


@contextmanager
def _time_limit(process: subprocess.Popen[str], seconds: float | None) -> Iterator[threading.Event]:
    """Ends the group after so many seconds; the event says that it did."""
    late = threading.Event()

    def end() -> None:
        late.set()
        end_group(process)

    timer = threading.Timer(seconds, end) if seconds is not None else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield late
    finally:
        if timer:
            timer.cancel()


def allow() -> None:
    """Let processes be started again after `end_all`."""
    _ending.clear()


def ending() -> bool:
    """Whether `end_all` was called."""
    return _ending.is_set()


def end_all(graces: Mapping[signal.Signals, float] = leash.PATIENT) -> None:
    """End every group that still runs, all at once, and let none start."""
    with _lock:
        _ending.set()
        running = list(_running)
    enders = [threading.Thread(target=end_group, args=(process, graces), daemon=True) for process in running]
    try:
        for thread in enders:
            thread.start()
        for thread in enders:
            thread.join()
    except KeyboardInterrupt:  # pressed again: no more patience
        for process in running:
            leash.send(process.pid, signal.SIGKILL)
        raise


@contextmanager
def ended_with_this() -> Iterator[None]:
    """Whatever ends the block early ends every group; a cancelled run is given less time than a failed one."""
    try:
        yield
    except TerminationSignal:
        end_all(leash.PROMPT)
        raise
    except BaseException:
        end_all()
        raise


def end_group(process: subprocess.Popen[str], graces: Mapping[signal.Signals, float] = leash.PATIENT) -> None:
    """Ask the group to stop as Ctrl-C does, so that a stage can clean up; then insist."""
    try:
        for number, grace in graces.items():
            if not _group_lives(process):
                return
            leash.send(process.pid, number)
            _wait(process, grace)
    except KeyboardInterrupt:  # pressed again: no more patience
        leash.send(process.pid, signal.SIGKILL)
        raise


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and _group_lives(process):
        time.sleep(0.05)


def _group_lives(process: subprocess.Popen[str]) -> bool:
    process.poll()  # reaps the leader, which would count as alive until then
    return leash.lives(process.pid)
