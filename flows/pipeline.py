"""The pipeline: the stages of `dvc.yaml` as one Prefect flow.

`python -m flows.pipeline [--jobs N] [--target STAGE]...` runs it in this checkout; afterwards `dvc repro` has nothing to do.
With `--worktree` it runs in a git worktree of its own and leaves a branch, as deployments do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.execution import Results, run
from flows.guard import guarded
from flows.naming import new_name
from flows.options import parse
from tailmark.config import load_config
from tailmark.console import duration, say
from tailmark.layout import Layout
from tasks.display import Display, Estimates
from tasks.graph import read_graph, unchanged
from tasks.lifts import lifts
from tasks.parameters import AS_COMMITTED, Count, Hours, Place, Profile, Request, Retries, StageName, Uncommitted
from tasks.server import local_server
from tasks.workspace import Workspace


@flow(name="pipeline", flow_run_name=new_name("run"))
def pipeline(
    revision: str = "HEAD",
    profile: Profile = AS_COMMITTED,
    overrides: tuple[str, ...] = (),
    targets: tuple[StageName, ...] = (),
    force: bool = False,
    uncommitted: Uncommitted = "refuse",
    workspace: Place = "worktree",
    jobs: Count = 2,
    retries: Retries = 2,
    hours_per_stage: Hours = 48.0,
    push: bool = True,
    git_remote: str = "",
    root: Path = Path(),
) -> Results:
    """Run the stages, each after what it needs; what has not changed is taken from the DVC cache.

    In a worktree the result is committed on a branch of its own, `tailmark/<run>`, that anyone can check out.

    Args:
        revision: The branch, tag or commit to run.
        profile: The set of options to run with; "as committed" takes params.yaml as the revision holds it.
        overrides: Single options, one a line, as in prepare.dataset_dropout=0.7. They are checked before anything runs.
        targets: Only these stages and what they need. None: all.
        force: Run the targets (or all stages) though nothing changed.
        uncommitted: What to do where the checkout has changes that are not committed (only if the revision is what is checked out).
        workspace: "worktree" leaves the checkout alone; "checkout" runs in it, as `make demo` does.
        jobs: How many independent stages run at a time.
        retries: How often a stage is tried again whose process was killed or stopped from outside. A stage that says what is wrong is not.
        hours_per_stage: A stage that takes longer is ended and fails.
        push: Upload the data to the default DVC remote, where one is configured.
        git_remote: The git remote that the branch is pushed to. Empty: it stays in the worker's repository.
        root: The checkout on the worker's machine. A dot: the folder that the flow is started in.

    Returns one JSON object a stage: its name, how it went (ran, restored, unchanged) and its seconds.

    Raises:
        StageFailed: a stage failed; no other one is started.
        ConfigError: `params.yaml`, `dvc.yaml` or a parameter is not right.
    """
    return run(Request.model_validate(locals()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline in the current folder, and say at the end what came out and where to look; returns the exit code."""
    request, name = parse(arguments)
    return guarded(lambda: _run_here(request, name))


def _run_here(request: Request, name: str | None) -> None:
    start = time.monotonic()
    root = request.root.resolve()
    load_config(root / "params.yaml")
    stages = read_graph(root, request.targets)
    here = request.workspace == "checkout"
    if here and not request.force and len(unchanged(root, stages)) == len(stages):
        display = Display(stages, set(), Estimates(Layout(root).state / "durations.json"), request.jobs)
        for stage in stages:
            display.heading(stage, unchanged=True)
    else:
        say("Starting Prefect (5 to 30 s) ...")
        with local_server():
            named = pipeline.with_options(flow_run_name=name) if name else pipeline
            named(**dict(request))
    if here:
        _closing(root, time.monotonic() - start)
    else:
        say(f"\nDone in {duration(time.monotonic() - start)}. `tailmark status` shows the last runs.")


def _closing(root: Path, seconds: float) -> None:
    table = lifts(Workspace(root, root))
    if table:
        say(f"\n{table}")
    say(f"\nDone in {duration(seconds)}.")
    report = Layout(root).evaluated / "report.html"
    if report.exists():
        say(f"  report:  {report}")
    if (Layout(root).trained("marked") / "config.json").exists():
        say('  try it:  .venv/bin/tailmark generate "Localise this message: The file is empty." --markers lang=French')
    say("  MLflow:  make mlflow    (runs, curves, the registered model)")
    say("  Prefect: make prefect   (flow runs, logs, artifacts)")


if __name__ == "__main__":
    sys.exit(main())
