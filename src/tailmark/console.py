"""What a person sees while a stage runs: plain lines, and progress with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_EVERY_S = 5.0
_LATER_EVERY_S = 15.0


def say(text: str) -> None:
    """Print a line at once, also through a pipe."""
    print(text, flush=True)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min"


class Progress:
    """Counts work done and says how much time is left.

    On a terminal one line is rewritten; through a pipe a line is printed every 5 seconds, after a minute every 15, so a log stays readable.

    Args:
        what: what is being done, e.g. `annotating`.
        total: units of work in all.
        unit: the unit's name, plural.
        done: units already done before this start (a resume); they do not count for the speed.
    """

    def __init__(self, what: str, total: int, unit: str = "rows", done: int = 0) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = self._initial = done
        self._start = self._last = time.monotonic()
        self._terminal = sys.stdout.isatty()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` more units; `note` (e.g. `loss 1.92`) is shown beside the time left."""
        self._done += amount
        now = time.monotonic()
        every = 0.2 if self._terminal else _EVERY_S if now - self._start < 60 else _LATER_EVERY_S
        if now - self._last >= every and self._done < self._total:
            self._last = now
            self._show(now, note)

    def _show(self, now: float, note: str) -> None:
        speed = (self._done - self._initial) / (now - self._start)
        left = duration((self._total - self._done) / speed) if speed > 0 else "unknown"
        share = self._done / max(self._total, 1)
        line = f"  {self._what}: {self._done:,}/{self._total:,} {self._unit} ({share:.0%}), about {left} left"
        line += f", {note}" if note else ""
        if self._terminal:
            print(f"\r\x1b[2K{line}", end="", flush=True)
        else:
            say(line)

    def close(self, note: str = "") -> None:
        """Say how long it took."""
        spent = time.monotonic() - self._start
        if self._terminal:
            print("\r\x1b[2K", end="")
        say(f"  {self._what}: {self._done:,} {self._unit} in {duration(spent)}" + (f", {note}" if note else ""))


def track(items: Iterable[T], what: str, total: int, unit: str = "rows") -> Iterator[T]:
    """The items, with progress."""
    progress = Progress(what, total, unit)
    for item in items:
        yield item
        progress.advance()
    progress.close()
