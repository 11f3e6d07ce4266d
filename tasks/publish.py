"""Handing on what a run made: data to the DVC remote, the branch to a git remote, as Prefect tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tailmark.console import say
from tailmark.errors import StageFailed
from tasks import process
from tasks.git import git
from tasks.workspace import Workspace

_TRIES = 2
_WAIT_S = 20.0


@task(task_run_name="push data", cache_policy=NO_CACHE, persist_result=False, retries=_TRIES, retry_delay_seconds=_WAIT_S)
def push_data(workspace: Workspace, remote: str) -> None:
    """Upload what the run made, and DVC's run cache, so that other machines need not make it again.

    Raises:
        StageFailed: the remote cannot be reached or refuses; the result is in the local cache nevertheless.
    """
    logger = get_run_logger()
    lines: list[str] = []
    command = [sys.executable, "-m", "dvc", "push", "--run-cache", "--remote", remote]
    code = process.stream(command, cwd=workspace.root, env=workspace.environment, line=_both(lines.append, logger.info))
    if code != 0:
        raise StageFailed(
            f"The data could not be pushed to the DVC remote '{remote}': {next(filter(None, reversed(lines)), 'without a message')}",
            where=str(workspace.home),
            fix=f"mend that, then `git checkout {workspace.branch}` and `dvc push`; everything is in the local cache",
        )
    say(f"The data is at the DVC remote '{remote}'.")


@task(task_run_name="push branch", cache_policy=NO_CACHE, persist_result=False, retries=_TRIES, retry_delay_seconds=_WAIT_S)
def push_branch(workspace: Workspace, remote: str) -> None:
    """Upload the branch.

    Raises:
        StageFailed: the remote cannot be reached or refuses.
    """
    assert workspace.branch is not None
    git(workspace.home, "push", "--quiet", remote, f"{workspace.branch}:{workspace.branch}")
    say(f"Branch {workspace.branch} is at {remote}.")


def _both(first: Callable[[str], None], second: Callable[[str], None]) -> Callable[[str], None]:
    def both(line: str) -> None:
        first(line)
        second(line)

    return both
