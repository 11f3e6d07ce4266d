"""One stage of the pipeline as a Prefect task: `dvc repro --single-item`, its lines on the terminal and in Prefect."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from ruamel.yaml import YAML

from tailmark.console import duration
from tailmark.errors import EXIT_INTERRUPTED, EXIT_STOPPED, StageFailed, Stopped
from tailmark.files import read_json
from tasks import process
from tasks.display import Display
from tasks.graph import Stage

Outcome = Literal["ran", "restored", "unchanged"]

_DVC_SAYS = re.compile(
    r"Running stage '|> |Updating lock file|Generating lock file|Use `dvc push`|To track the changes with git|\tgit add "
    r"|To enable auto staging|\tdvc config core\.autostage|Stage '.*' (didn't change|is cached)|Data and pipelines are up to date"
    r"|ERROR: failed to reproduce '.*': failed to run: |$"
)
_EXITED = re.compile(r"failed to run: .*, exited with (-?\d+)$")
_BUSY = "Unable to acquire lock"
_BUSY_TRIES = 20
_MOST_METRICS = 40


@dataclass(frozen=True)
class Result:
    """What a stage came to; tasks hand it on as JSON. `seconds`: wall time."""

    stage: str
    outcome: Outcome
    seconds: float


@task(task_run_name="{stage.name}")
def run_stage(stage: Stage, root: Path, unchanged: bool, display: Display) -> dict[str, Any]:
    """Run one stage through DVC, unless it has nothing to do, and publish what it made.

    Raises:
        StageFailed: the stage ended with an error; its own message was printed before.
        Stopped: the stage was stopped by Ctrl-C or SIGTERM.
    """
    display.heading(stage, unchanged)
    start = time.monotonic()
    outcome: Outcome = "unchanged" if unchanged else _reproduce(stage, root, display)
    result = Result(stage.name, outcome, round(time.monotonic() - start, 1))
    display.finished(stage, result.outcome, result.seconds)
    create_markdown_artifact(markdown=describe(stage, root, result), key=artifact_key(stage.name), description=stage.description)
    return asdict(result)


def _reproduce(stage: Stage, root: Path, display: Display) -> Outcome:
    for _ in range(_BUSY_TRIES):
        lines = _Lines(stage.name, display)
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage.name]
        code = process.stream(command, cwd=root, env=stage_environment(), line=lines)
        if code == 0:
            return lines.outcome
        if not lines.busy:
            break
        time.sleep(0.5)  # another stage's DVC process is writing dvc.lock
    if lines.busy:
        raise StageFailed(
            f"Stage '{stage.name}' could not start: another DVC process holds the lock.",
            where=str(root / ".dvc" / "tmp" / "lock"),
            fix="wait for that process or end it, then run the same command again",
        )
    raise _failure(stage.name, lines.exit_code or code)


def _failure(name: str, code: int) -> Exception:
    if code in (EXIT_INTERRUPTED, EXIT_STOPPED, -signal.SIGINT, -signal.SIGTERM):
        return Stopped(f"Stage '{name}' was stopped.")
    return StageFailed(
        f"Stage '{name}' failed (exit code {code}); its own message stands above.",
        fix="mend that and run the same command again: it goes on from what is complete",
    )


def stage_environment() -> dict[str, str]:
    """This process's environment, with the commands of its virtual environment found first and output unbuffered."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "SHELL": "/bin/sh"}


class _Lines:
    """Takes a stage's lines: all go to Prefect, the stage's own to the terminal, and DVC's tell how it went."""

    def __init__(self, name: str, display: Display) -> None:
        self._name, self._display, self._logger = name, display, get_run_logger()
        self.outcome: Outcome = "ran"
        self.exit_code: int | None = None
        self.busy = False

    def __call__(self, line: str) -> None:
        if line:
            self._logger.info(line)
        if f"Stage '{self._name}' didn't change" in line:
            self.outcome = "unchanged"
        elif f"Stage '{self._name}' is cached" in line:
            self.outcome = "restored"
        elif match := _EXITED.search(line):
            self.exit_code = int(match[1])
        elif _BUSY in line:
            self.busy = True
        if not _DVC_SAYS.match(line) and not self.busy:
            self._display.line(self._name, line)


def artifact_key(name: str) -> str:
    """A stage's name in the characters Prefect allows."""
    return "stage-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def describe(stage: Stage, root: Path, result: Result) -> str:
    """Markdown: how the stage went, what it made and what it measured."""
    parts = [f"# {stage.name}\n\n{stage.description}\n\n{result.outcome}, {duration(result.seconds)}\n"]
    made = _locked_outs(root, stage.name)
    if made:
        rows = [f"| `{item['path']}` | {item.get('size', 0):,} | `{item.get('md5', '')}` |" for item in made]
        parts.append("\n".join(["| output | bytes | md5 |", "|---|---:|---|", *rows]) + "\n")
    numbers = [(name, value) for path in stage.metrics for name, value in _numbers(root / path)]
    if numbers:
        rows = [f"| {name} | {value:.5g} |" for name, value in numbers[:_MOST_METRICS]]
        parts.append("\n".join(["| metric | value |", "|---|---:|", *rows]) + "\n")
        if len(numbers) > _MOST_METRICS:
            parts.append(f"and {len(numbers) - _MOST_METRICS} more in {', '.join(stage.metrics)}\n")
    return "\n".join(parts)


def _locked_outs(root: Path, name: str) -> list[dict[str, Any]]:
    lock = root / "dvc.lock"
    if not lock.exists():
        return []
    stages = YAML(typ="safe").load(lock.read_text(encoding="utf-8")).get("stages", {})
    return list(stages.get(name, {}).get("outs", []))


def _numbers(path: Path) -> list[tuple[str, float]]:
    """The numbers in a metrics file, by dotted name."""
    return _leaves(read_json(path)) if path.suffix == ".json" and path.exists() else []


def _leaves(value: Any, name: str = "") -> list[tuple[str, float]]:
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [(name, float(value))]
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{name}.{key}" if name else str(key))]
    return []
