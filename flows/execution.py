"""One run of the pipeline inside a flow run: place, record, MLflow run, stages in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run

from flows.naming import current_name
from tailmark import runs, tracking
from tailmark.config import load_config
from tailmark.console import say
from tailmark.files import read_json
from tailmark.layout import Layout
from tasks import process
from tasks.display import Display, Estimates
from tasks.graph import Stage, default_remote, read_graph, unchanged
from tasks.lifts import lift_numbers, lifts
from tasks.parameters import AS_COMMITTED, Request
from tasks.publish import push_branch, push_data
from tasks.record import STOPPED, recorded
from tasks.stage import How, run_stage
from tasks.workspace import Workspace, checkout, worktree

Results = list[dict[str, Any]]

_RETRY_S = 10.0


def run(request: Request) -> Results:
    """What the flow `pipeline` does."""
    process.allow()
    name, home = current_name(), request.root.resolve()
    known = {"profile": request.profile, "overrides": request.overrides, "prefect_run": flow_run.get_id()}
    file = runs.begin(Layout(home), "pipeline", name, again=_command(request), **known)
    with recorded(file, home):
        with _place(request, name) as place:
            file.update(commit=place.commit)
            results = work(request, place, file)
            if place.branch:
                create_markdown_artifact(markdown=_summary(place, file.record), key="result", description="where the result is")
        if place.branch and request.git_remote:
            push_branch(place, request.git_remote)
    return results


def _summary(place: Workspace, record: runs.RunRecord) -> str:
    """Markdown: how to get at what a run in a worktree has made."""
    lines = [f"# {record.name}", "", f"Stages: {runs.outcomes(record.stages)}.", "", f"    git checkout {place.branch}", "    dvc checkout"]
    config, layout = load_config(place.root / "params.yaml"), Layout(place.root)
    page = tracking.run_page(config, layout, record.mlflow_run) if record.mlflow_run else None
    lines += ["", f"[MLflow run]({page})"] if page else []
    lines += ["", f"Registered as version {record.version}."] if record.version else []
    return "\n".join(lines) + "\n"


def _place(request: Request, name: str) -> AbstractContextManager[Workspace]:
    return checkout(request) if request.workspace == "checkout" else worktree(request, name)


def work(request: Request, place: Workspace, file: runs.RunFile, forced: frozenset[str] = frozenset()) -> Results:
    """Run the stages that are asked for in a place; `forced` ones though nothing changed. Pushes the data where that is asked for."""
    config, layout = load_config(place.root / "params.yaml"), Layout(place.root)
    file.update(profile=config.profile)
    stages = read_graph(place.root, request.targets)
    how = _how(request, place, forced | _forced(request, stages))
    same = unchanged(place.root, stages, how.forced)
    display = Display(stages, {stage.name for stage in stages} - same, Estimates(Layout(place.home).state / "durations.json"), request.jobs)
    if place.branch:
        say(f"Branch {place.branch}, from {place.commit}")
    display.plan(stages)
    with _parent_run(place, file, needed=len(same) < len(stages)) as under:
        results = _run_all(stages, same, under, display, how, request, file)
    table = lifts(place)
    if table:
        create_markdown_artifact(markdown=f"```\n{table}\n```", key="lifts", description="marked against baseline")
    registered = layout.registered / "result.json"
    if registered.exists() and any(stage.name == "register" for stage in stages):
        file.update(version=str(read_json(registered)["version"]))
    remote = default_remote(place.root) if place.branch and request.push else None
    if remote:
        push_data(place, remote)
    return results


def _forced(request: Request, stages: Sequence[Stage]) -> frozenset[str]:
    return frozenset(request.targets or [stage.name for stage in stages]) if request.force else frozenset()


def _how(request: Request, place: Workspace, forced: frozenset[str]) -> How:
    pull = place.branch is not None and default_remote(place.root) is not None
    return How(forced, pull, request.hours_per_stage * 3600)


def _run_all(
    stages: Sequence[Stage], same: set[str], place: Workspace, display: Display, how: How, request: Request, file: runs.RunFile
) -> Results:
    """Start each stage once what it needs is done, in order, `jobs` at a time; the first failure ends what still runs."""
    task = run_stage.with_options(retries=request.retries, retry_delay_seconds=_RETRY_S)
    done: dict[str, PrefectFuture[dict[str, Any]]] = {}
    running: dict[PrefectFuture[dict[str, Any]], str] = {}
    waiting = list(stages)
    with process.ended_with_this():
        while waiting or running:
            ready = [stage for stage in waiting if stage.needs <= done.keys()]
            for stage in ready[: request.jobs - len(running)]:
                before = [done[name] for name in sorted(stage.needs)]
                future = task.submit(stage, place, stage.name in same, display, how, wait_for=before, return_state=False)
                running[future] = stage.name
                waiting.remove(stage)
                file.stage(stage.name, "running")
            finished = next(as_completed(list(running)))
            name = running.pop(finished)
            _note(file, name, finished)
            done[name] = finished
    return [done[stage.name].result() for stage in stages]


def _note(file: runs.RunFile, name: str, future: PrefectFuture[dict[str, Any]]) -> None:
    """Write down how a stage went; raises what it raised."""
    try:
        result = future.result()
    except BaseException:
        file.stage(name, "failed")
        raise
    file.stage(name, result["outcome"], result["seconds"])


@contextmanager
def _parent_run(place: Workspace, file: runs.RunFile, needed: bool) -> Iterator[Workspace]:
    """The place with the MLflow run that the stages' runs nest under, unless there is nothing to run."""
    config, layout = load_config(place.root / "params.yaml"), Layout(place.root)
    name = file.record.name if place.branch else "pipeline"
    tags = {"branch": place.branch, "prefect_run": file.record.prefect_run}
    overrides = dict(item.split("=", 1) for item in file.record.overrides)
    run_id = tracking.open_parent(config, layout, name, params=overrides, **tags) if needed else None
    if run_id is None:
        yield place
        return
    file.update(mlflow_run=run_id)
    status = "FAILED"
    try:
        yield place.under(run_id)
        status = "FINISHED"
    except STOPPED:
        status = "KILLED"
        raise
    finally:
        tracking.close_parent(config, layout, run_id, status, lift_numbers(layout) if status == "FINISHED" else None)


def _command(request: Request) -> str:
    """The command that asks for the same again."""
    if request.workspace == "checkout":
        return "python -m flows.pipeline" + "".join(f" --target {target}" for target in request.targets)
    words = ["python -m flows.pipeline --worktree", f"--revision {request.revision}"]
    words += [f"--profile {request.profile}"] if request.profile != AS_COMMITTED else []
    words += [f"--set '{item}'" for item in request.overrides] + [f"--target {target}" for target in request.targets]
    return " ".join(words)
