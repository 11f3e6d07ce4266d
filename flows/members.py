"""The members of a sweep: run those that are missing, then compare all that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.futures import PrefectFuture, as_completed

from tailmark.console import say
from tailmark.errors import Stopped
from tailmark.files import write_text
from tailmark.layout import Layout
from tailmark.runs import RunFile
from tailmark.tracking import Run
from tasks import process
from tasks.comparison import outcome, panels
from tasks.member import run_member
from tasks.parameters import Request
from tasks.sweep_page import rows, sweep_page
from tasks.sweepfile import Member, SweepFile

States = dict[str, str]

DONE, KEPT = "done", "kept"


def run_members(members: Sequence[Member], request: Request, concurrency: int, parent: str | None, file: RunFile) -> States:
    """Run each member that is not done yet, so many at a time; returns how each went: done, kept, or what went wrong."""
    home = request.root
    states = {member.name: KEPT for member in members if outcome(home, member.run) is not None}
    for name in states:
        say(f"[{name}] was done before")
        file.stage(name, KEPT)
    waiting = [member for member in members if member.name not in states]
    running: dict[PrefectFuture[None], str] = {}
    with process.ended_with_this():
        while waiting or running:
            while waiting and len(running) < concurrency:
                member = waiting.pop(0)
                running[run_member.submit(member, request, parent)] = member.name
                file.stage(member.name, "running")
            future = next(as_completed(list(running)))
            name = running.pop(future)
            states[name] = _state(future)
            file.stage(name, states[name] if states[name] == DONE else "failed")
    return {member.name: states[member.name] for member in members}


def _state(future: PrefectFuture[None]) -> str:
    try:
        future.result()
    except Stopped:
        if process.ending():
            raise
        return "stopped"
    except Exception as error:  # the member's own trouble; the others go on
        return (str(error).splitlines() or [type(error).__name__])[0]
    return DONE


def compare(sweep: SweepFile, members: Sequence[Member], states: States, facts: Mapping[str, str], home: Path, run: Run) -> Path:
    """Write the page, and show it with its numbers in MLflow and Prefect; returns where the page stands."""
    found = {member.name: evaluation for member in members if (evaluation := outcome(home, member.run)) is not None}
    shown = panels(found)
    page = Layout(home).state / "sweeps" / sweep.name / "comparison.html"
    write_text(page, sweep_page(sweep, members, states, shown, facts))
    run.log_artifact(page)
    table = rows(shown)
    if table:
        run.log_table(table, "comparison")
        create_table_artifact(table=table, key=f"sweep-{sweep.name.lower()}", description=f"members of sweep {sweep.name}")
    listed = [f"| {member.name} | {', '.join(member.overrides)} | {states[member.name]} |" for member in members]
    create_markdown_artifact(
        markdown="\n".join([f"# Sweep {sweep.name}\n", "| member | options | state |", "|---|---|---|", *listed, f"\nPage: `{page}`"]),
        key=f"sweep-{sweep.name.lower()}-members",
        description=sweep.about or None,
    )
    return page
