"""`make chaos`: one training is killed many times, at random moments and in random processes; its model must be that of an unbroken run.

`python -m tests.chaos.run --kills 30 --seed 1` prints every kill, then compares curve, metrics and weights bit for bit (one rank).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tailmark.console import duration, say
from tailmark.errors import EXIT_USER_ERROR
from tailmark.files import sha256_file
from tests.trainings import RESULTS, copy_project, last_event, make_project, none_left, processes, start, train

STEPS = 240
CHECKPOINT_EVERY = 4
_GIVE_UP_S = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both trainings; returns 0 where the results are equal."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1, help="of the moments and of the processes that are killed")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tailmark-chaos-") as folder:
        project = make_project(Path(folder) / "project", STEPS)
        unbroken = copy_project(project, Path(folder) / "unbroken", checkpoint_every=CHECKPOINT_EVERY)
        say(f"An unbroken run of {STEPS} steps first.")
        train(unbroken)
        broken = copy_project(project, Path(folder) / "broken", checkpoint_every=CHECKPOINT_EVERY)
        kills = _kill_repeatedly(broken, options.kills, random.Random(options.seed))
        wrong = [path for path in RESULTS if sha256_file(unbroken / path) != sha256_file(broken / path)]
    where = ", ".join(f"{count} {name}" for name, count in sorted(kills.items()))
    say(f"{kills.total()} kills ({where}) in {duration(time.monotonic() - began)}.")
    say(f"DIFFERENT: {', '.join(wrong)}" if wrong else f"Bit for bit as the unbroken run: {', '.join(RESULTS)}")
    return 1 if wrong else 0


def _kill_repeatedly(root: Path, kills: int, draw: random.Random) -> Counter[str]:
    """Train and kill until `kills` processes were killed, then train to the end; returns what was killed how often.

    Seven kills in ten wait for a step, so that the training gets on from its start to its export; the others come at any time of a start.
    """
    at_steps = [draw.random() < 0.7 for _ in range(kills)]
    targets = iter(sorted(draw.randint(0, STEPS) for _ in range(sum(at_steps))))
    done: Counter[str] = Counter()
    while done.total() < kills:
        process = start(root)
        waited = _wait(root, process, next(targets, STEPS) if at_steps[done.total()] else None, draw)
        victim = _kill_one(root, process, draw)
        _, err = process.communicate(timeout=120)
        assert none_left(root), processes(root)
        if process.returncode == 0:
            say(f"  it ended before it was killed, {waited}; once more from the start")
            continue
        _check(process.returncode, victim, err)
        done[victim] += 1
        say(f"  kill {done.total()}/{kills}: {victim}, {waited}, exit code {process.returncode}")
    train(root)
    return done


def _wait(root: Path, process: subprocess.Popen[str], target: int | None, draw: random.Random) -> str:
    """Let the training come to a step, or run for some seconds; returns what was waited for."""
    if target is None:
        seconds = draw.uniform(0.0, 12.0)
        _sleep(process, seconds)
        return f"after {seconds:.1f} s"
    limit = time.monotonic() + _GIVE_UP_S
    while process.poll() is None and last_event(root, "step") < target and time.monotonic() < limit:
        time.sleep(0.001)
    more = draw.uniform(0.0, 0.4) if target < STEPS else draw.uniform(0.0, 0.8)
    _sleep(process, more)
    return f"{more * 1000:.0f} ms after step {target}"


def _sleep(process: subprocess.Popen[str], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < limit:
        time.sleep(0.001)


def _kill_one(root: Path, process: subprocess.Popen[str], draw: random.Random) -> str:
    """SIGKILL the command, its launcher or its rank, whichever of them runs; returns which."""
    kinds = {"the rank": "tailmark.train.worker", "torchrun": "torch.distributed.run"}
    running = processes(root)
    found = {"the command": process.pid}
    for number, line in running.items():
        kind = "torchrun" if kinds["torchrun"] in line else "the rank" if kinds["the rank"] in line else None
        if kind:
            found[kind] = number
    victim = draw.choice(sorted(found))
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(found[victim], signal.SIGKILL)
    return victim


def _check(code: int, victim: str, err: str) -> None:
    """The command says what happened, unless it was killed itself."""
    if victim == "the command":
        assert code == -signal.SIGKILL, (code, err)
    else:
        assert code == EXIT_USER_ERROR, (victim, code, err)
        assert err.startswith("error: "), err


if __name__ == "__main__":
    sys.exit(main())
