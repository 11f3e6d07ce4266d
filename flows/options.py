"""The command line of the flow `pipeline`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from tasks.parameters import AS_COMMITTED, Request, Uncommitted


def parse(arguments: Sequence[str] | None) -> tuple[Request, str | None]:
    """The request that the arguments make, for the checkout in the current folder, and the run's name where they give one."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Run the stages of dvc.yaml through Prefect.")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many independent stages run at a time")
    parser.add_argument("--target", action="append", default=[], metavar="STAGE", help="run only this stage and what it needs")
    parser.add_argument("--force", action="store_true", help="run the targets (or all stages) though nothing changed")
    parser.add_argument(
        "--retries", type=int, metavar="N", help="how often a stage that was killed is tried again (default: 0; --worktree: 2)"
    )
    parser.add_argument("--hours", type=float, default=48.0, metavar="H", help="most hours one stage may take")
    apart = parser.add_argument_group("in a worktree of its own")
    apart.add_argument("--worktree", action="store_true", help="leave this checkout alone; the result goes to a branch")
    apart.add_argument("--revision", default="HEAD", metavar="REV", help="the branch, tag or commit to run")
    apart.add_argument("--profile", default=AS_COMMITTED, metavar="NAME", help="a file of params/ (default: params.yaml as committed)")
    apart.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="another value of an option; can be given again")
    apart.add_argument("--uncommitted", choices=get_args(Uncommitted), default="refuse", help="what to do with uncommitted changes")
    apart.add_argument("--no-push", action="store_true", help="leave the data here though there is a DVC remote")
    apart.add_argument("--git-remote", default="", metavar="NAME", help="push the branch there")
    apart.add_argument("--name", help="of the run and its branch; an older branch of that name is replaced")
    given = parser.parse_args(arguments)
    request = Request(
        revision=given.revision,
        profile=given.profile,
        overrides=tuple(given.set),
        targets=tuple(given.target),
        force=given.force,
        uncommitted=given.uncommitted,
        workspace="worktree" if given.worktree else "checkout",
        jobs=max(given.jobs, 1),
        retries=given.retries if given.retries is not None else 2 * given.worktree,
        hours_per_stage=given.hours,
        push=not given.no_push,
        git_remote=given.git_remote,
        root=Path.cwd(),
    )
    return request, given.name
