"""Processes that are started together, watched together and ended together, with a log each; used by `native.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

START_S = 180.0
END_S = {"worker": 600.0}
"""A worker's training saves a checkpoint first."""
OTHERS_END_S = 30.0


class Refused(Exception):
    """Something a person can mend; printed without a traceback."""


class Processes:
    """A context that ends what was started in it, the last one first."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for name, process in reversed(self.running.items()):
            # PostgreSQL's fast shutdown, which does not wait for clients, is the interrupt; its children must not get it.
            end = process.send_signal if name == "postgres" else lambda number, leader=process.pid: os.killpg(leader, number)
            with suppress(ProcessLookupError):
                end(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            limit = END_S.get(name, OTHERS_END_S)
            if process.poll() is None and limit > OTHERS_END_S:
                print(f"\nEnding the {name}: up to {limit / 60:.0f} min where a run has to save ...", flush=True)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], **options: Any) -> None:
        """Start a service in a process group of its own."""
        with self._log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **options
            )

    def once(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run what must have succeeded before what comes next.

        Raises:
            Refused: it failed.
        """
        print(f"  {name} ...", flush=True)
        with self._log(name).open("ab") as log:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        if done.returncode:
            raise self._failed(name, f"ended with {done.returncode}")

    def wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until a service is ready.

        Raises:
            Refused: it ended, or was not ready in time.
        """
        print(f"  {name} ...", flush=True)
        limit = time.monotonic() + START_S
        while not ready():
            if self.running[name].poll() is not None:
                raise self._failed(name, "ended")
            if time.monotonic() > limit:
                raise self._failed(name, f"did not answer within {START_S:.0f} s")
            time.sleep(0.2)

    def watch(self) -> None:
        """Wait for the first service to end.

        Raises:
            Refused: always: none of them ends by itself.
        """
        while True:
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise self._failed(name, f"ended with {process.returncode}; the others are ended too")
            time.sleep(1)

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _failed(self, name: str, what: str) -> Refused:
        end = self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
        return Refused("\n".join([f"{name} {what}.", f"  where: {self._log(name)}", *(f"  | {line}" for line in end)]))


def answers(url: str) -> bool:
    """Whether a server answers there; a refusal for want of a key counts."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True
