"""Child processes in groups of their own, so that ending one ends everything it started."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_GRACE_S = {signal.SIGINT: 60.0, signal.SIGTERM: 10.0, signal.SIGKILL: 5.0}
"""The interrupt asks training to finish its step and to save, which takes a while; the other stages end at once."""

_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()


def stream(command: Sequence[str], *, cwd: Path, env: dict[str, str], line: Callable[[str], None]) -> int:
    """Run a command in its own process group, hand over each line it writes, and return its exit code.

    Whatever ends this early (Ctrl-C, a cancelled flow) ends the whole group before it goes on.
    """
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    with _lock:
        _running.add(process)
    try:
        assert process.stdout is not None
        for text in process.stdout:
            line(text.rstrip("\n"))
        return process.wait()
    finally:
        end_group(process)
        with _lock:
            _running.discard(process)


def end_all() -> None:
    """End every group that still runs."""
    with _lock:
        running = list(_running)
    for process in running:
        end_group(process)


def end_group(process: subprocess.Popen[str], grace_s: Mapping[signal.Signals, float] = _GRACE_S) -> None:
    """Ask the group to stop as Ctrl-C does, so that a stage can clean up; then insist."""
    try:
        for number, grace in grace_s.items():
            if not _group_lives(process):
                return
            _signal(process, number)
            _wait(process, grace)
    except KeyboardInterrupt:  # pressed again: no more patience
        _signal(process, signal.SIGKILL)
        raise


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and _group_lives(process):
        time.sleep(0.05)


def _group_lives(process: subprocess.Popen[str]) -> bool:
    process.poll()  # reaps the leader, which would count as alive until then
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
