"""One member of a sweep as a Prefect task: the flow `pipeline` in a process of its own, so that members cannot disturb each other."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

from tailmark.console import say
from tailmark.errors import StageFailed
from tailmark.tracking import PARENT_VARIABLE
from tasks import process
from tasks.parameters import AS_COMMITTED, Request
from tasks.sweepfile import Member


@task(task_run_name="{member.name}", cache_policy=NO_CACHE, persist_result=False)
def run_member(member: Member, request: Request, parent: str | None) -> None:
    """Run one member; its lines carry its name.

    Raises:
        StageFailed: it did not come to its end; its own message was printed before.
        Stopped: the sweep was stopped.
    """
    logger = get_run_logger()
    said: list[str] = []

    def line(text: str) -> None:
        say(f"[{member.name}] {text}" if text else "")
        logger.info(text)
        said[:] = [*said[-20:], text] if text.strip() else said

    code = process.stream(command(member, request), cwd=request.root.resolve(), env=_environment(parent), line=line)
    if code != 0:
        raise StageFailed(
            _reason(said), where=f"member '{member.name}'", fix="mend that and run the sweep again: it does only what is missing"
        )


def command(member: Member, request: Request) -> list[str]:
    """What runs a member."""
    words = [sys.executable, "-m", "flows.pipeline", "--worktree", "--name", member.run, "--revision", request.revision]
    words += [
        "--uncommitted",
        "ignore",
        "--jobs",
        str(request.jobs),
        "--retries",
        str(request.retries),
        "--hours",
        str(request.hours_per_stage),
    ]
    words += ["--profile", member.profile] if member.profile != AS_COMMITTED else []
    words += [] if request.push else ["--no-push"]
    words += ["--git-remote", request.git_remote] if request.git_remote else []
    words += [word for item in member.overrides for word in ("--set", item)]
    return words + [word for target in request.targets for word in ("--target", target)]


def _environment(parent: str | None) -> dict[str, str]:
    code = str(Path(__file__).resolve().parent.parent)
    known = {"PREFECT_API_URL": PREFECT_API_URL.value(), "PREFECT_HOME": str(PREFECT_HOME.value()), PARENT_VARIABLE: parent}
    paths = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **{name: value for name, value in known.items() if value}, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}


def _reason(said: list[str]) -> str:
    """The line that says what went wrong: a stage's own error, else the last line that begins at the margin."""
    errors = [text.strip().removeprefix("error: ") for text in said if text.strip().startswith("error: ")]
    flush = [text for text in said if not text.startswith(" ")]
    return (errors or flush or said or ["It ended without a word."])[-1]
