"""`tailmark status`: the last runs, how far they came, what the gate said, and the commands to go on. No server is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tailmark import runs
from tailmark.console import duration, say
from tailmark.files import read_json
from tailmark.layout import Layout
from tailmark.runs import RunRecord


def run(layout: Layout, count: int) -> None:
    """Print the newest `count` runs of this checkout and of its worktrees."""
    found = runs.last_runs(layout, count)
    if not found:
        say("No flow has run in this checkout yet.")
        _say_commands(_first_commands(layout))
        return
    for record in found:
        for line in describe(record, layout):
            say(line)
    _say_commands(commands(found, layout))


def describe(record: RunRecord, layout: Layout) -> list[str]:
    """A run in a few lines."""
    lines = [f"{record.name}  {_state(record)}, {_ago(record)}"]
    asked = [f"profile {record.profile}"] if record.profile else []
    lines.append("  " + ", ".join([record.flow, *asked, *record.overrides]))
    if record.stages:
        lines.append(f"  stages   {_stages(record)}")
    if record.error:
        lines.append(f"  error    {record.error}")
    lines += [f"  {name:<8} {value}" for name, value in record.found.items()]
    if record.version:
        lines.append(f"  model    version {record.version}: {verdict(layout, record.version)}")
    if record.branch:
        lines.append(f"  branch   {record.branch}")
    return lines


def _state(record: RunRecord) -> str:
    if record.gone:
        return f"was killed in {record.stage or 'its start'}"
    if record.state == "running":
        return f"running {record.stage or 'its start'} (process {record.process} on {record.host})"
    if record.state == "waiting":
        return "waiting for a person's answer"
    return record.state if record.state == "finished" or not record.stage else f"{record.state} in {record.stage}"


def _stages(record: RunRecord) -> str:
    took = sum(record.seconds.values())
    return runs.outcomes(record.stages) + (f", {duration(took)}" if took >= 1 else "")


def _ago(record: RunRecord) -> str:
    """When it ended, or started where it has not."""
    verb, moment = ("ended", record.ended) if record.ended else ("started", record.started)
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    days = int(seconds // 86400)
    since = f"{days} day{'s' * (days > 1)}" if days else duration(max(seconds, 0))
    return f"{verb} {since} ago"


def verdict(layout: Layout, version: str) -> str:
    """What the gate last said of a version in this checkout."""
    path = layout.state / "promotion" / f"version-{version}" / "verdict.json"
    try:
        found: dict[str, Any] = read_json(path)
        passed, failed = bool(found["passed"]), [check["title"] for check in found["checks"] if not check["passed"]]
    except FileNotFoundError:
        return "not judged yet"
    except (OSError, ValueError, KeyError, TypeError):
        return f"the verdict cannot be read ({path})"
    return "passes the gate" if passed else f"does not pass the gate: {', '.join(failed)}"


def commands(found: list[RunRecord], layout: Layout) -> list[tuple[str, str]]:
    """What to do next, each with the reason."""
    newest, wanted = found[0], []
    if newest.gone or newest.state in ("failed", "stopped"):
        wanted.append((newest.again or "make demo", "goes on from what is complete"))
    if newest.state == "waiting" and not newest.gone:
        wanted.append(("make prefect", "shows the question"))
    done = next((record for record in found if record.version), None)
    if done and done.version:
        said = verdict(layout, done.version)
        only_look = "" if said.startswith("passes") else " --dry-run"
        wanted.append((f"tailmark promote {done.version}{only_look}", f"version {done.version}: {said}"))
    finished = next((record for record in found if record.state == "finished" and record.branch), None)
    if finished:
        wanted.append((f"git checkout {finished.branch} && dvc checkout", "the newest result in a worktree, here"))
    if (layout.evaluated / "report.html").exists():
        wanted.append((f"open {_short(layout.evaluated / 'report.html', layout.root)}", "the evaluation in this checkout"))
    return [*wanted, ("make mlflow", "runs, curves, models"), ("make prefect", "flow runs, logs")]


def _first_commands(layout: Layout) -> list[tuple[str, str]]:
    known = [("make demo", "runs the whole pipeline here"), ("python -m flows.pipeline --worktree", "runs it apart, on a branch")]
    made = layout.evaluated / "report.html"
    return [*known, (f"open {_short(made, layout.root)}", "was made by `dvc repro`")] if made.exists() else known


def _short(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _say_commands(wanted: list[tuple[str, str]]) -> None:
    say("\nNext:")
    for command, reason in dict(wanted).items():
        say(f"  {command}\n      {reason}")
