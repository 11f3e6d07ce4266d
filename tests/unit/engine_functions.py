"""What the engine's tests run in workers: functions that can be found by name in another process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tailmark.config import Engine
from tailmark.engine import mapper
from tailmark.errors import DataError

_remembered = 0


def remember(number: int) -> None:
    global _remembered
    _remembered = number


def times_remembered(number: int) -> int:
    return _remembered * number


def process(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def refuse_three(number: int) -> int:
    if number == 3:
        raise DataError("three is refused", where="here", fix="another")
    return number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def note(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.5)


def wait_in_workers(path: str) -> None:
    with mapper(Engine(workers=2)) as run:
        list(run(note, [path, path]))
        time.sleep(600)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before the file was opened, or between opening and reading
        return False
