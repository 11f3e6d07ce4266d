"""One stage of the pipeline as a Prefect task: `dvc repro --single-item`, its lines on the terminal and in Prefect."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from tailmark.errors import EXIT_INTERRUPTED, EXIT_STOPPED, StageFailed, Stopped
from tailmark.layout import Layout
from tasks import process
from tasks.describe import Outcome, Result, artifact_key, describe, links
from tasks.display import Display
from tasks.graph import Stage
from tasks.once import once
from tasks.workspace import Workspace

_DVC_SAYS = re.compile(
    r"Running stage '|> |Updating lock file|Generating lock file|Use `dvc push`|To track the changes with git|\tgit add "
    r"|To enable auto staging|\tdvc config core\.autostage|Stage '.*' (didn't change|is cached)|Data and pipelines are up to date"
    r"|ERROR: failed to reproduce '.*': failed to run: |$"
)
_EXITED = re.compile(r"failed to run: .*, exited with (-?\d+)$")
_BUSY = "Unable to acquire lock"
_BUSY_TRIES = 20
_STOPPED = (EXIT_INTERRUPTED, EXIT_STOPPED, -signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGTERM)
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


class StageKilled(StageFailed):
    """Something outside ended the stage's process."""


@dataclass(frozen=True)
class How:
    """How stages are run.

    Attributes:
        forced: names of stages that run though nothing changed.
        pull: fetch what is missing from the default DVC remote.
        limit_s: most seconds one stage may take.
    """

    forced: frozenset[str] = frozenset()
    pull: bool = False
    limit_s: float | None = None

    def command(self, name: str) -> list[str]:
        """What runs a stage."""
        options = ["--pull"] * self.pull + ["--force"] * (name in self.forced)
        return [sys.executable, "-m", "dvc", "repro", "--single-item", *options, name]


def worth_a_retry(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether to try a failed stage again: where its process was killed or stopped from outside, but not where it says what is wrong."""
    return isinstance(state.data, StageKilled | Stopped) and not process.ending()


@task(task_run_name="{stage.name}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=worth_a_retry)
def run_stage(stage: Stage, workspace: Workspace, unchanged: bool, display: Display, how: How) -> dict[str, Any]:
    """Run one stage through DVC, unless it has nothing to do, and publish what it made.

    What decides whether there is something to do are DVC's hashes of the inputs; Prefect keeps and compares nothing.

    Raises:
        StageFailed: the stage ended with an error; its own message was printed before.
        Stopped: the stage was stopped by Ctrl-C or SIGTERM.
    """
    display.heading(stage, unchanged)
    start = time.monotonic()
    outcome: Outcome = "unchanged" if unchanged else _reproduce(stage, workspace, display, how)
    result = Result(stage.name, outcome, round(time.monotonic() - start, 1))
    display.finished(stage, result.outcome, result.seconds)
    page = describe(stage, workspace.root, result, links(stage.name, workspace) if outcome == "ran" else None)
    create_markdown_artifact(markdown=page, key=artifact_key(stage.name), description=stage.description)
    return asdict(result)


def _reproduce(stage: Stage, workspace: Workspace, display: Display, how: How) -> Outcome:
    with _alone(stage, workspace, display):
        for _ in range(_BUSY_TRIES):
            lines = _Lines(stage.name, display)
            code = process.stream(how.command(stage.name), cwd=workspace.root, env=workspace.environment, line=lines, limit_s=how.limit_s)
            if code == 0:
                return lines.outcome
            if not lines.busy:
                break
            time.sleep(0.5)  # another stage's DVC process is writing dvc.lock
    if lines.busy:
        raise StageFailed(
            f"Stage '{stage.name}' could not start: another DVC process holds the lock.",
            where=str(workspace.root / ".dvc" / "tmp" / "lock"),
            fix="wait for that process or end it, then run the same command again",
        )
    raise _failure(stage.name, lines.exit_code or code)


@contextmanager
def _alone(stage: Stage, workspace: Workspace, display: Display) -> Iterator[None]:
    """Runs in worktrees may ask for the same at the same time; a checkout has one run anyway."""
    if workspace.branch is None:
        yield
        return
    with once(stage.name, workspace.root, Layout(workspace.home).state, _Lines(stage.name, display)):
        yield


def _failure(name: str, code: int) -> Exception:
    if code in _STOPPED:
        return Stopped(f"Stage '{name}' was stopped.")
    if code in _KILLED:
        return StageKilled(
            f"Stage '{name}' was killed.",
            fix="if memory ran out, give it more or make its batches smaller; the same command again goes on from what is complete",
        )
    return StageFailed(
        f"Stage '{name}' failed (exit code {code}); its own message stands above.",
        fix="mend that and run the same command again: it goes on from what is complete",
    )


class _Lines:
    """Takes a stage's lines: the stage's own go to Prefect and to the terminal, and DVC's tell how it went."""

    def __init__(self, name: str, display: Display) -> None:
        self._name, self._display, self._logger = name, display, get_run_logger()
        self.outcome: Outcome = "ran"
        self.exit_code: int | None = None
        self.busy = False

    def __call__(self, line: str) -> None:
        if f"Stage '{self._name}' didn't change" in line:
            self.outcome = "unchanged"
        elif f"Stage '{self._name}' is cached" in line:
            self.outcome = "restored"
        elif match := _EXITED.search(line):
            self.exit_code = int(match[1])
        elif _BUSY in line:
            self.busy = True
        if not _DVC_SAYS.match(line) and not self.busy:
            self._logger.info(line)
            self._display.line(self._name, line)
