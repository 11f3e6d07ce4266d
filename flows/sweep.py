"""A sweep: the pipeline under several options, side by side in one comparison.

`python -m flows.sweep sweeps/dropout.yaml` runs the members one after the other (`--concurrency N`: N at a time). Run
again, it does only what is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from prefect import flow
from prefect.runtime import flow_run

from flows.guard import guarded
from flows.members import DONE, KEPT, States, compare, run_members
from flows.naming import current_name, new_name
from tailmark import runs, tracking
from tailmark.config import load_config
from tailmark.console import say
from tailmark.errors import StageFailed
from tailmark.layout import Layout
from tasks import process
from tasks.parameters import AS_COMMITTED, Count, Hours, Profile, Request, Retries, Uncommitted
from tasks.record import recorded
from tasks.server import local_server
from tasks.sweepfile import members, read_sweep
from tasks.workspace import start_commit


@flow(name="sweep", flow_run_name=new_name("sweep"))
def sweep(
    file: str = "sweeps/dropout.yaml",
    revision: str = "HEAD",
    profile: Profile = AS_COMMITTED,
    uncommitted: Uncommitted = "refuse",
    concurrency: Count = 1,
    jobs: Count = 1,
    retries: Retries = 2,
    hours_per_stage: Hours = 48.0,
    push: bool = True,
    git_remote: str = "",
    root: Path = Path(),
) -> States:
    """Run the pipeline once for every member of a sweep, each in a worktree and on a branch of its own, and compare them.

    A member that fails does not end the others. Run again, only what is missing is done.

    Args:
        file: The sweep: a YAML file in the checkout that lists members, or a grid of options.
        revision: The branch, tag or commit to run.
        profile: The set of options that all members start from; "as committed" takes params.yaml as the revision holds it.
        uncommitted: What to do where the checkout has changes that are not committed (only if the revision is what is checked out).
        concurrency: How many members run at a time; the others wait.
        jobs: How many independent stages of a member run at a time.
        retries: How often a stage is tried again whose process was killed or stopped from outside.
        hours_per_stage: A stage that takes longer is ended, and its member fails.
        push: Upload the data to the default DVC remote, where one is configured.
        git_remote: The git remote that the branches are pushed to. Empty: they stay in the worker's repository.
        root: The checkout on the worker's machine. A dot: the folder that the flow is started in.

    Returns how each member went: done, kept (it was done before), or what went wrong.

    Raises:
        StageFailed: members failed; the others are compared nevertheless.
        ConfigError: the file or an option is not right, before anything runs.
    """
    request = Request(
        revision=revision, profile=profile, uncommitted=uncommitted, jobs=jobs, retries=retries, hours_per_stage=hours_per_stage,
        push=push, git_remote=git_remote, root=root.resolve(),
    )  # fmt: skip
    return _sweep(file, request, concurrency)


def _sweep(file: str, request: Request, concurrency: int) -> States:
    process.allow()
    home, profile = request.root, request.profile
    spec = read_sweep(home / file)
    commit = start_commit(home, request.revision, request.uncommitted)
    wanted = members(spec, home, commit, profile)
    request = request.model_copy(update={"revision": commit, "targets": spec.targets})
    config, layout, name = load_config(home / "params.yaml"), Layout(home), current_name()
    facts = {"commit": commit, "profile": profile, "percent": f"{100 * config.evaluate.confidence:g}"}
    record = runs.begin(layout, "sweep", name, profile=profile, commit=commit, prefect_run=flow_run.get_id(), again=_again(file))
    tracking.prepare(config, layout)
    with recorded(record, home), tracking.start_run(f"sweep-{spec.name}", config=config, layout=layout, stage="sweep") as tracked:
        record.update(mlflow_run=tracked.run_id)
        states = run_members(wanted, request, concurrency, tracked.run_id, record)
        page = compare(spec, wanted, states, facts, home, tracked)
        say(f"\nThe comparison: {page}")
        _complain(states)
    return states


def _complain(states: States) -> None:
    failed = [name for name, state in states.items() if state not in (DONE, KEPT)]
    if failed:
        raise StageFailed(
            f"{len(failed)} of {len(states)} members failed: {', '.join(failed)}.",
            fix="their messages stand above; run the sweep again when that is mended: it does only what is missing",
        )


def _again(file: str) -> str:
    return f"python -m flows.sweep {file}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sweep in the current folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.sweep", description="Run the pipeline under several options and compare them.")
    parser.add_argument("file", nargs="?", default="sweeps/dropout.yaml", help="the sweep (default: sweeps/dropout.yaml)")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="how many members run at a time")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many stages of a member run at a time")
    parser.add_argument("--revision", default="HEAD", metavar="REV", help="the branch, tag or commit to run")
    parser.add_argument("--profile", default=AS_COMMITTED, metavar="NAME", help="a file of params/ (default: params.yaml as committed)")
    parser.add_argument("--uncommitted", choices=get_args(Uncommitted), default="refuse", help="what to do with uncommitted changes")
    return guarded(lambda: _run_here(parser.parse_args(arguments)))


def _run_here(given: argparse.Namespace) -> None:
    read_sweep(Path.cwd() / given.file)
    say("Starting Prefect (5 to 30 s) ...")
    with local_server():
        sweep(**vars(given), root=Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
