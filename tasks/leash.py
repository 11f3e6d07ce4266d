"""Ends a process group when whoever started it is gone, even by SIGKILL: then nobody else would.

`python -I -S leash.py PID` waits on its standard input, which the starter holds open. A byte says that all is well; the end of the input
without one says that the starter died. Only the standard library is imported, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

PATIENT = {signal.SIGINT: 60.0, signal.SIGTERM: 10.0, signal.SIGKILL: 5.0}
"""Seconds to wait after each signal. The interrupt asks training to finish its step and to save; the other stages end at once."""

PROMPT = {signal.SIGINT: 6.0, signal.SIGTERM: 1.5, signal.SIGKILL: 1.5}
"""For a cancelled run: all is gone in less than 10 s. A training that cannot save in 6 goes on from its last checkpoint."""


def end(group: int, graces: Mapping[signal.Signals, float]) -> None:
    """Ask the group to stop as Ctrl-C does, so that a stage can clean up; then insist."""
    for number, grace in graces.items():
        if not lives(group):
            return
        send(group, number)
        limit = time.monotonic() + grace
        while time.monotonic() < limit and lives(group):
            time.sleep(0.05)


def send(group: int, number: signal.Signals) -> None:
    """Signal a group that may be gone already."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def lives(group: int) -> bool:
    """Whether a process of the group is there, as a zombie too."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    if not sys.stdin.buffer.read(1):
        end(int(sys.argv[1]), PATIENT)
