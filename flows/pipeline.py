"""The pipeline: the stages of `dvc.yaml` as one Prefect flow.

`python -m flows.pipeline [--jobs N] [--target STAGE]...` runs it in this checkout; afterwards `dvc repro` has nothing to do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture, as_completed

from tailmark import tracking
from tailmark.config import Config, load_config
from tailmark.console import duration, say
from tailmark.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, Stopped, TailmarkError
from tailmark.layout import Layout
from tasks import process
from tasks.display import Display, Estimates
from tasks.graph import Stage, read_graph, unchanged
from tasks.server import local_server
from tasks.stage import run_stage, stage_environment

Results = list[dict[str, Any]]


@flow(name="pipeline")
def pipeline(root: Path = Path(), jobs: int = 1, targets: tuple[str, ...] = ()) -> Results:
    """Run the stages of the checkout at `root`, each after what it needs, `jobs` at a time; with targets, only what they need.

    Returns one JSON object a stage: its name, how it went (ran, restored, unchanged) and its seconds.

    Raises:
        StageFailed: a stage failed; no other one is started.
        ConfigError: `params.yaml` or `dvc.yaml` is not right, or there is no such target.
    """
    root = root.resolve()
    config, layout = load_config(root / "params.yaml"), Layout(root)
    stages = read_graph(root, targets)
    same = unchanged(root, stages)
    display = Display(stages, {stage.name for stage in stages} - same, Estimates(layout.state / "durations.json"), jobs)
    display.plan(stages)
    with _parent_run(config, layout, needed=len(same) < len(stages)):
        results = _run_all(stages, same, root, display, jobs)
    table = lifts(root)
    if table:
        create_markdown_artifact(markdown=f"```\n{table}\n```", key="lifts", description="marked against baseline")
    return results


def _run_all(stages: Sequence[Stage], same: set[str], root: Path, display: Display, jobs: int) -> Results:
    """Start each stage once what it needs is done, in order, `jobs` at a time; the first failure ends what still runs."""
    done: dict[str, PrefectFuture[dict[str, Any]]] = {}
    running: dict[PrefectFuture[dict[str, Any]], str] = {}
    waiting = list(stages)
    try:
        while waiting or running:
            ready = [stage for stage in waiting if stage.needs <= done.keys()]
            for stage in ready[: max(jobs, 1) - len(running)]:
                before = [done[name] for name in sorted(stage.needs)]
                future = run_stage.submit(stage, root, stage.name in same, display, wait_for=before, return_state=False)
                running[future] = stage.name
                waiting.remove(stage)
            finished = next(as_completed(list(running)))
            finished.result()
            done[running.pop(finished)] = finished
    except BaseException:
        process.end_all()
        raise
    return [done[stage.name].result() for stage in stages]


@contextmanager
def _parent_run(config: Config, layout: Layout, needed: bool) -> Iterator[None]:
    """The MLflow run that the stages' runs nest under, unless there is nothing to run."""
    run_id = tracking.open_parent(config, layout, "pipeline") if needed else None
    if run_id is None:
        yield
        return
    os.environ[tracking.PARENT_VARIABLE] = run_id
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (KeyboardInterrupt, Stopped):
        status = "KILLED"
        raise
    finally:
        del os.environ[tracking.PARENT_VARIABLE]
        tracking.close_parent(config, layout, run_id, status)


def lifts(root: Path) -> str:
    """The table of lifts as `tailmark lifts` prints it; empty where nothing was evaluated."""
    if not (Layout(root).evaluated / "metrics.json").exists():
        return ""
    command = [str(Path(sys.executable).parent / "tailmark"), "lifts"]
    done = subprocess.run(command, cwd=root, env=stage_environment(), capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline in the current folder, and say at the end what came out and where to look; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Run the stages of dvc.yaml through Prefect.")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many independent stages run at a time")
    parser.add_argument("--target", action="append", default=[], metavar="STAGE", help="run only this stage and what it needs")
    options = parser.parse_args(arguments)
    try:
        _run(Path.cwd(), max(options.jobs, 1), tuple(options.target))
    except TailmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except (KeyboardInterrupt, TerminationSignal, Stopped) as error:  # TerminationSignal: what Prefect makes of SIGTERM
        process.end_all()
        said = str(error) if isinstance(error, Stopped) else "Stopped."
        print(f"\n{said} The next run goes on from what is complete.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _run(root: Path, jobs: int, targets: tuple[str, ...]) -> None:
    start = time.monotonic()
    load_config(root / "params.yaml")
    stages = read_graph(root, targets)
    same = unchanged(root, stages)
    display = Display(stages, set(), Estimates(Layout(root).state / "durations.json"), jobs)
    if len(same) == len(stages):
        for stage in stages:
            display.heading(stage, unchanged=True)
    else:
        say("Starting Prefect (5 to 30 s) ...")
        with local_server():
            pipeline(root, jobs, targets)
    _closing(root, time.monotonic() - start)


def _closing(root: Path, seconds: float) -> None:
    table = lifts(root)
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
