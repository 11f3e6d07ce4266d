"""New data: read them again, see how far they have moved since the last training, and train where that is far enough.

Meant for a schedule, or for the event `tailmark.data.arrived`. `python -m flows.refresh` runs it for this checkout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.runtime import flow_run
from pydantic import Field

from flows.execution import work
from flows.guard import guarded
from flows.naming import current_name, new_name
from tailmark import runs
from tailmark.console import say
from tailmark.layout import Layout
from tasks import announce, git, process
from tasks.approval import ask_to_train
from tasks.datachange import Change, compare
from tasks.parameters import AS_COMMITTED, Count, Hours, Profile, Request, Retries
from tasks.publish import push_branch
from tasks.record import recorded
from tasks.server import local_server
from tasks.workspace import branch_of, worktree

Decide = Literal["train", "ask", "report"]
Limit = Annotated[float, Field(ge=0, le=1)]

_CHECKED = "validate"
_AGAIN = "python -m flows.refresh"


@flow(name="refresh", flow_run_name=new_name("refresh"))
def refresh(
    revision: str = "HEAD",
    profile: Profile = AS_COMMITTED,
    overrides: tuple[str, ...] = (),
    max_drift: Limit = 0.1,
    max_new: Limit = 0.05,
    decide: Decide = "train",
    answer_hours: Hours = 24.0,
    jobs: Count = 2,
    retries: Retries = 2,
    hours_per_stage: Hours = 48.0,
    push: bool = True,
    git_remote: str = "",
    root: Path = Path(),
) -> dict[str, Any]:
    """Read the data again, compare them with those of the last training, and train where they have changed by more than is allowed.

    The last training is the branch `tailmark/trained-<profile>`, which this flow moves; where there is none, everything is new.

    Args:
        revision: The branch, tag or commit to run.
        profile: The set of options to run with; "as committed" takes params.yaml as the revision holds it.
        overrides: Single options, one a line, as in prepare.dataset_dropout=0.7.
        max_drift: Train where a marker's distribution is further away than this (Jensen-Shannon distance, 0 to 1).
        max_new: Train where more than this share of the rows is new or gone.
        decide: What to do then. "train"; "ask" a person first; "report" and stop.
        answer_hours: How long to wait for the person. No answer means no.
        jobs: How many independent stages run at a time.
        retries: How often a stage is tried again whose process was killed or stopped from outside.
        hours_per_stage: A stage that takes longer is ended and fails.
        push: Upload the data to the default DVC remote, where one is configured.
        git_remote: The git remote that the branch is pushed to. Empty: it stays in the worker's repository.
        root: The checkout on the worker's machine. A dot: the folder that the flow is started in.

    Returns what was found (rows, new, gone, reasons) and whether a model was trained.

    Raises:
        StageFailed: a stage failed, perhaps the validation of the data.
        ConfigError, DataError: a parameter is not right; the data of the last training are not in the cache.
    """
    request = Request(
        revision=revision, profile=profile, overrides=overrides, uncommitted="ignore", jobs=jobs, retries=retries,
        hours_per_stage=hours_per_stage, push=push, git_remote=git_remote, root=root.resolve(),
    )  # fmt: skip
    return _refresh(request, max_drift, max_new, decide, answer_hours)


def _refresh(request: Request, max_drift: float, max_new: float, decide: Decide, answer_hours: float) -> dict[str, Any]:
    process.allow()
    name, home = current_name(), request.root
    record = runs.begin(Layout(home), "refresh", name, overrides=request.overrides, prefect_run=flow_run.get_id(), again=_AGAIN)
    with recorded(record, home):
        with worktree(request, name) as place:
            record.update(commit=place.commit)
            work(request.model_copy(update={"targets": (_CHECKED,)}), place, record, forced=frozenset(["ingest"]))
            reference = branch_of(f"trained-{record.record.profile}")
            change = compare(place, reference)
            reasons = _show(change, max_drift, max_new, record)
            trained = bool(reasons) and _wanted(decide, change, reasons, answer_hours, record)
            if trained:
                work(request, place, record)
        if trained:
            git.git(home, "branch", "--force", reference, branch_of(name))
            if request.git_remote:
                push_branch(place, request.git_remote)
    return {"rows": change.rows, "new": change.new, "gone": change.gone, "reasons": reasons, "trained": trained}


def _show(change: Change, max_drift: float, max_new: float, record: runs.RunFile) -> list[str]:
    reasons = change.reasons(max_drift, max_new)
    said = "; ".join(reasons) or "nothing has moved by more than is allowed"
    say(f"refresh: {change.rows:,} rows, {change.new:,} new, {change.gone:,} gone: {said}")
    record.update(found={"data": said})
    create_markdown_artifact(
        markdown=f"**{said}**\n\n{change.markdown()}\n", key="data-change", description="the data since the last training"
    )
    if reasons:
        announce.data_changed(said)
    return reasons


def _wanted(decide: Decide, change: Change, reasons: Sequence[str], hours: float, record: runs.RunFile) -> bool:
    if decide != "ask":
        return decide == "train"
    record.update(state="waiting")
    say(f"refresh: waiting for a person's answer, up to {hours:g} h")
    try:
        answer = ask_to_train(f"{'; '.join(reasons)}\n\n{change.markdown()}", hours)
    except FlowPauseTimeout:
        say("refresh: nobody answered, so nothing is trained")
        return False
    finally:
        record.update(state="running")
    say(f"refresh: {answer.by} says {'yes' if answer.train else 'no'}")
    return answer.train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow for the checkout in the current folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.refresh", description="Read the data again and train where they have changed.")
    parser.add_argument("--decide", choices=get_args(Decide), default="train", help="what to do where they have (default: train)")
    parser.add_argument("--max-drift", type=float, default=0.1, metavar="D", help="largest distance of a marker that is let pass")
    parser.add_argument("--max-new", type=float, default=0.05, metavar="S", help="largest share of new and gone rows that is let pass")
    parser.add_argument("--revision", default="HEAD", metavar="REV", help="the branch, tag or commit to run")
    parser.add_argument("--profile", default=AS_COMMITTED, metavar="NAME", help="a file of params/ (default: params.yaml as committed)")
    return guarded(lambda: _run_here(parser.parse_args(arguments)))


def _run_here(given: argparse.Namespace) -> None:
    say("Starting Prefect (5 to 30 s) ...")
    with local_server():
        refresh(**vars(given), root=Path.cwd())


if __name__ == "__main__":
    sys.exit(main())
