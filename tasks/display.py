"""What a person sees while the pipeline runs: what will happen, each stage's lines, and how long it takes."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tailmark.console import duration
from tailmark.files import read_json, write_json
from tasks.graph import Stage

DEMO_SECONDS = {
    "base": 42.0,
    "ingest": 12.0,
    "annotate": 10.0,
    "validate": 20.0,
    "prepare@baseline": 9.0,
    "prepare@marked": 8.0,
    "train@baseline": 256.0,
    "train@marked": 507.0,
    "evaluate": 420.0,
    "register": 11.0,
}
"""How long the stages of the demo take on 2 cores, for a checkout that has not run them yet."""


_PROGRESS = re.compile(r", about .* left(, |$)")


class Estimates:
    """How long each stage took the last time it ran here, else what the demo's took elsewhere."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = read_json(path) if path.exists() else {}
        self._lock = threading.Lock()

    def of(self, stage: str) -> float | None:
        """Seconds, or None where nothing is known."""
        return self._seconds.get(stage, DEMO_SECONDS.get(stage))

    def record(self, stage: str, seconds: float) -> None:
        """Keep how long a stage took."""
        with self._lock:
            self._seconds[stage] = seconds
            write_json(self._path, self._seconds)


class Display:
    """The terminal. Lines of stages that run side by side carry the stage's name.

    Args:
        stages: all stages, in the order they run.
        todo: names of those that have something to do.
        estimates: how long they take.
        jobs: how many run at a time.
    """

    def __init__(self, stages: Sequence[Stage], todo: set[str], estimates: Estimates, jobs: int = 1) -> None:
        self._number = {stage.name: number for number, stage in enumerate(stages, start=1)}
        self._todo, self._estimates, self._jobs = set(todo), estimates, jobs
        self._terminal = sys.stdout.isatty()
        self._lock = threading.Lock()
        self._open_line = False

    def plan(self, stages: Sequence[Stage]) -> None:
        """Say what will happen and how long it will take."""
        with self._lock:
            self._print(f"The pipeline: {len(stages)} stages, {len(self._todo)} with something to do{self._about(self._todo)}.")
            for stage in stages:
                seconds = self._estimates.of(stage.name)
                known = f"about {duration(seconds)}" if seconds else "time not known yet"
                state = known if stage.name in self._todo else "nothing changed"
                self._print(f"  {self._number[stage.name]:>2}  {stage.name:<18} {state}")

    def heading(self, stage: Stage, unchanged: bool) -> None:
        """Announce a stage."""
        with self._lock:
            place = f"{self._number[stage.name]}/{len(self._number)}"
            if unchanged:
                self._print(f"{place} {stage.name}: nothing changed")
                return
            left = self._about(self._todo, ", ", " left in all")
            self._print(f"\n{place} {stage.name} — {stage.description}{left}")

    def line(self, name: str, text: str) -> None:
        """Show one line of a stage; on a terminal a line of progress replaces the one before it."""
        with self._lock:
            shown = f"[{name}] {text}" if self._jobs > 1 else f"  {text}" if not text.startswith(" ") else text
            moving = self._terminal and self._jobs == 1 and _PROGRESS.search(text)
            if moving:
                print(f"\r\x1b[2K{shown}", end="", flush=True)
                self._open_line = True
            else:
                self._print(shown)

    def finished(self, stage: Stage, outcome: str, seconds: float) -> None:
        """Say how a stage went."""
        with self._lock:
            worked = stage.name in self._todo
            self._todo.discard(stage.name)
            if outcome == "ran":
                self._estimates.record(stage.name, seconds)
                self._print(f"  {stage.name} done in {duration(seconds)}")
            elif worked:
                said = "nothing changed" if outcome == "unchanged" else "the same inputs were run before: outputs taken from the cache"
                self._print(f"  {stage.name}: {said}")

    def _about(self, names: set[str], before: str = ", ", after: str = "") -> str:
        known = [self._estimates.of(name) for name in names]
        total = sum(seconds for seconds in known if seconds is not None)
        return f"{before}about {duration(total)}{after}" if total else ""

    def _print(self, text: str) -> None:
        if self._open_line:
            print("\r\x1b[2K", end="")
            self._open_line = False
        print(text, flush=True)
